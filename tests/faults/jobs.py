"""Runs a stage as a real process, tells its processes apart, and knows when the last of them is gone."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path

import psutil

from tests.faults import airflow_task
from tests.faults.day import PARTITION

REPOSITORY = Path(__file__).resolve().parents[2]
MARK = "FAULT_DRILL"
"""Environment variable that every process of a job inherits, whoever becomes its parent."""
LEFTOVER_S = 45.0
"""Within this time after a job's end or death, none of its processes may be left."""
JOB_S = 400.0
"""No job of this size takes longer, however busy the machine: one that does hangs."""

ARGUMENTS: dict[str, list[str]] = {
    "ingest": [],
    "extract": ["--model", "resnet18", "--weights", "random:0"],
    "validate": ["--max-failed-fraction", "0.5", "--recheck", "2", "--max-drift", "1"],
}


class Job:
    """One attempt at a stage, running as processes of its own session.

    `launcher`: `module` (python -m, the driver starts the JVM), `submit` (spark-submit, the JVM starts the driver) or
    `task` (an operator of Airflow, without its scheduler, starts spark-submit).
    """

    def __init__(
        self,
        stage: str,
        run_id: str,
        store: str,
        *extra: str,
        logs: Path,
        source: str = "",
        launcher: str = "module",
        master: str = "local[2]",
        environment: Mapping[str, str] | None = None,
        enter: Sequence[str] = (),
    ) -> None:
        self.stage, self.run_id = stage, run_id
        self.mark = uuid.uuid4().hex
        self._log = logs / f"{stage}-{self.mark[:8]}.log"
        arguments = ["--store", store, "--partition", PARTITION, "--run-id", run_id, *ARGUMENTS[stage], *extra]
        if stage == "ingest":
            arguments += ["--source", source]
        submit = [str(Path(sys.executable).with_name("spark-submit")), "--master", master, f"spark_apps/{stage}.py"]
        module = [sys.executable, "-m", f"spark_apps.{stage}"]
        task = [sys.executable, "-m", "tests.faults.airflow_task", stage]
        env = {
            **os.environ,
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)]),
            "PYSPARK_PYTHON": sys.executable,
            "PYSPARK_DRIVER_PYTHON": sys.executable,
            "SPARK_LOCAL_IP": "127.0.0.1",
            MARK: self.mark,
            **(airflow_task.environment(logs / "airflow", store, source) if launcher == "task" else {}),
            **(environment or {}),
        }
        if launcher == "module":
            env["PYSPARK_SUBMIT_ARGS"] = f"--master {master} pyspark-shell"
        self.begin = time.monotonic()
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [*enter, *{"module": module, "submit": submit, "task": task}[launcher], *arguments],
                cwd=REPOSITORY,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def wait(self, timeout: float = JOB_S) -> int:
        """The exit code; negative: the signal that ended it. Raises AssertionError when it hangs."""
        try:
            return self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.end()
            raise AssertionError(f"{self.stage} still ran after {timeout:g} s:\n{self.last_words}") from None

    @property
    def log(self) -> str:
        """What it printed."""
        return self._log.read_text(errors="replace")

    @property
    def last_words(self) -> str:
        """The end of what it printed."""
        return self.log[-6000:]

    def family(self) -> dict[str, list[psutil.Process]]:
        """The living processes by what they are: task, driver, jvm, executor, daemon, worker, other."""
        found: dict[str, list[psutil.Process]] = {}
        for process in marked(self.mark):
            with contextlib.suppress(psutil.Error):
                found.setdefault(kind(process), []).append(process)
        return found

    def kill(self, victim: str) -> bool:
        """SIGKILL for one process of the kind `victim`, or for the whole process `group`; False if there is none."""
        if victim == "group":
            if self.process.poll() is not None:
                return False
            os.killpg(self.process.pid, signal.SIGKILL)
            return True
        for process in self.family().get(victim, []):
            with contextlib.suppress(psutil.Error):
                process.kill()
                return True
        return False

    def gone(self, within: float = LEFTOVER_S) -> None:
        """Waits until no process of the job is left. Raises AssertionError, and ends them, when some stay."""
        deadline = time.monotonic() + within
        while left := marked(self.mark):
            if time.monotonic() > deadline:
                names = {process.pid: " ".join(process.cmdline())[:160] for process in left if process.is_running()}
                self.end()
                raise AssertionError(f"{self.stage}: {within:g} s after its end there still ran {names}")
            time.sleep(0.2)

    def end(self) -> None:
        """Ends whatever of the job still runs."""
        while left := marked(self.mark):
            for process in left:
                with contextlib.suppress(psutil.Error):
                    process.kill()
            psutil.wait_procs(left, timeout=1)
        self.process.poll()


def marked(mark: str) -> list[psutil.Process]:
    """The living processes that were started with this mark in their environment."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.status() != psutil.STATUS_ZOMBIE and process.environ().get(MARK) == mark:
                found.append(process)
    return found


def kind(process: psutil.Process) -> str:
    command = " ".join(process.cmdline())
    if airflow_task.__name__ in command:
        return "task"
    if "CoarseGrainedExecutorBackend" in command:
        return "executor"
    if "org.apache.spark.deploy.SparkSubmit" in command:
        return "jvm"
    if "pyspark.daemon" in command:
        parent = process.parent()
        return "worker" if parent is not None and "pyspark.daemon" in " ".join(parent.cmdline()) else "daemon"
    return "driver" if "spark_apps" in command and "guard.serve" not in command else "other"
