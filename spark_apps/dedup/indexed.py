"""Pairs of pictures with like vectors, by the search index where that holds what is published, and exactly elsewhere.

The index finds a picture's neighbours among all at the cost of some milliseconds, whatever their number; a product with
all costs less than that while they are few.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from spark_apps import catalog
from spark_apps.contract import JobError
from spark_apps.dedup.candidates import Candidate, ExactSearch, Search
from spark_apps.host import cores
from spark_apps.search import reading

FEWEST_ROWS = 200_000
"""Rows of the index from which on it is asked; fewer are compared one by one."""
SPARE = 16
"""Rows that are asked for beside those wanted: the picture itself, and copies, are rows of their own."""


@dataclass(frozen=True)
class IndexedSearch:
    """`index` has the rows of the partitions `current` as they are published; `exact` finds what it does not hold."""

    exact: ExactSearch
    index: reading.Index
    current: frozenset[str]

    def near(self, partition: str, image_ids: Collection[str], among: Sequence[str]) -> Iterator[Candidate]:
        """As `Search`."""
        found: dict[str, list[Candidate]] = defaultdict(list)
        rest = [key for key in among if key not in self.current]
        for item in self.exact.near(partition, image_ids, rest) if rest else ():
            found[item.one].append(item)
        vectors, names = self.exact.vectors(partition, image_ids)
        sound = [(name, vector) for name, vector in zip(names, vectors, strict=True) if np.isfinite(vector).all()]
        with ThreadPoolExecutor(cores.available()) as threads:
            look = partial(self._nearest, frozenset(among) & self.current)
            for name, others in threads.map(lambda pair: (pair[0], look(*pair)), sound):
                found[name] += others
        for items in found.values():
            yield from sorted(items, key=lambda item: (-item.similarity, item.other))[: self.exact.most]

    def _nearest(self, among: frozenset[str], name: str, vector: NDArray[np.float32]) -> list[Candidate]:
        """Asks for more rows until enough of them are of other pictures, or like nothing any more."""
        rows = self.exact.most + SPARE
        while True:
            found, _ = self.index.search(vector, rows, among, self.exact.min_similarity)
            others = {row.image_id: row.similarity for row in reversed(found) if row.image_id != name}
            if len(others) >= self.exact.most or len(found) < rows or rows == reading.MOST:
                return [Candidate(name, other, similarity) for other, similarity in others.items()]
            rows = min(4 * rows, reading.MOST)


def fitting(exact: ExactSearch, say: Callable[[str], None]) -> Search:
    """The search index of the model where there is one that is large and can be read, else `exact`."""
    try:
        index = reading.open_index(exact.store, exact.model)
    except JobError as error:
        if error.code != "no_index":
            say(f"Compared without the search index: {error}")
        return exact
    published = {item.partition: item for item in catalog.published(exact.features, exact.model)}
    current = {
        key
        for key, held in index.held.items()
        if key in published and (held.publication, held.rows) == (published[key].contents, published[key].rows)
    }
    if not index.approximate or sum(index.held[key].rows for key in current) < FEWEST_ROWS:
        return exact
    say(f"{len(current):,} of {len(published):,} partitions are compared by the search index")
    return IndexedSearch(exact, index, frozenset(current))
