"""Ends a spark-submit with everything it started: the JVM, the Python driver and the Python workers."""

from __future__ import annotations

import contextlib
import os
import subprocess
import time

import psutil

MARK = "IMAGE_FEATURES_TASK"
"""Environment variable that every process of a job inherits; it says which task started it."""
GRACE_SECONDS = 3.0
"""For the JVM to remove its temporary folders; Airflow's supervisor kills the task 5 s after asking it to end."""
SWEEP_SECONDS = 1.0
"""For processes that start while those that start them are being killed."""


def ask_to_end(submitted: subprocess.Popen[str]) -> None:
    """Let a running spark-submit end by itself, for as long as there is grace; the JVM may tidy up."""
    if submitted.poll() is not None:
        return
    submitted.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        # not psutil's wait: whoever else reaps the child makes Popen report exit code 0
        submitted.wait(GRACE_SECONDS)


def end_all(task: str) -> int:
    """Kill whatever an attempt of `task` has running on this machine, until nothing is left; the number of processes.

    By their mark: one whose parent has ended, as where Airflow's own process was killed, is nobody's descendant, and
    one that starts just now is in no list yet. Two looks have to find nothing, as a process has no environment for a
    moment while it becomes another program.
    """
    ended: set[psutil.Process] = set()
    found_nothing = 0
    deadline = time.monotonic() + SWEEP_SECONDS
    while found_nothing < 2 and time.monotonic() < deadline:
        found = _marked(task)
        for process in found:
            with contextlib.suppress(psutil.Error):
                process.kill()
        ended.update(found)
        found_nothing = 0 if found else found_nothing + 1
        time.sleep(0.02)
    return len(ended)


def _marked(task: str) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.pid != os.getpid() and process.environ().get(MARK) == task:
                found.append(process)
    return found
