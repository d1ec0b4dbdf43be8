"""The wheel without Airflow: three jobs by spark-submit, on each Spark that is supported."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.install import environments
from tests.install.conftest import DAY


@pytest.mark.parametrize(
    "version",
    [
        pytest.param("3.5", marks=pytest.mark.install),
        *(pytest.param(v, marks=pytest.mark.versions) for v in ("4.0", "4.1", "4.2")),
    ],
)
def test_the_jobs(version: str, wheel: Path, source: str, tmp_path: Path) -> None:
    installed = environments.make(tmp_path / "env", wheel, "spark", f"pyspark=={version}.*")
    assert not (installed.packages / "airflow").exists()
    run = ["--store", str(tmp_path / "store"), "--partition", DAY, "--run-id", "by-hand"]

    def submit(job: str, *arguments: str) -> str:
        program = str(installed.packages / "spark_apps" / f"{job}.py")
        return installed.run("spark-submit", "--master", "local[2]", program, *run, *arguments, cwd=tmp_path)

    assert "5 accepted, 1 quarantined" in submit("ingest", "--source", source)
    assert "5 featured" in submit("extract", "--model", "resnet18", "--weights", "random:0")
    assert "5 featured" in submit("validate", "--max-failed-fraction", "0.5")
