"""Nodes with nothing, too little or another Python: an environment is sent along, or a sentence says what is amiss.

The jobs are started by hand, with spark-submit.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from spark_apps import catalog, contract
from spark_apps.contract import ExitCode
from spark_apps.spark import packages
from tests.cluster.standalone import QUICK_JAVA, Standalone

REPOSITORY = Path(__file__).resolve().parents[2]
RUN = "run-1"


@pytest.fixture
def day(tmp_path: Path) -> Path:
    """A folder with two photos and a broken one."""
    folder = tmp_path / "landing" / "d1"
    folder.mkdir(parents=True)
    for number in range(2):
        Image.new("RGB", (64, 48), (number, 90, 200)).save(folder / f"{number}.jpg")
    (folder / "empty.jpg").touch()
    return folder


def ingest(
    cluster: Standalone, day: Path, store: Path, *options: str, application: Path | None = None, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Submits ingest to one executor of the cluster, from a folder without this project."""
    application = application or REPOSITORY / "spark_apps" / "ingest.py"
    return submit(cluster, application, store, ["--source", str(day)], *options, **environment)


def submit(
    cluster: Standalone, application: Path, store: Path, arguments: list[str], *options: str, **environment: str
) -> subprocess.CompletedProcess[str]:
    """The same for any stage; `arguments` are its own, `options` those of spark-submit."""
    command = [str(Path(sys.executable).with_name("spark-submit")), "--master", cluster.master]
    job = ["--store", str(store), "--partition", "d1", "--run-id", RUN, *arguments]
    inherited = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.run(
        [*command, "--conf", "spark.cores.max=1", *options, str(application), *job],
        cwd=store.parent,
        env={
            **inherited,
            "SPARK_CONF_DIR": str(cluster.conf),
            "SPARK_LOCAL_IP": "127.0.0.1",
            "PYSPARK_DRIVER_PYTHON": sys.executable,
            **QUICK_JAVA,
            **environment,
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=500,
        check=False,
    )


def test_nothing_of_ours_is_needed_where_driver_and_workers_run(cluster: Standalone, day: Path, tmp_path: Path) -> None:
    """The nodes run in a packed environment. The driver knows the project from the zip alone: in deploy mode cluster,
    which only YARN and Kubernetes offer for Python, it is a copy of the one file beside what --py-files names."""
    alone = tmp_path / "a" / "container" / "ingest.py"
    alone.parent.mkdir(parents=True)
    shutil.copy(REPOSITORY / "spark_apps" / "ingest.py", alone)
    packed = tmp_path / "environment.tar.gz"
    packages.environment(
        packed, [package for package in packages.WORKER if package != "openvino"]
    )  # ingest needs no engine
    options = ("--archives", f"{packed}#{contract.ENVIRONMENT}", "--py-files", str(packages.code(tmp_path)))
    done = ingest(
        cluster, day, tmp_path / "store", *options, application=alone, PYSPARK_PYTHON=contract.ENVIRONMENT_PYTHON
    )
    assert done.returncode == ExitCode.DONE, done.stdout[-3000:]
    manifest = catalog.manifest(str(tmp_path / "store"), "d1", RUN, "ingest")
    assert manifest is not None
    assert manifest.counts == {"listed": 3, "accepted": 2, "quarantined": 1, "resumed": 0}
    assert manifest.code_hash == packages.code_hash()


LIE = """import collections, sys
kind = collections.namedtuple("version_info", "major minor micro releaselevel serial")
sys.version_info = kind(3, sys.version_info.minor + 1, 0, "final", 0)
"""


def test_another_python_on_the_nodes_is_a_sentence(
    cluster: Standalone, bare_python: Path, day: Path, tmp_path: Path
) -> None:
    (tmp_path / "sitecustomize.py").write_text(LIE)
    other = tmp_path / "python"
    other.write_text(f'#!/bin/sh\nPYTHONPATH={tmp_path}:$PYTHONPATH exec {bare_python} "$@"\n')
    other.chmod(0o755)
    done = ingest(cluster, day, tmp_path / "store", PYSPARK_PYTHON=str(other))
    mine, theirs = f"3.{sys.version_info.minor}", f"3.{sys.version_info.minor + 1}"
    assert done.returncode == ExitCode.BAD_SETTING, done.stdout[-3000:]
    assert f"\ningest failed: The Python on 127.0.0.1 is {theirs}, that of the driver is {mine};" in done.stdout
    error = catalog.error(str(tmp_path / "store"), "d1", RUN)
    assert error is not None
    assert error["code"] == "worker_python_differs"


def test_a_package_that_a_node_lacks_is_named_with_the_node(
    cluster: Standalone, bare_python: Path, day: Path, tmp_path: Path
) -> None:
    done = ingest(cluster, day, tmp_path / "store", PYSPARK_PYTHON=str(bare_python))
    assert done.returncode == ExitCode.BAD_SETTING, done.stdout[-3000:]
    error = catalog.error(str(tmp_path / "store"), "d1", RUN)
    assert error is not None
    assert error["code"] == "worker_package_missing"
    assert error["message"] == "The Python on 127.0.0.1 has no package pyarrow."
