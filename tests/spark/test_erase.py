"""Erased photos stay away: a backfill from a source that still has them takes none of them, under whatever name."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path
from typing import Any

import pytest

from spark_apps import catalog, contract
from spark_apps.contract import EraseSettings, ValidateSettings
from spark_apps.erase import erase
from spark_apps.spark.jobs import Timings
from spark_apps.tables import tombstones
from spark_apps.validate import validate
from tests.spark.conftest import Pipeline, fill
from tests.spark.test_resume import LENGTHS

BROKEN = {"empty": 1}
"""What an extractor that takes any bytes sets aside of the ten files of a day."""


@pytest.fixture
def run(pipeline: Pipeline, landing: Path, tmp_path: Path) -> Pipeline:
    """The pipeline with an extractor that costs nothing, on two days of the same photos."""
    module = tmp_path / "lengths.py"
    module.write_text(LENGTHS)
    fill(landing / "d2")

    def started(*arguments: Any, **options: Any) -> Any:
        own = {"extractor": f"{module}:Lengths", "max_failed_fraction": 0.2, "max_identical_fraction": 1}
        return pipeline(*arguments, **{**own, **options})

    return started


def settings(tmp_path: Path, **options: Any) -> EraseSettings:
    return EraseSettings(store=str(tmp_path / "store"), **options)


def names(table: Any) -> set[str]:
    return {uri.rsplit("/", 1)[-1] for uri in table["uri"].to_pylist()}


def test_a_backfill_takes_none_of_them_and_says_how_many_there_are(
    run: Pipeline, landing: Path, tmp_path: Path
) -> None:
    store = str(tmp_path / "store")
    run("d1")
    listed = tmp_path / "photos.txt"
    coffee = (landing / "d1" / "coffee.jpg").read_bytes()
    listed.write_text(f"{hashlib.sha256(coffee).hexdigest()}\n{landing}/d1/turned.jpg\n")
    erase(settings(tmp_path, list=str(listed)), Timings())
    assert erase(settings(tmp_path, list=str(listed), verify=True), Timings()).counts == {"found": 0}

    shutil.copy(landing / "d1" / "coffee.jpg", landing / "d1" / "another name.jpg")
    (landing / "d1" / "turned.jpg").write_bytes(b"the same name, saved again")
    for day, erased in (("d1", 4), ("d2", 3)):
        counts = run(day, "run 2")["validate"].counts
        assert counts["listed"] == counts["featured"] + counts["quarantined"]
        rows = catalog.quarantine(store, day)
        codes = rows["error_code"].to_pylist()
        assert {code: codes.count(code) for code in codes} == {**BROKEN, "erased": erased}
        told = [row for row in rows.to_pylist() if row["error_code"] == "erased"]
        assert all(row["uri"].startswith("erased:") and row["image_id"] is None for row in told)
        assert not {"coffee.jpg", "coffee%20again.jpg", "turned.jpg", "another%20name.jpg"} & names(
            catalog.vectors(store, day, "lengths")
        )
    assert erase(settings(tmp_path, list=str(listed), verify=True), Timings()).counts == {"found": 0}
    left = [path for path in Path(store).rglob("*") if path.is_file() and b"another%20name" in path.read_bytes()]
    assert left == [], "the name of the copy is not written down either"
    report = catalog.report(store, "d1", "run 2")
    assert report["verdict"].startswith("published") and report["quarantined"]["erased"] == 4


def test_what_is_erased_while_a_run_is_under_way_is_not_published_by_it(
    run: Pipeline, landing: Path, tmp_path: Path
) -> None:
    store = str(tmp_path / "store")
    run("d1", upto="extract")
    erase(settings(tmp_path, uri=f"{landing}/d1/coffee.jpg"), Timings())
    late = (landing / "d1" / "chelsea.jpg").as_uri()  # as of an erasure that was over before the run had staged it
    tombstones.write(store, "late", [], [late])
    limits = {"max_failed_fraction": 0.2, "max_identical_fraction": 1}
    manifest = validate(ValidateSettings(store=store, partition="d1", run_id="run 1", **limits), Timings())
    assert manifest.counts["listed"] == manifest.counts["featured"] + manifest.counts["quarantined"] == 7
    assert names(catalog.vectors(store, "d1", "lengths")) == names(catalog.images(store, "d1"))
    assert not {"coffee.jpg", "coffee%20again.jpg", "chelsea.jpg"} & names(catalog.images(store, "d1"))
    assert catalog.manifest(store, "d1", contract.RunKey("run 1"), "ingest").counts["listed"] == 10
