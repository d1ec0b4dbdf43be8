"""The wheel without Airflow: three jobs by spark-submit, and a column of features, on each Spark that is supported."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.install import environments
from tests.install.conftest import DAY

COLUMN = """
import sys
from pyspark.sql import SparkSession
from spark_apps.vectorizer import ImageVectorizer
import numpy

spark = SparkSession.builder.master("local[2]").getOrCreate()
vectorizer = ImageVectorizer("resnet18", "random:0")
photos = spark.read.format("binaryFile").load(sys.argv[1])
rows = vectorizer.process_images(photos, error_column="error").select("content", "features", "error").collect()
good = [row for row in rows if row.error is None]
for row in good:
    numpy.testing.assert_allclose(row.features, vectorizer.extract_features(row.content), rtol=1e-3, atol=1e-4)
bad = [row for row in rows if row.features is None and row.error]
(width,) = {len(row.features) for row in good}
print(f"{len(good)} of {width} floats, {len(bad)} refused")
"""
"""The column of an ImageVectorizer: each row as the vectorizer says by itself."""


@pytest.mark.parametrize(
    "version",
    [
        pytest.param("3.5", marks=pytest.mark.install),
        *(pytest.param(v, marks=pytest.mark.versions) for v in ("4.0", "4.1", "4.2")),
    ],
)
def test_the_jobs(version: str, wheel: Path, source: str, tmp_path: Path) -> None:
    with environments.made(tmp_path / "env", wheel, "spark", f"pyspark=={version}.*") as installed:
        run_the_jobs(installed, source, tmp_path)


def run_the_jobs(installed: environments.Environment, source: str, tmp_path: Path) -> None:
    assert not (installed.packages / "airflow").exists()
    run = ["--store", str(tmp_path / "store"), "--partition", DAY, "--run-id", "by-hand"]

    def submit(job: str, *arguments: str) -> str:
        program = str(installed.packages / "spark_apps" / f"{job}.py")
        return installed.run("spark-submit", "--master", "local[2]", program, *run, *arguments, cwd=tmp_path)

    assert "5 accepted, 1 quarantined" in submit("ingest", "--source", source)
    assert "5 featured" in submit("extract", "--model", "resnet18", "--weights", "random:0")
    assert "5 featured" in submit("validate", "--max-failed-fraction", "0.5")

    program = tmp_path / "column.py"
    program.write_text(COLUMN)
    folder = source.format(partition=DAY)
    assert "5 of 512 floats, 1 refused" in installed.run("python", str(program), folder, cwd=tmp_path)
