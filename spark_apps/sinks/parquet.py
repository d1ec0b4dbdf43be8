"""Parquet files in a folder, one for each partition: `partition=<key>/vectors.parquet`, as Hive names them.

A file is written beside the one before and takes its place when it is whole, so readers see a partition as it was or as
it is. Whatever else is in the folder stays as it is.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import suppress
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from spark_apps import contract, storage
from spark_apps.sinks.sink import ROWS, schema
from spark_apps.storage import folders

MARK, FILE, UNFINISHED = "_image_features_sync.json", "vectors.parquet", "_vectors.unfinished"
"""Names with an underscore are no data to those who read a folder of Parquet."""
FOLDER = "partition="


class ParquetSink:
    """A folder, on a disk or an object store. `where`: path or URI."""

    def __init__(self, where: str) -> None:
        self.where = where.rstrip("/")
        with storage.reaching("sink", where):
            self._files, self._root = storage.filesystem(self.where)

    def mark(self) -> str:
        """See `Sink`."""
        with storage.reaching("sink", self.where):
            try:
                return storage.read_bytes(contract.join(self.where, MARK)).decode()
            except FileNotFoundError:
                return ""

    def remember(self, mark: str) -> None:
        """See `Sink`."""
        with storage.reaching("sink", self.where):
            storage.write_bytes(contract.join(self.where, MARK), mark.encode())

    def apply(self, partition: str, rows: pa.RecordBatchReader, gone: Collection[str] | None) -> None:
        """See `Sink`. The partition's file is written anew."""
        folder = f"{self._root}/{FOLDER}{partition}"
        unfinished, target = f"{folder}/{UNFINISHED}", f"{folder}/{FILE}"
        with storage.reaching("sink", self.where):
            self._files.create_dir(folder)
            written = 0
            writer: pq.ParquetWriter | None = None
            try:
                for batch in self._merged(target, rows, gone):
                    writer = writer or pq.ParquetWriter(unfinished, batch.schema, filesystem=self._files)
                    writer.write_batch(batch)
                    written += batch.num_rows
            finally:
                if writer:
                    writer.close()
            if written:
                self._files.move(unfinished, target)
            else:
                storage.delete_folder(contract.join(self.where, f"{FOLDER}{partition}"))

    def counts(self) -> dict[str, int]:
        """See `Sink`: what the files' own footers say."""
        with storage.reaching("sink", self.where):
            found = folders.inside(self._files, self._root)
            names = [info.base_name for info in found if info.base_name.startswith(FOLDER)]
            files = {name.removeprefix(FOLDER): self._file(f"{self._root}/{name}/{FILE}") for name in names}
            return {key: file.metadata.num_rows for key, file in files.items() if file and file.metadata.num_rows}

    def close(self) -> None:
        """See `Sink`."""

    def _merged(
        self, target: str, rows: pa.RecordBatchReader, gone: Collection[str] | None
    ) -> Iterator[pa.RecordBatch]:
        """What is to be in a partition's file, without the column that the folder's name has."""
        seen = [pa.array(gone or (), pa.string())]
        for batch in rows:
            seen.append(batch["uri"])
            yield batch.drop_columns(["partition"])
        before = self._file(target) if gone is not None else None
        if before is None:
            return
        left_out: Any = pa.chunked_array(seen)
        for batch in before.iter_batches(ROWS):
            kept = batch.filter(pc.invert(pc.is_in(batch["uri"], value_set=left_out)))
            if kept.num_rows:
                yield kept.cast(_without_partition(kept))

    def _file(self, path: str) -> pq.ParquetFile | None:
        with suppress(FileNotFoundError):
            return pq.ParquetFile(path, filesystem=self._files)
        return None


def _without_partition(batch: pa.RecordBatch) -> pa.Schema:
    dim = batch.schema.field("vector").type.list_size
    return pa.schema([field for field in schema(dim) if field.name != "partition"])
