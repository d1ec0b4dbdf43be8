"""Ingest: lists the files of a partition, hashes and checks each one, and packs their bytes into staged Parquet.

With --content reference their bytes stay where they are, and later stages read them there again.
A bad file becomes a quarantine row. Nothing is published here; validate does that.
"""

from __future__ import annotations

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from functools import partial

from spark_apps import storage
from spark_apps.contract import BadSetting, IngestSettings, Manifest, NothingToDo, Unreachable
from spark_apps.erasure.heeding import heeding
from spark_apps.pipeline import intake, landing, resume
from spark_apps.pipeline.records import total
from spark_apps.pipeline.sorting import Sorter
from spark_apps.spark import contexts, jobs
from spark_apps.tables import commits, schemas, tombstones
from spark_apps.tables.tombstones import Tombstones

MANY = 10
"""When none of so many files can be read, that is the source's fault; fewer may each have one of their own."""

TELLING = ("source", "max_pixels", "max_bytes", "extractor", "within", "content")
"""Settings that decide what becomes of a file."""


def ingest(settings: IngestSettings, timings: jobs.Timings) -> Manifest:
    """Stages the images and the quarantine of one partition.

    Raises:
        Unreachable: the source or the store cannot be used.
        BadSetting, NothingToDo: the partition has no files, and `on_empty` says what that means.
    """
    with timings.phase("list"):
        with storage.reaching("store", settings.store):
            erasures = tombstones.editions(settings.store)
            stones = tombstones.read(settings.store)
        listing = list_source(settings, stones)
    if not listing.files:
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
        basis = resume.basis(**{name: getattr(settings, name) for name in TELLING})
        earlier = resume.look(settings, "ingest", basis, schemas.IMAGES, intake.READ_BY_EARLIER)
        division = intake.divide(settings, listing, earlier.finished, workers, stones)
    with timings.phase("read"), resume.attempt(settings, "ingest", basis, earlier, division.taken) as folder:
        row_group_bytes = division.row_group_bytes
        work = partial(
            intake.ingest_units, settings=settings, folder=folder, row_group_bytes=row_group_bytes, stones=stones
        )
        records = contexts.spread(spark, division.units, work, 1)
    done = total([*division.taken, *records], ("images", "quarantine"))
    if "erased" in done.codes:
        with storage.reaching("store", settings.store):
            intake.unname(division, done.staged["quarantine"], settings.store, stones)
    if done.codes.get("unreadable") == listing.files >= MANY:
        raise Unreachable(
            "source_unreadable",
            f"None of the {listing.files:,} files of the source {settings.source} can be read.",
            "Check the permissions and credentials of the workers, and that the files are not archived.",
        )
    return timings.manifest(
        "ingest",
        settings,
        attempt=folder.rsplit("/", 1)[-1],
        counts={
            "listed": listing.files,
            "accepted": sum(file.rows for file in done.staged["images"]),
            "quarantined": sum(done.codes.values()),
            "resumed": division.resumed,
        },
        quarantined=done.codes,
        staged=done.staged,
        outcome={"listing": division.listing, "bytes": listing.bytes, "erasures": sorted(erasures)},
    )


def list_source(settings: IngestSettings, stones: Tombstones = tombstones.NONE) -> landing.Listing:
    """The listing. Where empty days are to be skipped, one without a folder is such a day on an object store: folders
    are only a part of names there. On a disk a missing folder may be a missing mount.

    Raises:
        Unreachable: the source cannot be read, or is missing.
    """
    try:
        return landing.list_files(
            settings.source, settings.pattern, settings.exclude, settings.store, settings.within, stones
        )
    except Unreachable as error:
        if error.code == "source_missing" and settings.on_empty == "skip" and not storage.is_local(settings.source):
            return landing.Listing(0, 0, Sorter(landing.LISTING, "uri"))
        raise


def main() -> int:
    return jobs.run("ingest", IngestSettings, heeding(ingest), __doc__)


if __name__ == "__main__":
    from spark_apps.ingest import main as entry  # workers must find the functions by this module's real name

    sys.exit(entry())
