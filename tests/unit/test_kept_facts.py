"""What ingest keeps of a photo beside its bytes, none of it its place; and tables of before these columns."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from spark_apps import catalog, contract
from spark_apps.contract import EraseSettings, IngestSettings, MaintainSettings, StagedFile, UndoSettings
from spark_apps.erase import erase
from spark_apps.maintain import maintain
from spark_apps.media import exif
from spark_apps.pipeline import intake
from spark_apps.pipeline.landing import list_files
from spark_apps.spark.jobs import Timings
from spark_apps.tables import commits, schemas, staging
from spark_apps.undo import undo
from spark_apps.upkeep import compaction
from tests import old_store
from tests.shelf import FINGERPRINT, MODEL, Shelf, image_id, vector
from tests.unit.test_exif import HERE, photo

NEW = {
    "images": ["odd_shape", "taken_at", "taken_offset_minutes", "camera_make", "camera_model"],
    "features": ["sharpness", "brightness", "contrast", "blank"],
}


@pytest.mark.parametrize("content", ["keep", "reference"])
def test_a_photos_place_is_in_no_table(tmp_path: Path, content: str) -> None:
    """But for the copy of the photo itself, where the store keeps one."""
    source, store = tmp_path / "landing", tmp_path / "store"
    source.mkdir()
    tags = {exif.MAKE: "Canon", exif.MODEL: "EOS"}
    taken = {exif.TAKEN: "2026:11:22 08:30:59", exif.TAKEN_OFFSET: "+01:00"}
    (source / "a.jpg").write_bytes(photo(tags, taken, place=HERE))
    job = IngestSettings(store=str(store), partition="d1", run_id="r", source=str(source), content=content)
    division = intake.divide(job, list_files(job.source, job.pattern), [], 1)
    list(intake.ingest_units(iter(division.units), job, "data/d1/r/a", division.row_group_bytes))
    files = [path for path in tmp_path.rglob("*") if path.is_file() and store in path.parents]
    tables = [pq.read_table(path) for path in files if path.suffix == ".parquet" and "images" in path.parts]
    (row,) = (row for table in tables for row in table.to_pylist())
    assert [row[name] for name in NEW["images"]] == [False, "2026-11-22T08:30:59", 60, "Canon", "EOS"]
    kept = row.pop("content")
    assert (kept is not None and b"WGS-84-at-home" in kept) is (content == "keep")
    told = repr({name: row[name] for name in row.keys() - {"uri", "image_id", "modified_at"}})
    assert not any(trace in told for trace in ("WGS", "52", "59.04", "13", "39.36"))
    with_it = [path for path in files if b"WGS-84-at-home" in path.read_bytes()]
    assert bool(with_it) is (content == "keep")


def former(table: schemas.Table) -> schemas.Table:
    """The table as versions before these columns wrote it."""
    return replace(table, columns=pa.schema([f for f in table.columns if f.name not in NEW.get(table.name, ())]))


def test_a_table_of_before_gets_the_columns_with_the_next_publication(tmp_path: Path) -> None:
    store = old_store.unpack(tmp_path)
    before = {name: catalog.columns(catalog.table(store, name)).names for name in NEW}  # type: ignore[arg-type]
    assert not any(set(before[name]) & set(NEW[name]) for name in NEW)
    Shelf(store).publish("2026-11-23", "new", {"u": "x"})
    for name, columns in NEW.items():
        assert set(catalog.columns(catalog.table(store, name)).names) == {*before[name], *columns}  # type: ignore[arg-type]
        rows = catalog.dataset(store, name).to_table(columns=[*columns, "run_id"]).to_pylist()
        assert len(rows) > 1
        assert {row[column] for row in rows if row["run_id"] != "new" for column in columns} == {None}
    (row,) = catalog.vectors(store, "2026-11-23", MODEL).to_pylist()
    assert row["sharpness"] == 500
    old_store.check_rows(store)


def test_files_of_before_and_of_today_are_merged(shelf: Shelf) -> None:
    settings = contract.ValidateSettings(store=shelf.store, partition="d1", run_id="r")
    staged: dict[str, list[StagedFile]] = {"images": [], "features": [], "quarantine": []}
    names = "abcd"
    for name in names:
        common = {"uri": name, "image_id": image_id(name), "run_id": "r"}
        rows = {
            "images": {**common, "content": b"x", "width": 4, "camera_make": "Canon"},
            "features": {**common, "features": vector(name), "model_fingerprint": FINGERPRINT, "sharpness": 7.0},
        }
        for table in (schemas.IMAGES, schemas.FEATURES):
            shape = former(table) if name in "ab" else table
            with staging.StagedWriter(shelf.store, shape, "data/d1/r/attempt") as writer:
                writer.add({key: rows[table.name][key] for key in rows[table.name] if key in shape.columns.names}, 9)
            staged[table.name] += writer.files
    commits.Replacement(shelf.store, "d1", MODEL, settings.run_id, staged, {}).commit()
    for table in (schemas.IMAGES, schemas.FEATURES):
        outcome = compaction.compact(shelf.store, table)
        assert (outcome.files_before, outcome.files_after) == (4, 1)
    images = {row["uri"]: row for row in catalog.images(shelf.store, "d1").to_pylist()}
    assert [images[name]["camera_make"] for name in names] == [None, None, "Canon", "Canon"]
    assert {row["width"] for row in images.values()} == {4}
    features = {row["uri"]: row for row in catalog.vectors(shelf.store, "d1", MODEL).to_pylist()}
    assert [features[name]["sharpness"] for name in names] == [None, None, 7.0, 7.0]
    assert [features[name]["features"] for name in names] == [vector(name) for name in names]
    rejected = catalog.staged_rows(shelf.store, "features", [file.path for file in staged["features"]])
    assert rejected is not None and rejected["sharpness"].to_pylist() == [None, None, 7.0, 7.0]


def seen(store: str) -> dict[str, list[dict[str, Any]]]:
    """Every row of both tables."""
    found = {name: catalog.dataset(store, name).to_table().to_pylist() for name in NEW}
    return {name: sorted(rows, key=lambda row: (row["partition"], row["uri"])) for name, rows in found.items()}


def test_undo_erase_and_emptying_work_on_files_of_before(tmp_path: Path) -> None:
    """In tables that have the columns already: the files lack them, the rows have null there."""
    store = old_store.unpack(tmp_path)
    Shelf(store).publish("2026-11-23", "new", {"u": "x"})
    before = seen(store)
    day = {"store": store, "partition": "2026-11-20", "model": MODEL}
    first, again = [item for item in catalog.publications(store, "2026-11-20", MODEL) if item.restored is None][::-1]
    undo(UndoSettings(**day, to_version=again.version))
    assert {row["run_id"] for row in seen(store)["images"] if row["partition"] == "2026-11-20"} == {"again"}
    undo(UndoSettings(**day, to_version=first.version))
    assert seen(store) == before

    gone = next(row["image_id"] for row in before["features"] if row["uri"].endswith("/4.jpg"))
    erase(EraseSettings(store=store, image_id=gone, reason="asked for", requested_by="somebody"), Timings())
    left = {name: [row for row in rows if row["image_id"] != gone] for name, rows in before.items()}
    assert seen(store) == left != before

    later = datetime.now(UTC) + timedelta(days=3650)
    emptied = maintain(MaintainSettings(store=store, content_days=1), Timings(), later).counts["emptied"]
    assert emptied == len(left["images"])
    assert seen(store) == {**left, "images": [{**row, "content": None} for row in left["images"]]}
