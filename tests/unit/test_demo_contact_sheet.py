"""The contact sheet shows neighbours, not copies, and queries that differ from each other."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from demo import contact_sheet
from demo.contact_sheet import Photos
from spark_apps import catalog

DAYS = ["2026-01-05", "2026-01-06"]


def photos(vectors: list[list[float]], image_ids: list[str] | None = None, scores: list[float] | None = None) -> Photos:
    count = len(vectors)
    array = np.array(vectors, dtype=np.float32)
    return Photos(
        uris=[f"file:///{index}.jpg" for index in range(count)],
        image_ids=image_ids or [str(index) for index in range(count)],
        labels=["label"] * count,
        scores=scores or [0.5] * count,
        partitions=[DAYS[0]] * count,
        vectors=array / np.linalg.norm(array, axis=1, keepdims=True),
    )


def test_neighbours_come_in_order_of_their_cosine() -> None:
    found = contact_sheet.nearest(photos([[1, 0], [0, 1], [1, 1], [2, 1]]), 0, 3)
    assert [index for index, _ in found] == [3, 2, 1]
    assert [cosine for _, cosine in found] == pytest.approx([2 / 5**0.5, 0.5**0.5, 0], abs=1e-6)


def test_neither_the_photo_nor_its_copies_are_its_neighbours() -> None:
    found = contact_sheet.nearest(photos([[1, 0], [1, 0], [1, 1], [1, 1], [0, 1]], ["a", "a", "b", "b", "c"]), 0, 5)
    assert [index for index, _ in found] == [2, 4]


def test_each_query_comes_from_another_group_and_loners_are_no_queries() -> None:
    generator = np.random.default_rng(0)
    groups = np.repeat(np.eye(8)[:4], 6, axis=0) + generator.normal(0, 0.01, (24, 8))
    loners = np.eye(8)[4:]
    chosen = contact_sheet.choose_queries(photos(np.vstack([groups, loners]).tolist()), 2, 5)
    assert len({index // 6 for index in chosen}) == 2
    assert max(chosen) < 24


def test_the_surest_label_comes_first() -> None:
    scores = [0.1, 0.2, 0.9, 0.3]
    assert contact_sheet.choose_queries(photos([[1, 0]] * 4, scores=scores), 1, 3) == [2]


def test_few_photos_make_few_queries() -> None:
    assert contact_sheet.choose_queries(photos([[1, 0]]), 7, 5) == [0]


def test_long_labels_are_shortened_to_the_tile() -> None:
    short = contact_sheet._fitted("a_label_that_is_much_too_long_for_any_tile", 17)
    assert short.endswith("…")
    assert "_" not in short
    assert contact_sheet._font(17).getlength(short) <= contact_sheet.TILE
    assert contact_sheet._fitted("tabby", 17) == "tabby"


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two days of four flat photos each; the first one lies on its side and has an EXIF tag."""
    rows: dict[str, list[dict[str, Any]]] = {day: [] for day in DAYS}
    for day in DAYS:
        for index, colour in enumerate(("red", "green", "blue", "white")):
            image = Image.new("RGB", (60, 40), colour)
            exif = Image.Exif()
            exif[0x0112] = 6
            image.putpixel((0, 0), (len(day), index, DAYS.index(day)))
            buffer = io.BytesIO()
            image.save(buffer, "JPEG", exif=exif)
            content = buffer.getvalue()
            rows[day].append(
                {
                    "uri": f"file:///{day}/{index}.jpg",
                    "image_id": hashlib.sha256(content + day.encode()).hexdigest(),
                    "features": [float(index == position) + 0.1 for position in range(4)],
                    "top1_label": colour,
                    "top1_score": 0.9,
                    "content": content,
                }
            )

    def columns(day: str, names: list[str]) -> pa.Table:
        return pa.table({name: [row[name] for row in rows[day]] for name in names})

    monkeypatch.setattr(catalog, "vectors", lambda store, day, model, names=None: columns(day, names))
    monkeypatch.setattr(catalog, "images", lambda store, day, names=None: columns(day, names))


def test_the_sheet_is_a_whole_picture_of_the_asked_size(store: None, tmp_path: Path) -> None:
    path = tmp_path / "new" / "sheet.png"
    contact_sheet.make("/store", DAYS, "resnet50-random_0-fp32", path, rows=3, columns=5)
    with Image.open(path) as sheet:
        sheet.load()
        row = contact_sheet.TILE + contact_sheet.CAPTION + contact_sheet.GAP
        assert sheet.height == contact_sheet.HEADER + 3 * row + contact_sheet.MARGIN // 2
        # the nearest neighbour of each query has the query's colour: it is the same photo of the other day
        middle = contact_sheet.TILE // 2
        for index in range(3):
            y = contact_sheet.HEADER + index * row + middle
            query = sheet.getpixel((contact_sheet.MARGIN + middle, y))
            left = contact_sheet.MARGIN + contact_sheet.TILE + contact_sheet.QUERY_GAP
            neighbour = sheet.getpixel((left + middle, y))
            assert np.abs(np.subtract(query, neighbour)).max() < 8
    assert [path.name for path in path.parent.iterdir()] == ["sheet.png"]


def test_vectors_are_scaled_to_length_one(store: None) -> None:
    found = contact_sheet.gather("/store", DAYS, "any")
    assert np.linalg.norm(found.vectors, axis=1) == pytest.approx(np.ones(8), abs=1e-6)
    assert found.partitions == [DAYS[0]] * 4 + [DAYS[1]] * 4
