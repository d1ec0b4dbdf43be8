"""A store without space: the stage says so and may be tried again, and no reader sees a difference."""

from __future__ import annotations

import json
import os
import random
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from py4j.protocol import Py4JJavaError
from pyspark.errors import PySparkException

from spark_apps.contract import ExitCode, MaintainSettings, Unreachable, run_folder
from spark_apps.maintain import maintain
from spark_apps.spark import failures
from spark_apps.spark.jobs import Timings
from spark_apps.tables import staging
from tests import old_store
from tests.faults.day import PARTITION, Day
from tests.faults.in_process import InThisProcess
from tests.faults.jobs import Job
from tests.faults.reader import Reader

DISK_BYTES = 160 * 2**20
PAGE = 4096


class Disk:
    """A filesystem of `DISK_BYTES` at `path`, and a file on it that takes up what others shall not have."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._ballast = path / "ballast"

    def leave(self, free: int) -> None:
        """Fills the disk until just `free` bytes are left."""
        self.clear()
        status = os.statvfs(self.path)
        with self._ballast.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, status.f_bavail * status.f_frsize - free)

    def clear(self) -> None:
        """Gives the space back."""
        self._ballast.unlink(missing_ok=True)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    path = tmp_path / "disk"
    path.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(path)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"needs the right to mount a small disk: {mounted.stderr.decode().strip()}")
    yield Disk(path)
    subprocess.run(["umount", "--lazy", str(path)], check=True)


def staged(store: str) -> set[Path]:
    """Every data file of the store, published or not."""
    return set(Path(store).glob("*/data/**/*.parquet"))


def finished(store: str, run_id: str, stage: str) -> set[Path]:
    """The data files that tasks had finished before their attempt at the stage failed."""
    tables = Path(staging.unfinished(run_folder(store, PARTITION, run_id), stage)).glob("*/[0-9a-f]*.json")
    records = [json.loads(path.read_text()).get("staged", {}) for path in tables]
    return {Path(store, name, file["path"]) for record in records for name in record for file in record[name]}


def refused(job: Job) -> None:
    """The job ended in exit code 4 with a message that tells what is wrong, and left nothing running."""
    assert job.wait() == ExitCode.UNREACHABLE, job.last_words
    assert "No space left on device" in job.log and "cannot be used" in job.log, job.last_words
    assert "free space" in job.log or "error.json could not be written" in job.log, job.last_words
    job.gone()


def stopped_and_cured(disk: Disk, stage: str, too_little: int, store: str, **common: Any) -> None:
    """The stage is refused while only `too_little` bytes are free, and succeeds once there are more."""
    disk.leave(too_little)
    before = staged(store)
    refused(Job(stage, "first", store, **common))
    kept = staged(store) - before
    assert kept <= finished(store, "first", stage), "what a failed attempt did not finish must not keep the disk full"
    disk.clear()
    job = Job(stage, "first", store, **common)
    assert job.wait() == 0, job.last_words
    assert kept <= staged(store)


IMAGES_DO_NOT_FIT = 300_000  # they are 0.5 MB


def test_a_full_disk_stops_a_worker_and_space_cures_it(disk: Disk, tmp_path: Path) -> None:
    store = str(disk.path / "store")
    stopped_and_cured(disk, "ingest", IMAGES_DO_NOT_FIT, store, logs=tmp_path, source=Day(tmp_path / "landing").source)


@pytest.mark.slow_faults
def test_a_full_disk_stops_ingest_and_extract_and_space_cures_them(disk: Disk, tmp_path: Path) -> None:
    day = Day(tmp_path / "landing")
    store = str(disk.path / "store")
    reader = Reader(store)
    common: dict[str, Any] = {"logs": tmp_path, "source": day.source}
    with reader:
        reader.truths["first"] = day.truth()
        for stage, too_little in {"ingest": IMAGES_DO_NOT_FIT, "extract": 2_000_000}.items():  # the model is 45 MB
            stopped_and_cured(disk, stage, too_little, store, **common)
        assert reader.look() is None
        job = Job("validate", "first", store, **common)
        assert job.wait() == 0, job.last_words
        reader.settled("first")

        day.change(random.Random(0))
        reader.truths["second"] = day.truth()
        job = Job("ingest", "second", store, **common)
        assert job.wait() == 0, job.last_words
        disk.leave(10 * PAGE)  # the model is there already; now it is the features, 40 kB, that do not fit
        before = staged(store)
        refused(Job("extract", "second", store, "--recompute", **common))
        assert staged(store) - before <= finished(store, "second", "extract")
        assert reader.look() == "first"
        disk.clear()
        for stage in ("extract", "validate"):
            job = Job(stage, "second", store, **common)
            assert job.wait() == 0, job.last_words
        reader.settled("second")


def test_extract_and_publication_that_run_out_of_space_anywhere_are_completed_later(disk: Disk, tmp_path: Path) -> None:
    """Page by page: whatever of the report, the three commits and the manifest still finds space."""
    jobs = InThisProcess(Day(tmp_path / "landing"), str(disk.path / "store"))
    reader = Reader(jobs.store)
    runs = ["even", "odd"]
    for run_id, too_little in zip(runs, (2_000_000, 10 * PAGE), strict=True):
        jobs.day.change(random.Random(run_id))
        reader.truths[run_id] = jobs.day.truth()
        jobs.ingest(run_id)
        disk.leave(too_little)  # the model, 47 MB, does not fit; when it is there, the features, 40 kB, do not
        before = staged(jobs.store)
        with pytest.raises((Unreachable, Py4JJavaError, PySparkException)) as caught:  # the last beside a SparkSession
            jobs.extract(run_id)
        told = caught.value if isinstance(caught.value, Unreachable) else failures.explain(caught.value)
        assert isinstance(told, Unreachable) and "No space left on device" in told.message
        assert staged(jobs.store) - before <= finished(jobs.store, run_id, "extract"), "it must not keep the disk full"
        disk.clear()
        jobs.extract(run_id)
    jobs.validate("even", recheck=0)
    full = []
    with reader:
        for pages in range(40):
            other, run_id = runs[pages % 2], runs[(pages + 1) % 2]
            disk.leave(pages * PAGE)
            try:
                jobs.validate(run_id, recheck=0)
            except Unreachable as error:
                full.append(pages)
                assert "No space left on device" in str(error) and "free space" in str(error)
                assert reader.look() in (run_id, other)
            disk.clear()
            jobs.validate(run_id, recheck=0)
            reader.settled(run_id)
            if not full or full[-1] != pages:
                break
    assert len(full) >= 4, f"the sweep did not go through the commits: {full}"


def test_a_maintenance_that_runs_out_of_space_anywhere_is_completed_later(disk: Disk) -> None:
    """Page by page: whatever of the merged files, their commits and the log's summary still finds space."""
    store = old_store.unpack(disk.path)
    settings, within_the_retention = MaintainSettings(store=store), datetime(2026, 11, 26, 20, tzinfo=UTC)
    full = 0
    while full < 60:
        disk.leave(full * PAGE)
        try:
            maintain(settings, Timings(), within_the_retention)
            break
        except Unreachable as error:
            full += 1
            assert "No space left on device" in str(error) and "free space" in str(error)
        finally:
            disk.clear()
            old_store.check_rows(store)
    assert full >= 4, f"the sweep did not go through the commits: {full}"
    maintain(settings, Timings(), within_the_retention)
    old_store.check_rows(store)
