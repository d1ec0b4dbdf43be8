"""A store that an older version wrote is read, undone and maintained by this one, and no row changes."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from spark_apps import catalog, contract
from spark_apps.contract import MaintainSettings, UndoSettings
from spark_apps.maintain import maintain
from spark_apps.spark.jobs import Timings
from spark_apps.undo import listing, undo
from tests import old_store
from tests.old_store import MODEL, RUNS, SCHEDULED

LATER = datetime.now(UTC) + timedelta(days=3650)
"""When all that the store no longer shows is older than any retention."""


@pytest.fixture
def store(tmp_path: Path) -> str:
    return old_store.unpack(tmp_path)


def test_its_rows_and_documents_are_read(store: str) -> None:
    old_store.check_rows(store)
    shown = {item.partition: item.run_id for item in catalog.partitions(store)}
    assert shown == RUNS
    assert catalog.earlier(store, "2026-11-22", MODEL, 7) == ["2026-11-21", "2026-11-20"]
    assert set(catalog.fingerprints(store, MODEL, "2026-11-21", 7).values()) == {old_store.FINGERPRINT}
    for partition, run_id in RUNS.items():
        report = catalog.report(store, partition, run_id)
        assert report is not None and report["verdict"] == "published"
        for stage in contract.STAGES:
            manifest = catalog.manifest(store, partition, run_id, stage)
            assert manifest is not None and (manifest.stage, manifest.run_id) == (stage, run_id)
    for image_id, place in catalog.places(store, "2026-11-21").items():
        assert hashlib.sha256(catalog.contents(store, place)[place.row].as_py()).hexdigest() == image_id


def test_a_retry_of_an_old_run_of_a_dag_finds_its_ingest(store: str) -> None:
    job = contract.ExtractSettings(store=store, partition="2026-11-21", run_id=SCHEDULED, dag_id="image_features")
    manifest = catalog.stage_of(job, "ingest")
    assert manifest is not None and manifest.counts["listed"] == 4


def test_what_was_taken_back_can_be_put_back(store: str) -> None:
    settings = UndoSettings(store=store, partition="2026-11-20", model=MODEL)
    first, again = [item for item in catalog.publications(store, "2026-11-20", MODEL) if item.restored is None][::-1]
    assert "an undo back to" in listing(settings)
    undo(UndoSettings(store=store, partition="2026-11-20", model=MODEL, to_version=again.version))
    assert {row["run_id"] for row in catalog.images(store, "2026-11-20").to_pylist()} == {"again"}
    undo(UndoSettings(store=store, partition="2026-11-20", model=MODEL, to_version=first.version))
    old_store.check_rows(store)


def test_maintenance_removes_what_is_no_longer_shown_and_merges_the_rest(store: str) -> None:
    replaced = {path for path in Path(store).rglob("*.parquet") if path.parent.parent.name == "again"}
    replaced = {path for path in replaced if "data" in path.parts}
    assert len(replaced) == 7
    counts = maintain(MaintainSettings(store=store), Timings(), LATER).counts
    assert counts["replaced"] == len(replaced) and not any(path.exists() for path in replaced)
    assert counts["orphans"] == 0
    assert counts["merged"] > 0 and counts["working_files"] > 0
    old_store.check_rows(store)
    assert {run for day in RUNS for run in catalog.runs(store, day)} >= {"first", "again"}, "documents stay"
    maintain(MaintainSettings(store=store), Timings(), LATER + timedelta(days=30))
    old_store.check_rows(store)
