"""Lists for tasks in the run's folder: which files to read, whose vectors to copy. A task reads one row group."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from spark_apps import contract, storage

FILE_PARTS = 64
"""Row groups in one file, so that the footer a task reads stays small."""


class ListPart(NamedTuple):
    """A part of a list: a file and its row group."""

    uri: str
    row_group: int


class ListWriter:
    """Writes a list, part by part, below `folder`, as `00000000.parquet` and so on. Use as a context manager."""

    def __init__(self, folder: str, schema: pa.Schema) -> None:
        self.parts: list[ListPart] = []
        self.rows = 0
        self._folder, self._schema = folder, schema
        self._writer: pq.ParquetWriter | None = None
        self._uri = ""

    def add(self, rows: pa.Table) -> ListPart:
        """Writes rows as the next part."""
        number = len(self.parts) % FILE_PARTS
        if not number:
            self.close()
            self._uri = contract.join(self._folder, f"{len(self.parts):08d}.parquet")
            storage.ensure_folder(self._folder)
            filesystem, path = storage.filesystem(self._uri)
            self._writer = pq.ParquetWriter(path, self._schema, filesystem=filesystem, compression="zstd")
        assert self._writer is not None
        self._writer.write_table(rows, row_group_size=rows.num_rows)
        self.rows += rows.num_rows
        self.parts.append(ListPart(self._uri, number))
        return self.parts[-1]

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def __enter__(self) -> ListWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def read(part: ListPart) -> pa.Table:
    """The rows of a part."""
    filesystem, path = storage.filesystem(part.uri)
    return pq.ParquetFile(path, filesystem=filesystem).read_row_group(part.row_group)


def changed(content: bytes, change: Callable[[pa.Table], pa.Table]) -> bytes | None:
    """A list with each of its parts as `change` makes it; parts keep their numbers. None where nothing changes."""
    with pq.ParquetFile(pa.BufferReader(content)) as parquet:
        sink, differs = pa.BufferOutputStream(), False
        with pq.ParquetWriter(sink, parquet.schema_arrow, compression="zstd") as writer:
            for number in range(parquet.num_row_groups):
                before = parquet.read_row_group(number)
                rows = change(before)
                differs = differs or rows is not before
                writer.write_table(rows, row_group_size=max(rows.num_rows, 1))
    return sink.getvalue().to_pybytes() if differs else None
