"""Staging: the Parquet files that an attempt at a stage writes below their table's folder, where no reader sees them
until `commits.Replacement` names them in a commit."""

from __future__ import annotations

import uuid
from contextlib import suppress
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from spark_apps import contract, storage
from spark_apps.contract import BadFile, StagedFile
from spark_apps.tables.schemas import Table

ROW_GROUP_BYTES = 16 * 2**20
FILE_BYTES = 128 * 2**20
PACKED_BYTES = 2**20
"""Rows that `StagedWriter` keeps as Python objects."""


def folder(settings: contract.Settings) -> str:
    """A fresh folder name, relative to a table, for the files of one attempt at one stage of a run.

    Attempts never share it, so an attempt that was given up for dead cannot touch the files of the next.
    """
    return f"data/{settings.partition}/{settings.run.folder}/{uuid.uuid4().hex[:12]}"


def run_of(path: str) -> str:
    """The folder of the run that staged a file: `data/<partition>/<run>`, relative to the table, as `path` is."""
    return path.rsplit("/", 2)[0]


def unfinished(run_folder: str, stage: str) -> str:
    """Where the attempts at a stage leave what the next one can take over, in the run's folder."""
    return contract.join(run_folder, f"unfinished-{stage}")


def settle(run_folder: str, stage: str) -> None:
    """Removes it: the stage is done, and what it staged may be published. Raises OSError."""
    storage.delete_folder(unfinished(run_folder, stage))


class StagedWriter:
    """Writes rows of one table to Parquet files nobody sees yet. Row groups are about `ROW_GROUP_BYTES` large.

    Use as a context manager: `files` is complete at its end; an exception removes what was written.
    """

    def __init__(self, store: str, table: Table, folder: str, row_group_bytes: int = ROW_GROUP_BYTES) -> None:
        self.files: list[StagedFile] = []
        self._table, self._store, self._folder = table, store, folder
        self._row_group_bytes = row_group_bytes
        self._rows: list[dict[str, Any]] = []
        self._packed: list[pa.RecordBatch] = []
        self._row_bytes = self._pending_bytes = 0
        self._writer: pq.ParquetWriter | None = None
        self._path = ""
        self._row_groups: list[int] = []

    def add(self, row: dict[str, Any], size_bytes: int) -> None:
        """Takes one row; `size_bytes` is roughly what it occupies."""
        self._rows.append(row)
        self._row_bytes += size_bytes
        self._pending_bytes += size_bytes
        if self._row_bytes >= PACKED_BYTES:
            self._pack()
        if self._pending_bytes >= self._row_group_bytes:
            self._flush()

    def add_table(self, rows: pa.Table) -> None:
        """Takes rows that are in Arrow's form already, of whatever version; they become one row group."""
        self._flush()
        self._write(self._table.filled(rows))

    def __enter__(self) -> StagedWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            self.discard()
            return
        try:
            self._flush()
            if self._writer is not None:
                self._finish_file()
        except BaseException:
            self.discard()
            raise

    def _pack(self) -> None:
        """Turns the rows into an Arrow batch now, so that writing their row group makes no second copy of them."""
        if self._rows:
            self._packed.append(pa.RecordBatch.from_pylist(self._rows, schema=self._table.columns))
        self._rows, self._row_bytes = [], 0

    def _flush(self) -> None:
        self._pack()
        if self._packed:
            self._write(pa.Table.from_batches(self._packed))
        self._packed, self._pending_bytes = [], 0

    def _write(self, batch: pa.Table) -> None:
        if self._writer is None:
            self._begin_file()
        assert self._writer is not None
        self._writer.write_table(batch, row_group_size=batch.num_rows)
        self._row_groups.append(batch.num_rows)
        if self._stream.tell() >= FILE_BYTES:
            self._finish_file()

    def _begin_file(self) -> None:
        self._path, self._row_groups = f"{self._folder}/{uuid.uuid4().hex[:16]}.parquet", []
        uri = contract.join(self._table.uri(self._store), self._path)
        storage.ensure_folder(uri.rsplit("/", 1)[0])
        filesystem, location = storage.filesystem(uri)
        self._stream = filesystem.open_output_stream(location, compression=None)
        self._writer = parquet_writer(self._stream, self._table.columns)

    def _finish_file(self) -> None:
        assert self._writer is not None
        self._writer.close()
        size = self._stream.tell()
        self._stream.close()
        self._writer = None
        self.files.append(StagedFile(self._path, size, sum(self._row_groups), tuple(self._row_groups)))

    def discard(self) -> None:
        """Removes what was written. Errors are dropped here: the one that ended the attempt matters."""
        if self._writer is not None:
            with suppress(OSError, pa.ArrowException):
                self._writer.close()
            with suppress(OSError, pa.ArrowException):
                self._stream.close()
        for path in [*(file.path for file in self.files), *([self._path] if self._path else [])]:
            with suppress(OSError):
                storage.delete(contract.join(self._table.uri(self._store), path))


def parquet_writer(sink: Any, columns: pa.Schema) -> pq.ParquetWriter:
    """A writer with what suits our columns: photos are compressed already, and no two names are the same."""
    return pq.ParquetWriter(
        sink,
        columns,
        compression={name: "none" if name == "content" else "zstd" for name in columns.names},
        use_dictionary=[name for name in columns.names if name not in ("content", "features", "uri", "image_id")],
        write_statistics=[name for name in columns.names if name not in ("content", "features")],
    )


def quarantine_row(common: dict[str, Any], stage: str, bad: BadFile, size_bytes: int) -> dict[str, Any]:
    """A row of the table quarantine; `common` holds uri, image_id and run_id."""
    return {
        **common,
        "stage": stage,
        "error_code": bad.code,
        "error_message": bad.message,
        "size_bytes": size_bytes,
    }
