"""Sync: keeps another vector store equal to what is published of a model, by what changed since the last time.

Safe to run at any time and again: a sync that was killed goes on where it was, and what is published stays as it is
whatever happens here. Counts at the end what the place holds, and fails when that is not what is published.
"""

from __future__ import annotations

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from contextlib import closing

from spark_apps import sinks
from spark_apps.contract import JobError, Manifest, SyncSettings
from spark_apps.spark import jobs


def sync(settings: SyncSettings, timings: jobs.Timings) -> Manifest:
    """Brings the place up to what is published of a model.

    The manifest's counts: rows `upserted` and `deleted` in this run, `rows` that the place holds, and `differing`: 0.

    Raises:
        JobError: the place holds another number of rows than are published; another sync writes to it.
        BadSetting, NothingToDo, Unreachable: as `jobs.model_of`, `sinks.open_sink` and `sinks.sync`.
    """
    model = jobs.model_of(settings)
    with timings.phase("open"):
        opened = sinks.open_sink(settings.to, settings.sink)
    with closing(opened) as sink, timings.phase("sync"):
        done = sinks.sync(settings.store, model, sink, settings.full, _say)
    if done.differing:
        found = [f"{key}: {held:,} instead of {wanted:,}" for key, (held, wanted) in done.differing.items()]
        raise JobError(
            "sink_differs",
            f"{settings.to} holds other rows than are published: {'; '.join(found[:5])}{' …' if found[5:] else ''}.",
            "Somebody else writes there. Run it again with --full.",
        )
    return timings.manifest(
        "sync",
        settings,
        counts={"upserted": done.upserted, "deleted": done.deleted, "rows": done.rows, "differing": 0},
        outcome={"model": model, "to": settings.to, "features_version": done.version, "full": done.full},
    )


def _say(message: str) -> None:
    print(message, file=sys.stderr, flush=True)


def main() -> int:
    return jobs.run("sync", SyncSettings, sync, __doc__)


if __name__ == "__main__":
    from spark_apps.sync import main as entry

    sys.exit(entry())
