"""Ingest: lists the files of a partition, hashes and checks each one, and packs their bytes into staged Parquet.

A bad file becomes a quarantine row. Nothing is published here; validate does that.
"""

from __future__ import annotations

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

import hashlib
from collections import Counter
from collections.abc import Iterator
from functools import partial
from itertools import pairwise
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from spark_apps import contract, storage
from spark_apps.contract import BadFile, BadSetting, IngestSettings, Manifest, NothingToDo, Unreachable
from spark_apps.media import imaging
from spark_apps.pipeline import landing
from spark_apps.spark import contexts, jobs
from spark_apps.tables import commits, schemas, staging

LISTING_FILE_UNITS = 64
"""Work units in one file of the listing, so that the footer a task reads stays small."""
UNIT_FILES = 10_000
"""Files in one work unit at most."""

MANY = 10
"""When none of so many files can be read, that is the source's fault; fewer may each have one of their own."""
ROW_GROUPS = 4
"""Row groups that the images of one work unit fill on a small day: what extract can share out."""

ListingUnit = tuple[str, int]
"""One work unit: a file of the listing and its row group."""


def ingest(settings: IngestSettings, timings: jobs.Timings) -> Manifest:
    """Stages the images and the quarantine of one partition.

    Raises:
        Unreachable: the source or the store cannot be used.
        BadSetting, NothingToDo: the partition has no files, and `on_empty` says what that means.
    """
    with timings.phase("list"):
        listing = list_source(settings)
    if not listing.num_rows:
        message = f"The source {settings.source} has no files that match {settings.pattern!r}."
        if settings.on_empty == "skip":
            raise NothingToDo("source_empty", message)
        raise BadSetting("source_empty", message, "Check the partition and the pattern, or pass --on-empty skip.")
    with timings.phase("session"):
        spark = contexts.context("image-features ingest")
    workers = contexts.parallelism(spark)
    with storage.reaching("store", settings.store):
        for table in (schemas.IMAGES, schemas.QUARANTINE):
            commits.open_table(settings.store, table)
        units, row_group_bytes = write_listing(settings, listing, workers)
    with timings.phase("read"), staging.attempt(settings) as folder:
        work = partial(ingest_units, settings=settings, folder=folder, row_group_bytes=row_group_bytes)
        records = contexts.spread(spark, units, work, 1)
    codes: Counter[str] = Counter()
    for record in records:
        codes.update(record["codes"])
    staged = {name: [file for record in records for file in record[name]] for name in ("images", "quarantine")}
    accepted = sum(file["rows"] for file in staged["images"])
    if codes["unreadable"] == listing.num_rows >= MANY:
        raise Unreachable(
            "source_unreadable",
            f"None of the {listing.num_rows:,} files of the source {settings.source} can be read.",
            "Check the permissions and credentials of the workers, and that the files are not archived.",
        )
    return timings.manifest(
        "ingest",
        settings,
        counts={"listed": listing.num_rows, "accepted": accepted, "quarantined": codes.total()},
        quarantined=dict(codes),
        staged=staged,
        outcome={
            "listing": sorted({unit[0] for unit in units}),
            "bytes": sum(max(size, 0) for size in listing["size_bytes"].to_pylist()),
        },
    )


def list_source(settings: IngestSettings) -> pa.Table:
    """The listing. Where empty days are to be skipped, one without a folder is such a day on an object store: folders
    are only a part of names there. On a disk a missing folder may be a missing mount.

    Raises:
        Unreachable: the source cannot be read, or is missing.
    """
    try:
        return landing.list_files(settings.source, settings.pattern, settings.exclude, settings.store, settings.within)
    except Unreachable as error:
        if error.code == "source_missing" and settings.on_empty == "skip" and not storage.is_local(settings.source):
            return landing.LISTING.empty_table()
        raise


def write_listing(settings: IngestSettings, listing: pa.Table, workers: int) -> tuple[list[ListingUnit], int]:
    """Keeps the listing in the run's folder, a row group for each work unit, and returns the units.

    Also returns the size in bytes of a row group of images. Both are sized so that a small day still occupies every
    worker, to the end of extract, and a large one writes files and row groups of the store's usual size.
    """
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
) -> Iterator[dict[str, Any]]:
    """The work of one task: reads, hashes, checks and packs the files of its units; yields what it staged."""
    codes: Counter[str] = Counter()
    photos_only = settings.extractor == "image"
    with (
        storage.reaching("store", settings.store),
        staging.StagedWriter(settings.store, schemas.IMAGES, folder, row_group_bytes) as images,
        staging.StagedWriter(settings.store, schemas.QUARANTINE, folder) as quarantine,
    ):
        for uri, group in units:
            filesystem, path = storage.filesystem(uri)
            rows = pq.ParquetFile(path, filesystem=filesystem).read_row_group(group).to_pylist()
            files = ((row["uri"], row["size_bytes"]) for row in rows)
            for row, content in zip(rows, landing.read_files(files, settings.max_bytes), strict=True):
                image_id = hashlib.sha256(content).hexdigest() if isinstance(content, bytes) else None
                common = {"uri": row["uri"], "image_id": image_id, "run_id": settings.run_id}
                try:
                    if isinstance(content, BadFile):
                        raise content
                    header = vars(imaging.inspect(content, settings.max_pixels)) if photos_only else {}
                except BadFile as bad:
                    codes[bad.code] += 1
                    quarantine.add(staging.quarantine_row(common, "ingest", bad, max(row["size_bytes"], 0)), 512)
                    continue
                facts = {"content": content, "size_bytes": len(content), "modified_at": row["modified_at"]}
                images.add({**common, **facts, **header}, len(content))
    yield {"images": images.files, "quarantine": quarantine.files, "codes": dict(codes)}


def main() -> int:
    return jobs.run("ingest", IngestSettings, ingest, __doc__)


if __name__ == "__main__":
    from spark_apps.ingest import main as entry  # workers must find the functions by this module's real name

    sys.exit(entry())
