"""Maintain: merges small files, removes what no version within the retention and no run needs, shortens the logs.

With --content-days it also lets go of the copies of photos that were published longer ago.

Safe to run beside the pipeline: a publication never waits for it, and it never removes what a running run may need.
"""

from __future__ import annotations

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from collections import Counter
from collections.abc import Collection, Mapping
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

from spark_apps import catalog, contract, storage
from spark_apps.contract import MaintainSettings, Manifest, NothingToDo
from spark_apps.erasure.heeding import heeding
from spark_apps.spark import jobs, spreading
from spark_apps.tables import schemas
from spark_apps.upkeep import compaction, emptying, unfinished, vacuum

COUNTS = ("replaced", "orphans", "working_files", "emptied", "merged", "log_files", "bytes_removed")


def maintain(settings: MaintainSettings, timings: jobs.Timings, now: datetime | None = None) -> Manifest:
    """Maintains all tables of a store as of `now` (default: the present moment), or only says what it would do.

    The manifest's counts: data files removed (`replaced`, `orphans`), files removed from run folders (`working_files`),
    photos whose copies were let go of (`emptied`), small files `merged`, `log_files` and `bytes_removed`. On a dry run,
    what they would be.

    Raises:
        NothingToDo: the store has no table yet.
        Unreachable: the store cannot be used.
    """
    now = now or datetime.now(UTC)
    with storage.reaching("store", settings.store):
        tables = [table for table in schemas.TABLES.values() if catalog.table(settings.store, table.name) is not None]
        if not tables:
            message = f"The store {settings.store} has no tables yet."
            raise NothingToDo("store_empty", message, "Run the pipeline first, or correct --store.")
        with timings.phase("survey"):
            survey = vacuum.Survey(settings.store)
        cutoff = survey.cutoff(now, timedelta(hours=settings.retention_hours))
        running = sorted("/".join(key) for key in survey.running(now))
        _say(f"Kept: what was needed since {cutoff:%Y-%m-%d %H:%M:%S} UTC.")
        for run in running:
            _say(f"Left alone, as it may be in progress: run {run}.")
        work = _Work(settings, survey, now, cutoff)
        with timings.phase("vacuum"):
            for table in tables:
                work.vacuum(table)
            work.vacuum_duplicates()
            work.trim_run_folders()
            work.trim_search()
        if settings.content_days and schemas.IMAGES in tables:
            with timings.phase("content"):
                work.empty()
        with timings.phase("compact"):
            for table in [] if settings.no_compact else tables:
                work.compact(table)
        with timings.phase("log"):
            for table in tables:
                work.shorten_log(table)
    return timings.manifest(
        "maintain",
        settings,
        counts={name: work.counts[name] for name in COUNTS},
        outcome={"kept_since": cutoff.isoformat(timespec="seconds"), "running": running, "tables": work.tables},
    )


class _Work:
    """The steps of one maintenance and their tally."""

    def __init__(self, settings: MaintainSettings, survey: vacuum.Survey, now: datetime, cutoff: datetime) -> None:
        self.counts: Counter[str] = Counter()
        self.tables: dict[str, dict[str, Any]] = {table: {} for table in schemas.TABLES}
        self._settings, self._survey, self._now, self._cutoff = settings, survey, now, cutoff

    def vacuum(self, table: schemas.Table) -> None:
        found = self._survey.leftovers(table, self._now, self._cutoff)
        if found.unknown:
            _say(found.unknown)
            self.tables[table.name]["vacuum"] = found.unknown
            return
        lying = self._survey.data[table.name]
        uri = table.uri(self._settings.store)
        gone = found.files
        if not self._settings.dry_run:
            removed = vacuum.remove(uri, gone, lying, lambda: vacuum.published(self._settings.store, table))
            gone = {path: gone[path] for path in removed}
        kinds = {"replaced": found.replaced.keys() & gone.keys(), "orphans": found.orphans.keys() & gone.keys()}
        for kind, paths in kinds.items():
            self._account(kind, f"{table.name}, {kind}", {path: gone[path] for path in paths})
            self.tables[table.name][kind] = {"files": len(paths), "bytes": sum(gone[path] for path in paths)}

    def vacuum_duplicates(self) -> None:
        """Its files are written and committed within moments, by delta-rs, so delta-rs may judge them by their age."""
        delta = catalog.table(self._settings.store, schemas.DUPLICATES.name)
        if delta is None:
            return
        uri = schemas.DUPLICATES.uri(self._settings.store)
        hours = self._settings.retention_hours
        gone = delta.vacuum(hours, dry_run=True, enforce_retention_duration=False)
        filesystem, root = storage.filesystem(uri)
        sizes = {info.path: info.size or 0 for info in filesystem.get_file_info([f"{root}/{path}" for path in gone])}
        if not self._settings.dry_run:
            delta.vacuum(hours, dry_run=False, enforce_retention_duration=False)
        self._account("replaced", f"{schemas.DUPLICATES.name}, replaced", sizes)

    def trim_run_folders(self) -> None:
        files = self._survey.working_files(self._now, self._cutoff)
        if not self._settings.dry_run:
            vacuum.remove(self._settings.store, files, self._survey.working, set)
        self._account("working_files", "working files of runs", files)

    def trim_search(self) -> None:
        """What killed runs were writing for a search index; Lance takes its own versions away, and not these."""
        found = unfinished.files(self._settings.store)
        files = {
            path: info.size
            for path, info in found.items()
            if path.startswith("search/") and unfinished.is_dead(info, self._now)
        }
        if not self._settings.dry_run:
            for path in files:
                storage.delete(contract.join(self._settings.store, path))
        self._account("orphans", "search, of killed runs", files)

    def empty(self) -> None:
        days, dry = self._settings.content_days, self._settings.dry_run
        if dry:
            delta = catalog.table(self._settings.store, schemas.IMAGES.name)
            assert delta is not None
            groups = emptying.due(delta, self._now, days)
            files = [file for group in groups for file in group]
            rows, size = sum(file.rows for file in files), sum(file.size_bytes for file in files)
            done = emptying.Outcome(len(groups), rows, size)
        else:
            done = emptying.empty(self._settings.store, self._now, days)
        self.counts["emptied"] += done.photos
        self.tables[schemas.IMAGES.name]["emptied"] = vars(done)
        if done.partitions:
            what = "would be let go of" if dry else "let go of"
            sizes = "" if dry else f", {_size(done.bytes_before)} become {_size(done.bytes_after)}"
            _say(f"images: the copies of {done.photos:,} photos in {done.partitions:,} partitions {what}{sizes}.")
        if done.gave_way:
            _say(f"images: {done.gave_way:,} partitions were published meanwhile and left as they are.")

    def compact(self, table: schemas.Table) -> None:
        if self._settings.dry_run:
            delta = catalog.table(self._settings.store, table.name)
            assert delta is not None
            done = compaction.forecast(delta, table)
        else:
            done = compaction.compact(self._settings.store, table, partial(spreading.of, "image-features maintain"))
        self.counts["merged"] += done.files_before
        self.tables[table.name]["compaction"] = vars(done)
        if done.files_before:
            what = "would be merged" if self._settings.dry_run else "merged"
            size = _size(done.bytes_before)
            _say(f"{table.name}: {done.files_before:,} small files {what} into {done.files_after:,}, {size}.")
        if done.gave_way:
            _say(f"{table.name}: {done.gave_way:,} partitions were published meanwhile and left as they are.")

    def shorten_log(self, table: schemas.Table) -> None:
        uri = table.uri(self._settings.store)
        if not self._settings.dry_run:
            vacuum.checkpoint(self._settings.store, table)
        files = vacuum.expired_log(self._settings.store, table, self._now)
        if not self._settings.dry_run:
            for path in files:  # oldest first: an interruption leaves no gap
                storage.delete(contract.join(uri, path))
        self._account("log_files", f"{table.name}, log", files)

    def _account(self, kind: str, what: str, files: Mapping[str, int]) -> None:
        self.counts[kind] += len(files)
        self.counts["bytes_removed"] += sum(files.values())
        if self._settings.dry_run:
            _list(what, files)
        if files:
            done = "would be removed" if self._settings.dry_run else "removed"
            _say(f"{what}: {len(files):,} files {done}, {_size(sum(files.values()))}.")


def _list(what: str, files: Collection[str]) -> None:
    for path in sorted(files):
        print(f"{what}: {path}")


def _say(message: str) -> None:
    print(message, file=sys.stderr, flush=True)


def _size(size_bytes: int) -> str:
    return f"{size_bytes / 1e6:,.1f} MB"


def main() -> int:
    return jobs.run("maintain", MaintainSettings, heeding(maintain), __doc__)


if __name__ == "__main__":
    from spark_apps.maintain import main as entry

    sys.exit(entry())
