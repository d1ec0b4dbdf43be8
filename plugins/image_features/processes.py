"""Ends a spark-submit with everything it started: the JVM, the Python driver and the Python workers."""

from __future__ import annotations

import contextlib
import os
import subprocess

import psutil

MARK = "IMAGE_FEATURES_TASK"
"""Environment variable that every process of a job inherits; it says which task started it."""
GRACE_SECONDS = 3.0
"""For the JVM to remove its temporary folders; Airflow's supervisor kills the task 5 s after asking it to end."""


def end_tree(submitted: subprocess.Popen[str]) -> None:
    """End a running spark-submit and all its descendants; the JVM may tidy up first."""
    if submitted.poll() is not None:
        return
    descendants = family(submitted)
    submitted.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        # not psutil's wait: whoever else reaps the child makes Popen report exit code 0
        submitted.wait(GRACE_SECONDS)
    end(descendants)


def family(submitted: subprocess.Popen[str]) -> list[psutil.Process]:
    """All descendants of a spark-submit; none when it has ended."""
    try:
        found: list[psutil.Process] = psutil.Process(submitted.pid).children(recursive=True)
        return found
    except psutil.Error:
        return []


def end(found: list[psutil.Process]) -> None:
    """Kill these processes, as far as they are still there."""
    for process in found:
        with contextlib.suppress(psutil.Error):
            process.kill()
    psutil.wait_procs(found, timeout=1)


def end_leftovers(task: str) -> int:
    """Kill what an earlier attempt of `task` left running on this machine; the number of processes.

    An attempt whose own process was killed could not end its spark-submit, and two attempts must not overlap.
    """
    ended = 0
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.pid != os.getpid() and process.environ().get(MARK) == task:
                process.kill()
                ended += 1
    return ended
