"""What a reader of the store sees: partitions, rows, runs and their documents, now and at a past version."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import DeltaTable

from spark_apps import catalog, contract, storage
from spark_apps.contract import Manifest, Unreachable
from spark_apps.tables import schemas
from tests.shelf import MODEL, Shelf, image_id, vector

OTHER_MODEL = "resnet50-random_0-fp32"


@pytest.fixture
def week(shelf: Shelf) -> Shelf:
    """Seven days, d1 to d7, each with as many photos as its number; d3 in a second model too."""
    for day in range(1, 8):
        shelf.publish(f"d{day}", f"run {day}", {f"u{index}": str(index) for index in range(day)}, fingerprint=f"f{day}")
    shelf.publish("d3", "run 3b", {"u0": "0"}, model=OTHER_MODEL, fingerprint="other")
    return shelf


def test_an_empty_store_has_nothing_and_says_so(shelf: Shelf) -> None:
    assert catalog.partitions(shelf.store) == []
    assert catalog.earlier(shelf.store, "d1", MODEL, 7) == []
    assert catalog.fingerprints(shelf.store, MODEL, "d1", 7) == {}
    assert catalog.runs(shelf.store, "d1") == []
    assert catalog.table(shelf.store, "features") is None
    assert catalog.manifest(shelf.store, "d1", "r", "ingest") is None
    assert catalog.report(shelf.store, "d1", "r") is None
    assert catalog.error(shelf.store, "d1", "r") is None
    readers: list[Callable[[], object]] = [
        lambda: catalog.vectors(shelf.store, "d1", MODEL),
        lambda: catalog.images(shelf.store, "d1"),
        lambda: catalog.quarantine(shelf.store, "d1"),
    ]
    for read in readers:
        with pytest.raises(Unreachable) as caught:
            read()
        assert caught.value.code == "store_empty"


def test_tables_that_were_created_and_never_filled_hold_no_partition(shelf: Shelf) -> None:
    shelf.publish("d1", "r", {})
    assert catalog.partitions(shelf.store) == []
    assert catalog.vectors(shelf.store, "d1", MODEL).num_rows == 0


def test_partitions_come_newest_first_with_rows_and_run(week: Shelf) -> None:
    found = catalog.partitions(week.store, MODEL)
    assert [(item.partition, item.rows, item.run_id) for item in found] == [
        (f"d{day}", day, f"run {day}") for day in range(7, 0, -1)
    ]
    assert all(item.size_bytes > 0 for item in found)


def test_partitions_can_be_asked_for_by_model(week: Shelf) -> None:
    assert [(item.partition, item.rows) for item in catalog.partitions(week.store, OTHER_MODEL)] == [("d3", 1)]
    assert catalog.partitions(week.store, "no such model") == []
    everything = catalog.partitions(week.store)
    assert len(everything) == 8
    assert [item.model for item in everything if item.partition == "d3"] == [OTHER_MODEL, MODEL]


def test_partitions_of_several_files_are_added_up(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    publication = shelf.publication("d1", "r", {"u1": "a", "u2": "b"})
    publication.staged["features"].extend(shelf.features("d1", "r", {"u3": "c"}))
    publication.commit()
    (found,) = catalog.partitions(shelf.store)
    assert found.rows == 3
    assert found.size_bytes == sum(file.size_bytes for file in publication.staged["features"])


@pytest.mark.parametrize(
    ("partition", "count", "expected"),
    [
        ("d4", 7, ["d3", "d2", "d1"]),
        ("d4", 2, ["d3", "d2"]),
        ("d4", 0, []),
        ("d1", 7, []),
        ("d99", 2, ["d7", "d6"]),
        ("d10", 1, ["d7"]),
        ("d3a", 1, []),  # of another series
    ],
)
def test_earlier_partitions_are_the_nearest_before(
    week: Shelf, partition: str, count: int, expected: list[str]
) -> None:
    assert catalog.earlier(week.store, partition, MODEL, count) == expected


@pytest.mark.parametrize(
    ("partition", "count", "expected"),
    [
        ("d4", 2, {"d2", "d3", "d5", "d6"}),
        ("d4", 4, {"d1", "d2", "d3", "d5", "d6", "d7"}),
        ("d4", 50, {"d1", "d2", "d3", "d5", "d6", "d7"}),
        ("d1", 2, {"d2", "d3"}),
        ("d7", 1, {"d6"}),
        ("d99", 1, {"d7"}),
        ("d4", 0, set()),
    ],
)
def test_fingerprints_are_those_of_the_neighbours_on_both_sides(
    week: Shelf, partition: str, count: int, expected: set[str]
) -> None:
    found = catalog.fingerprints(week.store, MODEL, partition, count)
    assert found == {key: key.replace("d", "f") for key in expected}


def test_fingerprints_read_the_log_twice_whatever_their_number(week: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    reads = []
    for name in ("get_add_actions", "to_pyarrow_dataset"):
        real = getattr(DeltaTable, name)

        def counted(*given: Any, real: Any = real, name: str = name, **named: Any) -> Any:
            reads.append(name)
            return real(*given, **named)

        monkeypatch.setattr(DeltaTable, name, counted)
    assert len(catalog.fingerprints(week.store, MODEL, "d4", 7)) == 6
    assert sorted(reads) == ["get_add_actions", "to_pyarrow_dataset"]


def test_fingerprints_are_of_one_model_only(week: Shelf) -> None:
    assert catalog.fingerprints(week.store, OTHER_MODEL, "d4", 7) == {"d3": "other"}


def test_vectors_are_one_partition_and_model_with_the_columns_asked_for(week: Shelf) -> None:
    rows = catalog.vectors(week.store, "d2", MODEL).to_pylist()
    assert [(row["uri"], row["image_id"], row["features"]) for row in rows] == [
        ("u0", image_id("0"), vector("0")),
        ("u1", image_id("1"), vector("1")),
    ]
    assert {(row["partition"], row["model"], row["run_id"]) for row in rows} == {("d2", MODEL, "run 2")}
    assert catalog.vectors(week.store, "d3", OTHER_MODEL, ["uri"]).to_pylist() == [{"uri": "u0"}]
    assert catalog.vectors(week.store, "d9", MODEL).num_rows == 0


def test_images_and_quarantine_are_one_partition(shelf: Shelf) -> None:
    shelf.publish("d1", "r", {"u1": "a"}, quarantined=["bad"])
    shelf.publish("d2", "r", {"u2": "b"}, quarantined=["worse"])
    assert catalog.images(shelf.store, "d1", ["uri", "content"]).to_pylist() == [{"uri": "u1", "content": b"a"}]
    (row,) = catalog.quarantine(shelf.store, "d2").to_pylist()
    assert (row["uri"], row["error_code"], row["stage"]) == ("worse", "empty", "ingest")


def test_a_table_can_be_read_as_it_was(shelf: Shelf) -> None:
    before = shelf.publish("d1", "old", {"u1": "a"})["features"]
    after = shelf.publish("d1", "new", {"u1": "a", "u2": "b"})["features"]
    for version, runs in ((before, ["old"]), (after, ["new", "new"]), (None, ["new", "new"])):
        rows = catalog.dataset(shelf.store, "features", version=version).to_table()
        assert rows["run_id"].to_pylist() == runs
    with pytest.raises(Unreachable):
        catalog.table(shelf.store, "features", 99)


# --- runs and their documents -----------------------------------------------------------------------------------------


def manifest(stage: str) -> Manifest:
    return Manifest(
        stage=stage,
        run_id="manual:1",
        partition="d1",
        started_at=contract.now(),
        finished_at=contract.now(),
        counts={"listed": 1},
        seconds={"total": 1.0},
        settings={},
        versions={},
        code_hash="x",
    )


def put(shelf: Shelf, name: str, content: str, run_id: str = "manual:1") -> None:
    uri = contract.join(contract.run_folder(shelf.store, "d1", run_id), name)
    storage.write_bytes(uri, content.encode())


def test_the_documents_of_a_run_are_found_by_its_id(shelf: Shelf) -> None:
    written = manifest("extract")
    put(shelf, "extract.json", written.to_json())
    put(shelf, "report.json", '{"verdict": "passed"}')
    put(shelf, "error.json", '{"code": "x"}')
    put(shelf, "extract.json", manifest("extract").to_json(), run_id="plain")
    assert catalog.manifest(shelf.store, "d1", "manual:1", "extract") == written
    assert catalog.manifest(shelf.store, "d1", "manual:1", "validate") is None
    assert catalog.report(shelf.store, "d1", "manual:1") == {"verdict": "passed"}
    assert catalog.error(shelf.store, "d1", "manual:1") == {"code": "x"}
    assert catalog.runs(shelf.store, "d1") == sorted([contract.path_safe("manual:1"), "plain"])


@pytest.mark.parametrize("content", ['{"verdict": "pas', "", "\xff"])
def test_a_half_written_document_is_not_taken_for_a_missing_one(shelf: Shelf, content: str) -> None:
    put(shelf, "report.json", content)
    with pytest.raises(ValueError, match=r"Unterminated string|Expecting value"):
        catalog.report(shelf.store, "d1", "manual:1")


def test_a_partition_key_cannot_leave_the_store(shelf: Shelf) -> None:
    with pytest.raises(contract.BadSetting):
        catalog.runs(shelf.store, "../../etc")
    with pytest.raises(contract.BadSetting):
        catalog.report(shelf.store, "..", "r")


def test_a_damaged_table_cannot_be_reached(shelf: Shelf) -> None:
    shelf.publish("d1", "r", {"u": "a"})
    for file in Path(shelf.store, "features", "data").rglob("*.parquet"):
        file.unlink()
    with pytest.raises(Unreachable):
        catalog.vectors(shelf.store, "d1", MODEL)


def test_reading_writes_nothing(week: Shelf) -> None:
    def state() -> dict[Path, int]:
        return {path: path.stat().st_mtime_ns for path in Path(week.store).rglob("*")}

    before = state()
    catalog.partitions(week.store)
    catalog.vectors(week.store, "d2", MODEL)
    catalog.fingerprints(week.store, MODEL, "d4", 7)
    catalog.runs(week.store, "d1")
    assert state() == before


def test_tables_and_columns_are_described_and_older_ones_are_from_the_next_publication_on(shelf: Shelf) -> None:
    for table in schemas.TABLES.values():
        plain = pa.schema([(field.name, field.type) for field in table.schema])
        DeltaTable.create(table.uri(shelf.store), plain, partition_by=list(table.keys))
    shelf.publish("d1", "r1", {"u1": "a"})
    for table in schemas.TABLES.values():
        told = {
            field.name: field.metadata.get("comment")
            for field in catalog.table(shelf.store, table.name).schema().fields
        }
        assert list(told) == table.schema.names and all(told.values()), told
    fresh = Shelf(f"{shelf.store}-new")
    fresh.publish("d1", "r1", {"u1": "a"})
    found = catalog.table(fresh.store, "features").metadata()
    assert (found.name, found.description) == ("features", schemas.FEATURES.description)
