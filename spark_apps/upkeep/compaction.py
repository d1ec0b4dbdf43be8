"""Merging the small files of a published partition, so that readers open few. Rows, order and run stay as they are.

A large cluster publishes a small day in hundreds of files. Merged files lie in a folder whose name tells which files
they were made of (`data_files.merged_folder`), so that a publication still knows its rows and a retry is a no-op.
The driver merges by itself or, where there is much to do, has Spark tasks do it; it alone commits. What a job that was
killed had merged and not committed is no version's, and goes with what dead runs leave (`vacuum`).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import pyarrow as pa
from deltalake import DeltaTable

from spark_apps import storage
from spark_apps.contract import JobError, StagedFile
from spark_apps.spark import spreading
from spark_apps.spark.spreading import Spread
from spark_apps.tables import commits, data_files, rewrites, schemas, staging
from spark_apps.tables.rewrites import Rewrite

FEWEST_FILES = 4
"""Fewer files are left alone: opening them costs less than rewriting them."""
SHRINKS_TO = 0.5
"""A partition is merged when at most this share of its files remains; so merged files are never merged again."""
COMMIT_BYTES, SPREAD_COMMIT_BYTES, COMMIT_GROUPS = 2**30, 2**36, 32
"""Data (by the driver alone, and by Spark tasks) and partitions merged in one commit at most: what is lost when the job
dies, or tried again on a conflict."""
PART_BYTES = 2**30
"""Small files that are merged together at most: what a task is given of a large partition."""


@dataclass(frozen=True)
class Part:
    """Files that are merged together: a partition's, or some of a large one's. `folder`: where the merged ones go."""

    table: str
    folder: str
    files: Sequence[data_files.PublishedFile]


@dataclass
class Outcome:
    """What a compaction did: files and bytes before, files after, and the partitions it left to a publication."""

    files_before: int = 0
    bytes_before: int = 0
    files_after: int = 0
    gave_way: int = 0


def compact(
    store_uri: str, table: schemas.Table, spreads: Callable[[int], Spread] = lambda _: spreading.here
) -> Outcome:
    """Merges what is worth it, a few partitions a commit; `spreads` says by whom, for so many bytes.

    A publication always wins: a partition that was published again meanwhile is left as that publication made it, and
    a publication that meets a commit of this one looks at the table again and goes on. Where so many write that no
    commit gets through, everything stays as it is.

    Raises:
        JobError: the files do not hold as many rows as the log says.
    """
    outcome = Outcome()
    all_groups = worthwhile(commits.open_table(store_uri, table), table)
    spread = spreads(sum(group.size_bytes for group in all_groups))
    for groups in _portions(all_groups, COMMIT_BYTES if spread is spreading.here else SPREAD_COMMIT_BYTES):
        _merge(store_uri, table, groups, spread)
        done = rewrites.rewrite(store_uri, table, groups, {"maintenance": "compaction"}, data_change=False)
        for group in groups:
            if group not in done:
                rewrites.discard(store_uri, table, group.rewritten)
                outcome.gave_way += 1
                continue
            outcome.files_before += len(group.files)
            outcome.bytes_before += group.size_bytes
            outcome.files_after += len(group.rewritten)
    return outcome


def forecast(delta: DeltaTable, table: schemas.Table) -> Outcome:
    """What `compact` would do, if nobody published meanwhile; `files_after` is an estimate."""
    groups = worthwhile(delta, table)
    return Outcome(
        files_before=sum(len(group.files) for group in groups),
        bytes_before=sum(group.size_bytes for group in groups),
        files_after=sum(-(-group.size_bytes // staging.FILE_BYTES) for group in groups),
    )


def worthwhile(delta: DeltaTable, table: schemas.Table) -> list[Rewrite]:
    """The partitions with so many small files that merging pays."""
    by_keys: dict[tuple[str, ...], list[data_files.PublishedFile]] = defaultdict(list)
    for file in data_files.published(delta, {}):
        by_keys[tuple(file.keys[key] for key in table.keys)].append(file)
    groups = []
    for values, files in sorted(by_keys.items()):
        files.sort(key=lambda file: file.path)
        group = Rewrite(dict(zip(table.keys, values, strict=True)), files[0].run_id, files)
        remaining = -(-group.size_bytes // staging.FILE_BYTES)
        of_one_run = group.run_id and {file.run_id for file in files} == {group.run_id}
        if len(files) >= FEWEST_FILES and remaining <= SHRINKS_TO * len(files) and of_one_run:
            groups.append(group)
    return groups


def _portions(groups: list[Rewrite], size_bytes: int) -> Iterator[list[Rewrite]]:
    portion: list[Rewrite] = []
    for group in groups:
        full = len(portion) == COMMIT_GROUPS or sum(one.size_bytes for one in portion) + group.size_bytes > size_bytes
        if portion and full:
            yield portion
            portion = []
        portion.append(group)
    if portion:
        yield portion


def _merge(store_uri: str, table: schemas.Table, groups: list[Rewrite], spread: Spread) -> None:
    """Writes the rows of the groups again."""
    parts = [(group, part) for group in groups for part in _parts(table, group)]
    merged = spread([part for _, part in parts], partial(merge_parts, store_uri=store_uri))
    for (group, _), files in zip(parts, merged, strict=True):
        group.rewritten += files
    for group in groups:
        rows = [sum(file.rows for file in files) for files in (group.files, group.rewritten)]
        if rows[0] != rows[1]:
            for one in groups:
                rewrites.discard(store_uri, table, one.rewritten)
            raise JobError(
                "rows_differ",
                f"The files of {group.keys} in the table {table.name} hold {rows[1]:,} rows, its log says {rows[0]:,}.",
                "Publish the partition again.",
            )


def _parts(table: schemas.Table, group: Rewrite) -> Iterator[Part]:
    folder = f"{staging.run_of(group.files[0].path)}/{data_files.merged_folder(group.paths)}"
    files: list[data_files.PublishedFile] = []
    for file in group.files:
        if files and sum(one.size_bytes for one in files) + file.size_bytes > PART_BYTES:
            yield Part(table.name, folder, files)
            files = []
        files.append(file)
    yield Part(table.name, folder, files)


def merge_parts(parts: Iterator[Part], store_uri: str) -> Iterator[list[StagedFile]]:
    """The work of one task: the merged files of each part, written with one row group of the usual size in memory."""
    for part in parts:
        table = schemas.TABLES[part.table]
        with (
            storage.reaching("store", store_uri),
            staging.StagedWriter(store_uri, table, part.folder) as writer,
        ):
            pending: list[pa.Table] = []
            size = 0
            for _, parquet in data_files.opened(store_uri, table, part.files):
                for index in range(parquet.num_row_groups):
                    rows = table.filled(parquet.read_row_group(index))
                    if pending and size + rows.nbytes > staging.ROW_GROUP_BYTES:
                        writer.add_table(pa.concat_tables(pending))
                        pending, size = [], 0
                    pending.append(rows)
                    size += rows.nbytes
            if pending:
                writer.add_table(pa.concat_tables(pending))
        yield writer.files
