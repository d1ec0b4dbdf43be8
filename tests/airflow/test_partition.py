"""The partition of a run: what the user wrote, else its partition key, else its data interval, else a clear refusal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from airflow.sdk import timezone as timezone_of_airflow
from airflow.timetables.base import DataInterval, TimeRestriction
from airflow.timetables.interval import CronDataIntervalTimetable
from image_features import partition, settings
from image_features.partition import DAY, Calendar, resolve

from spark_apps.contract import BadSetting, check_partition
from spark_apps.contract.partitions import order

REPO = Path(__file__).resolve().parents[2]
MIDNIGHT = datetime(2026, 11, 21, tzinfo=UTC)
NIGHT = MIDNIGHT, MIDNIGHT + timedelta(days=1)
BERLIN = ZoneInfo("Europe/Berlin")
HOURS = "%Y-%m-%dT%H%z"


def refusal(*given: Any, **named: Any) -> BadSetting:
    with pytest.raises(BadSetting) as refused:
        resolve(*given, **named)
    return refused.value


# --- what wins --------------------------------------------------------------------------------------------------------


def test_what_the_user_wrote_wins_over_the_key_and_the_key_over_the_data_interval() -> None:
    assert resolve("batch-7", partition_key="2026-W47", interval=NIGHT) == "batch-7"
    assert resolve(None, partition_key="2026-W47", interval=NIGHT) == "2026-W47"
    assert resolve(None, interval=NIGHT) == "2026-11-21"


def test_spaces_around_a_typed_partition_do_no_harm() -> None:
    assert resolve(" 2026-11-20 ") == "2026-11-20"


@pytest.mark.parametrize("empty", [None, "", "  "])
def test_without_one_it_is_the_day_the_interval_starts(empty: str | None) -> None:
    assert resolve(empty, interval=NIGHT) == "2026-11-21"


def test_the_day_is_the_one_in_utc_where_no_time_zone_is_configured() -> None:
    late_in_new_york = datetime(2026, 11, 20, 22, tzinfo=timezone(timedelta(hours=-5)))
    assert resolve(None, interval=(late_in_new_york, late_in_new_york + timedelta(days=1))) == "2026-11-21"


def test_the_day_is_the_one_of_the_configured_time_zone() -> None:
    in_berlin = datetime(2026, 11, 20, 23, tzinfo=UTC), datetime(2026, 11, 21, 23, tzinfo=UTC)
    assert resolve(None, interval=in_berlin, calendar=Calendar(BERLIN)) == "2026-11-21"
    naive = in_berlin[0].replace(tzinfo=None), in_berlin[1].replace(tzinfo=None)
    assert resolve(None, interval=naive, calendar=Calendar(BERLIN)) == "2026-11-21", "naive is UTC"


# --- what is refused --------------------------------------------------------------------------------------------------


def test_a_run_with_nothing_is_refused_and_told_the_ways_out() -> None:
    error = refusal(None)
    assert error.code == "no_partition"
    assert all(way in error.hint for way in ("trigger form", "argument", "logical date", "partition key"))


def test_an_interval_of_no_length_is_refused_and_told_both_ways_out() -> None:
    error = refusal(None, interval=(MIDNIGHT, MIDNIGHT))
    assert error.code == "no_interval"
    assert "2026-11-21T00:00+00:00" in error.message
    assert "CronDataIntervalTimetable" in error.hint
    assert "argument partition" in error.hint
    assert "partition key" in error.hint


@pytest.mark.parametrize("hour", range(23))
def test_hours_that_would_share_the_key_of_a_day_are_refused(hour: int) -> None:
    start = MIDNIGHT + timedelta(hours=hour)
    error = refusal(None, interval=(start, start + timedelta(hours=1)))
    assert error.code == "shared_partition"
    assert "2026-11-21" in error.message
    assert "partition_format" in error.hint


@pytest.mark.parametrize("key", ["../../x", "a/b", ".hidden", "2026 11 22", "x" * 65, "é", "2026-11-22T00:00:00"])
def test_a_key_that_could_leave_its_folder_is_refused_wherever_it_comes_from(key: str) -> None:
    written = refusal(key, interval=NIGHT)
    of_the_run = refusal(None, partition_key=key, interval=NIGHT)
    assert (written.code, of_the_run.code) == ("bad_partition", "bad_partition")
    assert "is not a valid partition key" in written.message
    assert "is not a valid partition key" in of_the_run.message
    assert "letters, digits, dots, dashes or underscores" in written.hint
    assert "key_format" in of_the_run.hint
    with pytest.raises(BadSetting, match="not a valid partition key"):
        resolve(None, interval=NIGHT, calendar=Calendar(form=f"{key}%Y"))


def test_an_empty_partition_key_is_no_day() -> None:
    assert refusal(None, partition_key="", interval=NIGHT).code == "bad_partition"


# --- both changes of the clock ----------------------------------------------------------------------------------------


def intervals(cron: str, zone: str, first: str, last: str) -> Iterator[DataInterval]:
    """The data intervals that Airflow's timetable gives from the local midnight of a day to that of another."""
    import pendulum

    timetable = CronDataIntervalTimetable(cron, timezone=zone)
    earliest, latest = (pendulum.from_format(day, "YYYY-MM-DD", tz=zone) for day in (first, last))
    restriction = TimeRestriction(earliest=earliest, latest=latest.subtract(seconds=1), catchup=True)  # type: ignore
    made = None
    while info := timetable.next_dagrun_info(last_automated_data_interval=made, restriction=restriction):
        assert info.data_interval is not None
        yield (made := info.data_interval)


@pytest.mark.parametrize(("month", "change"), [(3, 29), (10, 25)])
@pytest.mark.parametrize("time", ["0 0", "30 2", "0 23"])
def test_each_local_day_is_published_once_where_the_clock_is_set(time: str, month: int, change: int) -> None:
    first, last = f"2026-{month:02}-{change - 2}", f"2026-{month:02}-{change + 2}"
    around = intervals(f"{time} * * *", "Europe/Berlin", first, last)
    keys = [resolve(None, interval=(one.start, one.end), calendar=Calendar(BERLIN)) for one in around]
    assert keys == [f"2026-{month:02}-{day}" for day in range(change - 2, change + 2)]


@pytest.mark.parametrize(
    ("zone", "day", "hours"),
    [
        ("Europe/Berlin", "2026-03-29", 23),
        ("Europe/Berlin", "2026-10-25", 25),
        ("America/New_York", "2026-03-08", 23),
        ("America/New_York", "2026-11-01", 25),
        ("Europe/London", "2026-10-25", 25),
        ("Asia/Kolkata", "2026-10-25", 24),
    ],
)
@pytest.mark.parametrize("minutes", [60, 30])
def test_each_local_hour_is_published_once_where_the_clock_is_set(
    zone: str, day: str, hours: int, minutes: int
) -> None:
    cron, form = ("0 * * * *", HOURS) if minutes == 60 else ("*/30 * * * *", "%Y-%m-%dT%H%M%z")
    calendar = Calendar(ZoneInfo(zone), form)
    calendar.check()
    next_day = f"{datetime.fromisoformat(day) + timedelta(days=1):{DAY}}"
    around = list(intervals(cron, zone, day, next_day))
    keys = [resolve(None, interval=(one.start, one.end), calendar=calendar) for one in around]
    assert len(keys) == len(set(keys)) == hours * 60 // minutes
    assert {key[:10] for key in keys} == {day}
    told = Counter(key[11:13] for key in keys)
    shown = Counter(one.start.in_timezone(zone).hour for one in around)
    assert {int(hour): count for hour, count in told.items()} == shown
    assert all(check_partition(key) == key for key in keys)


@pytest.mark.parametrize(
    ("cron", "form", "days", "count"),
    [
        ("0 0 * * *", DAY, ("2026-03-28", "2026-03-31"), 3),
        ("0 0 * * *", DAY, ("2026-10-24", "2026-10-27"), 3),
        ("0 * * * *", HOURS, ("2026-03-28", "2026-03-31"), 71),
        ("0 * * * *", HOURS, ("2026-10-24", "2026-10-27"), 73),
    ],
)
@pytest.mark.parametrize("given", [False, True])
def test_the_tasks_of_a_dag_and_the_pages_have_each_local_day_and_hour_once(
    cron: str, form: str, days: tuple[str, str], count: int, given: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the options, and by the template of docs/airflow.md in a Airflow whose own time zone is another."""
    from airflow.sdk import DAG
    from image_features.operators import ExtractOperator, IngestOperator, ValidateOperator
    from image_features.web.airflow_runs import partition_of

    arguments: dict[str, Any] = {}
    if given:
        written = f"strftime('{form}').replace('+', '_')"
        arguments["partition"] = f"{{{{ data_interval_start.in_timezone('Europe/Berlin').{written} }}}}"
    else:
        configure(monkeypatch, timezone="Europe/Berlin", partition_format=form)
    keys = []
    for one in intervals(cron, "Europe/Berlin", *days):
        run = {"data_interval_start": one.start, "data_interval_end": one.end}
        context: Any = {"run_id": "r", "params": {}, "dag_run": SimpleNamespace(conf={}), **run}
        with DAG("cameras", schedule=None):
            tasks = [
                kind(task_id=kind.stage, **arguments) for kind in (IngestOperator, ExtractOperator, ValidateOperator)
            ]
            for task in tasks:
                task.render_template_fields(context)
        (key,) = {task.job_settings(context).partition for task in tasks}  # type: ignore[attr-defined]
        if not given:
            assert partition_of(SimpleNamespace(conf={}, state="queued", partition_key=None, **run)) == key
        keys.append(key)
    assert len(keys) == len(set(keys)) == count
    assert sorted(keys, key=order) == keys


def test_the_hour_that_comes_twice_has_two_keys() -> None:
    around = intervals("0 * * * *", "Europe/Berlin", "2026-10-25", "2026-10-26")
    keys = [resolve(None, interval=(one.start, one.end), calendar=Calendar(BERLIN, HOURS)) for one in around]
    assert keys[1:5] == ["2026-10-25T01_0200", "2026-10-25T02_0200", "2026-10-25T02_0100", "2026-10-25T03_0100"]


@pytest.mark.parametrize("fold", [0, 1])
def test_two_hours_of_one_key_never_replace_one_another(fold: int) -> None:
    start = datetime(2026, 10, 25, 2, tzinfo=BERLIN, fold=fold).astimezone(UTC)
    hour = start, start + timedelta(hours=1)
    form = "%Y-%m-%dT%H"
    if fold == 0:
        assert refusal(None, interval=hour, calendar=Calendar(BERLIN, form)).code == "shared_partition"
    with pytest.raises(BadSetting, match=r"gives two hours the key 2026-10-25T02 .*Add the offset.*%H%z") as refused:
        Calendar(BERLIN, form).check()
    assert refused.value.code == "bad_partition_format"


def test_a_dag_in_the_configured_time_zone_covers_its_days(monkeypatch: pytest.MonkeyPatch) -> None:
    from airflow.dag_processing.dagbag import DagBag
    from airflow.serialization.serialized_objects import DagSerialization

    configure(monkeypatch, timezone="Europe/Berlin")
    dag = DagBag(REPO / "dags" / "image_features.py").dags["image_features"]
    timetable = DagSerialization.from_dict(DagSerialization.to_dict(dag)).timetable
    interval = timetable.infer_manual_data_interval(run_after=timezone_of_airflow.datetime(2026, 10, 26, 9))
    assert (interval.end - interval.start).total_seconds() == 25 * 3600
    assert (
        partition.of(None, {"data_interval_start": interval.start, "data_interval_end": interval.end}) == "2026-10-25"
    )


@pytest.mark.parametrize(
    ("schedule", "form", "fits"),
    [
        ("0 0 * * *", DAY, True),
        ("30 2 * * *", DAY, True),
        ("0 0 * * 1-5", DAY, True),
        ("0 0 * * 1", "%G-W%V", True),
        ("0 0 1 * *", "%Y-%m", True),
        ("0 * * * *", HOURS, True),
        ("@daily", DAY, True),
        ("0 * * * *", DAY, False),
        ("0 0,12 * * *", DAY, False),
        ("*/30 * * * *", HOURS, False),
        ("0 0 * * *", "%G-W%V", False),
        ("0 6,7 1 * *", DAY, False),
    ],
)
def test_a_schedule_and_a_form_that_do_not_fit_are_an_import_error_of_the_dag(
    schedule: str, form: str, fits: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    from airflow.dag_processing.dagbag import DagBag

    configure(monkeypatch, schedule=schedule, partition_format=form, timezone="Europe/Berlin")
    bag = DagBag(REPO / "dags" / "image_features.py")
    if fits:
        assert not bag.import_errors
    else:
        (error,) = bag.import_errors.values()
        assert f"[image_features] schedule = '{schedule}' has several runs with the partition key" in error
        assert "AIRFLOW__IMAGE_FEATURES__PARTITION_FORMAT" in error


# --- time zone and form -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("zone", "form"),
    [
        ("UTC", DAY),
        ("Europe/Berlin", DAY),
        ("America/Havana", DAY),
        ("Africa/Casablanca", DAY),
        ("UTC", "%Y-%m-%dT%H"),
        ("Asia/Kolkata", "%Y%m%dT%H%M"),
        ("Australia/Lord_Howe", HOURS),
        ("Europe/Berlin", "%G-W%V"),
        ("Europe/Berlin", "%Y-%m"),
        ("Europe/Berlin", "cam-a_%Y-%m-%d"),
    ],
)
def test_forms_that_tell_their_times_apart_are_taken(zone: str, form: str) -> None:
    Calendar(ZoneInfo(zone), form).check()


@pytest.mark.parametrize(
    ("zone", "form", "says"),
    [
        ("UTC", "%d/%m/%Y", "'01/01/2026', which is not a valid partition key"),
        ("UTC", "%Y-%m-%dT%H:%M", "not a valid partition key"),
        ("UTC", "%%Y-%%m-%%d", "'%Y-%m-%d', which is not a valid partition key"),
        ("UTC", "x" * 60 + DAY, "not a valid partition key"),
        ("UTC", "today", "gives every day the key today"),
        ("UTC", "%m-%d", "one key, 01-01"),
        ("UTC", "%Y-W%V", "one key"),  # the last days of a year may be of the first week of the next
        ("UTC", "%Y-%m-%dT%I", "one key"),  # mornings and afternoons
        ("UTC", "%Y-%m-%d-%M", "one key"),
        ("Europe/London", "%Y-%m-%dT%H", "two hours the key 2026-10-25T01 when Europe/London sets its clock back"),
        ("Europe/Berlin", "%Y-%m-%dT%H-%M", "two hours"),
    ],
)
def test_a_form_that_would_mix_partitions_is_refused_with_the_place_to_correct_it(
    zone: str, form: str, says: str
) -> None:
    with pytest.raises(BadSetting, match="partition_format") as refused:
        Calendar(ZoneInfo(zone), form).check()
    assert says in refused.value.message
    assert "AIRFLOW__IMAGE_FEATURES__PARTITION_FORMAT" in refused.value.hint


def configure(patch: pytest.MonkeyPatch, **options: str) -> None:
    for name, text in options.items():
        patch.setenv(f"AIRFLOW__IMAGE_FEATURES__{name.upper()}", text)


def test_time_zone_and_form_are_configured(monkeypatch: pytest.MonkeyPatch) -> None:
    run = {"data_interval_start": datetime(2026, 11, 20, 23, tzinfo=UTC), "data_interval_end": MIDNIGHT}
    assert partition.of(None, {**run, "data_interval_end": MIDNIGHT + timedelta(hours=23)}) == "2026-11-20"
    configure(monkeypatch, timezone="Europe/Berlin", partition_format=HOURS)
    assert partition.of(None, run) == "2026-11-21T00_0100"
    assert partition.of(None, {**run, "dag_run": SimpleNamespace(partition_key="batch-7")}) == "batch-7"
    assert partition.of("trial", {}) == "trial"


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("europe/berlin", "Did you mean Europe/Berlin?"),
        ("Europe/Berln", "Did you mean Europe/Berlin?"),
        ("Europe", "IANA"),
        ("UTC+1", "IANA"),
        ("../etc/passwd", "IANA"),
        ("/etc/localtime", "IANA"),
    ],
)
def test_a_time_zone_that_does_not_exist_is_refused(name: str, says: str, monkeypatch: pytest.MonkeyPatch) -> None:
    configure(monkeypatch, timezone=name)
    with pytest.raises(BadSetting, match="is not a valid time zone") as refused:
        partition.of(None, {})
    assert says in refused.value.hint
    assert "AIRFLOW__IMAGE_FEATURES__TIMEZONE" in refused.value.hint


def test_a_form_in_airflow_cfg_has_each_percent_sign_twice() -> None:
    settings.conf.read_dict({settings.SECTION: {"partition_format": "%%Y-%%m"}})  # as airflow.cfg is read
    try:
        assert settings.partition_format() == "%Y-%m"
        settings.conf.set(settings.SECTION, "partition_format", "%%Y")
        settings.conf._sections[settings.SECTION]["partition_format"] = "%Y-%m-%d"  # set() would refuse it
        with pytest.raises(BadSetting, match=r"single % in airflow.cfg.*Write each % twice"):
            settings.partition_format()
    finally:
        settings.conf.remove_section(settings.SECTION)


@pytest.mark.parametrize("zone", ["Australia/Sydney", "Australia/Lord_Howe", "Europe/Berlin", "America/Havana"])
def test_days_may_be_keys_wherever_the_clock_is_set_back(zone: str) -> None:
    Calendar(ZoneInfo(zone), "%Y-%m-%d").check()
    with pytest.raises(BadSetting, match=f"one key|two hours the key .* when {zone} sets its clock back"):
        Calendar(ZoneInfo(zone), "%Y-%m-%dT%H").check()


@pytest.mark.parametrize("form", ["%d-%m-%Y", "%b-%d-%Y", "%Y-%B-%d"])
def test_a_form_whose_days_do_not_sort_is_refused(form: str) -> None:
    with pytest.raises(BadSetting, match="sorts before it"):
        Calendar(ZoneInfo("UTC"), form).check()
