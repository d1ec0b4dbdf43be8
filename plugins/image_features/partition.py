"""Which partition a run works on: one pure function."""

from __future__ import annotations

from datetime import UTC, datetime

from spark_apps import contract


def resolve(explicit: str | None, interval_start: datetime | None) -> str:
    """The partition key of a run.

    What the user wrote in the form wins. Otherwise it is the UTC date on which the run's data interval starts: of a
    scheduled or backfilled run its day, of a run triggered with a logical date the last day that was complete then
    (Airflow's form proposes the present moment, hence yesterday). A run without a logical date has no data interval,
    and guessing a day for it would publish under the wrong name.

    Raises:
        BadSetting: the key may not name a partition, or there is nothing to take it from.
    """
    if explicit and explicit.strip():
        return contract.check_partition(explicit.strip())
    if interval_start is not None:
        return interval_start.astimezone(UTC).date().isoformat()
    raise contract.BadSetting(
        "no_partition",
        "This run has neither a partition nor a logical date.",
        'Give the partition in the trigger form (or --conf \'{"partition": "2026-11-22"}\'), '
        "or trigger with a logical date.",
    )
