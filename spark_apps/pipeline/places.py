"""Finding a few rows of a large day: which row groups hold them, then these row groups alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import pyarrow as pa
import pyarrow.parquet as pq

from spark_apps import contract, storage
from spark_apps.contract import StagedFile
from spark_apps.pipeline import keys
from spark_apps.pipeline.keys import Keys
from spark_apps.pipeline.measure import Unit, row_groups
from spark_apps.spark.spreading import Spread
from spark_apps.tables import data_files
from spark_apps.tables.schemas import Table


@dataclass(frozen=True)
class Place:
    """A row group of a staged file."""

    path: str
    row_group: int


@dataclass(frozen=True)
class Wanted:
    """Rows of a table whose `column`, of texts, has one of these keys, which ascend."""

    store: str
    table: Table
    column: str
    keys: Keys

    def of(self, rows: pa.Table) -> pa.Table:
        """Those among `rows`."""
        return rows.filter(pa.array(keys.within(keys.of(rows[self.column].to_pylist()), self.keys)))


def rows(spread: Spread, files: Sequence[StagedFile], wanted: Wanted, columns: Sequence[str]) -> Iterator[pa.Table]:
    """The wanted rows, with `columns`, of one row group after another. Raises as `measure.measure`."""
    if not len(wanted.keys):
        return
    units = [Unit(wanted.table.name, file.path, file.rows) for file in files]
    for place in spread(units, partial(_find, wanted=wanted)):
        uri = contract.join(wanted.table.uri(wanted.store), place.path)
        filesystem, path = storage.filesystem(uri)
        with storage.reaching("store", wanted.store), data_files.whole(uri):
            parquet = pq.ParquetFile(path, filesystem=filesystem)
            group = parquet.read_row_group(place.row_group, columns=list({wanted.column, *columns}))
        yield wanted.of(group).select(list(columns))


def _find(units: Iterator[Unit], wanted: Wanted) -> Iterator[Place]:
    """The work of one task."""
    for unit in units:
        with storage.reaching("store", wanted.store):
            for number, group in row_groups(wanted.store, unit, [wanted.column]):
                if wanted.of(group).num_rows:
                    yield Place(unit.path, number)
