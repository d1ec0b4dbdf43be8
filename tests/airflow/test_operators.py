"""The operators against a `spark-submit` that records how it was called and then does what a test tells it."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import unquote

import psutil
import pytest
from airflow.sdk import DAG, Asset, AssetAlias, TaskGroup, chain
from airflow.sdk.exceptions import AirflowException, AirflowFailException, AirflowSkipException
from airflow.sdk.execution_time.context import OutletEventAccessors
from image_features import assets, form, processes, run_key
from image_features.operators import ExtractOperator, IngestOperator, StageOperator, ValidateOperator

from spark_apps import contract
from spark_apps.contract import ExitCode
from spark_apps.spark import jobs, packages
from tests.processes import is_running

RUN_ID = "manual__2026-11-22T07:43:15.127359+00:00"
RUN = contract.RunKey(RUN_ID, "image_features")
DAY = "2026-11-20"
STAGES = {"ingest": IngestOperator, "extract": ExtractOperator, "validate": ValidateOperator}


class FakeSpark:
    """A `spark-submit` on PATH: writes down its arguments and environment, then runs the `behaviour` it was given."""

    def __init__(self, folder: Path, store: Path) -> None:
        self.folder, self.store, self.key = folder, store, RUN
        self.calls, self.running = folder / "calls.jsonl", folder / "running"
        self.does("")

    def does(self, behaviour: str) -> None:
        script = self.folder / "spark-submit"
        script.write_text(
            f"#!/bin/sh\n'''exec' \"{sys.executable}\" \"$0\" \"$@\"\n' '''\n"  # a #! cannot hold a blank
            "import json, os, subprocess, sys, time\n"
            f"with open({str(self.calls)!r}, 'a') as calls:\n"
            "    calls.write(json.dumps([sys.argv[1:], dict(os.environ)]) + '\\n')\n" + behaviour
        )
        script.chmod(script.stat().st_mode | stat.S_IXUSR)

    def runs(self, behaviour: str, says: str = "") -> None:
        self.does(behaviour.format(says=says, running=str(self.running)))

    def succeeds(self, stage: str, **facts: Any) -> None:
        manifest: dict[str, Any] = {field.name: {} for field in dataclasses.fields(contract.Manifest)}
        manifest |= {"stage": stage, "run_id": RUN_ID, "partition": DAY, "counts": {"listed": 4}, **facts}
        self._leaves(f"{stage}.json", manifest)

    def fails(self, stage: str, error: contract.JobError) -> None:
        self._leaves("error.json", contract.error_record(stage, error), int(error.exit_code))

    def _leaves(self, name: str, content: dict[str, Any], exit_code: int = 0) -> None:
        file = Path(contract.run_folder(str(self.store), DAY, self.key), name)
        file.parent.mkdir(parents=True, exist_ok=True)
        self.does(f"open({str(file)!r}, 'w').write({json.dumps(content)!r})\nsys.exit({exit_code})\n")

    @property
    def called(self) -> tuple[list[str], dict[str, str]]:
        (line,) = self.calls.read_text().splitlines()
        arguments, environment = json.loads(line)
        return arguments, environment

    @property
    def was_called(self) -> bool:
        return self.calls.exists()


@pytest.fixture
def spark(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeSpark:
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    return FakeSpark(folder, tmp_path / "store")


def operator(stage: str, **kwargs: Any) -> StageOperator:
    with DAG("image_features", params=form.params(), schedule=None):
        return STAGES[stage](task_id=stage, **kwargs)


class Said(dict[str, Any]):
    """The task instance of a context: the XComs that were pushed."""

    map_index = -1

    def xcom_push(self, key: str, value: Any) -> None:
        self[key] = value

    def xcom_pull(self, task_ids: Any, key: str) -> list[Any]:
        return [self.get(key)]


def context(**conf: Any) -> Any:
    """What Airflow hands to a task of a run that was triggered with `conf`."""
    params = {name: param.value for name, param in form.params().items()}
    return {
        "run_id": RUN_ID,
        "params": {**params, "partition": DAY, **conf},
        "dag_run": SimpleNamespace(conf=conf),
        "data_interval_start": None,
        "ti": Said(),
        "outlet_events": {},
    }


# --- what is submitted ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stage", STAGES)
def test_the_job_gets_exactly_the_settings_of_the_run(stage: str, spark: FakeSpark) -> None:
    spark.succeeds(stage)
    assert operator(stage).execute(context(model="resnet18", max_drift=1, batch_size=8, on_empty="skip")) == {
        "listed": 4
    }
    arguments, _ = spark.called
    at = next(index for index, argument in enumerate(arguments) if argument.endswith(f"spark_apps/{stage}.py"))
    assert Path(arguments[at]).exists()
    job = contract.parse(contract.SETTINGS[stage], arguments[at + 1 :], "test", "")
    expected = {"store": str(spark.store), "partition": DAY, "run_id": RUN_ID}
    expected |= {
        "ingest": {"source": f"/photos/{DAY}", "on_empty": "skip"},
        "extract": {"model": "resnet18", "batch_size": 8},
        "validate": {"max_drift": 1},
    }[stage]
    assert {name: getattr(job, name) for name in expected} == expected


def test_the_day_of_the_data_interval_is_the_partition(spark: FakeSpark) -> None:
    spark.succeeds("ingest")
    day = {
        "data_interval_start": datetime(2026, 11, 20, tzinfo=UTC),
        "data_interval_end": datetime(2026, 11, 21, tzinfo=UTC),
    }
    scheduled = {**context(partition=None), **day}
    operator("ingest").execute(scheduled)
    arguments = spark.called[0]
    assert arguments[arguments.index("--source") + 1] == f"/photos/{DAY}"


def test_local_spark_runs_this_python_quietly(spark: FakeSpark) -> None:
    spark.succeeds("ingest")
    operator("ingest").execute(context())
    arguments, environment = spark.called
    assert arguments[:2] == ["--master", "local[2]"]
    assert environment["PYSPARK_PYTHON"] == environment["PYSPARK_DRIVER_PYTHON"] == sys.executable
    (java,) = [argument for argument in arguments if "log4j2.configurationFile" in argument]
    assert Path(unquote(java.split("file://")[1].split("'")[0])).exists()


def test_workers_of_a_cluster_choose_their_own_python(spark: FakeSpark, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PYSPARK_PYTHON", raising=False)
    monkeypatch.setenv("AIRFLOW_CONN_SPARK_DEFAULT", '{"conn_type": "spark", "host": "spark://master:7077"}')
    spark.succeeds("extract")
    operator("extract", conf={"spark.executor.memory": "2g"}).execute(context())
    arguments, environment = spark.called
    assert arguments[:2] == ["--master", "spark://master:7077"]
    assert "spark.executor.memory=2g" in arguments
    assert "PYSPARK_PYTHON" not in environment


def test_a_cluster_is_sent_this_project_s_code(spark: FakeSpark, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_SPARK_DEFAULT", '{"conn_type": "spark", "host": "spark://master:7077"}')
    spark.does(
        "import zipfile\n"
        "code = sys.argv[sys.argv.index('--py-files') + 1].split(',')[-1]\n"
        "sys.exit(0 if 'spark_apps/extract.py' in zipfile.ZipFile(code).namelist() else 'no code')\n"
    )
    with pytest.raises(AirflowException, match="left no manifest"):
        operator("extract", py_files="/own/module.py").execute(context())
    own, code = spark.called[0][spark.called[0].index("--py-files") + 1].split(",")
    assert (own, Path(code).name) == ("/own/module.py", packages.code_name())
    assert not Path(code).exists(), "the job has ended and needs it no more"


def test_local_spark_is_sent_nothing(spark: FakeSpark, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "environment.tar.gz").touch()
    monkeypatch.setenv("AIRFLOW__IMAGE_FEATURES__ENVIRONMENT", str(tmp_path / "environment.tar.gz"))
    spark.succeeds("extract")
    operator("extract").execute(context())
    assert not {"--py-files", "--archives"} & set(spark.called[0])


@pytest.mark.parametrize("mode", ["client", "cluster"])
def test_a_packed_environment_is_for_the_executors_and_for_a_driver_among_them(
    mode: str, spark: FakeSpark, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packed = tmp_path / "environment.tar.gz"
    packed.touch()
    monkeypatch.delenv("PYSPARK_DRIVER_PYTHON", raising=False)
    monkeypatch.setenv("AIRFLOW__IMAGE_FEATURES__ENVIRONMENT", str(packed))
    connection = {"conn_type": "spark", "host": "yarn", "extra": {"deploy-mode": mode}}
    monkeypatch.setenv("AIRFLOW_CONN_SPARK_DEFAULT", json.dumps(connection))
    spark.succeeds("extract")
    operator("extract").execute(context())
    arguments, environment = spark.called
    assert arguments[arguments.index("--archives") + 1] == f"{packed}#environment"
    assert "spark.pyspark.python=./environment/bin/python" in arguments
    here = mode == "client"
    assert (f"spark.pyspark.driver.python={sys.executable}" in arguments) == here
    assert (environment.get("PYSPARK_DRIVER_PYTHON") == sys.executable) == here, "the nodes have no such path"
    assert any("log4j2" in argument for argument in arguments) == here


def test_storage_credentials_travel_in_the_environment_and_nowhere_else(
    spark: FakeSpark, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    extra = {"region_name": "eu-central-1", "endpoint_url": "http://127.0.0.1:9000"}
    connection = {"conn_type": "aws", "login": "key-id", "password": "very-private", "extra": extra}
    monkeypatch.setenv("AIRFLOW_CONN_STORAGE", json.dumps(connection))
    monkeypatch.setenv("AIRFLOW__IMAGE_FEATURES__STORAGE_CONN_ID", "storage")
    inherited = (
        "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_SESSION_TOKEN",
        "AWS_PROFILE",
        "AWS_ENDPOINT_URL_S3",
    )
    for name in inherited:
        monkeypatch.setenv(name, "another's")
    spark.succeeds("ingest")
    task = operator("ingest")
    before = dict(os.environ)
    task.execute(context())
    assert dict(os.environ) == before, "the connection is for the job alone"
    arguments, environment = spark.called
    assert "another's" not in environment.values()
    assert environment["AWS_ACCESS_KEY_ID"] == "key-id"
    assert environment["AWS_SECRET_ACCESS_KEY"] == "very-private"
    assert environment["AWS_REGION"] == "eu-central-1"
    assert environment["AWS_ENDPOINT_URL"] == "http://127.0.0.1:9000"
    shown = [*arguments, caplog.text, *(str(getattr(task, field)) for field in task.template_fields)]
    assert not [text for text in shown if "very-private" in text]


def test_airflow_s_own_secrets_do_not_reach_spark(spark: FakeSpark) -> None:
    spark.succeeds("ingest")
    operator("ingest").execute(context())
    assert not [name for name in spark.called[1] if "AIRFLOW" in name]


# --- what is refused before anything starts ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("conf", "words"),
    [
        ({"batchsize": 8}, "did you mean 'batch_size'"),
        ({"engine": "openvino", "device": "cuda"}, "openvino does not run on device cuda"),
        ({"weights": "keras-v1", "model": "resnet18"}, "keras-v1 are a resnet50"),
        ({"weights_sha256": "abc"}, "is not a sha256"),
        ({"partition": "../../x"}, "is not a valid partition key"),
        ({"partition": None}, "neither a partition nor a logical date"),
        ({"max_failed_fraction": 2}, "out of bounds"),
        ({"source": "photos"}, "neither an absolute path nor a URI"),
        ({"source": "/opt/airflow", "extractor": "text"}, "'/opt/airflow' is not allowed .* sources"),
        ({"weights": "http://169.254.169.254/latest"}, "is not allowed .* weights_locations"),
        ({"extractor": "os:getcwd"}, "'os:getcwd' is not allowed"),
    ],
)
def test_the_first_task_refuses_a_wrong_run(conf: dict[str, Any], words: str, spark: FakeSpark) -> None:
    with pytest.raises(AirflowFailException, match=words):
        operator("ingest").execute(context(**conf))
    assert not spark.was_called


def test_a_store_that_is_not_configured_is_refused(spark: FakeSpark, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AIRFLOW__IMAGE_FEATURES__STORE")
    with pytest.raises(AirflowFailException, match="No store is configured"):
        operator("ingest").execute(context())
    assert not spark.was_called


@pytest.mark.parametrize(
    ("connection", "words"),
    [
        (None, "'spark_default' does not exist"),
        ("{this is no connection", "cannot be parsed"),
        ('{"conn_type": "spark", "host": "example.org"}', "'example.org', which is not a valid Spark master"),
        (
            '{"conn_type": "spark", "host": "spark://m:7077", "extra": {"deploy-mode": "cluster"}}',
            "deploy mode cluster",
        ),
        ('{"conn_type": "spark", "host": "local[2]", "extra": {"deploy-mode": "cluster"}}', "deploy mode cluster"),
    ],
)
@pytest.mark.parametrize("stage", STAGES)
def test_a_connection_that_leads_nowhere_is_refused(
    stage: str, connection: str | None, words: str, spark: FakeSpark, monkeypatch: pytest.MonkeyPatch
) -> None:
    if connection is None:
        monkeypatch.delenv("AIRFLOW_CONN_SPARK_DEFAULT")
    else:
        monkeypatch.setenv("AIRFLOW_CONN_SPARK_DEFAULT", connection)
    with pytest.raises(AirflowFailException, match=words):
        operator(stage).execute(context())
    assert not spark.was_called


@pytest.mark.parametrize("stage", STAGES)
def test_a_packed_environment_that_is_not_there_is_refused(
    stage: str, spark: FakeSpark, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_SPARK_DEFAULT", '{"conn_type": "spark", "host": "spark://master:7077"}')
    monkeypatch.setenv("AIRFLOW__IMAGE_FEATURES__ENVIRONMENT", str(tmp_path / "environment.tar.gz"))
    with pytest.raises(AirflowFailException, match=r"environment\.tar\.gz' is not a file on this machine"):
        operator(stage).execute(context())
    assert not spark.was_called


def test_a_missing_spark_submit_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    with pytest.raises(AirflowFailException, match="spark-submit is not on PATH"):
        operator("ingest").execute(context())


# --- what a failed job means ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "meaning"),
    [
        (contract.BadSetting("bad_weights", "No such weights.", "Use DEFAULT."), AirflowFailException),
        (
            contract.QualityFailed("quality_failed", "Half the photos are broken."),
            AirflowFailException,
        ),
        (contract.NothingToDo("source_empty", "No photos."), AirflowSkipException),
        (contract.Unreachable("source_unreachable", "The bucket does not answer."), AirflowException),
        (contract.JobError("unexpected", "Out of memory."), AirflowException),
    ],
)
def test_a_failed_job_speaks_for_itself(error: contract.JobError, meaning: type[Exception], spark: FakeSpark) -> None:
    spark.fails("extract", error)
    with pytest.raises(AirflowException) as raised:
        operator("extract").execute(context())
    assert type(raised.value) is meaning
    assert str(raised.value) == f"extract failed: {error}"


def test_the_error_of_an_earlier_attempt_is_not_shown_again(spark: FakeSpark) -> None:
    spark.fails("extract", contract.BadSetting("bad_weights", "No such weights."))
    with pytest.raises(AirflowFailException):
        operator("extract").execute(context())
    spark.does("print('Exception in thread \"main\" java.lang.OutOfMemoryError: Java heap space')\nsys.exit(1)\n")
    with pytest.raises(AirflowException) as raised:
        operator("extract").execute(context())
    assert type(raised.value) is AirflowException
    assert "No such weights" not in str(raised.value)
    assert "extract ended with exit code 1" in str(raised.value)
    assert "java.lang.OutOfMemoryError" in str(raised.value)


@pytest.mark.parametrize(
    ("exit_code", "meaning"), [(ExitCode.BAD_SETTING, AirflowFailException), (ExitCode.UNREACHABLE, AirflowException)]
)
def test_without_error_json_the_exit_code_and_spark_s_last_lines_count(
    exit_code: int, meaning: type[Exception], spark: FakeSpark
) -> None:
    spark.does(f"print('ingest failed: The store is read-only.')\nsys.exit({int(exit_code)})\n")
    with pytest.raises(AirflowException, match=r"The store is read-only\.") as raised:
        operator("ingest").execute(context())
    assert type(raised.value) is meaning


def test_of_a_killed_job_what_java_says_of_each_start_is_no_last_word(spark: FakeSpark) -> None:
    said = "print('WARNING: Using incubator modules: jdk.incubator.vector', flush=True)\n"
    spark.does(f"import signal\n{said}os.kill(os.getpid(), signal.SIGKILL)\n")
    with pytest.raises(AirflowException) as raised:
        operator("ingest").execute(context())
    assert str(raised.value) == "ingest was ended by signal 9."


def test_a_job_that_leaves_no_manifest_has_not_succeeded(spark: FakeSpark) -> None:
    with pytest.raises(AirflowException, match="left no manifest"):
        operator("validate").execute(context())


# --- which run it is --------------------------------------------------------------------------------------------------


def test_a_task_of_a_dag_with_one_of_each_stage_needs_no_branch() -> None:
    with DAG("one", params=form.params(), schedule=None):
        tasks = [kind(task_id=f"any_{stage}") for stage, kind in STAGES.items()]
        chain(*tasks)
    assert [run_key.key(task, context()) for task in tasks] == [contract.RunKey(RUN_ID, "one")] * 3


def test_two_models_of_one_ingest_have_folders_of_their_own_and_find_what_they_read() -> None:
    with DAG("two", params=form.params(), schedule=None):
        first = IngestOperator(task_id="ingest")
        for model in "ab":
            extract = ExtractOperator(task_id=f"extract_{model}", weights=f"random:{ord(model)}")
            chain(first, extract, ValidateOperator(task_id=f"validate_{model}"))
    keys = {task.task_id: run_key.key(task, context()) for task in first.dag.tasks}
    assert keys["ingest"].branch == ""
    for model in "ab":
        assert keys[f"extract_{model}"] == keys[f"validate_{model}"]
        assert keys["ingest"] in keys[f"extract_{model}"].sources("ingest")
        assert keys[f"extract_{model}"].branch == f"extract_{model}"


def test_two_chains_of_one_dag_are_two_branches() -> None:
    with DAG("chains", params=form.params(), schedule=None) as dag:
        for camera in ("front", "back"):
            with TaskGroup(camera):
                chain(*(kind(task_id=stage, partition=f"{camera}-1") for stage, kind in STAGES.items()))
    keys = {task.task_id: run_key.key(task, context()) for task in dag.tasks}
    assert len({key.folder for key in keys.values()}) == 4
    for camera in ("front", "back"):
        assert keys[f"{camera}.extract"] == keys[f"{camera}.validate"]
        assert keys[f"{camera}.ingest"] in keys[f"{camera}.extract"].sources("ingest")


def test_a_validate_that_follows_two_extracts_is_refused() -> None:
    with DAG("which", params=form.params(), schedule=None):
        last = ValidateOperator(task_id="validate")
        [ExtractOperator(task_id="a"), ExtractOperator(task_id="b", model="resnet18")] >> last
    with pytest.raises(AirflowFailException, match="follows several tasks of the stage extract: a, b"):
        last.execute(context())


def test_a_mapped_task_is_a_job_of_its_own(spark: FakeSpark) -> None:
    for index in (0, 1):
        spark.key = dataclasses.replace(RUN, map_index=index)
        spark.succeeds("extract", counts={"listed": index})
        run = context()
        run["ti"].map_index = index
        assert operator("extract").execute(run) == {"listed": index}
    marks = [json.loads(line)[1][processes.MARK] for line in spark.calls.read_text().splitlines()]
    assert len(set(marks)) == 2


# --- what a published run tells ---------------------------------------------------------------------------------------


def publishes(spark: FakeSpark, verdict: str = "published") -> dict[str, Any]:
    """Lets the job say that it has published; what an event is to say of it."""
    report = f"{spark.store}/runs/report.json"
    spark.succeeds(
        "validate",
        counts={"listed": 41, "featured": 40, "quarantined": 1},
        model={"key": "resnet18-random_0-fp32", "fingerprint": "f"},
        settings={"store": str(spark.store)},
        outcome={
            "verdict": verdict,
            "table_versions": {"images": 3, "features": 2} if verdict in contract.STANDING else {},
            "report": report,
            "warnings": ["row_count"],
            "drift": 0.25,
            "changes": {"since_version": 1, "version": 2, "added": 40, "changed": 0, "removed": 0},
        },
    )
    return {
        "partition": DAY,
        "model": "resnet18-random_0-fp32",
        "store": str(spark.store),
        "rows": 40,
        "quarantined": 1,
        "drift": 0.25,
        "warnings": ["row_count"],
        "verdict": verdict,
        "table_version": 2,
        "changes": {"since_version": 1, "version": 2, "added": 40, "changed": 0, "removed": 0},
        "report": report,
        "run_id": RUN_ID,
        "stage": "validate",
    }


@pytest.mark.parametrize("verdict", contract.STANDING)
def test_validate_says_on_its_assets_what_was_published(verdict: str, spark: FakeSpark) -> None:
    expected = publishes(spark, verdict)
    theirs, alias = Asset(name="theirs", uri="x://theirs"), AssetAlias("alias")
    task, events = operator("validate", outlets=[theirs, alias]), OutletEventAccessors()
    task.execute({**context(), "outlet_events": events})
    model = assets.features("resnet18-random_0-fp32")
    assert task.outlets == [model, assets.image_features(), theirs, alias]
    for asset in (model, assets.image_features(), theirs):
        assert events[asset].partition_keys == {DAY, None}, "one for partition-aware Dags, one for all others"
        assert events[asset].extra == expected
    (added,) = events[alias].asset_alias_events
    assert (added.dest_asset_key.uri, added.extra) == (model.uri, expected)


def test_an_undo_says_on_the_assets_which_partition_is_published_again() -> None:
    asset, events = assets.features("resnet18-random_0-fp32"), OutletEventAccessors()
    manifest = jobs.Timings().manifest(
        "undo",
        contract.UndoSettings(store="/data/features", partition=DAY, model="resnet18-random_0-fp32", run_id=RUN_ID),
        counts={"featured": 40},
        model=contract.ModelInfo.from_record({"key": "resnet18-random_0-fp32", "fingerprint": "f"}),
        outcome={"verdict": "published", "table_versions": {"features": 5}, "report": "/r", "drift": None},
    )
    assets.announce(events[asset], manifest, SimpleNamespace(partition_key=None))
    assert events[asset].partition_keys == {DAY, None}
    assert (events[asset].extra["partition"], events[asset].extra["stage"]) == (DAY, "undo")


def test_in_another_store_the_asset_of_the_configured_one_has_no_event(
    spark: FakeSpark, monkeypatch: pytest.MonkeyPatch
) -> None:
    publishes(spark)
    monkeypatch.setenv("AIRFLOW__IMAGE_FEATURES__STORES", str(spark.store))
    monkeypatch.setenv("AIRFLOW__IMAGE_FEATURES__STORE", "/another")
    task = operator("validate", store=str(spark.store))
    task.execute({**context(), "outlet_events": OutletEventAccessors()})
    assert task.outlets == [assets.features("resnet18-random_0-fp32", str(spark.store))]


@pytest.mark.parametrize("verdict", ["checked", "superseded"])
def test_where_nothing_was_published_there_is_no_event(verdict: str, spark: FakeSpark) -> None:
    publishes(spark, verdict)
    task, events = operator("validate", outlets=[assets.image_features()]), OutletEventAccessors()
    task.execute({**context(), "outlet_events": events})
    assert (task.outlets, len(events)) == ([], 0)


# --- how a job ends ---------------------------------------------------------------------------------------------------

RUNS = """
waits = [sys.executable, "-c", "import time; time.sleep(60)"]
subprocess.Popen(waits)
subprocess.run([sys.executable, "-c", f"import subprocess; subprocess.Popen({{waits}})"])
print({says!r}, flush=True)
open({running!r}, "w").close()
time.sleep(60)
"""
"""A job of three processes: itself, a child, and one whose parent has ended, which is nobody's descendant."""
STARTS_ANOTHER_WHEN_ENDED = """
import signal
def start(*_):
    subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    time.sleep(60)
signal.signal(signal.SIGTERM, start)
open({running!r}, "w").close()
time.sleep(60)
"""


@pytest.mark.parametrize("behaviour", [RUNS, STARTS_ANOTHER_WHEN_ENDED])
def test_killing_the_task_ends_the_whole_job(behaviour: str, spark: FakeSpark) -> None:
    spark.runs(behaviour)
    end_while_it_runs(operator("extract"), spark)


def end_while_it_runs(task: StageOperator, spark: FakeSpark, is_known: Callable[[], Any] = lambda: True) -> None:
    """`on_kill`, as Airflow calls it, once the job runs and `is_known`; then nothing of the job is left."""
    mark = _mark(spark.store, task.stage)
    family: list[psutil.Process] = []
    left: list[psutil.Process] = []

    def kill() -> None:
        _wait_for(lambda: spark.running.exists() and is_known())
        family.extend(_marked(mark))
        task.on_kill()
        left.extend([*_marked(mark), *filter(is_running, family)])

    killer = threading.Thread(target=kill)
    killer.start()
    with pytest.raises(AirflowException, match=task.stage):
        task.execute(context())
    killer.join()
    assert family
    assert not left


def test_a_new_attempt_ends_what_a_killed_one_left_running(spark: FakeSpark) -> None:
    mark = _mark(spark.store, "ingest")
    environment = {**os.environ, processes.MARK: mark}
    sleep = [sys.executable, "-c", "import time; time.sleep(60)"]
    left_over = subprocess.Popen(sleep, env=environment)
    of_another_dag = _mark(spark.store, "ingest", "another_dag")
    neighbour = subprocess.Popen(sleep, env={**environment, processes.MARK: of_another_dag})
    of_another_store = _mark(spark.store.with_name("other"), "ingest")
    stranger = subprocess.Popen(sleep, env={**environment, processes.MARK: of_another_store})
    try:
        _wait_for(lambda: _marked(mark))
        spark.succeeds("ingest")
        operator("ingest").execute(context())
        assert left_over.wait(30) == -signal.SIGKILL
        assert stranger.poll() is None and neighbour.poll() is None
    finally:
        for process in (left_over, stranger, neighbour):
            process.kill()
            process.wait()


def _mark(store: Path, stage: str, dag_id: str = "image_features") -> str:
    return f"{contract.run_folder(str(store), DAY, contract.RunKey(RUN_ID, dag_id))}/{stage}"


def _marked(mark: str) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(processes.MARK) == mark:
                found.append(process)
        except psutil.Error:
            continue
    return found


def _wait_for(condition: Callable[[], Any]) -> None:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        if condition():
            return
        time.sleep(0.05)
    raise AssertionError("did not happen within 20 s")
