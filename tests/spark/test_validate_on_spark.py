"""A day that validate reads in Spark tasks gets the report, to the last digit, that the driver would have written."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from spark_apps import catalog, contract, storage
from spark_apps.contract import ExtractSettings, IngestSettings, Manifest, QualityFailed, ValidateSettings
from spark_apps.extract import extract
from spark_apps.ingest import ingest
from spark_apps.pipeline import drift, drift_explained, measure
from spark_apps.spark import spreading
from spark_apps.spark.jobs import Timings, write_manifest
from spark_apps.validate import validate
from tests.faults.day import PARTITION
from tests.faults.jobs import REPOSITORY, Job
from tests.shelf import Shelf

FILES, DIM = 90, 12
RUN: dict[str, Any] = {"partition": PARTITION, "run_id": "r"}
EXTRACTOR = f"""
import hashlib
import numpy as np
from spark_apps.contract import BadFile
from spark_apps.extractors import Extractor

class Digits(Extractor):
    name, dim, min_cosine = "digits", {DIM}, 0.9

    def prepare(self, content):
        if content.startswith(b"bad"):
            raise BadFile("corrupt", "It says so.")
        return content.strip()

    def extract(self, items):
        return np.array([list(hashlib.sha256(item).digest()[:{DIM}]) for item in items], np.float32)

    def reference(self, content):
        return self.extract([self.prepare(content)])[0]
"""


@pytest.fixture(scope="module")
def staged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with a day that ingest and extract have staged: copies, photos of one content but for a blank, and files
    that are none, in many small files."""
    root = tmp_path_factory.mktemp("day")
    (root / "digits.py").write_text(EXTRACTOR)
    folder = root / "landing" / PARTITION
    folder.mkdir(parents=True)
    for number in range(FILES):
        content = f"photo {number % 80}"  # ten copies
        content += " " * (number % 3) * (number > 76)  # and some of other bytes and the same vector
        (folder / f"{number:03}.txt").write_text("bad" if number % 17 == 3 else content)
    common = {**RUN, "store": str(root / "store"), "extractor": f"{root}/digits.py:Digits"}
    for job, settings in (
        (ingest, IngestSettings(source=str(folder), **common)),
        (extract, ExtractSettings(**common)),
    ):
        write_manifest(settings, job(settings, Timings()))  # type: ignore[operator]
    return root / "store"


def validated(store: Path, **options: Any) -> tuple[dict[str, Any], str]:
    """The report, without what a clock says, and the words of what failed."""
    words = ""
    try:
        validate(ValidateSettings(store=str(store), no_publish=True, **RUN, **options), Timings())
    except QualityFailed as failed:
        words = str(failed)
    report = catalog.report(str(store), PARTITION, "r")
    assert report is not None
    return {name: value for name, value in report.items() if name not in ("seconds", "at")}, words


def both_ways(store: Path, monkeypatch: pytest.MonkeyPatch, **options: Any) -> tuple[dict[str, Any], str]:
    """The same either way, to the last byte; with records that come back in several portions."""
    spread = []
    inner = spreading.contexts.spread
    monkeypatch.setattr(spreading.contexts, "spread", lambda *args: spread.append(args) or inner(*args))
    here = validated(store, **options)
    assert not spread
    monkeypatch.setattr(spreading, "SPREAD_BYTES", 0)
    monkeypatch.setattr(measure, "PORTION_ROWS", 30)
    there = validated(store, **options)
    assert len(spread) > 3
    assert json.dumps(there) == json.dumps(here)
    return here


Change = Callable[[list[dict[str, Any]]], list[dict[str, Any]]]


def changed(staged: Path, tmp_path: Path, table: str, change: Change) -> Path:
    """A copy of the store, with other rows in the staged files of a table."""
    store = tmp_path / "store"
    if not store.exists():
        shutil.copytree(staged, store)
    found = [catalog.manifest(str(store), PARTITION, "r", stage) for stage in ("ingest", "extract")]
    files = [file for manifest in found if manifest for file in manifest.staged.get(table, [])]
    for file in files:
        path = store / table / file.path
        rows = pq.read_table(path)
        pq.write_table(pa.Table.from_pylist(change(rows.to_pylist()), schema=rows.schema), path, row_group_size=2)
    return store


def test_a_good_day_has_one_report(staged: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    report, words = both_ways(staged, monkeypatch, max_failed_fraction=0.5, recheck=12)
    assert (words, report["verdict"], report["quarantined"]) == ("", "checked", {"corrupt": 6})
    assert len({one["uri"] for one in report["recomputed"]}) == 12
    assert {round(one["cosine"], 6) for one in report["recomputed"]} == {1.0}
    assert report["drift"]["sketch"]["n"] < report["counts"]["featured"] == FILES - 6
    assert next(check for check in report["checks"] if check["name"] == "identical_vectors")["offenders"]


def test_a_day_with_every_defect_has_one_report(staged: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = {
        0: [1.0],
        1: [float("nan")] * DIM,
        2: [float("inf"), *range(DIM - 1)],
        4: [7.0] * DIM,
        5: [0.0] * DIM,
        6: [],
    }

    def broken(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        done = []
        for row in rows:
            number = int(row["uri"][-7:-4])
            row["features"] = wrong.get(number, row["features"])
            row["model_fingerprint"] = "another" if number == 40 else row["model_fingerprint"]
            row["uri"] += ".stranger" if number == 50 else ""
            done += [row] * (2 if number in (60, 61) else 0 if number == 70 else 1)
        return done

    store = changed(staged, tmp_path, "features", broken)
    report, words = both_ways(store, monkeypatch, recheck=30)
    checks = {check["name"]: check for check in report["checks"]}
    failed = {name for name, check in checks.items() if not check["passed"]}
    assert failed >= {"reconciliation", "dimension", "finite", "constant", "fingerprint", "recomputation"}
    assert [checks[name]["value"] for name in ("dimension", "finite", "constant", "fingerprint")] == [2, 2, 2, 1]
    # lost: 50 by its own name, and 70; counted twice: 60 and 61; never listed: 50 by another
    named = [uri.rsplit("/", 1)[-1] for uri in checks["reconciliation"]["offenders"]]
    assert named == ["050.txt", "070.txt", "060.txt", "061.txt", "050.txt.stranger"]
    assert "2 files lost, 2 counted twice, 1 never listed" in words


@pytest.mark.parametrize("honest", [True, False])
def test_a_day_of_twins_has_one_report(
    staged: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, honest: bool
) -> None:
    def alike(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [{**row, "features": list(range(DIM))} for row in rows]

    def blank(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [{**row, "content": b" " * int(row["uri"][-7:-4])} for row in rows]

    store = changed(staged, tmp_path, "features", alike)
    if honest:
        store = changed(staged, tmp_path, "images", blank)
    report, _ = both_ways(store, monkeypatch, max_failed_fraction=0.5, check_levels="recomputation=off")
    (check,) = [check for check in report["checks"] if check["name"] == "identical_vectors"]
    assert (check["passed"], check["value"] == 0, not check["offenders"]) == (honest,) * 3
    assert "by a look at" in check["message"]


@pytest.mark.slow_faults
def test_a_validation_on_spark_that_is_killed_leaves_nothing_and_is_run_again(staged: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    shutil.copytree(staged, store)
    (tmp_path / "sitecustomize.py").write_text("from spark_apps.spark import spreading\nspreading.SPREAD_BYTES = 0\n")
    paths = os.pathsep.join([str(tmp_path), str(REPOSITORY)])
    files = lying(store)

    def job() -> Job:
        return Job("validate", "r", str(store), logs=tmp_path, environment={"PYTHONPATH": paths})

    killed = job()
    folder = Path(contract.run_folder(str(store), PARTITION, "r"))
    while not list(folder.glob("progress-*/*.json")):
        assert killed.process.poll() is None, killed.last_words
        time.sleep(0.01)
    assert killed.kill("group")
    killed.wait()
    killed.gone()
    assert catalog.partitions(str(store)) == []
    assert {path for path in lying(store) if "/progress" not in path} == files, "its notes go with maintenance"
    assert job().wait() == 0
    (published,) = catalog.partitions(str(store))
    vectors = catalog.vectors(str(store), PARTITION, published.model)["uri"].to_pylist()
    assert len(vectors) == len(set(vectors)) == FILES - 6
    assert isinstance(catalog.manifest(str(store), PARTITION, "r", "validate"), Manifest)


def lying(store: Path) -> set[str]:
    """What lies in the store, but for its logs."""
    return {
        str(path.relative_to(store)) for path in store.rglob("*") if path.is_file() and "_delta_log" not in str(path)
    }


def test_a_day_with_odd_photos_names_them_and_has_a_second_opinion(
    staged: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    odd = {f"{number:03}" for number in range(FILES) if number % 3 == 0}  # 3 of 10, and none of the copies

    def planted(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [
            {**row, "features": [value / 4 + 300 for value in row["features"]]} if row["uri"][-7:-4] in odd else row
            for row in rows
            if row["uri"][-7:-4] < "080"
        ]

    store = changed(staged, tmp_path, "features", planted)
    publish_before(store, ["2026-01-01", "2026-01-02"])
    report, _ = both_ways(store, monkeypatch, max_failed_fraction=0.5, check_levels="recomputation=off")
    found = report["drift"]
    assert found["value"] > 0.05
    assert len(found["moved"]) == drift_explained.NAMED
    assert {one["uri"][-7:-4] for one in found["moved"]} <= odd
    parts = [one["moved"] for one in found["moved"]]
    assert parts == sorted(parts, reverse=True)
    first = found["moved"][0]
    assert first["image_id"] == hashlib.sha256(f"photo {int(first['uri'][-7:-4])}".encode()).hexdigest()
    second = found["second_opinion"]
    assert (second["p"], 0.55 < second["auc"] < 0.75, second["before"]) == (1 / 500, True, 160)


def test_a_day_like_those_before_is_no_news_to_either(
    staged: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = tmp_path / "store"
    shutil.copytree(staged, store)
    publish_before(store, ["2026-01-01", "2026-01-02"])
    report, _ = both_ways(store, monkeypatch, max_failed_fraction=0.5)
    found, second = report["drift"], report["drift"]["second_opinion"]
    assert found["value"] < 0.02
    assert (second["p"] > 0.05, 0.38 < second["auc"] < 0.62) == (True, True)


def publish_before(store: Path, days: list[str]) -> None:
    """Publishes days of vectors like those of the extractor, and leaves what a later day compares itself with."""
    extracted = catalog.manifest(str(store), PARTITION, "r", "extract")
    assert extracted is not None and extracted.model is not None
    model = extracted.model
    for day in days:
        vectors = {
            f"file:///{day}/{number}": [
                float(byte) for byte in hashlib.sha256(f"{day}{number}".encode()).digest()[:DIM]
            ]
            for number in range(80)
        }
        shelf = Shelf(str(store))
        shelf.publish(
            day, "old", {uri: uri for uri in vectors}, model=model.key, vectors=vectors, fingerprint=model.fingerprint
        )
        sketch = drift.sketch(drift.slices(np.array([*vectors.values()], np.float32)))
        report = {"report_version": 1, "model": {"fingerprint": model.fingerprint}, "drift": {"sketch": sketch}}
        storage.write_json(contract.join(contract.run_folder(str(store), day, "old"), "report.json"), report)
