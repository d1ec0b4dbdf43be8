"""A few hundred vectors that stand for a day, or for the days before it: drawn by lot, by a hash of image and day."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from spark_apps import catalog, contract, storage
from spark_apps.contract import BadSetting
from spark_apps.pipeline import keys
from spark_apps.pipeline.keys import Keys
from spark_apps.tables import data_files, schemas
from spark_apps.tables.data_files import PublishedFile

Floats = NDArray[np.float32]

SIZE = 256
"""Vectors of a sample: of so many pairs a share is right within 5 points, 19 times in 20."""
SLACK = 64
"""More than `SIZE` that tasks take, four standard deviations, so that together they have enough."""
PLACES = 16
"""Places in the days before that a sample is taken from: so many row groups are read at most, of `ROW_GROUP_BYTES`
each (256 MiB)."""
AT_ONCE = 4
"""Row groups in memory."""


@dataclass(frozen=True)
class Sample:
    """Vectors of the images with the smallest lots, `SIZE` at most and each image once. `lots`, ascending; `vectors`
    float32 [n, dim], by lot."""

    lots: Keys = field(default_factory=lambda: keys.of([]))
    vectors: Floats = field(default_factory=lambda: np.zeros((0, 0), np.float32))

    def __add__(self, other: Sample) -> Sample:
        if not len(self.lots) or not len(other.lots):
            return other if len(other.lots) else self
        return smallest(np.concatenate([self.lots, other.lots]), np.concatenate([self.vectors, other.vectors]), SIZE)


def smallest(lots: Keys, vectors: Floats, size: int) -> Sample:
    """The sample of these rows, `size` at most. Copies of an image have one lot and one vector."""
    lots, first = np.unique(lots, return_index=True)
    return Sample(lots[:size], vectors[first[:size]])


def drawn(vectors: Floats, images: Keys, fit: NDArray[np.bool_], day: str, of: int) -> Sample:
    """From the `fit` rows among some of a day with about `of` images; no more than their part of the whole sample."""
    lots = keys.lots(images, day)
    chosen = fit & (lots <= np.uint64(keys.LARGEST * (SIZE + SLACK) // max(SIZE + SLACK, of)))
    return smallest(lots[chosen], vectors[chosen], SIZE)


def former(store: str, model: str, days: Sequence[str], dim: int) -> Floats:
    """A sample of the published vectors of some days together: float32 [n, dim], `SIZE` of them at most.

    Each row has the same chance: `PLACES` rows at equal steps of all of them, and of the row group that each is in as
    many as its part, by lot. What is in one row group was often in one folder, so of a large day this says less than so
    many rows drawn one by one would. Files that have gone meanwhile, or are damaged, are left out. Raises OSError and
    what else Arrow and Delta raise.
    """
    delta = catalog.table(store, schemas.FEATURES.name)
    published = data_files.published(delta, {"model": model}) if delta else []
    files = sorted((file for file in published if file.keys["partition"] in days and file.rows), key=lambda f: f.path)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        read = pool.map(lambda one: _of_file(store, one[0], one[1], dim), _places(files))
        parts = [part for part in read if len(part)]
    return np.concatenate(parts) if parts else np.zeros((0, dim), np.float32)


def _places(files: Sequence[PublishedFile]) -> Iterator[tuple[PublishedFile, list[int]]]:
    """By file, the rows in it that are at equal steps of all rows."""
    total, before = sum(file.rows for file in files), 0
    rows = [(2 * number + 1) * total // (2 * PLACES) for number in range(PLACES)]
    for file in files:
        within = [row - before for row in rows if before <= row < before + file.rows]
        before += file.rows
        if within:
            yield file, within


def _of_file(store: str, file: PublishedFile, rows: Sequence[int], dim: int) -> Floats:
    """The part of a file in which these rows are."""
    filesystem, root = storage.filesystem(schemas.FEATURES.uri(store))
    parts = []
    try:
        with (
            data_files.whole(contract.join(schemas.FEATURES.uri(store), file.path)),
            pq.ParquetFile(f"{root}/{file.path}", filesystem=filesystem) as parquet,
        ):
            ends = np.cumsum([parquet.metadata.row_group(at).num_rows for at in range(parquet.num_row_groups)])
            groups, counts = np.unique(np.searchsorted(ends, rows, side="right"), return_counts=True)
            for group, count in zip(groups.tolist(), counts.tolist(), strict=True):
                table = parquet.read_row_group(group, columns=["image_id", "features"])
                vectors, right = sound(table["features"].combine_chunks(), dim)
                lots = keys.lots(keys.of(table["image_id"].to_pylist()), file.keys["partition"])
                parts.append(smallest(lots[right], vectors[right], count * SIZE // PLACES).vectors)
    except (FileNotFoundError, BadSetting):
        return np.zeros((0, dim), np.float32)
    return np.concatenate(parts)


def sound(column: Any, dim: int) -> tuple[Floats, NDArray[np.bool_]]:
    """The vectors of a column [n, dim], zeros where one has another length, and which have the right one."""
    right: NDArray[np.bool_] = np.asarray(column.value_lengths().fill_null(0)) == dim
    found = np.asarray((column if right.all() else column.filter(pa.array(right))).flatten(), np.float32)
    found = found.reshape(-1, dim)
    if right.all():
        return found, right
    vectors = np.zeros((len(right), dim), np.float32)
    vectors[right] = found
    return vectors, right
