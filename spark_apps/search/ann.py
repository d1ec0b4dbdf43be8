"""The index for approximate nearest neighbours of a dataset: when it is built, extended and trained anew.

IVF with RaBitQ codes of one bit for each dimension, a 32nd of the vectors: a search reads the codes of the nearest
cells and compares the best of them by the vectors themselves. Rows that are not in it yet are compared one by one.
Sources: Jegou et al., Product quantization for nearest neighbor search, PAMI 2011 (IVF); Gao and Long, RaBitQ,
SIGMOD 2024.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

NAME = "vector_idx"
CELL_ROWS = 4096
"""Rows of a cell of the IVF, about: fewer make training slow, more make searching slow."""
SAMPLE_RATE = 64
"""Vectors that each cell is trained with."""
UNINDEXED_SHARE = 0.1
"""The index is extended when so many of all rows are not in it, and at least `FEWEST_ROWS`."""
FEWEST_ROWS = 5_000
GROWTH = 4.0
"""It is trained anew when there are so many times as many rows as when it was."""
DIMENSIONS = 8
"""The codes of an index need a multiple of so many."""


@dataclass(frozen=True)
class State:
    """What an index covers. `cells`: 0 where there is none. `unindexed`: rows that are compared one by one."""

    cells: int = 0
    indexed: int = 0
    unindexed: int = 0
    parts: int = 0


def state(dataset: Any) -> State:
    """That of the newest version that `dataset` has open."""
    if NAME not in {index.name for index in dataset.describe_indices()}:
        return State(unindexed=dataset.count_rows())
    found = dataset.stats.index_stats(NAME)
    cells = max((int(part["num_partitions"]) for part in found["indices"]), default=0)
    return State(cells, found["num_indexed_rows"], found["num_unindexed_rows"], len(found["indices"]))


def keep_up(dataset: Any, fewest: int) -> str:
    """Builds or extends the index where that is due; what it did, in a word. `fewest`: rows from which on there is one.

    Raises OSError: another run changed the dataset in a way that the index cannot follow; the next run tries again.
    """
    now, rows = state(dataset), dataset.count_rows()
    if rows < max(fewest, 2) or dataset.schema.field("vector").type.list_size % DIMENSIONS:
        return ""
    if now.unindexed == rows or rows > GROWTH * now.cells * CELL_ROWS:
        return "built" if build(dataset) else ""
    if now.unindexed >= max(FEWEST_ROWS, UNINDEXED_SHARE * rows):
        dataset.optimize.optimize_indices()
        return "extended"
    return ""


def build(dataset: Any) -> bool:
    """Trains and builds the index, and those of the columns that searches filter by, of the rows that are there now.
    Where none has a vector, False, and the indexes go."""
    vectors = dataset.count_rows("vector IS NOT NULL")
    if not vectors:
        for index in dataset.describe_indices():
            dataset.drop_index(index.name)
        return False
    dataset.create_index(
        "vector",
        "IVF_RQ",
        name=NAME,
        metric="cosine",
        num_partitions=-(-vectors // CELL_ROWS),
        num_bits=1,
        sample_rate=SAMPLE_RATE,
        replace=True,
    )
    dataset.create_scalar_index("partition", "BITMAP", replace=True)
    dataset.create_scalar_index("image_id", "BTREE", replace=True)
    return True
