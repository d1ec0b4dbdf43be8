"""What a failed job tells a person, found in the pages of trace that Spark makes of it."""

from __future__ import annotations

import re
import tempfile
from contextlib import suppress
from typing import TYPE_CHECKING

from spark_apps.contract import BadSetting, JobError

if TYPE_CHECKING:
    from pyspark import SparkContext


def explain(error: Exception) -> JobError:
    """Spark wraps an error of a worker into pages of JVM trace; this finds what the worker said.

    A traceback names the class with its module, wherever that is, and the last one is what ended the task.
    """
    text = str(error).strip()
    kinds = JobError.kinds()
    told = re.findall(rf"^(?:[\w.]+\.)?({'|'.join(kinds)}): (.*)$", text, re.MULTILINE)
    if told:
        name, message = told[-1]
        return kinds[name]("worker_failed", message)
    plain = re.findall(r"^(?:[\w.]+\.)?(\w*(?:Error|Exception|Interrupt)): (.+)$", text, re.MULTILINE)
    message = ": ".join(plain[-1]) if plain else f"{type(error).__name__}: {text.splitlines()[0] if text else ''}"
    hint = "The job's log has the whole trace; a retry may help."
    if "No space left on device" in text:
        hint = f"Free some space: temporary files lie in {_temporary()}, and where SPARK_LOCAL_DIRS says."
    return JobError("unexpected", message[:500], hint)


def _temporary() -> str:
    try:
        return tempfile.gettempdir()
    except OSError:  # it is full, and so is every other
        return "the folder of TMPDIR"


def unfit_worker(trace: str, host: str) -> BadSetting | None:
    """What a person has to fix on the nodes before any task can run there, from Spark's account of a failed job."""
    if found := re.search(r"Python in worker has different version: (\S+) than that in driver: ([\d.]+)", trace):
        message = f"The Python on {host} is {found[1]}, that of the driver is {found[2]}; Spark needs the same."
        hint = f"Set PYSPARK_PYTHON to a Python {found[2]} that every node has."
        return BadSetting("worker_python_differs", message, hint)
    if found := re.search(r"ModuleNotFoundError: No module named '([\w.]+)'", trace):
        message = f"The Python on {host} has no package {found[1]}."
        hint = "Install what a worker needs on every node, or send an environment along (docs/clusters.md)."
        return BadSetting("worker_package_missing", message, hint)
    if found := re.search(r'Cannot run program "([^"]+)": error=\d+, (.+)', trace):
        message = f"The Python {found[1]} on {host} cannot be started: {found[2]}."
        return BadSetting("worker_python_missing", message, "Set PYSPARK_PYTHON to one that every node has.")
    return None


def failed_on(context: SparkContext) -> str:
    """A host on which a task of the last job failed; Spark's account of a Python error does not name it."""
    with suppress(Exception):  # not a public interface
        tracker = context.statusTracker()
        job = tracker.getJobInfo(max(tracker.getJobIdsForGroup()))
        for stage in job.stageIds if job else []:
            tasks = context._jsc.sc().statusStore().taskList(stage, 0, 1000)
            for task in (tasks.apply(index) for index in range(tasks.size())):
                if task.status() == "FAILED":
                    return str(task.host())
    return "an executor"
