"""Ours: `spark_apps.extract` on a staged partition, twice and more within one Spark session.

First run: the whole `extract` with everything it does, its session included. A warm pass: the phase `compute` of a
further `extract --recompute` in that session, from the launch of the Spark job that reads, decodes, infers and writes
to its last record. That is what a warm pass is for the systems on plain Spark too.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.protocol import Job, NotPossible, OnePass, Pass, serve
from spark_apps.contract import BadSetting, ExtractSettings
from spark_apps.extract import extract
from spark_apps.spark import contexts, jobs
from spark_apps.tables import schemas

RUN_ID = "bench"


def settings(job: Job, partition: str) -> ExtractSettings:
    """The command's settings. Raises NotPossible where they are refused."""
    options: dict[str, Any] = {
        "store": job.store,
        "partition": partition,
        "run_id": RUN_ID,
        "weights": job.weights,
        "engine": job.engine,
        "precision": job.precision,
        "batch_size": job.batch_size,
        "decode": job.decode,
        "resources": job.resources,
        "recompute": True,
    }
    try:
        return ExtractSettings(**options)
    except BadSetting as refused:
        raise NotPossible(str(refused)) from None


@contextmanager
def ours(job: Job) -> Iterator[OnePass]:
    measured = settings(job, Path(job.photos).name)
    warm_up = settings(job, job.warm_up) if job.warm_up else measured
    os.environ.setdefault("PYSPARK_SUBMIT_ARGS", f"--master local[{job.cores}] {contexts.BY_HAND}")

    def one_pass(out: Path) -> Pass:
        timings = jobs.Timings()
        try:
            manifest = extract(warm_up if out.name == "first" else measured, timings)
        except BadSetting as refused:
            raise NotPossible(str(refused)) from None
        root = Path(schemas.FEATURES.uri(job.store))
        files = [str(root / file.path) for file in manifest.staged["features"]]
        detail = {"phases": manifest.seconds, "loads": manifest.outcome.get("model_loads")}
        return Pass(manifest.seconds["compute"], manifest.counts["featured"], files, detail)

    yield one_pass


if __name__ == "__main__":
    sys.exit(serve("ours", ours, __doc__))
