"""The entry point of every job: settings in, an exit code and a manifest or an `error.json` out; and its timings."""

from __future__ import annotations

import platform
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from typing import Any, TypeVar

import pyarrow as pa

from spark_apps import contract, storage
from spark_apps.contract import BadSetting, ExitCode, JobError
from spark_apps.spark import environment_checks, packages
from spark_apps.spark.failures import explain
from spark_apps.tables import staged_lists, staging

AnyJob = TypeVar("AnyJob", bound=contract.JobSettings)

PACKAGES = (
    *("pyspark", "torch", "torchvision", "openvino", "pillow", "numpy", "pyarrow", "deltalake"),
    *contract.DECODER_PACKAGES,
)


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
    """Puts the stage's manifest into the run's folder, and under the attempt's own name where others refer to that.

    From then on there is nothing to resume. Raises Unreachable.
    """
    names = [*([f"{manifest.stage}_{manifest.attempt}"] if manifest.attempt else []), manifest.stage]
    folder = settings.folder.removeprefix(settings.store.rstrip("/")).strip("/")
    with storage.reaching("store", settings.store):
        for name in names:
            record = staged_lists.apart(manifest, settings.store, f"{folder}/{name}").to_json()
            storage.write_bytes(contract.join(settings.folder, f"{name}.json"), record.encode())
        if manifest.staged:
            staging.settle(settings.folder, manifest.stage)


def read_manifest(settings: contract.Settings, stage: str, attempt: str = "") -> contract.Manifest:
    """The manifest of an earlier stage of the same run: of this branch and map index, or from before they began; of
    one attempt, or the last.

    A run that was begun before Dags were told apart is found under its run id alone.

    Raises:
        BadSetting: that stage has not finished.
        Unreachable: the store cannot be read.
    """
    from spark_apps import catalog  # not at the top: workers import this module, and need not have what that needs

    found = catalog.stage_of(settings, stage, attempt)
    if found is None:
        raise BadSetting(
            "stage_missing",
            f"The stage {stage} of run {settings.run_id} for partition {settings.partition} has not finished.",
            f"Run {stage} first, with the same --store, --partition and --run-id."
            + ("" if settings.dag_id else " For a run of a Dag give its --dag-id too."),
        )
    return found


def model_of(settings: contract.ModelSettingsOfARun) -> str:
    """The model that a job follows: the one that it is given, else what the run's extract has published under.

    Raises:
        BadSetting: neither is given, or that stage has not finished.
        Unreachable: the store cannot be read.
    """
    if settings.model:
        return settings.model
    if not settings.partition:
        raise BadSetting(
            "no_model", "Neither a model nor a run is given.", "Give --model, or --partition and --run-id."
        )
    run = contract.Settings(
        store=settings.store,
        partition=settings.partition,
        run_id=settings.run_id,
        dag_id=settings.dag_id,
        map_index=settings.map_index,
        branch=settings.branch,
    )
    found = read_manifest(run, "extract").model
    if found is None:
        raise BadSetting("no_model", "The run's extract names no model.", "Give --model.")
    return found.key


def _fail(stage: str, settings: contract.JobSettings | None, error: JobError) -> int:
    _say(f"{stage} failed: {error}")
    if settings is not None:
        try:
            record = contract.error_record(stage, error, settings.run, settings.submission)
            storage.write_json(contract.join(settings.folder, "error.json"), record)
        except JobError:  # the same again: what leads to the store is what is wrong, such as a proxy
            pass
        except (OSError, pa.ArrowException) as problem:  # the store itself failed; exit code and log still tell
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
            code_hash=packages.code_hash(),
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
