"""Letting go of the copies of photos that were published long ago: their column content is emptied, all others stay.

Readers fall back to the source, where the photos still are. The files with the copies go as other replaced files do,
when the retention is over; until then undo and time travel have them. Emptied files lie in a folder that tells which
files they were made of (`data_files.merged_folder`), as merged ones do.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from datetime import datetime, timedelta

import pyarrow as pa
from deltalake import DeltaTable

from spark_apps.contract import JobError, StagedFile
from spark_apps.tables import commits, data_files, rewrites, staging
from spark_apps.tables.data_files import PublishedFile
from spark_apps.tables.schemas import IMAGES

CONTENT = "content"


@dataclass
class Outcome:
    """What was emptied: `partitions`, `photos`, and the bytes of their files before and after. `gave_way`: partitions
    that were published again meanwhile, or written to by too many, and left as they are."""

    partitions: int = 0
    photos: int = 0
    bytes_before: int = 0
    bytes_after: int = 0
    gave_way: int = 0


def due(delta: DeltaTable, now: datetime, days: int) -> list[list[PublishedFile]]:
    """The files of each partition that has copies in it, and whose files were all committed more than `days` ago.

    Merging files commits them anew, so that a partition may be due as much later as its maintenance was.
    """
    before = (now - timedelta(days=days)).timestamp() * 1000
    partitions: dict[str, list[PublishedFile]] = defaultdict(list)
    for file in data_files.published(delta, {}):
        partitions[file.keys["partition"]].append(file)
    return [
        sorted(files, key=lambda file: file.path)
        for _, files in sorted(partitions.items())
        if max(file.modified_ms for file in files) < before and not all(CONTENT in file.empty for file in files)
    ]


def empty(store_uri: str, now: datetime, days: int) -> Outcome:
    """Empties what is `due`, in one commit for each partition. A publication of the partition meanwhile wins.

    Reads no copy: only the other columns, one row group in memory at a time.

    Raises:
        JobError: the files of a partition do not hold as many rows as the log says.
    """
    outcome = Outcome()
    for files in due(commits.open_table(store_uri, IMAGES), now, days):
        emptied = _without_content(store_uri, files)
        group = rewrites.Rewrite(files[0].keys, files[0].run_id, files, emptied, empty=(CONTENT,))
        if not rewrites.rewrite(store_uri, IMAGES, [group], {"maintenance": "emptying"}):
            rewrites.discard(store_uri, IMAGES, emptied)
            outcome.gave_way += 1
            continue
        outcome.partitions += 1
        outcome.photos += sum(file.rows for file in emptied)
        outcome.bytes_before += sum(file.size_bytes for file in files)
        outcome.bytes_after += sum(file.size_bytes for file in emptied)
    return outcome


def _without_content(store_uri: str, files: list[PublishedFile]) -> list[StagedFile]:
    paths = {file.path for file in files}
    folders = {path.rsplit("/", 1)[0] for path in paths}
    merged = len(folders) == 1 and data_files.is_merged(files[0].path)  # then its name tells the first files
    folder = folders.pop() if merged else f"{staging.run_of(files[0].path)}/{data_files.merged_folder(paths)}"
    others = [name for name in IMAGES.columns.names if name != CONTENT]
    with staging.StagedWriter(store_uri, IMAGES, folder) as writer:
        for _, parquet in data_files.opened(store_uri, IMAGES, files):
            for group in range(parquet.num_row_groups):
                rows = parquet.read_row_group(group, columns=others)
                writer.add_table(rows.append_column(CONTENT, pa.nulls(rows.num_rows, pa.binary())))
    before, after = (sum(file.rows for file in found) for found in (files, writer.files))
    if before != after:
        rewrites.discard(store_uri, IMAGES, writer.files)
        raise JobError(
            "rows_differ",
            f"The files of {files[0].keys} in the table {IMAGES.name} hold {after:,} rows, its log says {before:,}.",
            "Publish the partition again.",
        )
    return writer.files
