"""What Delta's logs say of photos: the smallest and largest names in a file, which other writers than ours leave there.

They are taken out of commits and checkpoints where they stand. Readers lose nothing but a hint which files to skip.
"""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from spark_apps import contract, storage
from spark_apps.tables import delta_log
from spark_apps.tables.schemas import Table

NAMING = ("uri", "image_id", "twin", "pairs", "error_message")
"""Columns of the tables whose values tell which photo it is."""


def strip(store: str, table: Table, dry_run: bool = False) -> int:
    """Takes names out of the log of a table; in how many files there were any. Raises OSError or ArrowException."""
    root = contract.join(table.uri(store), "_delta_log")

    def one(name: str) -> bool:
        place = contract.join(root, name)
        try:
            content = storage.read_bytes(place)
        except FileNotFoundError:  # maintenance has shortened the log
            return False
        now = _commit(content) if name.endswith(".json") else _checkpoint(content)
        if now is not None and not dry_run:
            storage.write_bytes(place, now)
            if not name.endswith(".json"):
                _note_size(root, delta_log.version(name), len(now))
        return now is not None

    names = [name for name in delta_log.files(table.uri(store)) if name.endswith((".json", ".parquet"))]
    with ThreadPoolExecutor(delta_log.REQUESTS) as pool:
        return sum(pool.map(one, sorted(names)))


def _commit(content: bytes) -> bytes | None:
    """A commit without names; None where it has none."""
    lines = content.decode().splitlines()
    now = [_action(line) for line in lines]
    return None if now == lines else "\n".join(now).encode()


def _action(line: str) -> str:
    if '"stats"' not in line:
        return line
    action: dict[str, Any] = json.loads(line)
    changed = False
    for kind in ("add", "remove"):
        said = action.get(kind) or {}
        if said.get("stats") and (now := unnamed(said["stats"])) != said["stats"]:
            said["stats"], changed = now, True
    return json.dumps(action, separators=(",", ":"), ensure_ascii=False) if changed else line


def unnamed(stats: str) -> str:
    """Delta's statistics of a file, as JSON, without the smallest and largest names in it."""
    told = json.loads(stats)
    bounds = [told[name] for name in ("minValues", "maxValues") if isinstance(told.get(name), dict)]
    if not any(name in bound for bound in bounds for name in NAMING):
        return stats
    for bound in bounds:
        for name in NAMING:
            bound.pop(name, None)
    return json.dumps(told, separators=(",", ":"), ensure_ascii=False)


def _checkpoint(content: bytes) -> bytes | None:
    """The same of a checkpoint. The statistics are texts in it; a writer may add them as columns, too."""
    rows = pq.read_table(pa.BufferReader(content))
    changed = False
    for place, kind in enumerate(rows.column_names):
        if kind not in ("add", "remove"):
            continue
        actions = rows[kind].combine_chunks()
        fields = {field.name: actions.field(field.name) for field in actions.type}
        if "stats" not in fields:
            continue
        stats = fields["stats"].to_pylist()
        now = [None if one is None else unnamed(one) for one in stats]
        parsed = fields.get("stats_parsed")
        if now == stats and (parsed is None or parsed.null_count == len(parsed)):
            continue
        changed = True
        fields["stats"] = pa.array(now, fields["stats"].type)
        if parsed is not None:
            fields["stats_parsed"] = pa.nulls(len(parsed), parsed.type)
        struct = pa.StructArray.from_arrays(list(fields.values()), fields=list(actions.type), mask=actions.is_null())
        rows = rows.set_column(place, rows.schema.field(place), struct)
    if not changed:
        return None
    sink = pa.BufferOutputStream()
    pq.write_table(rows, sink, compression="snappy")
    written: bytes = sink.getvalue().to_pybytes()
    return written


def _note_size(root: str, version: int, size_bytes: int) -> None:
    """Readers take the size of the last checkpoint from a note beside it."""
    place = contract.join(root, "_last_checkpoint")
    said = storage.read_json(place)
    if said and said.get("version") == version and "sizeInBytes" in said:
        storage.write_json(place, {**said, "sizeInBytes": size_bytes})
