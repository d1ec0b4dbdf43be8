"""What every job shares: the entry point, the Spark session, timings, and spreading work units over executors."""

from __future__ import annotations

import atexit
import math
import os
import platform
import re
import shutil
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from spark_apps import account, contract, environment_checks, pack, storage
from spark_apps.contract import BadSetting, ExitCode, JobError, access
from spark_apps.failures import explain, failed_on
from spark_apps.failures import unfit_worker as _unfit_worker

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pyspark import SparkContext

AnyJob = TypeVar("AnyJob", bound=contract.JobSettings)
Unit = TypeVar("Unit")
Record = dict[str, Any]
PACKAGES = ("pyspark", "torch", "torchvision", "openvino", "pillow", "numpy", "pyarrow", "deltalake")
BY_HAND = "--conf spark.ui.showConsoleProgress=false --driver-java-options -XX:TieredStopAtLevel=1 pyspark-shell"
"""How the JVM is started where spark-submit has not done it. It only hands out references, for which its optimising
compiler costs more than it brings."""
IDLE_SECONDS = 20
"""Spark asks a task to end, and ends its Python worker when it has not after 2 s."""
EXECUTORS_SECONDS, SETTLED_SECONDS = 30, 3
"""How long a job waits for its executors, and how long after the last one it takes the others for not coming."""


# --- entry point ------------------------------------------------------------------------------------------------------


def run(stage: str, kind: type[AnyJob], job: Callable[[AnyJob, Timings], contract.Manifest], doc: str | None) -> int:
    """Runs one job from the command line and turns its outcome into an exit code, a manifest or an `error.json`."""
    settings: AnyJob | None = None
    try:
        settings = contract.parse(kind, sys.argv[1:], f"spark_apps.{stage}", (doc or "").split("\n")[0])
        with storage.reaching("store", settings.store):
            storage.ensure_folder(settings.folder)
            for left_over in ("error.json", f"{stage}.json"):
                storage.delete(contract.join(settings.folder, left_over))
        environment_checks.check_process()
        timings = Timings()
        manifest = job(settings, timings)
        write_manifest(settings, manifest)
        _say(f"{stage} {manifest.partition or settings.store}: {_sentence(manifest)}")
        return ExitCode.DONE
    except JobError as error:
        return _fail(stage, settings, error)
    except Exception as error:
        traceback.print_exc()
        return _fail(stage, settings, explain(error))


def write_manifest(settings: contract.JobSettings, manifest: contract.Manifest) -> None:
    """Puts the stage's manifest into the run's folder. Raises Unreachable."""
    with storage.reaching("store", settings.store):
        storage.write_bytes(contract.join(settings.folder, f"{manifest.stage}.json"), manifest.to_json().encode())


def read_manifest(settings: contract.Settings, stage: str) -> contract.Manifest:
    """The manifest of an earlier stage of the same run: of this branch and map index, or from before they began.

    A run that was begun before Dags were told apart is found under its run id alone.

    Raises:
        BadSetting: that stage has not finished.
        Unreachable: the store cannot be read.
    """
    from spark_apps import catalog  # not at the top: workers import this module, and need not have what that needs

    found = catalog.stage_of(settings, stage)
    if found is None:
        raise BadSetting(
            "stage_missing",
            f"The stage {stage} of run {settings.run_id} for partition {settings.partition} has not finished.",
            f"Run {stage} first, with the same --store, --partition and --run-id.",
        )
    return found


def _fail(stage: str, settings: contract.JobSettings | None, error: JobError) -> int:
    _say(f"{stage} failed: {error}")
    if settings is not None:
        try:
            storage.write_json(
                contract.join(settings.folder, "error.json"), contract.error_record(stage, error, settings.run)
            )
        except OSError as problem:  # the store itself is what failed; the exit code and the log still tell
            _say(f"error.json could not be written: {problem}")
    return error.exit_code


def _sentence(manifest: contract.Manifest) -> str:
    counts = ", ".join(f"{count:,} {name}" for name, count in manifest.counts.items())
    return f"{counts} in {manifest.seconds.get('total', 0):.1f} s"


def _say(message: str) -> None:
    print(message, file=sys.stderr, flush=True)


class Timings:
    """Seconds by phase, from the start of the process."""

    def __init__(self) -> None:
        import psutil  # the driver has it; a worker, which imports this module too, need not

        self.started_at = contract.now()
        self.seconds: dict[str, float] = {"startup": round(time.time() - psutil.Process().create_time(), 3)}
        self._begin = time.perf_counter()

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Adds the time spent inside to the phase `name`."""
        begin = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = round(self.seconds.get(name, 0) + time.perf_counter() - begin, 3)

    def manifest(self, stage: str, settings: contract.JobSettings, **facts: Any) -> contract.Manifest:
        """The manifest of `stage` with what every manifest says."""
        total = self.seconds["startup"] + time.perf_counter() - self._begin
        return contract.Manifest(
            stage=stage,
            run_id=settings.run_id,
            dag_id=settings.dag_id,
            map_index=settings.map_index,
            branch=settings.run.branch,
            partition=settings.partition if isinstance(settings, contract.Settings) else "",
            started_at=self.started_at,
            finished_at=contract.now(),
            seconds={**self.seconds, "total": round(total, 3)},
            settings={**vars(settings)},
            versions=versions(),
            code_hash=pack.code_hash(),
            **facts,
        )


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that the numbers depend on, without importing them."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


# --- Spark ------------------------------------------------------------------------------------------------------------


@lru_cache(maxsize=1)
def _code() -> Path:
    """The zip of this package, for as long as this process lives: executors may fetch it at any time."""
    folder = tempfile.mkdtemp(prefix="spark_apps-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return pack.code(Path(folder))


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
    if pack.code_name() not in (file.rsplit("/", 1)[-1] for file in sent) and _is_new(context, _code()):
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

    def run_share(shares: Iterable[Sequence[Unit]]) -> Iterator[Record]:
        for share in shares:
            try:
                yield from work(iter(share))
            except contract.Unreachable:
                raise  # Spark tries the task again
            except JobError as error:
                yield {"job_error": contract.error_record("", error)}

    try:
        records = spark.parallelize(shares, len(shares)).mapPartitions(run_share).collect()
    except Exception as error:
        _await_idle(spark)
        if unfit := _unfit_worker(str(error), failed_on(spark)):
            raise unfit from None
        raise
    for record in records:
        if "job_error" in record:
            raise contract.error_from_record(record["job_error"])
    return records


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
