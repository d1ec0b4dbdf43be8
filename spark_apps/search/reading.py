"""Finding the nearest vectors in the dataset of a model. Needs no pyspark, and no model where the query is a vector.

A search reads the codes of the index and compares the best by their vectors, so the similarities are exact. Where
there are few rows to compare, or no index yet, all of them are, and the answer is exact, too.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from spark_apps import catalog, contract, storage
from spark_apps.contract import BadSetting
from spark_apps.search import ann, datasets

REFINED = 10
"""Candidates that are compared by their vectors, for each neighbour that is asked for."""
CELLS = 80
"""Cells of the index that are looked through; more where a span leaves few rows in each. docs/search.md says what fewer
find, and how fast."""
FEW_ROWS = 20_000
"""So many rows of chosen partitions are compared one by one."""
CACHE_BYTES = 512 * 2**20
"""For parts of the index that are kept in memory."""
MOST = 10_000
"""Neighbours of one search."""


@dataclass(frozen=True)
class Neighbour:
    """A published file near the query. `similarity`: the cosine of both vectors, from -1 to 1, not approximated.

    `label`, `score`: what the model takes it for, None for a model without labels.
    """

    image_id: str
    uri: str
    partition: str
    similarity: float
    label: str | None = None
    score: float | None = None


@dataclass(frozen=True)
class Compared:
    """What a search looked at: the partitions, their rows, and whether every one of these was compared (`exact`)."""

    partitions: tuple[str, ...]
    rows: int
    exact: bool


def open_index(store: str, model: str, cache_bytes: int = CACHE_BYTES) -> Index:
    """The vectors of `model` (`resnet50-imagenet1k_v2-fp32`, as they are published under) in `store`, to be searched.

    Raises:
        BadSetting: there is no search index of that model, or no such model; or Lance is not installed.
        Unreachable: the store cannot be read.
    """
    store = contract.check_store(store)
    with reading(store):
        if not datasets.exists(store, model):
            if not catalog.partitions(store, model):
                nothing = catalog.never_published(store, model)
                raise BadSetting("no_index", nothing.message, nothing.hint)
            raise BadSetting(
                "no_index",
                f"The store {store} has no search index of {model} yet.",
                f"Make it: python -m spark_apps.index --store {store} --model {model}.",
            )
        session = datasets.lance().Session(
            index_cache_size_bytes=cache_bytes, metadata_cache_size_bytes=cache_bytes // 8
        )
        dataset = datasets.opened(store, model, session)
        assert dataset is not None
        return Index(store, model, dataset, session)


class Index:
    """The vectors of a model in the version that was the newest when it was opened; see `open_index`.

    `partitions`: what it holds, the oldest first. `rows`, `dim`: its vectors, and the numbers of each.
    """

    def __init__(self, store: str, model: str, dataset: Any, session: Any) -> None:
        self.store, self.model = store, model
        self._session = session
        self._show(dataset)

    def _show(self, dataset: Any) -> None:
        self._dataset = dataset
        self.held = datasets.held(dataset)
        self.partitions = sorted(self.held, key=contract.partitions.order)
        self.rows = sum(part.rows for part in self.held.values())
        self.dim = datasets.dim(dataset)
        self._ann = ann.state(dataset)

    @property
    def approximate(self) -> bool:
        """Whether it has an index for approximate nearest neighbours; else all vectors are compared."""
        return self._ann.cells > 0

    def refresh(self) -> None:
        """Goes to the newest version, when there is a newer one. Raises Unreachable."""
        with reading(self.store):
            if self._dataset.latest_version != self._dataset.version:
                dataset = datasets.opened(self.store, self.model, self._session)
                assert dataset is not None
                self._show(dataset)

    def behind(self) -> dict[str, int]:
        """Partition → how many rows differ from what is published; empty when nothing does. Raises Unreachable."""
        with reading(self.store):
            return datasets.differing(self.held, datasets.published(self.store, self.model))

    def nearest(
        self,
        query: ArrayLike | bytes | str,
        k: int = 10,
        partitions: tuple[str, str] | None = None,
        min_similarity: float | None = None,
    ) -> list[Neighbour]:
        """The `k` rows nearest to `query` by cosine, nearest first.

        `query`: a vector of any length, [dim]; or the bytes of a file or words, of which the model kept in the store
        makes one.
        `partitions`: the first and the last to look through, by the order of their keys; without it all.
        `min_similarity`: none below. A file that is published several times, or in several partitions, is as many rows.

        Raises:
            BadSetting: the query has another number of dimensions or no direction, or k is out of bounds.
            contract.BadFile: the bytes give no vector.
            Unreachable: the store cannot be read.
        """
        if isinstance(query, bytes | bytearray | memoryview):
            from spark_apps.search import embedding  # not at the top: it needs the model's engine

            query = embedding.vector(self.store, self.model, bytes(query))
        elif isinstance(query, str):
            from spark_apps.search import embedding

            query = embedding.of_words(self.store, self.model, query)
        found, _ = self.search(query, k, None if partitions is None else self.between(*partitions), min_similarity)
        return found

    def between(self, first: str, last: str) -> list[str]:
        """The partitions from `first` to `last`, both of them included; an empty one is no limit.

        Raises BadSetting: the last comes before the first.
        """
        order = contract.partitions.order
        if first and last and order(last) < order(first):
            raise BadSetting("bad_span", f"{last} comes before {first}.", "Give the earlier partition first.")
        return [
            key
            for key in self.partitions
            if (not first or order(key) >= order(first)) and (not last or order(key) <= order(last))
        ]

    def search(
        self,
        query: ArrayLike,
        k: int,
        among: Collection[str] | None = None,
        min_similarity: float | None = None,
    ) -> tuple[list[Neighbour], Compared]:
        """The same among chosen partitions, and what was compared. Raises as `nearest`."""
        if not 1 <= k <= MOST:
            raise BadSetting("bad_k", f"k {k} is out of bounds.", f"Choose a number from 1 to {MOST}.")
        vector = self._checked(query)
        chosen = self.partitions if among is None else [key for key in self.partitions if key in among]
        rows = sum(self.held[key].rows for key in chosen)
        exact = not self._ann.cells or (len(chosen) < len(self.partitions) and rows <= FEW_ROWS)
        compared = Compared(tuple(chosen), rows, exact)
        if not rows:
            return [], compared
        cells = min(self._ann.cells, -(-CELLS * self.rows // rows))
        table = self._table(
            ["image_id", "uri", "partition", "label", "score", "_distance"],
            chosen,
            nearest={
                "column": datasets.VECTOR,
                "q": vector,
                "k": k,
                "metric": "cosine",
                **({"use_index": False} if exact else {"nprobes": cells, "refine_factor": REFINED}),
            },
        )
        similarities = np.clip(1 - table["_distance"].to_numpy(), -1, 1).tolist()  # rounding
        found = [
            Neighbour(row["image_id"], row["uri"], row["partition"], similarity, row["label"], row["score"])
            for row, similarity in zip(table.to_pylist(), similarities, strict=True)
            if min_similarity is None or similarity >= min_similarity
        ]
        return found, compared

    def vector(self, image_id: str, partition: str | None = None) -> NDArray[np.float32] | None:
        """The vector, of length 1, of a file by its content's sha256; None where it is not held, or has no direction.

        Raises Unreachable.
        """
        found = self.lookup(image_id, partition)
        return None if found is None else found[1]

    def lookup(self, image_id: str, partition: str | None = None) -> tuple[Neighbour, NDArray[np.float32]] | None:
        """The same with what is known of the file, which is its own neighbour. Raises Unreachable."""
        if not image_id.isalnum():
            return None
        chosen = self.partitions if partition is None else [key for key in self.partitions if key == partition]
        columns = ["uri", "partition", "label", "score", datasets.VECTOR]
        table = self._table(columns, chosen, f"image_id = '{image_id}'", limit=1)
        if not table.num_rows or not table[datasets.VECTOR][0].is_valid:
            return None
        (row,) = table.drop([datasets.VECTOR]).to_pylist()
        known = Neighbour(image_id, row["uri"], row["partition"], 1.0, row["label"], row["score"])
        return known, np.asarray(table[datasets.VECTOR].combine_chunks().flatten(), np.float32)

    def _table(self, columns: list[str], chosen: list[str], further: str = "", **options: Any) -> Any:
        """Rows of chosen partitions. Their keys hold no quotes (`contract.check_partition`)."""
        wanted = [further] if further else []
        if len(chosen) < len(self.partitions):
            wanted.append(f"partition IN ({', '.join(map(repr, chosen))})" if chosen else "false")
        with reading(self.store):
            return self._dataset.to_table(
                columns=columns, filter=" AND ".join(wanted) or None, prefilter=bool(wanted), **options
            )

    def _checked(self, query: ArrayLike) -> NDArray[np.float32]:
        vector = np.asarray(query, np.float32)
        if vector.shape != (self.dim,):
            shape = "x".join(map(str, vector.shape))
            raise BadSetting(
                "bad_vector", f"The query has {shape or 'no'} numbers, the vectors of {self.model} {self.dim}."
            )
        length = float(np.linalg.norm(vector.astype(np.float64)))
        if not np.isfinite(length) or length == 0:
            raise BadSetting("bad_vector", "The query is zero or not finite: nothing is nearer to it than anything.")
        return (vector / length).astype(np.float32)


@contextmanager
def reading(store: str) -> Iterator[None]:
    """Turns what Lance and the store raise inside into Unreachable."""
    try:
        with storage.reaching("store", store):
            yield
    except (ValueError, RuntimeError) as error:  # as Lance says of a damaged file, or one that a newer version wrote
        raise contract.Unreachable(
            "index_unreadable",
            f"The search index in {store} cannot be read: {' '.join(str(error).split())[:300]}.",
            "Make it again: python -m spark_apps.index with --rebuild.",
        ) from error
