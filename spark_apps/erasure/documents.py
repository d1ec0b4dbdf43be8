"""What runs leave beside the data: reports, manifests, errors and notes as JSON, and listings and lists in Parquet.

Names of erased photos become `texts.WORD`, rows of lists go, and where a document names a data file it names what is
left of it. All at the same place, so that whoever reads a document finds it, and a row group keeps its number.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pyarrow import fs

from spark_apps import contract, storage
from spark_apps.contract import StagedFile
from spark_apps.erasure.texts import redacted, redacted_document
from spark_apps.pipeline import lists
from spark_apps.storage import folders
from spark_apps.tables import delta_log, schemas, staged_lists, tombstones
from spark_apps.tables.tombstones import Tombstones

ELSEWHERE = (*schemas.TABLES, schemas.DUPLICATES.name, tombstones.FOLDER, "search")
"""Folders of a store that are looked after by others, but for `search/runs`."""


@dataclass(frozen=True)
class Redaction:
    """What documents are to be like: without the erased photos, and with data files as they are now, by former path."""

    stones: Tombstones
    files: Mapping[str, StagedFile]


def places(store: str, partitions: Iterable[str] | None = None) -> dict[str, datetime]:
    """The documents of a store, those of some partitions' runs or all: path relative to the store → when it was
    written. Raises OSError."""
    filesystem, root = storage.filesystem(store)
    if partitions is None:
        tops = folders.inside(filesystem, root)
        all_folders = [info.path for info in tops if info.type == fs.FileType.Directory]
        below = [path for path in all_folders if path.rsplit("/", 1)[-1] not in ELSEWHERE] + [f"{root}/search/runs"]
    else:
        below = [f"{root}/runs/{contract.check_partition(key)}" for key in partitions]
    found = {}
    for folder in below:
        for info in filesystem.get_file_info(fs.FileSelector(folder, recursive=True, allow_not_found=True)):
            if info.type == fs.FileType.File and (".json" in info.base_name or info.base_name.endswith(".parquet")):
                found[info.path[len(root) + 1 :]] = info.mtime
    return found


def redact(store: str, known: Mapping[str, datetime], redaction: Redaction, dry_run: bool = False) -> list[str]:
    """Writes those of the documents anew in which something changes; which those were. The last manifest of a run that
    is over is written last, as it was: by its time one knows that the run is over. Raises OSError."""

    def one(path: str) -> bool:
        place = contract.join(store, path)
        rewrite = _list if path.endswith(".parquet") else _json
        try:
            content = storage.read_bytes(place)
            changed = rewrite(content, redaction)
        except (FileNotFoundError, pa.ArrowException):  # it has gone, or is being written
            return False
        if changed is not None and not dry_run:
            storage.write_bytes(place, changed)
        return changed is not None

    ordered = sorted(known)
    with ThreadPoolExecutor(delta_log.REQUESTS) as pool:
        done = [path for path, changed in zip(ordered, pool.map(one, ordered), strict=True) if changed]
    if not dry_run:
        for last in _last_of(done, known):
            storage.write_bytes(contract.join(store, last), storage.read_bytes(contract.join(store, last)))
    return done


def _last_of(done: Iterable[str], known: Mapping[str, datetime]) -> list[str]:
    """The manifests of validate that were the newest in the folders of their runs, where something was redacted."""
    runs: dict[str, datetime] = {}
    for path, moment in known.items():
        run = "/".join(path.split("/")[:3])
        runs[run] = max(runs.get(run, moment), moment)
    manifests = {f"{'/'.join(path.split('/')[:3])}/validate.json" for path in done}
    return [path for path in manifests if path in known and known[path] == runs[path.rpartition("/")[0]]]


def _json(content: bytes, redaction: Redaction) -> bytes | None:
    """The document as it is to be; None where that is what it is. One that is damaged is redacted as a text."""
    try:
        value = json.loads(content)
    except ValueError:
        text = content.decode(errors="surrogateescape")
        changed = redacted(text, redaction.stones)
        return None if changed == text else changed.encode(errors="surrogateescape")
    now = redacted_document(value, redaction.stones, redaction.files)
    return None if now == value else json.dumps(now, indent=1).encode()


def _list(content: bytes, redaction: Redaction) -> bytes | None:
    """The same of a list in Parquet: of source files, of vectors to copy, or of staged files."""

    def change(rows: pa.Table) -> pa.Table:
        staged = rows.column_names == staged_lists.COLUMNS.names
        return _staged(rows, redaction) if staged else _without(rows, redaction)

    return lists.changed(content, change)


def _without(rows: pa.Table, redaction: Redaction) -> pa.Table:
    gone: NDArray[np.bool_] = np.zeros(rows.num_rows, bool)
    for name, is_erased in (("uri", redaction.stones.has_uri), ("image_id", redaction.stones.has_image)):
        if name in rows.column_names:
            gone |= np.fromiter(map(is_erased, rows[name].to_pylist()), bool, rows.num_rows)
    return rows.filter(pa.array(~gone)) if gone.any() else rows


def _staged(rows: pa.Table, redaction: Redaction) -> pa.Table:
    former = pa.array(list(redaction.files), pa.string())
    if not pc.any(pc.is_in(rows["path"], former)).as_py():
        return rows
    now = [vars(redaction.files[row["path"]]) if row["path"] in redaction.files else row for row in rows.to_pylist()]
    return pa.Table.from_pylist(now, schema=rows.schema)
