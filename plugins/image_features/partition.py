"""Which partition a run works on: one pure function, and what the configuration and Airflow tell it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from functools import cache
from itertools import pairwise
from typing import Any
from zoneinfo import ZoneInfo

from image_features import settings
from image_features.compat import CronDataIntervalTimetable
from image_features.options import OPTIONS
from image_features.settings import DAY
from spark_apps import contract

FIRST = datetime(2026, 1, 1, 12, tzinfo=UTC)
"""From when on a form is tried out."""
RUNS = 50
"""So many runs of a schedule are tried out."""
DAYS = 6 * 366
"""For how long: the weeks of these years begin and end in every way."""

ONCE_TAKEN = ("no_interval", "shared_partition")
"""What is refused since 0.2: versions before took the day of the interval's begin in UTC."""


@dataclass(frozen=True)
class Calendar:
    """How the begin of an interval is written as a partition key: in a time zone, in a form of `strftime`."""

    zone: tzinfo = UTC
    form: str = DAY

    def key(self, moment: datetime) -> str:
        """The key of what begins at `moment`, which is in UTC where it does not say.

        The `+` of an offset from UTC is written as `_`: no key may have it.
        """
        return self._write(self._local(moment))

    def check(self) -> None:
        """Tries the form out: day by day, and by the half-hour on a common day and on each that sets the clock.

        Raises:
            BadSetting: it gives what is no partition key, or one key for times that lie apart.
        """
        days = [FIRST + timedelta(day) for day in range(DAYS)]
        for day in days:
            self._check_key(day)
        if self.key(days[0]) == self.key(days[-1]):
            raise self._bad(f"gives every day the key {self.key(days[0])}", f"Take more of the date: {DAY}.")
        self._check_order(days)
        for day, next_day in pairwise(days):
            if contract.partitions.order(self.key(day)) > contract.partitions.order(self.key(next_day)):
                keys = f"{self.key(day)} and the day after {self.key(next_day)}"
                raise self._bad(f"gives a day the key {keys}, which sorts before it", f"Begin with the year: {DAY}.")
        for noon, next_noon in pairwise(days):
            if noon == FIRST or self._local(noon).utcoffset() != self._local(next_noon).utcoffset():
                half_hours = [noon + timedelta(minutes=30 * step) for step in range(72)]  # a whole day of any zone
                if self._write(self._local(noon).replace(hour=12)) != self._write(self._local(noon).replace(hour=13)):
                    self._check_repeated_hour(half_hours)
                self._check_order(half_hours)

    def _check_key(self, moment: datetime) -> None:
        key = self.key(moment)
        try:
            contract.check_partition(key)
        except contract.BadSetting:
            hint = f"Letters, digits, dots, dashes and underscores may be in a key: {DAY}T%H."
            raise self._bad(f"gives {key!r}, which is not a valid partition key", hint) from None

    def _check_order(self, moments: list[datetime]) -> None:
        """Refuses a key that comes again after others."""
        seen: dict[str, datetime] = {}
        last = ""
        for moment in moments:
            key = self.key(moment)
            if key != last and (before := seen.get(key)):
                times = f"{before:%Y-%m-%d %H:%M} and {moment:%Y-%m-%d %H:%M} (UTC)"
                raise self._bad(f"gives {times} one key, {key}", f"Take more of the date: {DAY}, or %G-W%V for weeks.")
            seen[key] = moment
            last = key

    def _check_repeated_hour(self, moments: list[datetime]) -> None:
        """Refuses one key for both of the hours that the clock shows twice when it is set back."""
        for moment in moments:
            first, second = (self._local(moment).replace(fold=fold) for fold in (0, 1))
            if first.utcoffset() != second.utcoffset() and self._write(first) == self._write(second):
                raise self._bad(
                    f"gives two hours the key {self._write(first)} when {self.zone} sets its clock back",
                    f"Add the offset from UTC, {self.form}%z, or set timezone = UTC.",
                )

    def _local(self, moment: datetime) -> datetime:
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(self.zone)

    def _write(self, local: datetime) -> str:
        return local.strftime(self.form).replace("+", "_")

    def _bad(self, does: str, hint: str) -> contract.BadSetting:
        where = (
            f"Correct it in airflow.cfg, where each % is written twice, or in {OPTIONS['partition_format'].variable}."
        )
        return contract.BadSetting(
            "bad_partition_format",
            f"[image_features] partition_format = {self.form!r} {does}.",
            f"{hint} {where}",
        )


def resolve(
    explicit: str | None,
    *,
    partition_key: str | None = None,
    interval: tuple[datetime, datetime] | None = None,
    calendar: Calendar = Calendar(),
) -> str:
    """The partition key of a run.

    What the user wrote wins: the operator's argument or the form. Otherwise it is the run's own partition key, which
    Airflow (since 3.2) gives to runs that an asset's partition or a timetable of partitions started. Otherwise it is
    the begin of the run's data interval: of a scheduled or backfilled run what has just ended, of a run triggered with
    a logical date the last that was complete then. Without any of them, or with an interval of no length, a guess would
    publish under the wrong name what has not ended yet.

    Raises:
        BadSetting: the key may not name a partition, there is nothing to take it from, or the next run would have the
            same key.
    """
    if explicit and explicit.strip():
        return contract.check_partition(explicit.strip())
    if partition_key is not None:
        return _checked(partition_key)
    if interval is None:
        raise contract.BadSetting(
            "no_partition",
            "This run has neither a partition nor a logical date.",
            'Give the partition in the trigger form (or --conf \'{"partition": "2026-11-22"}\') or as an argument of '
            "the operator, or trigger with a logical date or a partition key.",
        )
    start, end = interval
    if start == end:
        raise contract.BadSetting(
            "no_interval",
            f"The data interval of this run has no length, so {start.isoformat(timespec='minutes')} names nothing that "
            "has ended.",
            "Schedule the Dag with a timetable that has intervals, such as CronDataIntervalTimetable, or give the "
            "operator the argument partition or the run a partition key.",
        )
    key = contract.check_partition(calendar.key(start))
    if key == calendar.key(end):
        raise contract.BadSetting(
            "shared_partition",
            f"The data interval of this run and the next would both publish the partition {key}, each replacing the "
            "other.",
            "Let [image_features] partition_format tell them apart, for example %Y-%m-%dT%H, or give the operator the "
            "argument partition.",
        )
    return key


def of(explicit: Any, run: Mapping[str, Any]) -> str:
    """The partition of a run of this Airflow; `run` is a task's context, or what has the same of its names.

    Raises:
        BadSetting: as `resolve`, or time zone or form of the keys are configured wrongly.
    """
    start, end = run.get("data_interval_start"), run.get("data_interval_end")
    return resolve(
        None if explicit is None else str(explicit),
        partition_key=getattr(run.get("dag_run"), "partition_key", None),  # since Airflow 3.2
        interval=None if start is None or end is None else (start, end),
        calendar=calendar(),
    )


def calendar() -> Calendar:
    """The configured calendar. Raises BadSetting: time zone or form of the keys are configured wrongly."""
    found = _tried(settings.timezone(), settings.partition_format())
    if isinstance(found, contract.BadSetting):
        raise found
    return found


@cache  # the pages resolve a thousand runs at once
def _tried(zone: ZoneInfo, form: str) -> Calendar | contract.BadSetting:
    made = Calendar(zone, form)
    try:
        made.check()
    except contract.BadSetting as error:
        return error
    return made


def timetable() -> CronDataIntervalTimetable:
    """The configured schedule, in the configured time zone.

    Raises:
        BadSetting: one of these options is wrong, or two runs of the schedule would have one partition key.
    """
    import pendulum
    from airflow.timetables.base import TimeRestriction
    from airflow.timetables.interval import CronDataIntervalTimetable as WithIntervals

    expression, zone, keys = settings.schedule(), settings.timezone().key, calendar()
    plan, made = WithIntervals(expression, timezone=zone), None
    since = TimeRestriction(earliest=pendulum.instance(FIRST), latest=None, catchup=True)
    for _ in range(RUNS):
        info = plan.next_dagrun_info(last_automated_data_interval=made, restriction=since)
        if info is None or (made := info.data_interval) is None:
            break
        if keys.key(made.start) == keys.key(made.end):
            raise contract.BadSetting(
                "shared_partition",
                f"[image_features] schedule = {expression!r} has several runs with the partition key "
                f"{keys.key(made.start)}, each replacing the other.",
                f"Let {OPTIONS['partition_format'].variable} tell them apart, for example %Y-%m-%dT%H, or change "
                f"{OPTIONS['schedule'].variable}.",
            )
    return CronDataIntervalTimetable(expression, timezone=zone)


def _checked(partition_key: str) -> str:
    try:
        return contract.check_partition(partition_key)
    except contract.BadSetting as error:
        raise contract.BadSetting(
            error.code,
            f"The partition key of this run, {partition_key!r}, is not a valid partition key here.",
            f"{error.hint} The timetable's key_format or the mapper of the asset's keys makes it, "
            f"for example key_format={DAY!r}.",
        ) from None
