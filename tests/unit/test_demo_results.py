"""The demo believes the store only as far as it agrees with the landing folder, file by file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from demo import results
from demo.results import DayResult, NotAccountedFor
from spark_apps import catalog, contract
from spark_apps.contract import DuplicatesSettings
from spark_apps.dedup import update
from tests import shelf

DAY, RUN_ID, MODEL = "2026-01-05", "backfill__1", "resnet50-keras-v1-fp32"


@pytest.fixture
def landing(tmp_path: Path) -> Path:
    for name in ("a.jpg", "phone/b ü.jpg", "c.jpg", "empty.jpg", ".hidden"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    return tmp_path


def uris(landing: Path, *names: str) -> list[str]:
    return [(landing / name).as_uri() for name in names]


class TestAccount:
    def test_every_file_once(self, landing: Path) -> None:
        results.account(DAY, landing, uris(landing, "a.jpg", "phone/b ü.jpg", "c.jpg"), uris(landing, "empty.jpg"))

    def test_a_lost_file(self, landing: Path) -> None:
        with pytest.raises(NotAccountedFor, match=r"1 of 4 files neither featured nor quarantined: c\.jpg"):
            results.account(DAY, landing, uris(landing, "a.jpg", "phone/b ü.jpg"), uris(landing, "empty.jpg"))

    def test_a_file_both_featured_and_quarantined(self, landing: Path) -> None:
        featured = uris(landing, "a.jpg", "phone/b ü.jpg", "c.jpg", "empty.jpg")
        with pytest.raises(NotAccountedFor, match=r"doubled: empty\.jpg"):
            results.account(DAY, landing, featured, uris(landing, "empty.jpg"))

    def test_a_row_of_a_file_that_is_not_there(self, landing: Path) -> None:
        featured = uris(landing, "a.jpg", "phone/b ü.jpg", "c.jpg", "ghost.jpg")
        with pytest.raises(NotAccountedFor, match=r"not there: ghost\.jpg"):
            results.account(DAY, landing, featured, uris(landing, "empty.jpg"))


def manifest(stage: str, counts: dict[str, int], seconds: float, model: contract.ModelInfo | None) -> contract.Manifest:
    return contract.Manifest(
        stage=stage,
        run_id=RUN_ID,
        partition=DAY,
        started_at="",
        finished_at="",
        counts=counts,
        seconds={"read": 0.1, "total": seconds},
        settings={},
        versions={},
        code_hash="",
        model=model,
    )


@pytest.fixture
def published(landing: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A store that holds the day's run; a test may spoil it."""
    model = contract.ModelInfo(key=MODEL, fingerprint="f" * 16, weights="keras-v1")
    store: dict[str, Any] = {
        "ingest": manifest("ingest", {"listed": 4}, 10.0, None),
        "extract": manifest("extract", {"reused": 1}, 4.0, model),
        "validate": manifest("validate", {}, 3.0, None),
        "partitions": [catalog.Partition(DAY, MODEL, 3, RUN_ID, 100)],
        "vectors": pa.table({"uri": uris(landing, "a.jpg", "phone/b ü.jpg", "c.jpg")}),
        "quarantine": pa.table({"uri": uris(landing, "empty.jpg"), "error_code": ["empty"]}),
    }
    monkeypatch.setattr(catalog, "manifest", lambda place, day, run_id, stage: store[stage])
    monkeypatch.setattr(catalog, "partitions", lambda place, model: store["partitions"])
    monkeypatch.setattr(catalog, "vectors", lambda place, day, model, columns: store["vectors"])
    monkeypatch.setattr(catalog, "quarantine", lambda place, day: store["quarantine"])
    return store


def test_the_result_of_a_day(published: dict[str, Any], landing: Path) -> None:
    assert results.read("/store", DAY, RUN_ID, landing) == DayResult(
        partition=DAY,
        listed=4,
        featured=3,
        quarantined={"empty": 1},
        reused=1,
        seconds={"ingest": 10.0, "extract": 4.0, "validate": 3.0},
        images_per_second=0.8,
        weights="keras-v1",
        model_fingerprint="f" * 16,
        model=MODEL,
    )


def test_a_stage_without_a_manifest(published: dict[str, Any], landing: Path) -> None:
    published["validate"] = None
    with pytest.raises(NotAccountedFor, match="no manifest of validate"):
        results.read("/store", DAY, RUN_ID, landing)


@pytest.mark.parametrize("other", [[], [catalog.Partition(DAY, MODEL, 3, "an older run", 100)]])
def test_a_day_that_shows_another_run_or_none(published: dict[str, Any], landing: Path, other: list[Any]) -> None:
    published["partitions"] = other
    with pytest.raises(NotAccountedFor, match="published is run"):
        results.read("/store", DAY, RUN_ID, landing)


def test_a_published_table_that_lacks_a_file(published: dict[str, Any], landing: Path) -> None:
    (landing / "late.jpg").touch()
    with pytest.raises(NotAccountedFor, match=r"late\.jpg"):
        results.read("/store", DAY, RUN_ID, landing)


def test_the_summary_is_keyed_by_partition(published: dict[str, Any], landing: Path, tmp_path: Path) -> None:
    result = results.read("/store", DAY, RUN_ID, landing)
    results.summarise([result], tmp_path / "summary.json")
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert set(summary[DAY]) >= {
        "listed", "featured", "quarantined", "reused", "seconds", "images_per_second", "weights", "model_fingerprint"
    }  # fmt: skip
    assert summary[DAY]["quarantined"] == {"empty": 1}


def test_duplicates_are_counted_for_the_model(tmp_path: Path) -> None:
    store = str(tmp_path / "store")
    shelf.Shelf(store).publish("d1", "r", {"u1": "a", "u2": "a", "u3": "b"})
    update.update(DuplicatesSettings(store=store, model=shelf.MODEL), lambda _: None)
    said = results.duplicates(store, shelf.MODEL)
    assert said.startswith("2 files show 1 pictures, so 1 could be spared")


def test_the_table_is_aligned(published: dict[str, Any], landing: Path) -> None:
    result = results.read("/store", DAY, RUN_ID, landing)
    head, rule, row = results.table([result]).splitlines()
    assert row.split() == [DAY, "4", "3", "1", "0.8", "10.0", "4.0", "3.0", "1:", "1", "empty"]
    assert head.index("quarantined") == row.index("1: 1 empty")
    assert len(rule) == max(len(head), len(row))
