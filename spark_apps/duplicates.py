"""Duplicates: says which published files show the same picture, and which of them to keep, in the table duplicates.

Compares only what was published since the last time, with everything; a partition that was replaced or undone leaves
nothing behind. What is published stays as it is whatever happens here.
"""

from __future__ import annotations

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from dataclasses import replace

from spark_apps import storage
from spark_apps.contract import DuplicatesSettings, Manifest
from spark_apps.dedup import groups, share
from spark_apps.dedup.update import update
from spark_apps.erasure.heeding import heeding
from spark_apps.media import likeness
from spark_apps.pipeline.quality import WARNING
from spark_apps.spark import jobs
from spark_apps.tables.schemas import DUPLICATES


def duplicates(settings: DuplicatesSettings, timings: jobs.Timings) -> Manifest:
    """Brings the table up to what is published of a model.

    The manifest's counts: `groups`, files that are `exact` or `near` copies, `spare` files (all of a group but the one
    to keep), pairs of pictures `compared` and `confirmed` in this run, and `partitions` whose rows changed; of a run,
    `twins`: files of its partition that are in a group. The outcome's `checks`: as those of a report.

    Raises:
        BadSetting: ImageHash is not installed, or the run's extract has not finished.
        JobError, NothingToDo, Unreachable: as `update`.
    """
    likeness.check_installed()
    settings = replace(settings, model=jobs.model_of(settings))
    with timings.phase("update"), storage.reaching("store", settings.store):
        done = update(settings, _say)
    kinds = [member.kind for member in done.members]
    keepers = sum(member.keeper for member in done.members)
    key, twins = settings.partition, share.twins(done.members)
    checks = []
    if key in done.rows:
        checks = [share.check(key, twins, done.rows, settings.history, settings.warn_duplicates_rise)]
    for check in checks:
        if check.failed(WARNING):
            _say(f"Warning: {check.message}")
    return timings.manifest(
        "duplicates",
        settings,
        counts={
            "groups": keepers,
            "exact": kinds.count(groups.EXACT),
            "near": kinds.count(groups.NEAR),
            "spare": len(done.members) - keepers,
            "compared": done.compared,
            "confirmed": done.confirmed,
            "partitions": done.touched,
            **({"twins": twins[key]} if key in done.rows else {}),
        },
        outcome={
            "model": settings.model,
            "checks": [check.to_json() for check in checks],
            "features_version": done.seen,
            "rebuilt": done.rebuilt,
            "table": DUPLICATES.uri(settings.store),
        },
    )


def _say(message: str) -> None:
    print(message, file=sys.stderr, flush=True)


def main() -> int:
    return jobs.run("duplicates", DuplicatesSettings, heeding(duplicates), __doc__)


if __name__ == "__main__":
    from spark_apps.duplicates import main as entry

    sys.exit(entry())
