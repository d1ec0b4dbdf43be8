"""How much a table holds at a version: what lineage and reports say of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from spark_apps import storage
from spark_apps.catalog import tables


@dataclass(frozen=True)
class Extent:
    """What a table holds at one version. `columns`: name → type, as Arrow writes it, the partition columns last."""

    version: int
    rows: int
    size_bytes: int
    files: int
    columns: Mapping[str, str]


def extent(store: str, name: str, keys: Mapping[str, str] | None = None, version: int | None = None) -> Extent | None:
    """Of the rows with these values of the partition columns (`partition`, `model`), all by default; from the table's
    log alone. None: there is no such table. Raises Unreachable: the store cannot be read."""
    delta = tables.table(store, name, version)
    if delta is None:
        return None
    with storage.reaching("store", store):
        files = pa.table(delta.get_add_actions(flatten=True))
    for key, value in (keys or {}).items():
        files = files.filter(pc.equal(files[f"partition.{key}"], value)) if files.num_rows else files

    def total(column: str) -> int:
        return int(pc.sum(files[column]).as_py() or 0) if files.num_rows else 0

    columns = {field.name: str(field.type) for field in tables.columns(delta)}
    return Extent(delta.version(), total("num_records"), total("size_bytes"), files.num_rows, columns)
