"""The Spark session and the photos of the systems that are written on plain Spark."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.protocol import Job, OnePass, Pass

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession


@contextmanager
def session(name: str, cores: int) -> Iterator[SparkSession]:
    """A local session with one task slot per core."""
    from pyspark.sql import SparkSession

    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    spark = (
        SparkSession.builder.master(f"local[{cores}]")
        .appName(name)
        .config("spark.ui.enabled", "false")
        .config("spark.driver.host", "127.0.0.1")
        .config("spark.driver.bindAddress", "127.0.0.1")
        .config("spark.ui.showConsoleProgress", "false")
        .config("spark.log.level", "ERROR")
        .getOrCreate()
    )
    try:
        yield spark
    finally:
        spark.stop()


def photos(spark: SparkSession, job: Job) -> DataFrame:
    """uri and content, the same share of files for each core: a model loaded per task is loaded once per core."""
    spark.conf.set("spark.sql.files.openCostInBytes", "0")
    spark.conf.set("spark.sql.files.maxPartitionBytes", str(max(os.path.getsize(file) for file in job.parquet)))
    return spark.read.parquet(*job.parquet).select("uri", "content").coalesce(job.cores)


def one_pass(spark: SparkSession, job: Job, features: Any) -> OnePass:
    """All photos once, by the UDF `features` of a column of contents."""

    def run(out: Path) -> Pass:
        frame = photos(spark, job).withColumn("features", features("content"))
        frame.select("uri", "features").write.mode("overwrite").parquet(str(out))
        return Pass()

    return run
