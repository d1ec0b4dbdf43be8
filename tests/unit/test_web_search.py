"""Exact nearest neighbours: the same as by brute force, each photo once, whatever the vectors are like."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from image_features.web import search
from numpy.typing import NDArray

DIM = 16


def batches(ids: list[str], vectors: list[list[float]], size: int = 7) -> list[pa.RecordBatch]:
    """Rows as the store gives them, `size` at a time."""
    table = pa.table({"image_id": ids, "features": pa.array(vectors, pa.list_(pa.float32()))})
    return table.to_batches(max_chunksize=size)


@pytest.fixture
def vectors() -> NDArray[np.float32]:
    return np.random.default_rng(1).standard_normal((50, DIM)).astype(np.float32)


def cosines(vectors: NDArray[np.float32], query: NDArray[np.float32]) -> NDArray[np.float64]:
    exact = vectors.astype(np.float64)
    lengths = np.linalg.norm(exact, axis=1) * np.linalg.norm(query.astype(np.float64))
    found: NDArray[np.float64] = exact @ query.astype(np.float64) / lengths
    return found


@pytest.mark.parametrize("scale", [1e-12, 1.0, 1e12])
def test_the_nearest_are_those_of_brute_force(scale: float, vectors: NDArray[np.float32]) -> None:
    ids = [f"i{number}" for number in range(50)]
    rows = {image_id: number for number, image_id in enumerate(ids)}
    query = vectors[3] + 0.5 * vectors[4]
    expected = cosines(vectors, query)
    best = np.argsort(-expected)[:5]
    scaled = (vectors * scale).tolist()
    kept = search.matrix(batches(ids, scaled), rows, DIM).nearest(query, 5)
    assert [row for row, _ in kept] == best.tolist()
    assert [cosine for _, cosine in kept] == pytest.approx(expected[best].tolist(), abs=1e-6)
    scanned, searched, all_of_them = search.scan(batches(ids, scaled), query, 5)
    assert [found.image_id for found in scanned] == [ids[row] for row in best]
    assert (searched, all_of_them) == (50, True)


def test_copies_of_a_photo_count_once(vectors: NDArray[np.float32]) -> None:
    ids = ["a", "b", "a", "c", "a", "b"] * 3
    rows = {"a": 0, "b": 1, "c": 2}
    same = [vectors[rows[image_id]].tolist() for image_id in ids]
    matrix = search.matrix(batches(ids, same, size=4), rows, DIM)
    assert sorted(matrix.photos.tolist()) == [0, 1, 2]
    assert matrix.nearest(vectors[0], 9)[0][0] == 0
    scanned, _, _ = search.scan(batches(ids, same, size=4), vectors[0], 2)
    assert scanned[0].image_id == "a"
    assert len({found.image_id for found in scanned}) == 2


def test_vectors_that_have_no_direction_are_nobody_s_neighbours(vectors: NDArray[np.float32]) -> None:
    good = vectors[0].tolist()
    odd = [[0.0] * DIM, [float("nan")] * DIM, [float("inf")] * DIM, good[:5], [], good]
    ids = ["zero", "nan", "inf", "short", "none", "good"]
    matrix = search.matrix(batches(ids, odd), {image_id: row for row, image_id in enumerate(ids)}, DIM)
    assert matrix.nearest(vectors[0], 3) == [(5, pytest.approx(1))]
    assert [found.image_id for found in search.scan(batches(ids, odd), vectors[0], 3)[0]] == ["good"]


def test_photos_that_are_not_listed_are_left_out(vectors: NDArray[np.float32]) -> None:
    matrix = search.matrix(batches(["a", "b"], vectors[:2].tolist()), {"b": 0}, DIM)
    assert matrix.photos.tolist() == [0]
    assert matrix.vector(0) == pytest.approx(vectors[1] / np.linalg.norm(vectors[1]), abs=1e-6)
    assert matrix.vector(7) is None


def test_nothing_to_search_finds_nothing(vectors: NDArray[np.float32]) -> None:
    assert search.matrix([], {}, DIM).nearest(vectors[0], 3) == []
    assert search.scan([], vectors[0], 3) == ([], 0, True)


def test_a_search_that_takes_too_long_says_how_far_it_came(vectors: NDArray[np.float32]) -> None:
    some = batches([f"i{number}" for number in range(50)], vectors.tolist())
    assert search.scan(some, vectors[0], 3, seconds=-1) == ([], 0, False)


def test_kept_vectors_leave_no_file_behind(vectors: NDArray[np.float32], tmp_path, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    matrix = search.matrix(batches(["a"], vectors[:1].tolist()), {"a": 0}, DIM)
    assert list(tmp_path.iterdir()) == []
    assert matrix.nearest(vectors[0], 1) == [(0, pytest.approx(1))]
