"""The data files of the tables: which hold erased photos, and the same files without their rows.

It makes no difference which version shows a file, or whether a run has staged it and not published it: each file with
such rows is written again without them, beside it, under a name that tells which it was (`data_files.ERASED`). Then
the current version names the new ones, and the former are removed, at once. So undo finds what is left of a
publication, and a run that goes on, what is left of what it had staged.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from pyarrow import fs

from spark_apps import catalog, contract, storage
from spark_apps.contract import StagedFile
from spark_apps.tables import data_files, delta_log, rewrites, schemas, staging
from spark_apps.tables.schemas import Table
from spark_apps.tables.tombstones import Tombstones

NAMES = ("uri", "image_id")


@dataclass(frozen=True)
class Lying:
    """A data file of a table: its path relative to that, its bytes, when it was written, and how many of its rows are
    of erased photos."""

    table: Table = field(compare=False)
    path: str
    size_bytes: int = field(default=0, compare=False)
    written_at: datetime | None = field(default=None, compare=False)
    rows: int = field(default=0, compare=False)

    @property
    def name(self) -> str:
        """Its path in the store."""
        return f"{self.table.name}/{self.path}"


@dataclass
class Found:
    """What a look at data files found. `hit`: those with rows of erased photos; `broken`: those that have no end, as
    one that is being written, or was when its writer was killed."""

    hit: list[Lying] = field(default_factory=list)
    broken: list[Lying] = field(default_factory=list)


def lying(store: str, partitions: Iterable[str] | None = None) -> list[Lying]:
    """Every data file of images, features and quarantine, of some partitions or all, whether a version shows it or not.
    Raises OSError."""
    found = []
    below = ["data"] if partitions is None else [f"data/{contract.check_partition(key)}" for key in partitions]
    for table in schemas.TABLES.values():
        filesystem, root = storage.filesystem(table.uri(store))
        for folder in below:
            selector = fs.FileSelector(f"{root}/{folder}", recursive=True, allow_not_found=True)
            found += [
                Lying(table, info.path[len(root) + 1 :], info.size, info.mtime)
                for info in filesystem.get_file_info(selector)
                if info.type == fs.FileType.File and info.path.endswith(".parquet")
            ]
    return found


def look(store: str, files: Sequence[Lying], stones: Tombstones) -> Found:
    """Reads the names in the files, some files at a time. Raises OSError."""
    found = Found()
    for file, groups in named(store, files):
        if groups is None:
            found.broken.append(file)
        elif rows := int(sum(erased(group, stones).sum() for group in groups)):
            found.hit.append(replace(file, rows=rows))
    return found


def named(store: str, files: Sequence[Lying]) -> Iterator[tuple[Lying, list[pa.Table] | None]]:
    """The names in each of the files by row group; none where it has gone, None where it has no end. Raises OSError."""

    def read(file: Lying) -> list[pa.Table] | None:
        filesystem, path = storage.filesystem(contract.join(file.table.uri(store), file.path))
        try:
            with pq.ParquetFile(path, filesystem=filesystem, pre_buffer=True) as parquet:
                return [parquet.read_row_group(group, list(NAMES)) for group in range(parquet.num_row_groups)]
        except FileNotFoundError:
            return []
        except pa.ArrowInvalid:
            return None

    with ThreadPoolExecutor(delta_log.REQUESTS) as pool:
        for begin in range(0, len(files), delta_log.REQUESTS):
            part = files[begin : begin + delta_log.REQUESTS]
            yield from zip(part, pool.map(read, part), strict=True)


def erased(rows: pa.Table, stones: Tombstones) -> NDArray[np.bool_]:
    """For each row, whether it is of an erased photo."""
    names = zip(*(rows[name].to_pylist() for name in NAMES), strict=True)
    return np.fromiter((stones.has_image(image) or stones.has_uri(uri) for uri, image in names), bool, rows.num_rows)


def rewritten(store: str, files: Sequence[Lying], stones: Tombstones) -> dict[str, StagedFile]:
    """Writes each of the files without the rows of erased photos; the new files by the path of the former ones.

    The same rows give the same name, so doing it again adds nothing. One without rows is written, too: it tells that
    this was all. Holds one file in memory for each of two threads. Raises OSError or pyarrow.ArrowException.
    """
    with ThreadPoolExecutor(2) as pool:
        found = pool.map(partial(_without, store, stones), files)
        return {file.path: left for file, left in zip(files, found, strict=True) if left}


def _without(store: str, stones: Tombstones, file: Lying) -> StagedFile | None:
    filesystem, path = storage.filesystem(contract.join(file.table.uri(store), file.path))
    sink, groups, told = pa.BufferOutputStream(), list[int](), hashlib.sha256(file.path.encode())
    try:
        with (
            pq.ParquetFile(path, filesystem=filesystem) as parquet,
            staging.parquet_writer(sink, parquet.schema_arrow) as writer,
        ):
            for number in range(parquet.num_row_groups):
                rows = parquet.read_row_group(number)
                gone = erased(rows, stones)
                told.update(np.packbits(gone).tobytes())
                if (left := rows.filter(pa.array(~gone))).num_rows:
                    writer.write_table(left, row_group_size=left.num_rows)
                    groups.append(left.num_rows)
    except FileNotFoundError:  # another erasure has done it
        return None
    content = sink.getvalue()
    folder = file.path.rpartition("/")[0]
    name = f"{data_files.original_name(file.path)}{data_files.ERASED}{told.hexdigest()[:8]}.parquet"
    storage.write_bytes(contract.join(file.table.uri(store), folder, name), content)
    return StagedFile(f"{folder}/{name}", len(content), sum(groups), tuple(groups))


def commit(
    store: str,
    table: Table,
    left: Mapping[str, StagedFile],
    there: Collection[str],
    erasure: str,
    partitions: Collection[str] | None = None,
) -> Counter[str]:
    """Names what is left of the files, in the place of those that the current version of the table shows. `there`: the
    data files of the table, of some partitions or all.

    Where a publication comes in between, that stands, and is looked at by itself. Counts the rows that are no longer
    shown, by partition and model. Raises OSError, DeltaError.
    """
    delta = catalog.table(store, table.name)
    if delta is None:
        return Counter()
    current = [
        file for file in data_files.published(delta, {}) if partitions is None or file.keys["partition"] in partitions
    ]
    left = {**_done_before(store, table, current, there), **left}
    groups: dict[tuple[str, ...], rewrites.Rewrite] = {}
    for file in current:
        if file.path in left:
            keys = tuple(file.keys.values())
            group = groups.setdefault(keys, rewrites.Rewrite(file.keys, file.run_id, [], empty=tuple(file.empty)))
            group.files = [*group.files, file]
            group.rewritten += [left[file.path]] if left[file.path].rows else []
            group.empty = tuple(file.empty.intersection(group.empty))
    done = rewrites.rewrite(store, table, list(groups.values()), {"maintenance": "erasure", "erasure": erasure})
    gone = Counter[str]()
    for group in done:
        gone["/".join(group.keys.values())] += sum(file.rows for file in group.files)
        gone["/".join(group.keys.values())] -= sum(file.rows for file in group.rewritten)
    return gone


def removable(store: str, files: Sequence[Lying]) -> list[Lying]:
    """Those of the files that no current version of a table shows."""
    shown = {
        (name, path)
        for name in {file.table.name for file in files}
        if (delta := catalog.table(store, name)) is not None
        for path in data_files.files(delta)
    }
    return [file for file in files if (file.table.name, file.path) not in shown]


def _done_before(
    store: str, table: Table, current: Iterable[StagedFile], there: Collection[str]
) -> dict[str, StagedFile]:
    """What is left of files that an erasure has removed just when somebody named them again."""
    found = {}
    for file in current:
        if file.path not in there:
            (left,) = data_files.without_erased(store, table, [file]) or [StagedFile(file.path)]
            found.update({file.path: left} if left is not file else {})
    return found


def remove(store: str, files: Iterable[Lying]) -> None:
    """Removes the files. Raises OSError."""
    with ThreadPoolExecutor(delta_log.REQUESTS) as pool:
        list(pool.map(lambda file: storage.delete(contract.join(file.table.uri(store), file.path)), files))
