"""The benchmark of searching compares with the truth, on vectors that are the same whenever they are made."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from benchmarks import search
from spark_apps import catalog
from spark_apps.search import open_index, writing


def test_the_truth_is_what_comparing_with_all_at_once_finds_and_the_index_finds_it(tmp_path: Path) -> None:
    source, store = search.Source(300), str(tmp_path / "store")
    queries = source.piece(7, 5)
    truth, pieces = search.Truth(queries), [source.piece(number, 100) for number in range(3)]
    for number, piece in enumerate(pieces):
        truth.show(piece, 100 * number)
        search.publish(store, f"day-{number}", piece, 100 * number)
        writing.reconcile(store, search.MODEL, lambda _: search._here, lambda _: None)
    whole = np.concatenate(pieces)
    assert np.array_equal(whole, np.concatenate([source.piece(number, 100) for number in range(3)]))
    cosines = (queries @ whole.T) / np.linalg.norm(whole, axis=1) / np.linalg.norm(queries, axis=1, keepdims=True)
    assert truth.names == np.argsort(-cosines, axis=1)[:, : search.K].tolist()
    _, found = search._answers(open_index(store, search.MODEL), queries)
    assert search._recall(truth, found) == 1.0
    assert sum(item.rows for item in catalog.partitions(store, search.MODEL)) == 300
