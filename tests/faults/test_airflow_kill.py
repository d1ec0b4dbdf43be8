"""kill -9 of an Airflow task: its spark-submit lives on, and the retry must neither mix with it nor lose to it."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from demo.airflow_server import AirflowServer, running
from demo.keeper import session_members
from spark_apps import catalog, contract
from tests.faults.day import PARTITION, Day
from tests.faults.jobs import REPOSITORY
from tests.faults.reader import Reader
from tests.processes import ended

SETTINGS = {
    "AIRFLOW__IMAGE_FEATURES__MODEL": "resnet18",
    "AIRFLOW__IMAGE_FEATURES__WEIGHTS": "random:0",
    "AIRFLOW__IMAGE_FEATURES__MAX_FAILED_FRACTION": "0.5",
    "AIRFLOW__IMAGE_FEATURES__RECHECK": "1",
    "AIRFLOW_CONN_SPARK_DEFAULT": '{"conn_type": "spark", "host": "local[2]"}',
    # A task whose supervisor is dead is noticed by its silence; by default that takes five minutes.
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_SEC": "2",
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "20",
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "3",
}
DRIVERS = "spark_apps/{stage}.py"


TASK = """
import logging
from types import SimpleNamespace
from airflow.sdk import DAG
from image_features import form
from image_features.operators import IngestOperator

logging.basicConfig(level=logging.INFO)
with DAG("image_features", params=form.params(), schedule=None):
    task = IngestOperator(task_id="ingest")
params = {name: param.value for name, param in form.params().items()} | {"partition": "%s"}
dag_run, ti = SimpleNamespace(conf={}), SimpleNamespace(map_index=-1, xcom_push=lambda key, value: None)
print(task.execute({"run_id": "manual__killed", "params": params, "dag_run": dag_run, "outlet_events": {}, "ti": ti}))
"""
"""A task of the Dag without its scheduler."""


def test_a_killed_task_s_job_is_ended_by_the_next_attempt(tmp_path: Path) -> None:
    """The task's process is killed and its spark-submit lives on; the scheduler's part in this is drilled below."""
    day, store = Day(tmp_path / "landing"), str(tmp_path / "store")
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW")},
        **SETTINGS,
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
        "PYTHONPATH": os.pathsep.join([str(REPOSITORY), str(REPOSITORY / "plugins")]),
        "AIRFLOW_HOME": str(tmp_path / "airflow"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__IMAGE_FEATURES__STORE": store,
        "AIRFLOW__IMAGE_FEATURES__SOURCE": day.source,
    }

    def start(log: Path) -> subprocess.Popen[bytes]:
        with log.open("wb") as output:
            command = [sys.executable, "-c", TASK % PARTITION]
            return subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=output, stderr=output)

    killed = start(tmp_path / "first.log")
    job = None
    while job is None:
        assert killed.poll() is None, (tmp_path / "first.log").read_text()
        for process in psutil.Process(killed.pid).children(recursive=True):
            with contextlib.suppress(psutil.Error):
                ours = "java" in process.name() and DRIVERS.format(stage="ingest") in " ".join(process.cmdline())
                if ours and process.children():  # the JVM that only puts the command line together has none
                    job = process
        time.sleep(0.02)
    left = [job, *job.children(recursive=True)]
    killed.kill()
    killed.wait()
    hang(left)
    again = start(tmp_path / "second.log")
    assert again.wait(400) == 0, (tmp_path / "second.log").read_text()
    assert "that an earlier attempt had left running" in (tmp_path / "second.log").read_text()
    assert ended(left)
    manifest = catalog.manifest(store, PARTITION, contract.RunKey("manual__killed", "image_features"), "ingest")
    assert manifest is not None and manifest.counts["listed"] == len(list(day.folder.iterdir()))


@pytest.mark.slow_faults
@pytest.mark.timeout(1500)
def test_a_task_that_is_killed_is_tried_again_and_nothing_is_left_of_it(tmp_path: Path) -> None:
    day, store = Day(tmp_path / "landing"), str(tmp_path / "store")
    server = AirflowServer(tmp_path / "airflow", store=store, source=day.source, env=SETTINGS)
    with Reader(store) as reader, server:
        run_id = server.trigger({"partition": PARTITION}, run_id="manual__killed")
        reader.truths[run_id] = day.truth()
        left = kill_task(server, "extract")
        hang(left)
        run = server.wait([run_id], timeout=900)[run_id]
        assert run["state"] == "success", server.task_log(run_id, "extract", attempt=2)
        assert "that an earlier attempt had left running" in server.task_log(run_id, "extract", attempt=2)
        assert ended(left)
        reader.settled(run_id)
        keeper = running(server.home)
    assert keeper is not None and not session_members(keeper)


def hang(job: list[psutil.Process]) -> None:
    """Stops the job's processes, as one that works may have ended before the retry begins; sees that they stay."""
    for process in job:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.suspend()
    time.sleep(1)
    assert job[0].is_running() and job[0].status() == psutil.STATUS_STOPPED, "the retry would meet no job"


def kill_task(server: AirflowServer, stage: str, timeout: float = 400) -> list[psutil.Process]:
    """Kills the process of the task and its supervisor once the stage's driver runs; returns the job's processes."""
    keeper = running(server.home)
    assert keeper is not None
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        for process in session_members(keeper):
            with contextlib.suppress(psutil.Error):
                if DRIVERS.format(stage=stage) not in " ".join(process.cmdline()) or "java" not in process.name():
                    continue
                task = process.parent()
                supervisor = task.parent() if task else None
                job = [process, *process.children(recursive=True)]
                if task is None or supervisor is None or len(job) < 2:
                    continue
                for one in (supervisor, task):
                    assert one.pid not in (keeper, os.getpid()) and "airflow" in " ".join(one.cmdline()), one.cmdline()
                    one.kill()
                # Stopped any earlier, the job would be ended by the kernel: processes that are stopped at the moment
                # when their group loses its last parent in the session get SIGHUP and SIGCONT (POSIX, _exit).
                assert not psutil.wait_procs([task, supervisor], timeout=30)[1]
                return job
        server.check_alive()
        time.sleep(0.1)
    raise AssertionError(f"{stage} did not start in {timeout:g} s")
