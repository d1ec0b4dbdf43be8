"""Erase: forgets photos. Their rows go from every table, day, version and model, and their names from what runs left.

A tombstone keeps them away: ingest takes them no more. Safe to run beside the pipeline, and again: what one that was
killed has left, the next removes, also one that names no photos. With --dry-run it only says how much would go, with
--verify it looks through every byte of the store.
"""

from __future__ import annotations

import getpass
import sys
from dataclasses import replace
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from typing import Any

from spark_apps import contract, storage
from spark_apps.contract import BadSetting, EraseSettings, JobError, Manifest, QualityFailed
from spark_apps.erasure import selection, sweep, verification
from spark_apps.erasure.selection import Photos
from spark_apps.host import account
from spark_apps.spark import jobs
from spark_apps.tables import tombstones

RECEIPT = "receipt.json"
SHOWN = 20
"""Places that the sentence of a failed verification names."""


def erase(settings: EraseSettings, timings: jobs.Timings) -> Manifest:
    """Removes the photos that the settings name, and whatever is left of those that were erased before.

    The manifest's counts: `images` and `names` (distinct contents and uris), `strange` ones of these, which were given
    and are in no table and were not erased before (misspelt, or not here yet), `rows` of all tables and versions,
    `search_rows` and `duplicate_rows`, `files` and `documents` written anew, `log_files`, `bytes_removed`.

    Raises:
        BadSetting: no photo is named and none was erased before, the list is wrong, or there is no store.
        QualityFailed: `verify` found something; the sentence says where.
        JobError: runs in progress were writing files that may hold the photos; others write all the time.
        Unreachable: the store cannot be used.
    """
    wanted = selection.given(settings)
    with storage.reaching("store", settings.store):
        stones = tombstones.read(settings.store)
    if not wanted and not stones:
        raise BadSetting(
            "no_photos",
            "Nothing says which photos are meant, and none was erased before.",
            "Give --image-id, --uri, --uri-prefix or --list.",
        )
    with storage.reaching("store", settings.store):
        if selection.is_empty(settings.store):
            raise BadSetting(
                "no_store",
                f"There is nothing in {settings.store} that photos could be in.",
                "Correct --store: the folder or URI that holds the tables.",
            )
    if settings.verify:
        return _verified(settings, timings, stones, wanted)
    with timings.phase("find"):
        photos = selection.known(settings.store, wanted) if wanted else Photos()
        strange = frozenset(one for one in photos.strange if not (stones.has_image(one) or stones.has_uri(one)))
        photos = replace(photos, strange=strange)
    if strange:
        _say(
            f"{len(strange):,} of the {len(wanted.images | wanted.uris):,} ids and names that were given are in no "
            "table of this store. Check how they are spelled; what comes under them later is kept away all the same."
        )
    if settings.dry_run:
        with timings.phase("survey"):
            added = tombstones.with_added(stones, photos.images, photos.uris)
            removed = sweep.forecast(settings.store, added, _say)
        for key, rows in sorted(removed.shown.items()):
            print(f"{key}: {rows:,} rows that readers see")
        return _manifest(settings, timings, photos, removed)
    receipt = _Receipt(settings, photos)
    if wanted:
        with storage.reaching("store", settings.store):
            stones = tombstones.write(
                settings.store, settings.run.folder, photos.images, photos.uris, **receipt.facts()
            )
    with timings.phase("remove"):
        sweep.sweep(settings.store, stones, settings.run.folder, None, receipt.removed, _say, receipt.write)
    if receipt.removed.left:
        raise JobError(
            "left_to_runs",
            f"{len(receipt.removed.left):,} files that may hold the photos seem to be written by a run in progress, "
            f"{receipt.removed.left[0]} for example. All else is removed.",
            "Run it again when the run has ended; what a run that was killed has left goes after 24 hours.",
        )
    with storage.reaching("store", settings.store):
        receipt.finish(stones.erasures)
    return _manifest(settings, timings, photos, receipt.removed)


class _Receipt:
    """`receipt.json` of an erasure: what was removed where, and no name of a photo. Kept up while it runs; a retry of
    the same run goes on with it."""

    def __init__(self, settings: EraseSettings, photos: Photos) -> None:
        self.removed = sweep.Removed()
        self._settings, self._place = settings, contract.join(settings.folder, RECEIPT)
        before = storage.read_json(self._place) or {}
        self.removed.add(before.get("removed", {}))
        said = before.get("photos", {})
        self._photos = {
            "images": max(len(photos.images), said.get("images", 0)),
            "names": max(len(photos.uris), said.get("names", 0)),
            "strange": max(len(photos.strange), said.get("strange", 0)),
        }
        self._started_at = before.get("started_at", contract.now())

    def facts(self) -> dict[str, Any]:
        """Who asked for it, why, and when."""
        return {
            "started_at": self._started_at,
            "requested_by": self._settings.requested_by or _user(),
            "reason": self._settings.reason,
        }

    def write(self, finished_at: str | None = None) -> None:
        record = {
            "erasure": self._settings.run.folder,
            **self.facts(),
            "finished_at": finished_at,
            "photos": self._photos,
            "removed": self.removed.to_record(),
        }
        storage.write_json(self._place, record)

    def finish(self, erasures: frozenset[str]) -> None:
        """Says that it is done, also of others that had been killed. Raises OSError."""
        now = contract.now()
        self.write(now)
        for name in erasures - {self._settings.run.folder}:
            place = contract.join(self._settings.store, tombstones.FOLDER, name, RECEIPT)
            other = storage.read_json(place) or {"erasure": name, "finished_at": None}
            if other.get("finished_at") is None:
                storage.write_json(place, {**other, "finished_at": now, "finished_by": self._settings.run.folder})


def _verified(
    settings: EraseSettings, timings: jobs.Timings, stones: tombstones.Tombstones, wanted: Photos
) -> Manifest:
    with timings.phase("verify"):
        findings = verification.verify(settings.store, stones, wanted, _say)
    for finding in findings:
        print(f"{finding.path}: {finding.what}")
    if findings:
        places = sorted({finding.path for finding in findings})
        more = f" and {len(places) - SHOWN:,} more" if len(places) > SHOWN else ""
        raise QualityFailed(
            "still_there",
            f"Erased photos are still in {len(places):,} files: {', '.join(places[:SHOWN])}{more}.",
            "Run spark_apps.erase --store alone: it removes what is left. Files that are not ours are yours to remove.",
        )
    return timings.manifest("erase", settings.unnamed, counts={"found": 0})


def _manifest(settings: EraseSettings, timings: jobs.Timings, photos: Photos, removed: sweep.Removed) -> Manifest:
    return timings.manifest(
        "erase",
        settings.unnamed,
        counts={
            "images": len(photos.images),
            "names": len(photos.uris),
            "strange": len(photos.strange),
            "rows": sum(removed.rows.values()),
            "search_rows": sum(removed.search.values()),
            "duplicate_rows": sum(removed.duplicates.values()),
            "files": removed.rewritten,
            "documents": removed.documents,
            "log_files": removed.log_files,
            "bytes_removed": removed.bytes,
        },
        outcome={"removed": removed.to_record(), "receipt": contract.join(settings.folder, RECEIPT)},
    )


def _user() -> str:
    return getpass.getuser() if account.is_listed() else account.name()


def _say(message: str) -> None:
    print(message, file=sys.stderr, flush=True)


def main() -> int:
    return jobs.run("erase", EraseSettings, erase, __doc__)


if __name__ == "__main__":
    from spark_apps.erase import main as entry

    sys.exit(entry())
