"""Pairs of pictures with like vectors: exact, by blocked matrix products over all published vectors, streamed.

`Search` is what another way of finding them has to offer, as the search index does (`indexed`).
"""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
from deltalake import DeltaTable

from spark_apps import storage
from spark_apps.catalog.tables import rows_of

ROWS, QUERIES = 4096, 2048
"""Of a block of the products: 32 MB of results."""


@dataclass(frozen=True)
class Candidate:
    """Two pictures with like vectors, and their cosine."""

    one: str
    other: str
    similarity: float


class Search(Protocol):
    """Finds published pictures that are like those of one partition."""

    def near(self, partition: str, image_ids: Collection[str], among: Sequence[str]) -> Iterable[Candidate]:
        """For each of `image_ids`, pictures that are published in `partition`: the most like it of those in `among`."""


@dataclass(frozen=True)
class ExactSearch:
    """Compares everything with everything. `most`: candidates of one picture at most, the most like ones.

    `features`: the table, open at the version that is compared. In memory are the vectors of the pictures asked
    for, and a block of the others.
    """

    store: str
    model: str
    features: DeltaTable
    min_similarity: float
    most: int

    def near(self, partition: str, image_ids: Collection[str], among: Sequence[str]) -> Iterator[Candidate]:
        """As `Search`. Vectors without a direction, zero or not finite, are like nothing."""
        queries, names = self.vectors(partition, image_ids)
        best: dict[int, list[tuple[float, str]]] = defaultdict(list)
        if not names:
            return
        for key in among:
            for block, others in self._blocks(key):
                for first in range(0, len(names), QUERIES):
                    scores = queries[first : first + QUERIES] @ block.T
                    for row, column in zip(*np.nonzero(scores >= self.min_similarity), strict=True):
                        if others[column] != names[first + row]:
                            _keep(best[first + row], (float(scores[row, column]), others[column]), self.most)
        for place, found in best.items():
            for similarity, other in sorted(found, reverse=True):
                yield Candidate(names[place], other, min(similarity, 1.0))

    def vectors(self, partition: str, image_ids: Collection[str]) -> tuple[Any, list[str]]:
        """Unit vectors, float32 [pictures, numbers], of those pictures that are published in `partition`, and whose
        they are."""
        wanted = set(image_ids)
        parts, names = [], list[str]()
        for block, ids in self._blocks(partition):
            rows = {image_id: row for row, image_id in enumerate(ids) if image_id in wanted}
            wanted.difference_update(rows)
            parts.append(block[[*rows.values()]])
            names += rows
        return (np.concatenate(parts) if parts else np.empty((0, 0), np.float32)), names

    def _blocks(self, partition: str) -> Iterator[tuple[Any, list[str]]]:
        """Unit vectors, float32 [rows, numbers], NaN where there is no direction, and whose they are."""
        keys = {"partition": partition, "model": self.model}
        with storage.reaching("store", self.store):
            for batch in rows_of(self.store, "features", self.features, keys, ["image_id", "features"], ROWS):
                if batch.num_rows:
                    yield _unit(batch["features"]), batch["image_id"].to_pylist()


def _unit(column: pa.Array) -> Any:
    values = column.flatten().to_numpy(zero_copy_only=False).reshape(len(column), -1).astype(np.float32)
    norms = np.linalg.norm(values, axis=1, keepdims=True)
    sound = np.isfinite(norms) & (norms > 0)
    return np.where(sound, values / np.where(sound, norms, 1), np.nan)


def _keep(found: list[tuple[float, str]], one: tuple[float, str], most: int) -> None:
    if any(other == one[1] for _, other in found):  # the same picture in another file
        return
    if len(found) < most:
        heapq.heappush(found, one)
    else:
        heapq.heappushpop(found, one)
