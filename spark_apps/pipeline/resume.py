"""Resume: what the finished tasks of an attempt that ended early leave to the next attempt at the stage of that run.

An attempt keeps `attempt.json` below the run's folder: what it goes by, and the records that it took over. Each of its
tasks adds a record when its files are whole. The next attempt takes over what still fits, writes that into such a
document of its own, and only then removes those before it, with all that it did not take: whoever finds his document
gone has been replaced. All of them go when the stage is done (`staging.settle`), and before anything is published: so
no file of a record has ever been published, and what a published run staged is not touched here.
"""

from __future__ import annotations

import dataclasses
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import fs

from spark_apps import contract, storage
from spark_apps.contract import JobError, StagedFile
from spark_apps.pipeline.finished import Finished
from spark_apps.pipeline.records import TaskRecord
from spark_apps.spark import packages
from spark_apps.tables import data_files, delta_log, staging
from spark_apps.tables.schemas import TABLES, Table

ATTEMPT = "attempt.json"

Place = tuple[str, str]
"""A staged file: the name of its table, and its path relative to that."""


@dataclass(frozen=True)
class Earlier:
    """What earlier attempts at the stage left. `attempts`: their names; `files`: all that their records name;
    `finished`: tasks that are whole, read as they are asked for, once."""

    attempts: Sequence[str] = ()
    files: frozenset[Place] = frozenset()
    finished: Iterator[Finished] = field(default_factory=lambda: iter(()))


def basis(**facts: Any) -> dict[str, Any]:
    """What an attempt goes by: only what was made by the same facts, and the same code, is taken over."""
    return {**facts, "code_hash": packages.code_hash()}


def look(
    settings: contract.Settings, stage: str, goes_by: dict[str, Any], table: Table, columns: Sequence[str]
) -> Earlier:
    """What earlier attempts left, and which of it is whole: each file there, with the size and the rows of its record,
    and a footer and `columns` that can be read. One listing, and a few requests for each task and file.

    Raises Unreachable.
    """
    root = staging.unfinished(settings.folder, stage)
    with storage.reaching("store", settings.store), ThreadPoolExecutor(delta_log.REQUESTS) as pool:
        filesystem, base = storage.filesystem(root)
        found = filesystem.get_file_info(fs.FileSelector(base, recursive=True, allow_not_found=True))
        names = sorted(info.path.removeprefix(f"{base}/") for info in found if info.type == fs.FileType.File)
        documents = dict(zip(names, pool.map(lambda name: _document(contract.join(root, name)), names), strict=True))
        attempts = [name.split("/")[0] for name in names if name.endswith(f"/{ATTEMPT}")]
        every: list[TaskRecord] = []
        fitting: list[TaskRecord] = []
        for name in attempts:
            own = documents.pop(f"{name}/{ATTEMPT}")
            kept = own.get("records")
            records = [*(kept if isinstance(kept, list) else []), *_of(name, documents)]
            parsed = [record for record in map(_record, records) if record]
            every += parsed
            fitting += parsed if own.get("basis") == goes_by else []
        inside = f"data/{settings.partition}/{settings.run.folder}/"
        return Earlier(
            attempts,
            frozenset(path for record in every for path in _paths(record) if path[1].startswith(inside)),
            _whole_ones(fitting, partial(_whole, settings.store, table, columns, inside)),
        )


@contextmanager
def attempt(
    settings: contract.Settings, stage: str, goes_by: dict[str, Any], earlier: Earlier, taken: Sequence[TaskRecord]
) -> Iterator[str]:
    """An attempt at a stage, which has `taken` over from `earlier`: yields the folder that its tasks stage in.

    When it fails, what its tasks have not finished is removed: a full disk must not stay full of it.

    Raises:
        JobError: another attempt has taken over.
        Unreachable: the store cannot be written to.
    """
    folder = staging.folder(settings)
    own = contract.join(staging.unfinished(settings.folder, stage), _name(folder), ATTEMPT)
    kept = {path for record in taken for path in _paths(record)}
    with storage.reaching("store", settings.store):
        storage.write_json(own, {"basis": goes_by, "records": [dataclasses.asdict(record) for record in taken]})
        _replace(settings, stage, earlier, kept)
    try:
        yield folder
        with storage.reaching("store", settings.store):
            if storage.read_json(own) is None or _missing(settings.store, kept):
                raise JobError(
                    "attempt_replaced",
                    f"Another attempt at {stage} of run {settings.run_id} has taken over.",
                    "Let that one go on; what this one had finished is not computed again.",
                )
    except BaseException:
        with suppress(OSError, pa.ArrowException, JobError):
            _relieve(settings, stage, folder)
        raise


def keep(settings: contract.Settings, stage: str, folder: str, record: TaskRecord) -> TaskRecord:
    """Leaves the record of a task whose files are whole. Nothing depends on it: what cannot be written is left out."""
    name = f"{uuid.uuid4().hex[:16]}.json"
    with suppress(OSError, pa.ArrowException):
        storage.write_json(
            contract.join(staging.unfinished(settings.folder, stage), _name(folder), name), dataclasses.asdict(record)
        )
    return record


def _replace(settings: contract.Settings, stage: str, earlier: Earlier, kept: set[Place]) -> None:
    """Removes what `earlier` attempts left but for the files `kept`; their documents first, so that they can tell."""
    if not earlier.attempts:
        return
    root = staging.unfinished(settings.folder, stage)
    for name in earlier.attempts:
        storage.delete(contract.join(root, name, ATTEMPT))
    for name in earlier.attempts:
        with suppress(OSError):  # a job that still runs writes there; without the document nobody looks at it
            storage.delete_folder(contract.join(root, name))
    run = f"data/{settings.partition}/{settings.run.folder}"
    lying = {path for path in _lying(settings.store, run) if path[1].split("/")[-2] in earlier.attempts}
    _delete(settings.store, (lying | earlier.files) - kept)


def _relieve(settings: contract.Settings, stage: str, folder: str) -> None:
    """Removes the files of an attempt that no record of it names, while it has not been replaced. Looked at in this
    order, its own document last: while that is there, nobody has taken its records away."""
    root = contract.join(staging.unfinished(settings.folder, stage), _name(folder))
    lying = _lying(settings.store, folder)
    filesystem, base = storage.filesystem(root)
    found = filesystem.get_file_info(fs.FileSelector(base, allow_not_found=True))
    records = [_record(_document(contract.join(root, info.base_name))) for info in found if info.base_name != ATTEMPT]
    if storage.read_json(contract.join(root, ATTEMPT)) is not None:
        _delete(settings.store, lying - {path for record in records if record for path in _paths(record)})


def _name(folder: str) -> str:
    """The name of an attempt, of the folder that it stages in."""
    return folder.rsplit("/", 1)[-1]


def _of(name: str, documents: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    return [document for path, document in documents.items() if path.startswith(f"{name}/")]


def _document(uri: str) -> dict[str, Any]:
    """A JSON document; empty where there is none or it is damaged."""
    try:
        found = storage.read_json(uri)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _record(document: Any) -> TaskRecord | None:
    try:
        return TaskRecord.from_record(document)
    except ValueError:
        return None


def _whole_ones(records: Sequence[TaskRecord], whole: Callable[[TaskRecord], Finished | None]) -> Iterator[Finished]:
    """Those that are whole, a few at a time: the rows of all of them may be too many for memory."""
    with ThreadPoolExecutor(delta_log.REQUESTS) as pool:
        for begin in range(0, len(records), delta_log.REQUESTS):
            yield from filter(None, pool.map(whole, records[begin : begin + delta_log.REQUESTS]))


def _whole(store: str, table: Table, columns: Sequence[str], inside: str, record: TaskRecord) -> Finished | None:
    """A record by its files of `table`, when all of them lie `inside` and are as it says."""
    files = record.staged.get(table.name, [])
    try:
        rows = [_rows(store, table, columns, file) for file in files if file.path.startswith(inside)]
    except (OSError, pa.ArrowException, KeyError):
        return None
    whole = rows and len(rows) == len(files) and all(part is not None for part in rows)
    return Finished(TaskRecord({table.name: files}), pa.concat_tables(rows)) if whole else None


def _rows(store: str, table: Table, columns: Sequence[str], file: StagedFile) -> pa.Table | None:
    filesystem, path = storage.filesystem(contract.join(table.uri(store), file.path))
    with filesystem.open_input_file(path) as stream:
        if stream.size() != file.size_bytes:
            return None
        parquet = pq.ParquetFile(stream)
        rows = parquet.read(columns=list(columns))
        groups = tuple(parquet.metadata.row_group(group).num_rows for group in range(parquet.num_row_groups))
    return rows.select(list(columns)) if rows.num_rows == file.rows and groups == file.row_groups else None


def _paths(record: TaskRecord) -> list[Place]:
    return [(name, file.path) for name, files in record.staged.items() if name in TABLES for file in files]


def _lying(store: str, folder: str) -> set[Place]:
    """The files below a folder of each table."""
    found: set[Place] = set()
    for table in TABLES.values():
        filesystem, root = storage.filesystem(table.uri(store))
        selector = fs.FileSelector(f"{root}/{folder}", recursive=True, allow_not_found=True)
        infos = filesystem.get_file_info(selector)
        found |= {(table.name, info.path[len(root) + 1 :]) for info in infos if info.type == fs.FileType.File}
    return found


def _missing(store: str, paths: set[Place]) -> bool:
    return any(
        data_files.missing(store, table, [path for name, path in paths if name == table.name])
        for table in TABLES.values()
    )


def _delete(store: str, paths: set[Place]) -> None:
    def delete(path: Place) -> None:
        storage.delete(contract.join(TABLES[path[0]].uri(store), path[1]))

    with ThreadPoolExecutor(delta_log.REQUESTS) as pool:
        list(pool.map(delete, sorted(paths)))
