"""How many tasks a job plans for, on a cluster whose executors are still starting when it begins."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.standalone import QUICK_JAVA, Standalone

WORKERS, CORES = 2, 3
ASKS = """
from spark_apps.spark import contexts
contexts.SETTLED_SECONDS = 15  # all executors start on this one machine, which may be busy with other tests
print(contexts.parallelism(contexts.context("asks")))
"""


@pytest.fixture(scope="module")
def wide(bare_python: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Standalone]:
    """A cluster that promises nothing: no bound on the cores of a job, and a job may begin before its executors."""
    standalone = Standalone(tmp_path_factory.mktemp("wide") / "spark", bare_python.parent, WORKERS, CORES)
    defaults = standalone.conf / "spark-defaults.conf"
    promises = ("spark.cores.max", "spark.executor.cores", "spark.scheduler.minRegisteredResourcesRatio")
    kept = [line for line in defaults.read_text().splitlines() if line.split()[0] not in promises]
    defaults.write_text("\n".join(kept))
    try:
        yield standalone
    finally:
        standalone.stop()


@pytest.mark.parametrize(
    ("settings", "tasks"),
    [
        ({}, WORKERS * CORES),
        ({"spark.cores.max": WORKERS * CORES, "spark.task.cpus": CORES}, WORKERS),
        (
            {
                "spark.dynamicAllocation.enabled": "true",
                "spark.dynamicAllocation.shuffleTracking.enabled": "true",
                "spark.dynamicAllocation.maxExecutors": 5,
                "spark.executor.cores": 2,
            },
            10,
        ),
    ],
    ids=["what the cluster has", "what was asked for, in wide tasks", "what dynamic allocation may grow to"],
)
def test_work_is_shared_out_for_all_executors(wide: Standalone, settings: dict[str, object], tasks: int) -> None:
    given = "".join(f"--conf {key}={value} " for key, value in settings.items())
    asked = subprocess.run(
        [sys.executable, "-c", ASKS],
        cwd=Path(__file__).resolve().parents[2],
        env={
            **os.environ,
            "SPARK_CONF_DIR": str(wide.conf),
            "SPARK_LOCAL_IP": "127.0.0.1",
            "PYSPARK_SUBMIT_ARGS": f"--master {wide.master} {given}pyspark-shell",
            **QUICK_JAVA,
        },
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert asked.stdout.split() == [str(tasks)], asked.stderr[-3000:]
