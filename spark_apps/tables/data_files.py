"""The data files of a table: which hold the rows of a partition, which are gone, which were merged from others."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from deltalake import DeltaTable
from pyarrow import fs

from spark_apps import contract, storage
from spark_apps.contract import BadSetting, JobError, StagedFile
from spark_apps.tables import delta_log
from spark_apps.tables.schemas import Table

MERGED = "merged-"
"""How the name of a folder with merged files begins; an attempt's begins with a hexadecimal digit."""

ERASED = "-erased-"
"""Behind the name of a file, before a hash: it is that file without the rows that an erasure has removed."""

_DAMAGED = "The file {} is damaged: "

NULLS = "null_count."
"""How delta-rs begins the name of a column's count of nulls."""


@dataclass(frozen=True)
class PublishedFile(StagedFile):
    """A file that a table shows. `run_id`: of the run that staged its rows; `keys`: its partition columns; `empty`:
    columns of which the log says that they hold nothing; `modified_ms`: when it was committed, since 1970."""

    run_id: str = ""
    keys: dict[str, str] = field(default_factory=dict)
    empty: frozenset[str] = frozenset()
    modified_ms: int = 0


def files(delta: DeltaTable, keys: dict[str, str] | None = None) -> set[str]:
    """Paths, relative to the table, of the files that hold the rows of `keys`, or all rows."""
    return {file.path for file in published(delta, keys or {})}


def published(delta: DeltaTable, keys: dict[str, str]) -> list[PublishedFile]:
    """The files that hold the rows of `keys`, or all files."""
    actions = pa.table(delta.get_add_actions(flatten=True))
    for key, value in keys.items():
        actions = actions.filter(pc.equal(actions[f"partition.{key}"], value))
    columns = delta.metadata().partition_columns
    nulls = {name.removeprefix(NULLS): name for name in actions.column_names if name.startswith(NULLS)}
    return [
        PublishedFile(
            path=file["path"],
            size_bytes=file["size_bytes"],
            rows=file["num_records"],
            run_id=file.get("min.run_id") or "",
            keys={key: file[f"partition.{key}"] for key in columns},
            empty=frozenset(name for name, count in nulls.items() if file[count] == file["num_records"]),
            modified_ms=file["modification_time"],
        )
        for file in actions.to_pylist()
    ]


def damaged(error: JobError) -> str | None:
    """The uri of the file that `whole` found damaged, from its error, though that may come from a task; else None."""
    found = re.match(_DAMAGED.format("(.+)"), error.message)
    return found[1] if found and error.code == "file_damaged" else None


@contextmanager
def whole(uri: str) -> Iterator[None]:
    """For reading a Parquet file of a store: when that fails, tells a damaged file from a store that fails.

    Raises:
        BadSetting: the file's bytes can be had, and are at fault; no retry makes them whole.
        OSError, pyarrow.ArrowException: as inside.
    """
    try:
        yield
    except (FileNotFoundError, PermissionError):
        raise
    except (OSError, pa.ArrowException) as error:
        if not (fault := _fault(storage.read_bytes(uri))):
            raise
        raise BadSetting(
            "file_damaged",
            f"{_DAMAGED.format(uri)}{storage.plain(fault)}.",
            "Run the partition that its path names again with --recompute: from extract on for a file of features, "
            "else from ingest on.",
        ) from error


def _fault(content: bytes) -> Exception | None:
    """Why a Parquet file cannot be read as a whole; None where it can."""
    try:
        for _ in pq.ParquetFile(pa.BufferReader(content)).iter_batches():
            pass
    except (OSError, pa.ArrowException) as error:
        return error
    return None


def opened(store: str, table: Table, files: Sequence[StagedFile]) -> Iterator[tuple[StagedFile, pq.ParquetFile]]:
    """Each of the files with a reader of it. Raises OSError for a missing one, and as `whole` for a damaged one."""
    filesystem, root = storage.filesystem(table.uri(store))
    for file in files:
        with whole(contract.join(table.uri(store), file.path)):
            parquet = pq.ParquetFile(f"{root}/{file.path}", filesystem=filesystem)
        yield file, parquet


def columns(
    store: str, table: Table, files: Sequence[StagedFile], names: Sequence[str]
) -> Iterator[tuple[StagedFile, pa.Table, list[int]]]:
    """Columns of each of the files, and the rows of each of its row groups; some files at a time, since each costs a
    few round trips on an object store. Raises as `opened`."""
    filesystem, root = storage.filesystem(table.uri(store))

    def read(file: StagedFile) -> tuple[StagedFile, pa.Table, list[int]]:
        with whole(contract.join(table.uri(store), file.path)):
            parquet = pq.ParquetFile(f"{root}/{file.path}", filesystem=filesystem, pre_buffer=True)
            groups = [parquet.metadata.row_group(group).num_rows for group in range(parquet.num_row_groups)]
            return file, parquet.read(columns=list(names)).select(list(names)), groups

    with ThreadPoolExecutor(delta_log.REQUESTS) as pool:
        for begin in range(0, len(files), delta_log.REQUESTS):
            yield from pool.map(read, files[begin : begin + delta_log.REQUESTS])


def missing(store: str, table: Table, paths: Iterable[str]) -> list[str]:
    """Those of `paths`, relative to the table, where there is no file any more."""
    paths = sorted(paths)
    filesystem, root = storage.filesystem(table.uri(store))
    found = filesystem.get_file_info([f"{root}/{path}" for path in paths])
    return [path for path, info in zip(paths, found, strict=True) if info.type != fs.FileType.File]


def without_erased(store: str, table: Table, files: Iterable[StagedFile]) -> list[StagedFile]:
    """The files as erasures have left them: in the place of one that is gone, what was written without the erased rows,
    if there are any others. Raises OSError or pyarrow.ArrowException."""
    files = list(files)
    gone = set(missing(store, table, (file.path for file in files)))
    left = {path: _left_of(store, table, path) for path in gone}
    return [kept for file in files if (kept := left.get(file.path) or file) is file or kept.rows]


def _left_of(store: str, table: Table, path: str) -> StagedFile | None:
    """The newest file that an erasure has written in the place of one; None where there is none."""
    filesystem, root = storage.filesystem(table.uri(store))
    folder, begin = f"{root}/{path.rsplit('/', 1)[0]}", f"{original_name(path)}{ERASED}"
    beside = filesystem.get_file_info(fs.FileSelector(folder, allow_not_found=True))
    last = max((info for info in beside if info.base_name.startswith(begin)), key=lambda info: info.mtime, default=None)
    if last is None:
        return None
    rows = pq.ParquetFile(last.path, filesystem=filesystem).metadata.num_rows
    return StagedFile(last.path[len(root) + 1 :], last.size, rows)


def original_name(path: str) -> str:
    """What the name of a data file began with before any erasure: without its ending."""
    return path.rsplit("/", 1)[-1].removesuffix(".parquet").split(ERASED)[0]


def merged_folder(paths: Iterable[str]) -> str:
    """The name of the folder that files merged from exactly `paths` lie in: whoever knows these can tell."""
    return MERGED + hashlib.sha256("\n".join(sorted(paths)).encode()).hexdigest()[:16]


def contents(paths: Iterable[str]) -> str:
    """What the rows of a publication are known by, whether its files were merged since or not."""
    paths = list(paths)
    folders = {path.split("/")[-2] for path in paths}
    if len(folders) == 1 and is_merged(paths[0]):
        return folders.pop().removeprefix(MERGED)
    return merged_folder(paths).removeprefix(MERGED)


def is_merged(path: str) -> bool:
    """Whether a file was merged from others after it was published."""
    return path.split("/")[-2].startswith(MERGED)
