"""Spark contexts of the jobs, what is sent to the executors, and spreading work units over them."""

from __future__ import annotations

import atexit
import math
import os
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from spark_apps import contract
from spark_apps.contract import JobError, access
from spark_apps.host import account
from spark_apps.spark import environment_checks, packages
from spark_apps.spark.failures import failed_on
from spark_apps.spark.failures import unfit_worker as _unfit_worker

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pyspark import SparkContext

Unit = TypeVar("Unit")

Record = TypeVar("Record")

BY_HAND = "--conf spark.ui.showConsoleProgress=false --driver-java-options -XX:TieredStopAtLevel=1 pyspark-shell"
"""How the JVM is started where spark-submit has not done it. It only hands out references, for which its optimising
compiler costs more than it brings."""

IDLE_SECONDS = 20
"""Spark asks a task to end, and ends its Python worker when it has not after 2 s."""

EXECUTORS_SECONDS, SETTLED_SECONDS = 30, 3
"""How long a job waits for its executors, and how long after the last one it stops waiting for more."""


@lru_cache(maxsize=1)
def _code() -> Path:
    """The zip of this package, for as long as this process lives: executors may fetch it at any time."""
    folder = tempfile.mkdtemp(prefix="spark_apps-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return packages.code(Path(folder))


def context(name: str, task: Callable[[Callable[[str], str | None]], dict[str, str]] | None = None) -> SparkContext:
    """The Spark context of a job, with this package and the storage's credentials sent to the executors.

    A context without a SparkSession: the jobs spread work and need no SQL, whose start and first query would take
    longer than a small day's work. Only settings that spark-submit did not set are filled in. It serves no user
    interface, which would show the job to whoever reaches the port. A local master gets what a cluster has by itself: a
    task may fail three times before the job does; and it listens on loopback only. `task` gives further settings from
    those that are set.
    """
    from pyspark import SparkConf, SparkContext

    _start_jvm()  # until the JVM is there, SparkConf does not know what spark-submit was given
    conf = SparkConf()
    defaults = {
        "spark.master": "local[*]",
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
        "spark.log.level": "WARN",
        "spark.python.worker.reuse": "true",
    }
    for key, value in defaults.items():
        conf.setIfMissing(key, value)
    master = conf.get("spark.master") or ""
    if local := re.fullmatch(r"local(?:\[(\*|\d+)\])?", master):
        conf.set("spark.master", f"local[{local[1] or 1},4]")
    if master.startswith("local"):
        os.environ["PYSPARK_PYTHON"] = os.environ.get("PYSPARK_PYTHON") or sys.executable
        environment_checks.check_worker_python()
        for key in ("spark.driver.host", "spark.driver.bindAddress"):
            conf.setIfMissing(key, "127.0.0.1")
    for key, value in (task(conf.get) if task else {}).items():
        conf.setIfMissing(key, value)
    if SparkContext._active_spark_context is None:
        environment_checks.check_local_dirs(conf.get("spark.local.dir"))
    spark = SparkContext.getOrCreate(conf.setAppName(name))
    if not master.startswith("local"):
        _await_executors(spark)
    # Handed to each Python worker with its tasks. As spark.executorEnv they would be settings, which Spark shows in its
    # user interface, writes to its event log and, on Kubernetes, into the description of the pods.
    spark.environment.update(access.for_workers(os.environ))
    ship_code(spark)
    return spark


def _start_jvm() -> None:
    """Starts the JVM, unless spark-submit or this process has. Raises BadSetting: it does not start."""
    from pyspark import SparkContext

    if SparkContext._gateway is not None:
        return
    if "PYSPARK_GATEWAY_PORT" in os.environ:  # set by spark-submit
        SparkContext._ensure_initialized()
    else:
        environment_checks.check_before_jvm()
        os.environ.setdefault("PYSPARK_SUBMIT_ARGS", BY_HAND)
        try:
            SparkContext._ensure_initialized()
        except Exception as error:
            raise environment_checks.jvm_not_started(error) from error
    account.log_in(SparkContext._jvm)


def on_this_machine() -> bool:
    """Whether tasks run on the driver's machine, as far as spark-submit was told; starts no JVM to find out."""
    if "PYSPARK_GATEWAY_PORT" not in os.environ:  # set by spark-submit
        return True
    from pyspark import SparkConf

    return (SparkConf().get("spark.master") or "local").startswith("local")


def ship(context: SparkContext, file: Path) -> None:
    """Makes a file of the driver available to the tasks of `context`, as `SparkFiles.get(file.name)`."""
    if _is_new(context, file):
        context.addFile(str(file))


def ship_code(context: SparkContext) -> None:
    """Makes this package available to the tasks of `context`, unless spark-submit has done it."""
    sent = (context.getConf().get("spark.submit.pyFiles") or "").split(",")
    if packages.code_name() not in (file.rsplit("/", 1)[-1] for file in sent) and _is_new(context, _code()):
        context.addPyFile(str(_code()))


def ship_by_connect(session: Any, files: Iterable[Path]) -> None:
    """Sends this package and `files` through a session of Spark Connect, to all tasks of that session."""
    if _is_new(session, _code()):
        session.addArtifacts(str(_code()), pyfile=True)
    for file in files:
        if _is_new(session, file):
            session.addArtifacts(str(file), file=True)


_shipped: set[tuple[str, Path]] = set()


def _is_new(target: Any, file: Path) -> bool:
    """Spark warns of a file that is shipped twice. `target`: a context, or a session of Spark Connect."""
    key = (getattr(target, "applicationId", None) or target.session_id, file)
    new = key not in _shipped
    _shipped.add(key)
    return new


@dataclass(frozen=True)
class _Refused:
    """The `error_record` of what a task raised."""

    error: dict[str, Any]


def spread(
    spark: SparkContext, units: Sequence[Unit], work: Callable[[Iterator[Unit]], Iterator[Record]], largest: int
) -> list[Record]:
    """Runs `work` over all `units` in Spark tasks of at most `largest` units and returns the records it yields.

    Only `units` (references) and records (what was done) cross the JVM, never data. A task gets neighbouring units as
    one iterator, so that it can fill batches across them. A `JobError` in a task ends the job with that error at once.

    Raises:
        BadSetting: the executors' Python cannot run a task at all.
        JobError: what a task raised.
    """
    if not units:
        return []
    shares = shared_out(units, parallelism(spark), largest)

    def run_share(shares: Iterable[Sequence[Unit]]) -> Iterator[Record | _Refused]:
        for share in shares:
            try:
                yield from work(iter(share))
            except contract.Unreachable:
                raise  # Spark tries the task again
            except JobError as error:
                yield _Refused(contract.error_record("", error))

    try:
        records = spark.parallelize(shares, len(shares)).mapPartitions(run_share).collect()
    except Exception as error:
        _await_idle(spark)
        if unfit := _unfit_worker(str(error), failed_on(spark)):
            raise unfit from None
        raise
    done: list[Record] = []
    for record in records:
        if isinstance(record, _Refused):
            raise contract.error_from_record(record.error)
        done.append(record)
    return done


def shared_out(units: Sequence[Unit], workers: int, largest: int) -> list[Sequence[Unit]]:
    """Neighbouring units as shares, one for each task: half of a worker's part of what is left, at most `largest`, so
    that few tasks pay for their start, and the last ones are so short that all workers end at about the same time.

    Source: guided self-scheduling, Polychronopoulos and Kuck, IEEE Transactions on Computers 36 (1987).
    """
    shares, begin = [], 0
    while begin < len(units):
        end = begin + min(largest, math.ceil((len(units) - begin) / (2 * workers)))
        shares.append(units[begin:end])
        begin = end
    return shares


def _await_idle(context: SparkContext) -> None:
    """Waits, within `IDLE_SECONDS`, until the other tasks of a failed job have ended: they must not write behind it."""
    deadline = time.monotonic() + IDLE_SECONDS
    with suppress(Exception):  # the JVM itself may be what failed
        tracker = context._jsc.sc().statusTracker()
        while time.monotonic() < deadline:
            if not sum(executor.numRunningTasks() for executor in tracker.getExecutorInfos()):
                return
            time.sleep(0.1)


def _await_executors(spark: SparkContext) -> None:
    """Waits until all executors are there, or no more come, `EXECUTORS_SECONDS` at most: they register one after
    another, and work that is shared out for the first of them would leave the others idle."""
    if _dynamic(spark):
        return
    wanted = _number(spark, "spark.cores.max") or _number(spark, "spark.executor.instances") * _executor_cores(spark)
    tracker = spark._jsc.sc().statusTracker()
    there, begin = 1, time.monotonic()  # the driver counts as one
    changed = begin
    while (now := time.monotonic()) < begin + EXECUTORS_SECONDS:
        if (found := len(tracker.getExecutorInfos())) != there:
            there, changed = found, now
        complete = wanted and spark.defaultParallelism >= wanted
        if there > 1 and (complete or now - changed >= SETTLED_SECONDS):
            return
        time.sleep(0.1)


def parallelism(spark: SparkContext) -> int:
    """Tasks that run at the same time; with dynamic allocation, when there are as many executors as there may be."""
    cores = spark.defaultParallelism
    if _dynamic(spark):
        cores = max(cores, _number(spark, "spark.dynamicAllocation.maxExecutors") * _executor_cores(spark))
    return max(1, cores // (_number(spark, "spark.task.cpus") or 1))


def _dynamic(spark: SparkContext) -> bool:
    return spark.getConf().get("spark.dynamicAllocation.enabled") == "true"


def _executor_cores(spark: SparkContext) -> int:
    return _number(spark, "spark.executor.cores") or 1


def _number(spark: SparkContext, setting: str) -> int:
    """A setting of Spark; 0 where it is not set."""
    return int(spark.getConf().get(setting) or 0)
