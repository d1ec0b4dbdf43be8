"""The data files of a table: which hold the rows of a partition, which are gone, which were merged from others."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from deltalake import DeltaTable
from pyarrow import fs

from spark_apps import storage
from spark_apps.tables.schemas import Table

MERGED = "merged-"

"""How the name of a folder with merged files begins; an attempt's begins with a hexadecimal digit."""


def files(delta: DeltaTable, keys: dict[str, str] | None = None) -> set[str]:
    """Paths, relative to the table, of the files that hold the rows of `keys`, or all rows."""
    return {file["path"] for file in file_records(delta, keys or {})}


def file_records(delta: DeltaTable, keys: dict[str, str]) -> list[dict[str, Any]]:
    """The files that hold the rows of `keys`, as `StagedWriter.files` has them, with `run_id` and all keys."""
    actions = pa.table(delta.get_add_actions(flatten=True))
    for key, value in keys.items():
        actions = actions.filter(pc.equal(actions[f"partition.{key}"], value))
    names = {"path": "path", "size_bytes": "size_bytes", "rows": "num_records", "run_id": "min.run_id"}
    names |= {key: f"partition.{key}" for key in delta.metadata().partition_columns}
    columns = {name: column for name, column in names.items() if column in actions.column_names}
    return actions.select(list(columns.values())).rename_columns(list(columns)).to_pylist()  # type: ignore[no-any-return]


def missing(store: str, table: Table, paths: Iterable[str]) -> list[str]:
    """Those of `paths`, relative to the table, where there is no file any more."""
    paths = sorted(paths)
    filesystem, root = storage.filesystem(table.uri(store))
    found = filesystem.get_file_info([f"{root}/{path}" for path in paths])
    return [path for path, info in zip(paths, found, strict=True) if info.type != fs.FileType.File]


def merged_folder(paths: Iterable[str]) -> str:
    """The name of the folder that files merged from exactly `paths` lie in: whoever knows these can tell."""
    return MERGED + hashlib.sha256("\n".join(sorted(paths)).encode()).hexdigest()[:16]


def is_merged(path: str) -> bool:
    """Whether a file was merged from others after it was published."""
    return path.split("/")[-2].startswith(MERGED)
