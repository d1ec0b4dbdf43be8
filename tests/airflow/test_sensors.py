"""What the sensors refuse, what they hand to the triggerer, and what their triggers see there."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import DAG, Param
from airflow.sdk.exceptions import (
    AirflowException,
    AirflowFailException,
    AirflowSensorTimeout,
    AirflowSkipException,
    TaskDeferred,
)
from airflow.serialization.serialized_objects import DagSerialization
from image_features import form, jobs, triggers
from image_features.sensors import GRACE_SECONDS, LandingSensor, StageSensor
from image_features.triggers import Landing, LandingTrigger, StageTrigger, Watch

from spark_apps import catalog, contract
from spark_apps.catalog import Landed
from spark_apps.contract import BadSetting, Unreachable

DAY = "2026-11-20"


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """No scheduler has to hear of anything here."""
    monkeypatch.setattr(triggers, "SOONEST_SECONDS", 0)


def sensor(params: Any = None, **arguments: Any) -> LandingSensor:
    with DAG("waits", params=params or {"partition": Param(None, type=["null", "string"])}, schedule=None):
        return LandingSensor(task_id="landing", **arguments)


def context(partition: str | None = DAY, params: Any = None, **conf: Any) -> Any:
    """What Airflow hands to a task of a run that was triggered with `conf`."""
    values = {name: param.value for name, param in (params or {}).items()}
    return {
        "run_id": "r",
        "params": {**values, "partition": partition, **conf},
        "dag_run": SimpleNamespace(conf=conf, partition_key=None),
        "data_interval_start": None,
        "data_interval_end": None,
    }


def deferred(task: LandingSensor, context: Any) -> tuple[LandingTrigger, TaskDeferred]:
    with pytest.raises(TaskDeferred) as raised:
        task.execute(context)
    trigger = raised.value.trigger
    assert isinstance(trigger, LandingTrigger)
    return trigger, raised.value


def fired(trigger: LandingTrigger, beside: Callable[[], Any] | None = None) -> dict[str, Any]:
    """The payload of the one event; `beside` runs in the same loop of events, before it."""

    async def run() -> list[Any]:
        async def act() -> None:
            if beside:
                await asyncio.sleep(0)
                beside()

        async def events() -> list[Any]:
            return [event.payload async for event in trigger.run()]

        found, _ = await asyncio.gather(events(), act())
        return found

    (payload,) = asyncio.run(run())
    json.dumps(payload)
    return dict(payload)


def trigger(source: Path | str, seconds: float = 60, **arguments: Any) -> LandingTrigger:
    return LandingTrigger(source=str(source), deadline=time.time() + seconds, poll_interval=0.02, **arguments)


# --- the task ---------------------------------------------------------------------------------------------------------


def test_it_defers_with_the_configured_source_of_the_run_s_partition() -> None:
    found, how = deferred(sensor(timeout=7200), context())
    assert found.landing == Landing(source=f"/photos/{DAY}", settle=600, store=found.landing.store, within="/photos")
    assert how.timeout == timedelta(seconds=7200 + GRACE_SECONDS), "the trigger itself tells what it saw"
    assert how.method_name == "execute_complete"


def test_the_trigger_survives_airflow_s_database() -> None:
    arguments = {"marker": "done/*.ok", "settle": 5, "pattern": "*.jpg", "exclude": "raw", "within": "/a\n/b"}
    before = trigger("/photos", storage_conn_id="photo_store", **arguments)
    path, kwargs = before.serialize()
    module, _, name = path.rpartition(".")
    assert (module, name) == (LandingTrigger.__module__, LandingTrigger.__name__)
    after = LandingTrigger(**json.loads(json.dumps(kwargs)))
    assert after.serialize() == before.serialize()


def test_the_trigger_keeps_no_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    connection = {"conn_type": "aws", "login": "key-id", "password": "very-private"}
    monkeypatch.setenv("AIRFLOW_CONN_STORAGE", json.dumps(connection))
    monkeypatch.setenv("AIRFLOW__IMAGE_FEATURES__STORAGE_CONN_ID", "storage")
    found, _ = deferred(sensor(), context())
    assert found.storage_conn_id == "storage"
    assert "very-private" not in json.dumps(found.serialize()) and "key-id" not in json.dumps(found.serialize())


def test_the_run_s_conf_wins_over_the_argument_where_the_dag_has_the_param(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__IMAGE_FEATURES__SOURCES", "/other,/archive")
    params = form.params()
    task = sensor(params, source="/other", pattern="*.png")
    assert deferred(task, context(params=params))[0].landing.source == "/other"
    found = deferred(task, context(params=params, source="/archive/{partition}", pattern="*.tif"))[0].landing
    assert (found.source, found.pattern) == (f"/archive/{DAY}", "*.tif")


@pytest.mark.parametrize(
    ("arguments", "seconds"),
    [
        ({"settle": "90 seconds"}, 90),
        ({"settle": "1.5 hours"}, 5400),
        ({"settle": "1 min"}, 60),
        ({"settle": timedelta(minutes=3)}, 180),
        ({"settle": 20}, 20),
        ({"settle": "45"}, 45),
        ({}, 600),
    ],
)
def test_a_time_to_settle_is_a_text_a_timedelta_or_seconds(arguments: dict[str, Any], seconds: float) -> None:
    assert deferred(sensor(**arguments), context())[0].landing.settle == seconds


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"settle": "soon"}, "'soon' is not a valid time"),
        ({"settle": "-5 minutes"}, "is not a valid time"),
        ({"settle": "1 hour", "timeout": 60}, "is not shorter than timeout"),
        ({"marker": "/etc/passwd"}, "is not a valid marker"),
        ({"marker": "../_SUCCESS"}, "is not a valid marker"),
        ({"marker": "s3://b/_SUCCESS"}, "is not a valid marker"),
    ],
)
def test_what_is_wrong_in_the_dag_is_refused_when_it_is_parsed(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(BadSetting, match=words):
        sensor(**arguments)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"source": "/etc"}, "'/etc' is not allowed"),
        ({"source": "photos"}, "neither an absolute path nor a URI"),
        ({"partition": "a/b"}, "is not a (valid )?partition key"),
        ({"settle": "{{ nothing }}"}, "is not a valid time"),
    ],
)
def test_what_is_wrong_in_the_run_is_refused_before_it_waits(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(AirflowFailException, match=words):
        sensor(**arguments).execute(context(partition=arguments.get("partition", DAY)))
    with pytest.raises(AirflowSkipException, match=words):
        sensor(**arguments, soft_fail=True).execute(context(partition=arguments.get("partition", DAY)))


def test_it_goes_through_airflow_s_serialisation_mapped_too() -> None:
    with DAG("waits", schedule=None) as dag:
        LandingSensor(task_id="one", marker="_SUCCESS", settle=timedelta(minutes=5))
        LandingSensor.partial(task_id="two", marker="{partition}.ok").expand(source=["/a", "/b"])
    found = DagSerialization.from_dict(json.loads(json.dumps(DagSerialization.to_dict(dag))))
    assert found.task_dict["one"].marker == "_SUCCESS"
    assert found.task_dict["two"].partial_kwargs["marker"] == "{partition}.ok"


def test_a_trigger_that_never_answered_is_told_of() -> None:
    from airflow.sdk.bases.operator import TRIGGER_FAIL_REPR, TriggerFailureReason

    late = {"error": TriggerFailureReason.TRIGGER_TIMEOUT}
    with pytest.raises(AirflowSensorTimeout, match="Check that a triggerer runs"):
        sensor().resume_execution(TRIGGER_FAIL_REPR, late, context())
    with pytest.raises(AirflowSkipException):
        sensor(soft_fail=True).resume_execution(TRIGGER_FAIL_REPR, late, context())


def test_what_it_was_too_late_for_is_told_also_when_it_is_skipped() -> None:
    event = {"outcome": "late", "message": "It holds 3 files."}
    with pytest.raises(AirflowSensorTimeout, match=r"not complete after 0:01:00\. It holds 3 files\. .*longer timeout"):
        sensor(timeout=60, settle=5).resume_execution("execute_complete", {"event": event}, context())
    with pytest.raises(AirflowSkipException, match="It holds 3 files"):
        sensor(soft_fail=True).resume_execution("execute_complete", {"event": event}, context())


# --- what a watch makes of listings -----------------------------------------------------------------------------------


def test_a_folder_is_complete_when_it_has_been_the_same_for_so_long() -> None:
    watch = Watch(Landing("/photos", settle=600))
    three, four = Landed(3, 30), Landed(4, 30)
    looks = [(None, 0), (None, 900), (Landed(), 1000), (Landed(), 2000), (three, 2100), (three, 2699), (four, 2700)]
    for landed, now in looks:
        assert not watch.see(landed, 10_000 + now), "neither there, nor full, nor at rest"
    assert not watch.see(four, 13_299)
    assert watch.see(four, 13_300)


def test_a_failed_look_is_told_and_the_time_at_rest_goes_on(capsys: pytest.CaptureFixture[str]) -> None:
    waits = trigger("/photos", settle=600)
    waits.watch.see(Landed(3, 2_500_000), 10_000)
    waits.problem = "The store does not answer."
    for now, told in {10_060: 1, 10_120: 0, 10_060 + triggers.TELL_AGAIN_SECONDS: 1}.items():
        waits._tell(now)
        assert capsys.readouterr().out.count("The store does not answer.") == told
    waits.problem = ""
    assert waits.watch.see(Landed(3, 2_500_000), 10_600)
    waits._tell(10_600)
    told_now = capsys.readouterr().out
    assert "/photos holds 3 files of 2.5 MB." in told_now
    assert "since 02:46:40 UTC, for 0:10:00 of 0:10:00" in told_now


# --- the trigger ------------------------------------------------------------------------------------------------------


def test_it_fires_when_the_folder_is_at_rest(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"12345")
    found = fired(trigger(tmp_path, settle=0.1))
    assert found.pop("newest").startswith("20")
    assert found == {"about": {}, "outcome": "landed", "files": 1, "bytes": 5}


def test_it_fires_when_the_marker_is_there(tmp_path: Path) -> None:
    def arrive() -> None:
        (tmp_path / "day").mkdir()
        (tmp_path / "day" / "_SUCCESS").touch()

    assert fired(trigger(tmp_path / "day", marker="_SUC*"), arrive) == {
        "about": {},
        "outcome": "landed",
        "marker": "_SUCCESS",
    }


def test_it_tells_nothing_before_the_scheduler_can_know_that_the_task_has_deferred(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(triggers, "SOONEST_SECONDS", 0.4)
    (tmp_path / "_SUCCESS").touch()
    begin = time.monotonic()
    assert fired(trigger(tmp_path, marker="_SUCCESS"))["marker"] == "_SUCCESS"
    assert time.monotonic() - begin >= 0.4


def test_a_marker_that_is_there_already_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__IMAGE_FEATURES__SOURCE", f"{tmp_path}/{{partition}}")
    task = sensor(marker="*.ok")
    deferred(task, context())
    (tmp_path / DAY).mkdir()
    (tmp_path / DAY / "all.ok").touch()
    found = {"partition": DAY, "source": f"{tmp_path}/{DAY}", "marker": "all.ok"}
    assert task.execute(context()) == found


def test_it_says_what_it_saw_when_it_is_too_late(tmp_path: Path) -> None:
    assert fired(trigger(tmp_path / "day", 0.1)) == {
        "about": {},
        "outcome": "late",
        "message": f"The folder {tmp_path}/day is not there.",
    }
    (tmp_path / "a.jpg").write_bytes(b"1" * 1500)
    assert f"{tmp_path} holds 1 file of 1.5 kB, the newest of 20" in fired(trigger(tmp_path, 0.1))["message"]
    said = fired(trigger(tmp_path, 0.1, marker="_SUCCESS"))["message"]
    assert f"There is no _SUCCESS in {tmp_path}. {tmp_path} holds 1 file" in said


@pytest.mark.parametrize("code", triggers.REFUSED)
def test_a_source_that_refuses_is_not_waited_for(code: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: Any) -> None:
        raise Unreachable(code, "It says no.", "Ask for the right.")

    monkeypatch.setattr(catalog, "landed", refuse)
    event = fired(trigger("/photos"))
    assert (event["outcome"], event["error"]["code"]) == ("refused", code)
    with pytest.raises(AirflowFailException, match=r"It says no\. Ask for the right\."):
        sensor().execute_complete(context(), event)


def test_a_connection_that_is_not_there_is_refused() -> None:
    event = fired(trigger("/photos", storage_conn_id="nowhere"))
    assert "'nowhere' does not exist" in event["error"]["message"]


def test_a_source_that_does_not_answer_is_asked_again(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    answers: Iterator[Any] = iter(
        [Unreachable("source_unreachable", "It does not answer."), Landed(1, 5), Landed(1, 5)]
    )

    def look(*arguments: Any) -> Landed:
        answer = next(answers, Landed(1, 5))
        if isinstance(answer, Exception):
            raise answer
        return Landed(answer.files, answer.bytes)

    monkeypatch.setattr(catalog, "landed", look)
    assert fired(trigger("/photos", settle=0.01))["outcome"] == "landed"
    log = capsys.readouterr().out
    assert "It does not answer." in log and "/photos holds 1 file of 5 bytes" in log


def test_a_listing_that_takes_long_keeps_no_other_trigger_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    answer = threading.Event()

    def slow(*arguments: Any) -> Landed:
        assert answer.wait(30), "nothing else ran in the loop of events"
        return Landed(1, 5)

    monkeypatch.setattr(catalog, "landed", slow)
    assert fired(trigger("/photos", settle=0), answer.set)["outcome"] == "landed"


def test_a_listing_that_hangs_ends_at_the_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    answer = threading.Event()
    monkeypatch.setattr(catalog, "landed", lambda *arguments: answer.wait(60) and None)
    monkeypatch.setattr(triggers, "LAST_LOOK_SECONDS", 0.1)
    try:
        assert "has not answered" in fired(trigger("/photos", 0.2))["message"]
    finally:
        answer.set()


# --- a stage that somebody else has submitted -------------------------------------------------------------------------


def stage_sensor(stage: str | None = "extract", **arguments: Any) -> StageSensor:
    with DAG("any", params={"partition": Param(None, type=["null", "string"])}, schedule=None):
        return StageSensor(task_id="waits", stage=stage, **arguments)


def run_context() -> Any:
    began = datetime(2026, 11, 22, 3, tzinfo=UTC)
    dag_run = SimpleNamespace(conf={}, partition_key=None, start_date=began)
    pushed: dict[str, Any] = {}
    ti = SimpleNamespace(map_index=-1, pushed=pushed, xcom_push=lambda key, value: pushed.update({key: value}))
    return {**context(), "dag_run": dag_run, "ti": ti, "outlet_events": {}}


def prepared(task: StageSensor, context: Any) -> StageTrigger:
    with pytest.raises(TaskDeferred) as raised:
        task.execute(context)
    trigger = raised.value.trigger
    assert isinstance(trigger, StageTrigger)
    assert not raised.value.kwargs, "airflow dags test hands nothing over but the event"
    trigger.poll_interval, trigger.deadline = 0.02, time.time() + 0.2
    return trigger


def leave(tmp_path: Path, run: contract.RunKey, name: str, **record: Any) -> None:
    folder = Path(contract.run_folder(str(tmp_path / "store"), DAY, run))
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(json.dumps(record))


def a_manifest(**facts: Any) -> dict[str, Any]:
    empty: dict[str, Any] = {item.name: {} for item in dataclasses.fields(contract.Manifest) if item.name != "model"}
    return {**empty, "started_at": "2026-11-22T03:01:00+00:00", "counts": {"listed": 4}, **facts}


OURS = contract.RunKey("r", "any")


def test_it_returns_what_the_job_counted_and_says_what_it_works_on(tmp_path: Path) -> None:
    run, task = run_context(), stage_sensor()
    waits = prepared(task, run)
    assert run["ti"].pushed["image_features"]["stage"] == "extract"
    assert run["ti"].pushed["image_features"]["partition"] == DAY
    leave(tmp_path, OURS, "extract.json", **a_manifest())
    event = stage_fired(waits)
    assert event["outcome"] == "done"
    assert task.execute_complete(run, event) == {"listed": 4}


@pytest.mark.parametrize(
    ("name", "record"),
    [
        ("extract.json", a_manifest(started_at="2026-11-22T02:59:00+00:00")),
        ("error.json", {"stage": "extract", "at": "2026-11-22T02:59:00+00:00", "message": "Old."}),
        ("error.json", {"stage": "ingest", "at": "2026-11-22T03:59:00+00:00", "message": "Another stage's."}),
        ("ingest.json", a_manifest()),
    ],
)
def test_what_an_earlier_try_or_another_stage_has_left_does_not_count(
    name: str, record: dict[str, Any], tmp_path: Path
) -> None:
    waits = prepared(stage_sensor(), run_context())
    leave(tmp_path, OURS, name, **record)
    event = stage_fired(waits)
    assert event["outcome"] == "late"
    assert "extract has left neither a manifest nor an error" in event["message"]
    assert ("02:59" in event["message"]) == ("02:59" in json.dumps(record))
    with pytest.raises(AirflowSensorTimeout, match="whoever runs the job"):
        stage_sensor().execute_complete(run_context(), event)


def test_a_submission_is_known_whenever_it_began(tmp_path: Path) -> None:
    task = stage_sensor(store=str(tmp_path / "store"), run_id="nightly", dag_id="", submission="second")
    waits = prepared(task, run_context())
    key = contract.RunKey("nightly")
    leave(tmp_path, key, "extract.json", **a_manifest(settings={"submission": "first"}))
    assert "another submission than second" in stage_fired(waits)["message"]
    leave(tmp_path, key, "extract.json", **a_manifest(settings={"submission": "second"}, started_at="2020-01-01"))
    assert stage_fired(waits)["outcome"] == "done"


@pytest.mark.parametrize(
    ("error", "meaning"),
    [
        (contract.BadSetting("bad", "No such weights.", "Use DEFAULT."), AirflowFailException),
        (contract.QualityFailed("quality_failed", "Half of them are broken."), AirflowFailException),
        (contract.NothingToDo("source_empty", "No photos."), AirflowSkipException),
        (contract.Unreachable("source_unreachable", "The bucket does not answer."), AirflowException),
    ],
)
def test_a_failed_job_means_what_it_means_to_our_own_operator(
    error: contract.JobError, meaning: type[Exception], tmp_path: Path
) -> None:
    task, run = stage_sensor(), run_context()
    waits = prepared(task, run)
    leave(tmp_path, OURS, "error.json", **contract.error_record("extract", error))
    event = stage_fired(waits)
    with pytest.raises(AirflowException, match=error.message) as raised:
        task.execute_complete(run, event)
    assert type(raised.value) is meaning


def test_a_job_that_has_ended_is_not_waited_for(tmp_path: Path) -> None:
    leave(tmp_path, OURS, "extract.json", **a_manifest())
    assert stage_sensor().execute(run_context()) == {"listed": 4}
    leave(tmp_path, OURS, "extract.json", **a_manifest(started_at="2026-11-22T02:59:00+00:00"))
    error = contract.error_record("extract", contract.NothingToDo("source_empty", "No photos."))
    leave(tmp_path, OURS, "error.json", **error)
    with pytest.raises(AirflowSkipException, match="No photos"):
        stage_sensor().execute(run_context())


def test_a_job_of_spec_is_all_that_it_needs(tmp_path: Path) -> None:
    with DAG("any", params={"partition": Param(None, type=["null", "string"])}, schedule=None):
        maker = EmptyOperator(task_id="maker")
    run = {**run_context(), "task": maker}
    job = jobs.spec("extract", run, model="resnet18", batch_size="8", branch="small")
    again = jobs.spec("extract", run, model="resnet18", batch_size="8", branch="small")
    settings = contract.parse(contract.ExtractSettings, job["arguments"], "test", "")
    assert (settings.batch_size, settings.partition, settings.dag_id) == (8, DAY, "any")
    assert job["command"].startswith("spark-submit ") and job["application"] in job["command"]
    waits = prepared(stage_sensor(None, job=job), run)
    assert (waits.submission, waits.folder, waits.stage) == (settings.submission, settings.folder, "extract")
    assert waits.submission not in again["arguments"], "each try has a name of its own"
    lost = stage_sensor(job=job)
    lost.job = None  # as Airflow renders it where the task has returned nothing
    with pytest.raises(AirflowFailException, match="has returned none"):
        lost.execute(run)
    with pytest.raises(TypeError, match="modle"):
        jobs.spec("extract", run, modle="resnet18")
    with pytest.raises(BadSetting, match="not allowed"):
        jobs.spec("ingest", run, source="/etc")


def test_a_stage_that_there_is_not_is_refused_when_the_dag_is_parsed() -> None:
    with pytest.raises(BadSetting, match="'embed' is not a valid stage"):
        stage_sensor("embed")


def test_the_trigger_of_a_stage_survives_airflow_s_database() -> None:
    before = prepared(stage_sensor(), run_context())
    path, kwargs = before.serialize()
    assert path == "image_features.triggers.StageTrigger"
    assert StageTrigger(**json.loads(json.dumps(kwargs))).serialize() == before.serialize()


def stage_fired(waits: StageTrigger) -> dict[str, Any]:
    async def run() -> Any:
        return [event.payload async for event in waits.run()]

    (payload,) = asyncio.run(run())
    return dict(json.loads(json.dumps(payload)))
