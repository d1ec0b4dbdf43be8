"""Lists of staged files that are too long for a manifest lie beside it, are read when asked for, and go with it."""

from __future__ import annotations

import json
import os
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from spark_apps import catalog, contract
from spark_apps.contract import ExtractSettings, IngestSettings, MaintainSettings, Manifest, StagedFile, Unreachable
from spark_apps.maintain import maintain
from spark_apps.spark import jobs
from spark_apps.tables import staged_lists
from tests.shelf import Shelf

MANY = [StagedFile(f"data/d1/r/a/{number:06}.parquet", number, 8, (5, 3)) for number in range(staged_lists.LONG + 1)]
FEW = [StagedFile("data/d1/r/a/bad.parquet", 7, 1, (1,))]


def written(shelf: Shelf, count: int = len(MANY)) -> tuple[ExtractSettings, Path]:
    """A finished ingest that staged so many images; extract's settings, and the run's folder."""
    settings = IngestSettings(store=shelf.store, partition="d1", run_id="r", source="/landing")
    staged = {"images": MANY[:count], "quarantine": FEW}
    jobs.write_manifest(settings, jobs.Timings().manifest("ingest", settings, attempt="ab12", counts={}, staged=staged))
    return ExtractSettings(store=shelf.store, partition="d1", run_id="r"), Path(settings.folder)


def test_a_long_list_is_written_beside_its_manifest_and_read_as_it_was(shelf: Shelf) -> None:
    settings, folder = written(shelf)
    assert (folder / "ingest.json").stat().st_size < 10_000
    for attempt in ("", "ab12"):
        found = jobs.read_manifest(settings, "ingest", attempt)
        assert (found.staged["images"], found.staged["quarantine"]) == (MANY, FEW)
        assert dict(found.staged) == {"images": MANY, "quarantine": FEW}
        assert found.staged.get("features", []) == []
    assert catalog.manifest(shelf.store, "d1", "r", "ingest") is not None


def test_a_short_one_stays_in_the_manifest(shelf: Shelf) -> None:
    _, folder = written(shelf, staged_lists.LONG)
    record = json.loads((folder / "ingest.json").read_text())
    assert len(record["staged"]["images"]) == staged_lists.LONG
    assert not list(folder.glob("*.parquet"))


def test_a_manifest_of_before_holds_its_list_however_long(shelf: Shelf) -> None:
    settings, folder = written(shelf, 1)
    record = json.loads((folder / "ingest.json").read_text())
    del record["staged_in"]
    record["staged"]["images"] = [{**vars(file), "row_groups": list(file.row_groups)} for file in MANY]
    (folder / "ingest.json").write_text(json.dumps(record))
    assert jobs.read_manifest(settings, "ingest").staged["images"] == MANY


def test_a_list_is_read_when_it_is_asked_for(shelf: Shelf) -> None:
    settings, folder = written(shelf)
    (folder / "ingest_images.parquet").unlink()
    found = jobs.read_manifest(settings, "ingest")
    assert found.staged["quarantine"] == FEW
    with pytest.raises(Unreachable, match=r"ingest_images\.parquet"):
        _ = found.staged["images"]


@pytest.mark.parametrize(
    "place", ["../other/list.parquet", "runs/../../x.parquet", "runs/d1/r/../a.parquet", "/x.parquet"]
)
def test_a_manifest_cannot_name_a_file_elsewhere(shelf: Shelf, place: str) -> None:
    _, folder = written(shelf, 1)
    record = json.loads((folder / "ingest.json").read_text())
    (folder / "ingest.json").write_text(json.dumps(record | {"staged_in": {"images": place}}))
    with pytest.raises(ValueError, match="list of staged files"):
        catalog.manifest(shelf.store, "d1", "r", "ingest")


def test_maintenance_keeps_it_with_its_manifest_and_removes_one_that_a_kill_left_without(shelf: Shelf) -> None:
    shelf.publish("d0", "r", {"u": "a"})
    _, folder = written(shelf)
    left_over = folder / "extract_features.parquet"
    left_over.write_bytes((folder / "ingest_images.parquet").read_bytes())
    before = time.time() - 10_000_000
    for file in folder.iterdir():
        os.utime(file, (before, before))
    maintain(MaintainSettings(store=shelf.store), jobs.Timings(), datetime.now(UTC) + timedelta(hours=1))
    assert not left_over.exists()
    found = catalog.manifest(shelf.store, "d1", "r", "ingest")
    assert isinstance(found, Manifest) and found.staged["images"] == MANY
    assert contract.run_folder(shelf.store, "d1", "r") == str(folder)
