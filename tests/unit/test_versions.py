"""What is said in docs/stores.md, "Versions": how a store that a newer or older version wrote is read and written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from deltalake import DeltaTable, Field
from deltalake.schema import PrimitiveType

from spark_apps import catalog, contract, storage, validate
from spark_apps.contract import BadSetting
from spark_apps.maintain import maintain
from spark_apps.spark.jobs import Timings
from tests.shelf import FINGERPRINT, MODEL, Shelf

FILES = {f"u{number}": str(number) for number in range(6)}


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return Shelf(str(tmp_path / "store"))


def leaves(shelf: Shelf, name: str, record: Any) -> None:
    folder = contract.run_folder(shelf.store, "d1", "r1")
    storage.ensure_folder(folder)
    storage.write_json(contract.join(folder, name), record)


@pytest.mark.parametrize("table", ["images", "quarantine", "features"])
def test_columns_of_a_newer_version_are_kept_and_not_written_over(shelf: Shelf, table: str) -> None:
    for day in ("d1", "d2"):
        shelf.publish(day, f"run-{day}", FILES, quarantined=["bad"])
    location = f"{shelf.store}/{table}"
    DeltaTable(location).alter.add_columns([Field("caption", PrimitiveType("string"))])
    before = {name: DeltaTable(f"{shelf.store}/{name}").version() for name in ("images", "quarantine", "features")}

    with pytest.raises(BadSetting, match=f"The table {table} was written by a newer version: .* columns caption"):
        shelf.publish("d1", "again", FILES)
    with pytest.raises(BadSetting, match="newer version"):
        maintain(contract.MaintainSettings(store=shelf.store), Timings())

    after = {name: DeltaTable(f"{shelf.store}/{name}").version() for name in before}
    assert after == before
    assert "caption" in [field.name for field in DeltaTable(location).schema().fields]
    assert catalog.vectors(shelf.store, "d2", MODEL).num_rows == len(FILES)


def test_fields_of_a_newer_manifest_are_left_out(shelf: Shelf) -> None:
    job = contract.IngestSettings(store=shelf.store, partition="d1", run_id="r1", source="/photos")
    manifest = Timings().manifest("ingest", job, counts={"listed": 6})
    leaves(shelf, "ingest.json", {**vars(manifest), "carbon": {"grams": 1}})
    assert catalog.manifest(shelf.store, "d1", "r1", "ingest") == manifest


def test_a_newer_report_is_not_compared_with(shelf: Shelf) -> None:
    sketch = {"n": 6, "slices": [[0.0, 1.0]]}
    history = [catalog.Partition("d1", MODEL, 6, "r1", 1, folder="r1")]
    settings = contract.ValidateSettings(store=shelf.store, partition="d2", run_id="r2")
    facts = {"model": {"fingerprint": FINGERPRINT}, "drift": {"sketch": sketch}}
    leaves(shelf, "report.json", {"report_version": contract.REPORT_VERSION, **facts})
    assert validate._sketches(validate._reports(settings, history), FINGERPRINT) == {"d1": sketch}
    leaves(shelf, "report.json", {"report_version": contract.REPORT_VERSION + 1, "everything": "differs"})
    assert validate._reports(settings, history) == {}
