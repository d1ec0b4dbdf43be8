"""Jobs beside an erasure: what one has just written may hold a photo that is erased while it runs."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import TypeVar

from spark_apps import contract, storage
from spark_apps.contract import JobError, Manifest
from spark_apps.erasure.sweep import sweep
from spark_apps.spark.jobs import Timings
from spark_apps.tables import tombstones

AnyJob = TypeVar("AnyJob", bound=contract.JobSettings)
Job = Callable[[AnyJob, Timings], Manifest]

TRIES = 3


def heeding(job: Job[AnyJob]) -> Job[AnyJob]:
    """The same job, which looks at its end whether photos were erased while it ran, and then removes them from what it
    has written.

    An erasure looks at the end, too, for what came while it ran: so one of both sees the other, whoever is later. Where
    the job fails because an erasure has taken files from under it, it is done once more, and what the failed attempt
    has written is looked at, too. A job that has staged files for a later stage is also done again, as their names are
    others now: what its tasks had finished is taken over.
    """

    @wraps(job)
    def heeded(settings: AnyJob, timings: Timings) -> Manifest:
        for number in range(TRIES):
            before = _erasures(settings)
            try:
                manifest = job(settings, timings)
            except Exception:
                if _erasures(settings) == before:
                    raise
                _sweep(settings)
                if number == TRIES - 1:
                    raise
                continue
            if _erasures(settings) == before:
                return manifest
            _sweep(settings)
            if not manifest.staged:
                return manifest
        raise JobError("erased_meanwhile", "Photos were erased again and again while this ran.", "Run it again.")

    return heeded


def _sweep(settings: contract.JobSettings) -> None:
    with storage.reaching("store", settings.store):
        stones = tombstones.read(settings.store)
    sweep(settings.store, stones, partitions=_partitions(settings))


def _erasures(settings: contract.JobSettings) -> frozenset[str]:
    with storage.reaching("store", settings.store):
        return tombstones.editions(settings.store)


def _partitions(settings: contract.JobSettings) -> list[str] | None:
    """What a stage of the pipeline has written to; None: anything."""
    return [settings.partition] if isinstance(settings, contract.Settings) else None
