"""Executors that come and go in the middle of extract, on a real cluster: dynamic allocation, speculation, and one that
is decommissioned gracefully. No photo is lost, computed for nothing or published twice."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from spark_apps import catalog
from spark_apps.contract import Manifest, ValidateSettings
from spark_apps.spark.jobs import Timings
from spark_apps.validate import validate
from tests.cluster.standalone import QUICK_JAVA, Standalone, wait_for
from tests.faults.day import PARTITION
from tests.faults.jobs import REPOSITORY

FILES, WORKERS = 40, 2
PATIENCE_S = 200.0
APPLICATION = "image-features extract"
HELD = """
import hashlib, os, time
import numpy as np
from spark_apps.extractors import Extractor

class Held(Extractor):
    name, dim = "held", 64

    def extract(self, items):
        here = "slow node" if {slow!r} in os.getcwd() else "open"
        for gate in [here, *(item.split()[0].decode() for item in items)]:
            while not os.path.exists(os.path.join({gates!r}, gate)):
                time.sleep(0.05)
        return np.array([np.frombuffer(hashlib.blake2b(item).digest(), np.uint8) for item in items], np.float32)
"""
"""An extractor that waits at the gate that a file names, and at one more where `slow` is in the path of the node."""

pytestmark = [pytest.mark.slow_faults, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Standalone]:
    folder = tmp_path_factory.mktemp("cluster") / "spark"
    standalone = Standalone(folder, Path(sys.executable).parent, WORKERS, apart=True)
    try:
        yield standalone
    finally:
        standalone.stop()


class Extract:
    """A run of extract on the cluster, over files that wait at gates: the first at `first`, the last at `last`."""

    def __init__(self, cluster: Standalone, folder: Path, settings: dict[str, Any], slow: str = "nowhere") -> None:
        self.cluster, self.folder, self.store = cluster, folder, str(folder / "store")
        self.gates, day = folder / "gates", folder / "landing"
        self.gates.mkdir()
        day.mkdir()
        self.open("open")
        for number in range(FILES):
            gate = {0: "first", FILES - 1: "last"}.get(number, "open")
            (day / f"{number:02}.txt").write_text(f"{gate} {number}")
        (folder / "held.py").write_text(HELD.format(gates=str(self.gates), slow=slow))
        self._log = folder / "extract.log"
        own = ["--extractor", f"{folder}/held.py:Held"]
        environment = {**os.environ, "SPARK_LOCAL_IP": "127.0.0.1", **QUICK_JAVA}
        ingest = [sys.executable, "-m", "spark_apps.ingest", *self._common(), "--source", str(day), *own]
        subprocess.run(ingest, cwd=REPOSITORY, env=environment, check=True, capture_output=True, timeout=300)
        conf = [word for name, value in settings.items() for word in ("--conf", f"{name}={value}")]
        submit = [str(Path(sys.executable).with_name("spark-submit")), "--master", cluster.master, *conf]
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [*submit, str(REPOSITORY / "spark_apps" / "extract.py"), *self._common(), *own, "--batch-size", "2"],
                cwd=folder,
                env={
                    **environment,
                    "SPARK_CONF_DIR": str(cluster.conf),
                    "PYSPARK_DRIVER_PYTHON": sys.executable,
                    "PYSPARK_PYTHON": sys.executable,
                },
                stdout=log,
                stderr=log,
            )
        self.application = wait_for(self._find, PATIENCE_S, "the application")

    def _find(self) -> str | None:
        assert self.process.poll() is None, self._log.read_text()[-4000:]
        return self.cluster.application(APPLICATION)

    def _common(self) -> list[str]:
        return ["--store", self.store, "--partition", PARTITION, "--run-id", "r"]

    def open(self, gate: str) -> None:
        (self.gates / gate).touch()

    def executors(self) -> list[dict[str, Any]]:
        """Those that are there."""
        assert self.process.poll() is None, self._log.read_text()[-4000:]
        found = self.cluster.ask(f"applications/{self.application}/executors")
        return [item for item in found if item["id"] != "driver" and item["isActive"]]

    def until(self, count: int, busy: bool = False) -> list[dict[str, Any]]:
        """Waits for so many executors, each of which has a task where `busy`."""

        def enough() -> list[dict[str, Any]] | None:
            found = [item for item in self.executors() if item["activeTasks"] or not busy]
            return found if len(found) == count else None

        return wait_for(enough, PATIENCE_S, f"{count} executors")

    def finished(self) -> tuple[Manifest, list[dict[str, Any]]]:
        """What it did, published as it is, and the events of its application."""
        assert self.process.wait(PATIENCE_S) == 0, self._log.read_text()[-4000:]
        manifest = catalog.manifest(self.store, PARTITION, "r", "extract")
        assert manifest is not None
        settings = ValidateSettings(store=self.store, partition=PARTITION, run_id="r", recheck=0)
        assert validate(settings, Timings()).outcome["verdict"] == "published"
        uris = catalog.vectors(self.store, PARTITION, "held", ["uri"])["uri"].to_pylist()
        assert len(uris) == len(set(uris)) == FILES
        assert manifest.counts["computed"] == FILES and manifest.counts["resumed"] == 0
        return manifest, list(self.cluster.events_of(self.application))

    def end(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()


@pytest.fixture
def started(cluster: Standalone, tmp_path: Path) -> Iterator[Any]:
    runs: list[Extract] = []

    def start(settings: dict[str, Any], **options: Any) -> Extract:
        runs.append(Extract(cluster, tmp_path, settings, **options))
        return runs[-1]

    yield start
    for run in runs:
        run.end()
    shutil.rmtree(tmp_path / "store", ignore_errors=True)


def ended(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [event for event in events if event["Event"] == "SparkListenerTaskEnd"]


def test_executors_come_and_go_by_dynamic_allocation(started: Any) -> None:
    run = started(
        {
            "spark.dynamicAllocation.enabled": "true",
            "spark.dynamicAllocation.shuffleTracking.enabled": "true",
            "spark.dynamicAllocation.initialExecutors": 1,
            "spark.dynamicAllocation.minExecutors": 1,
            "spark.dynamicAllocation.maxExecutors": WORKERS,
            "spark.dynamicAllocation.executorIdleTimeout": "2s",
            "spark.scheduler.minRegisteredResourcesRatio": "0",
        }
    )
    run.until(2)  # the second comes while the first waits
    run.open("first")
    run.until(1)  # and one goes while the last file is waited for
    run.open("last")
    _, events = run.finished()
    begun = min(event["Task Info"]["Launch Time"] for event in ended(events))
    last = max(event["Task Info"]["Finish Time"] for event in ended(events))
    added = [event["Timestamp"] for event in events if event["Event"] == "SparkListenerExecutorAdded"]
    removed = [event["Timestamp"] for event in events if event["Event"] == "SparkListenerExecutorRemoved"]
    assert max(added) > begun and min(removed) < last
    assert {event["Task End Reason"]["Reason"] for event in ended(events)} == {"Success"}


def test_a_slow_node_s_tasks_are_done_by_another_and_no_row_is_there_twice(started: Any) -> None:
    run = started(
        {
            "spark.speculation": "true",
            "spark.speculation.quantile": 0.2,
            "spark.speculation.multiplier": 1.1,
            "spark.speculation.interval": "100ms",
            "spark.speculation.minTaskRuntime": "100ms",
        },
        slow="worker-0",
    )
    for gate in ("first", "last"):
        run.open(gate)
    manifest, events = run.finished()
    done = Counter((event["Task Info"]["Speculative"], event["Task End Reason"]["Reason"]) for event in ended(events))
    assert done[True, "Success"] >= 1, done
    again = [event["Task Info"]["Index"] for event in events if event["Event"] == "SparkListenerTaskStart"]
    assert max(Counter(again).values()) > 1
    published = {file.path for file in manifest.staged["features"]}
    assert published == {path for path in published if Path(run.store, "features", path).exists()}


def test_an_executor_that_is_decommissioned_ends_its_task_and_takes_no_other(cluster: Standalone, started: Any) -> None:
    run = started({"spark.decommission.enabled": "true", "spark.storage.decommission.enabled": "true"}, slow="worker-")
    both = run.until(WORKERS, busy=True)
    victim = both[0]["id"]
    processes = [process for worker in cluster.workers for process in worker.family()]
    [executor] = [process for process in processes if is_executor(process, victim)]
    executor.send_signal(signal.SIGPWR)
    stderr = Path(executor.cwd(), "stderr")
    wait_for(lambda: "ecommission" in stderr.read_text() or None, PATIENCE_S, "the executor's word")
    for gate in ("first", "last", "slow node"):
        run.open(gate)
    _, events = run.finished()
    assert psutil.wait_procs([executor], timeout=60)[0]
    done = Counter(event["Task Info"]["Executor ID"] for event in ended(events))
    assert {event["Task End Reason"]["Reason"] for event in ended(events)} == {"Success"}, "no task is done twice"
    assert done[victim] == 1 and sum(done.values()) > WORKERS


def is_executor(process: psutil.Process, number: str) -> bool:
    words = process.cmdline()
    return any("CoarseGrainedExecutorBackend" in word for word in words) and (
        words[words.index("--executor-id") + 1] == number
    )
