"""What an ingest task does: reads the files of its units, hashes and checks each one, and stages their bytes."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from spark_apps import contract, storage
from spark_apps.contract import KEEP, PHOTOS, BadFile, IngestSettings
from spark_apps.media import imaging
from spark_apps.pipeline import landing, resume
from spark_apps.pipeline.records import TaskRecord
from spark_apps.pipeline.resume import Finished
from spark_apps.storage import reading
from spark_apps.tables import schemas, staging

LISTING_FILE_UNITS = 64
"""Work units in one file of the listing, so that the footer a task reads stays small."""
UNIT_FILES = 10_000
"""Files in one work unit at most."""

ROW_GROUPS = 4
"""Row groups that the images of one work unit fill on a small day: what extract can share out."""

ListingUnit = tuple[str, int]
"""One work unit: a file of the listing and its row group."""


FACTS = ("uri", "size_bytes", "modified_at")
"""Columns of images by which a listed file is known to be the one that was read."""


def divide(listing: pa.Table, finished: Iterable[Finished]) -> tuple[list[TaskRecord], pa.Table, pa.Table]:
    """The finished tasks that count, the part of the listing that they have done, and the rest of it.

    A task counts when all of its files are listed as it has read them, and no task before it has one of these. What was
    set aside is read again.
    """
    taken: list[TaskRecord] = []
    done: set[tuple[Any, ...]] = set()
    listed: set[tuple[Any, ...]] = set()
    for task in finished:
        listed = listed or set(_facts(listing))
        own = set(_facts(task.rows))
        if len(own) == task.rows.num_rows and own <= listed and done.isdisjoint(own):
            taken.append(task.record)
            done |= own
    is_done = pc.is_in(listing["uri"], pa.array([facts[0] for facts in done], pa.string()))
    return taken, listing.filter(is_done), listing.filter(pc.invert(is_done))


def _facts(rows: pa.Table) -> Iterator[tuple[Any, ...]]:
    return zip(*(rows[name].to_pylist() for name in FACTS), strict=True)


def write_listing(settings: IngestSettings, listing: pa.Table, workers: int) -> tuple[list[ListingUnit], int]:
    """Keeps the listing in the run's folder, a row group for each work unit, and returns the units.

    Also returns the size in bytes of a row group of images. Both are sized so that a small day still occupies every
    worker, to the end of extract, and a large one writes files and row groups of the store's usual size.
    """
    if not listing.num_rows:
        return [], staging.ROW_GROUP_BYTES
    sizes = [max(size, 0) for size in listing["size_bytes"].to_pylist()]
    total = sum(sizes)
    unit_bytes = min(staging.FILE_BYTES, max(total // (4 * workers), 1))
    bounds, used, count = [0], 0, 0
    for index, size in enumerate(sizes):
        if count and (used + size > unit_bytes or count >= UNIT_FILES):
            bounds.append(index)
            used = count = 0
        used, count = used + size, count + 1
    bounds.append(len(sizes))
    units: list[ListingUnit] = []
    folder = contract.join(settings.folder, "listing", staging.folder(settings).rsplit("/", 1)[-1])
    storage.ensure_folder(folder)
    spans = list(pairwise(bounds))
    for start in range(0, len(spans), LISTING_FILE_UNITS):
        uri = contract.join(folder, f"{start:08d}.parquet")
        filesystem, path = storage.filesystem(uri)
        with pq.ParquetWriter(path, landing.LISTING, filesystem=filesystem, compression="zstd") as writer:
            for group, (begin, end) in enumerate(spans[start : start + LISTING_FILE_UNITS]):
                writer.write_table(listing.slice(begin, end - begin), row_group_size=end - begin)
                units.append((uri, group))
    return units, min(staging.ROW_GROUP_BYTES, max(unit_bytes // ROW_GROUPS, 1))


def ingest_units(
    units: Iterator[ListingUnit], settings: IngestSettings, folder: str, row_group_bytes: int
) -> Iterator[TaskRecord]:
    """The work of one task: reads, hashes, checks and packs the files of its units; yields what it staged.

    Without their bytes, where they are to stay at the source: row groups are then as large as if these were there, so
    that they are the same work for extract.
    """
    codes: Counter[str] = Counter()

    def columns(content: bytes) -> dict[str, Any] | BadFile:
        """What a file's bytes fill of a row; the header is read of photos alone."""
        try:
            header = vars(imaging.inspect(content, settings.max_pixels)) if settings.extractor == PHOTOS else {}
        except BadFile as bad:
            return bad
        kept = content if settings.content == KEEP else None
        return {**header, "content": kept, "size_bytes": len(content)}

    with (
        storage.reaching("store", settings.store),
        staging.StagedWriter(settings.store, schemas.IMAGES, folder, row_group_bytes) as images,
        staging.StagedWriter(settings.store, schemas.QUARANTINE, folder) as quarantine,
    ):
        for uri, group in units:
            filesystem, path = storage.filesystem(uri)
            rows = pq.ParquetFile(path, filesystem=filesystem).read_row_group(group).to_pylist()
            files = ((row["uri"], row["size_bytes"]) for row in rows)
            for row, content in zip(rows, reading.read_files(files, settings.max_bytes, settings.within), strict=True):
                image_id = hashlib.sha256(content).hexdigest() if isinstance(content, bytes) else None
                common = {"uri": row["uri"], "image_id": image_id, "run_id": settings.run_id}
                found = content if isinstance(content, BadFile) else columns(content)
                if isinstance(found, BadFile):
                    codes[found.code] += 1
                    quarantine.add(staging.quarantine_row(common, "ingest", found, max(row["size_bytes"], 0)), 512)
                else:
                    images.add({**common, **found, "modified_at": row["modified_at"]}, found["size_bytes"])
    record = TaskRecord({"images": images.files, "quarantine": quarantine.files}, dict(codes))
    yield resume.keep(settings, "ingest", folder, record)
