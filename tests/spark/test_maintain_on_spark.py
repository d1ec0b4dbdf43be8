"""Small files that Spark tasks merge become what the driver would make of them, and a kill publishes nothing twice."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from deltalake import DeltaTable

from spark_apps import catalog
from spark_apps.contract import MaintainSettings, Manifest
from spark_apps.maintain import maintain
from spark_apps.spark import spreading
from spark_apps.spark.jobs import Timings
from spark_apps.tables import data_files, schemas
from spark_apps.upkeep import compaction
from tests.faults.jobs import MARK, REPOSITORY, marked
from tests.shelf import MODEL, Shelf

DAYS, FILES = ("d1", "d2"), 12


@pytest.fixture
def store(tmp_path: Path) -> str:
    """Two days, each in a file for each photo."""
    shelf = Shelf(str(tmp_path / "store"))
    for day in DAYS:
        publication = shelf.publication(day, "r", {}, quarantined=["q"])
        for name, stage in (("images", shelf.images), ("features", shelf.features)):
            publication.staged[name] = [
                file for number in range(FILES) for file in stage(day, "r", {f"{day}/{number:02}": str(number)})
            ]
        publication.commit()
    return shelf.store


def rows(store: str) -> dict[str, list[dict[str, Any]]]:
    found = {}
    for day in DAYS:
        tables = (catalog.images(store, day), catalog.vectors(store, day, MODEL), catalog.quarantine(store, day))
        for name, table in zip(("images", "features", "quarantine"), tables, strict=True):
            found[f"{day} {name}"] = sorted(table.to_pylist(), key=lambda row: str(row["uri"]))
    return found


def shown(store: str, table: str) -> dict[str, list[int]]:
    """By day, the rows of each file that a table shows."""
    published = data_files.published(DeltaTable(f"{store}/{table}"), {})
    return {day: sorted(file.rows for file in published if file.keys["partition"] == day) for day in DAYS}


def lying(store: str) -> set[str]:
    return {str(path) for path in Path(store).rglob("*.parquet") if "_delta_log" not in path.parts}


def kept(store: str, hours_later: float = 0) -> Manifest:
    moment = datetime.now(UTC) + timedelta(hours=hours_later)
    return maintain(MaintainSettings(store=store), Timings(), moment)


def test_tasks_merge_as_the_driver_does(store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = str(tmp_path / "other")
    shutil.copytree(store, other)
    before = rows(store)
    monkeypatch.setattr(compaction, "PART_BYTES", 5 * max(Path(path).stat().st_size for path in lying(store)))
    here = kept(store)
    asked = []
    spread = spreading.contexts.spread
    monkeypatch.setattr(spreading.contexts, "spread", lambda *args: asked.append(args) or spread(*args))
    monkeypatch.setattr(spreading, "SPREAD_BYTES", 0)
    there = kept(other)
    assert len(asked) == 2, "images and features"
    assert there.counts == here.counts and there.outcome["tables"] == here.outcome["tables"]
    assert there.counts["merged"] == 2 * 2 * FILES
    assert rows(other) == rows(store) == before
    for table in schemas.TABLES:
        assert shown(other, table) == shown(store, table)
    assert len(shown(store, "features")["d1"]) > 1, "a large day is several parts"
    assert DeltaTable(f"{other}/features").version() == len(DAYS) + 1, "in one commit"
    assert kept(other).counts["merged"] == 0, "merged once, never again"


@pytest.mark.slow_faults
def test_tasks_that_are_killed_publish_nothing_twice_and_leave_what_the_vacuum_knows(
    store: str, tmp_path: Path
) -> None:
    (tmp_path / "sitecustomize.py").write_text("from spark_apps.spark import spreading\nspreading.SPREAD_BYTES = 0\n")
    paths = os.pathsep.join([str(tmp_path), str(REPOSITORY)])
    before, published = rows(store), lying(store)
    environment = {**os.environ, "PYTHONPATH": paths, "SPARK_LOCAL_IP": "127.0.0.1", MARK: str(tmp_path)}
    command = [sys.executable, "-m", "spark_apps.maintain", "--store", store]
    job = subprocess.Popen(command, env=environment, start_new_session=True)
    while not [path for path in lying(store) if "/merged-" in path]:
        assert job.poll() is None
        time.sleep(0.005)
    os.killpg(job.pid, signal.SIGKILL)
    job.wait()
    while marked(str(tmp_path)):
        time.sleep(0.1)
    assert rows(store) == before and published <= lying(store)
    assert kept(store).counts["merged"] > 0
    assert rows(store) == before
    kept(store, hours_later=200)
    assert rows(store) == before
    current = {
        f"{store}/{name}/{path}" for name in schemas.TABLES for path in data_files.files(DeltaTable(f"{store}/{name}"))
    }
    assert lying(store) == current, "no orphan is left"
