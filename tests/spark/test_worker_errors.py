"""What a task raised in a worker is what the job ends with, whatever Spark makes of it on the way."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from spark_apps import contract
from spark_apps.contract import JobError, Manifest, ValidateSettings
from spark_apps.spark import contexts, jobs


def raising(kind: type[JobError]) -> Callable[[Iterator[int]], Iterator[dict[str, Any]]]:
    def work(units: Iterator[int]) -> Iterator[dict[str, Any]]:
        yield {"unit": next(units)}
        raise kind("some_code", "It broke.", "Fix it.")

    return work


@pytest.mark.parametrize("spread", [True, False], ids=["spread", "another job of Spark"])
@pytest.mark.parametrize("kind", JobError.kinds().values(), ids=JobError.kinds())
def test_a_job_ends_as_its_worker_did(
    kind: type[JobError], spread: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = ValidateSettings(store=str(tmp_path / "store"), partition="d1", run_id="r")
    monkeypatch.setattr(sys, "argv", ["validate", *contract.to_args(settings)])

    def job(settings: ValidateSettings, timings: jobs.Timings) -> Manifest:
        spark = contexts.context("tests")
        if spread:
            contexts.spread(spark, [0, 1], raising(kind), 1)
        else:
            spark.parallelize([0], 1).mapPartitions(raising(kind)).collect()
        raise AssertionError("the job went on")

    assert jobs.run("validate", ValidateSettings, job, "What it does.") == kind.exit_code
    record = json.loads((Path(settings.folder) / "error.json").read_text())
    assert "It broke." in record["message"]
    assert "Fix it." in record["message"] + record["hint"]
