"""Long lists of staged files, which lie beside their manifest: that is read for its counts alone again and again."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Mapping

import pyarrow as pa
import pyarrow.parquet as pq

from spark_apps import contract, storage
from spark_apps.contract import Manifest, StagedFile

LONG = 10_000
"""Files of one table that a manifest lists itself, at most: some 3 MB."""

COLUMNS = pa.schema(
    [("path", pa.string()), ("size_bytes", pa.int64()), ("rows", pa.int64()), ("row_groups", pa.list_(pa.int64()))]
)


def apart(manifest: Manifest, store: str, path: str) -> Manifest:
    """The manifest as it is to be written to `<path>.json` of the store, with its long lists written beside that.
    Raises OSError."""
    staged, lists = dict(manifest.staged), dict[str, str]()
    for table, files in manifest.staged.items():
        if len(files) <= LONG:
            continue
        lists[table] = f"{path}_{table}.parquet"
        sink = pa.BufferOutputStream()
        columns = {field.name: [getattr(file, field.name) for file in files] for field in COLUMNS}
        pq.write_table(pa.table(columns, schema=COLUMNS), sink, compression="zstd")
        storage.write_bytes(contract.join(store, lists[table]), sink.getvalue())
        staged[table] = []
    return dataclasses.replace(manifest, staged=staged, staged_in=lists)


def with_lists(manifest: Manifest, store: str) -> Manifest:
    """The manifest with all of its lists, each read when it is asked for. Raises ValueError: it names no such list."""
    if not manifest.staged_in:
        return manifest
    for path in manifest.staged_in.values():
        if not re.fullmatch(r"runs/[^/]+/[^/]+/\w+\.parquet", path) or "/../" in path:
            raise ValueError(f"{path!r} is no list of staged files")
    return dataclasses.replace(manifest, staged=_Lists(manifest, store))


class _Lists(Mapping[str, list[StagedFile]]):
    def __init__(self, manifest: Manifest, store: str) -> None:
        self._known, self._apart, self._store = dict(manifest.staged), dict(manifest.staged_in), store

    def __getitem__(self, table: str) -> list[StagedFile]:
        """Raises Unreachable: it cannot be read."""
        if path := self._apart.pop(table, None):
            with storage.reaching("store", self._store):
                filesystem, place = storage.filesystem(contract.join(self._store, path))
                rows = pq.read_table(place, filesystem=filesystem, partitioning=None).to_pylist()
            self._known[table] = [StagedFile(**{**row, "row_groups": tuple(row["row_groups"])}) for row in rows]
        return self._known[table]

    def __iter__(self) -> Iterator[str]:
        return iter(self._known)

    def __len__(self) -> int:
        return len(self._known)
