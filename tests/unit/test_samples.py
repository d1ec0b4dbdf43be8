"""Samples are drawn by lot, each row with the same chance, and of the days before few row groups are read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from spark_apps.pipeline import keys, measure, samples
from spark_apps.pipeline.measure import Asked, Measured
from spark_apps.pipeline.samples import Sample
from spark_apps.spark import spreading
from tests.shelf import MODEL, Shelf, vector

DIM = 4


def day(first: int, count: int) -> dict[str, str]:
    return {f"u{number:05}": f"photo {number}" for number in range(first, first + count)}


def measured(shelf: Shelf, files: Any, **asked: Any) -> Measured:
    units = measure.units({"features": files})
    return measure.measure(spreading.here, units, Asked(shelf.store, DIM, partition="d9", **asked))


def test_a_day_s_sample_is_the_same_however_its_files_are_cut(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(samples, "SIZE", 30)
    whole = measured(shelf, shelf.features("d9", "r", day(0, 600)), images=600).sample
    files = day(0, 600)
    parts = [dict(list(files.items())[begin : begin + 70]) for begin in range(0, 600, 70)]
    cut = [file for part in reversed(parts) for file in shelf.features("d9", "s", part, row_group_bytes=2000)]
    pieces = measured(shelf, cut, images=600).sample
    assert np.array_equal(pieces.lots, whole.lots)
    assert np.array_equal(pieces.vectors, whole.vectors)
    assert len(np.unique(whole.lots)) == len(whole.vectors) == 30


def test_each_image_is_drawn_once_and_a_broken_vector_never(shelf: Shelf) -> None:
    files = {f"u{number}": f"photo {number % 10}" for number in range(40)} | {"broken": "b", "short": "s"}
    found = measured(shelf, shelf.features("d9", "r", files, {"broken": [float("nan")] * DIM, "short": [1.0]})).sample
    expected = sorted(vector(f"photo {number}") for number in range(10))
    assert sorted(found.vectors.tolist()) == expected


def test_tasks_take_no_more_than_their_part(monkeypatch: pytest.MonkeyPatch) -> None:
    images = keys.of(map(str, range(100_000)))
    vectors = np.zeros((len(images), 1), np.float32)
    lots = keys.lots(images, "d9")
    fit = lots % 2 == 0
    taken = [
        samples.drawn(vectors[part], images[part], fit[part], "d9", 50_000)
        for part in np.split(np.arange(100_000), 100)
    ]
    assert sum(len(one.lots) for one in taken) < 2 * samples.SIZE
    together = sum(taken, Sample())
    assert np.array_equal(together.lots, np.sort(lots[fit])[: samples.SIZE])


def published(shelf: Shelf, days: int, count: int) -> list[str]:
    names = [f"d{number}" for number in range(days)]
    for number, name in enumerate(names):
        shelf.publish(name, "r", day(number * count, count), row_group_bytes=2000)
    return names


def test_the_days_before_are_read_at_few_places(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(samples, "SIZE", 64)
    days = published(shelf, 3, 600)
    read: list[tuple[str, int]] = []
    inner = pq.ParquetFile.read_row_group

    def counted(file: Any, group: int, **options: Any) -> Any:
        read.append((str(file), group))
        return inner(file, group, **options)

    monkeypatch.setattr(pq.ParquetFile, "read_row_group", counted)
    found = samples.former(shelf.store, MODEL, days, DIM)
    assert found.shape == (64, DIM)
    assert 3 < len(read) <= samples.PLACES
    of_day = {tuple(vector(name)): int(uri[1:]) // 600 for uri, name in day(0, 1800).items()}
    shares = np.bincount([of_day[tuple(row)] for row in found.tolist()])
    assert shares.min() >= 64 / 3 - 64 / samples.PLACES, "each day has its part"
    assert np.array_equal(found, samples.former(shelf.store, MODEL, days, DIM)), "the same again"
    assert {of_day[tuple(row)] for row in samples.former(shelf.store, MODEL, ["d1"], DIM).tolist()} == {1}


def test_small_days_are_read_whole_and_empty_ones_say_nothing(shelf: Shelf) -> None:
    days = published(shelf, 2, 5)
    assert len(samples.former(shelf.store, MODEL, days, DIM)) == 10
    assert samples.former(shelf.store, MODEL, ["never"], DIM).shape == (0, DIM)
    assert samples.former(shelf.store, "another", days, DIM).shape == (0, DIM)


def test_a_file_that_an_erasure_has_just_removed_is_left_out(shelf: Shelf) -> None:
    days = published(shelf, 2, 5)
    (gone,) = Path(shelf.store, "features", "data", "d0").rglob("*.parquet")
    gone.unlink()
    assert len(samples.former(shelf.store, MODEL, days, DIM)) == 5


def test_a_damaged_file_of_a_day_before_takes_no_opinion_from_today(shelf: Shelf) -> None:
    days = published(shelf, 2, 5)
    (damaged,) = Path(shelf.store, "features", "data", "d0").rglob("*.parquet")
    damaged.write_bytes(damaged.read_bytes()[:-20])
    assert len(samples.former(shelf.store, MODEL, days, DIM)) == 5
