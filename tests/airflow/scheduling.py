"""A scheduler that makes runs by itself, beside a server whose own makes only those that it is asked for."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from demo.airflow_server import AirflowServer


@contextmanager
def scheduling(airflow: AirflowServer) -> Iterator[None]:
    """A second scheduler, which starts Dags for their assets; the server's own makes only the runs it is asked for, as
    more would have SQLite locked while all the runs of a test begin at once."""
    env = {**environment(airflow), "AIRFLOW__SCHEDULER__USE_JOB_SCHEDULE": "True"}
    with (airflow.logs / "second-scheduler.log").open("wb") as log:
        command = ["airflow", "scheduler", "--skip-serve-logs"]
        scheduler = subprocess.Popen(command, env=env, stdout=log, stderr=log, start_new_session=True)
    try:
        yield
    finally:
        scheduler.terminate()
        try:
            scheduler.wait(60)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(scheduler.pid, signal.SIGKILL)


def environment(airflow: AirflowServer) -> dict[str, str]:
    """The environment of the server's components, for another command of Airflow's."""
    return airflow._environment(int(airflow.url.rsplit(":", 1)[1]))


def until(condition: Callable[[], bool], timeout: float = 120) -> None:
    """Waits until the condition holds, or `timeout` seconds: what holds then is for the test to say."""
    deadline = time.monotonic() + timeout
    while not condition() and time.monotonic() < deadline:
        time.sleep(1)
