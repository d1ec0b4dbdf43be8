"""Files that vanish or change between listing and reading: quarantined, or stored as one thing throughout."""

from __future__ import annotations

import hashlib
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from spark_apps.contract import IngestSettings
from spark_apps.pipeline import landing
from spark_apps.spark.jobs import write_manifest
from tests.faults.day import Day
from tests.faults.in_process import InThisProcess
from tests.faults.reader import Reader


@pytest.fixture
def jobs(tmp_path: Path) -> InThisProcess:
    return InThisProcess(Day(tmp_path / "landing"), str(tmp_path / "store"))


def after_listing(monkeypatch: pytest.MonkeyPatch, action: Callable[[], None]) -> None:
    """Has `action` happen when the source has been listed and nothing been read."""
    list_files = landing.list_files

    def listed(*arguments: str) -> Any:
        files = list_files(*arguments)
        action()
        return files

    monkeypatch.setattr(landing, "list_files", listed)


def test_each_file_that_changes_after_listing_is_set_aside_or_consistent(
    jobs: InThisProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = jobs.day.folder
    grown, shrunk, swapped = folder / "astronaut.jpg", folder / "brick.jpg", folder / "grass.jpg"
    swapped_size, donor = swapped.stat().st_size, (folder / "moon.jpg").read_bytes()
    other = donor + b"\0" * (swapped_size - len(donor)) if len(donor) <= swapped_size else donor[:swapped_size]

    def change() -> None:
        with grown.open("ab") as file:
            file.write(b"more")
        os.truncate(shrunk, 3000)
        swapped.write_bytes(other)
        (folder / "coins.jpg").unlink()
        (folder / "logo.jpg").unlink()
        (folder / "logo.jpg").mkdir()
        (folder / "horse.jpg").unlink()
        (folder / "horse.jpg").symlink_to("/no/such/file")
        (folder / "after the listing.jpg").write_bytes(donor)

    listed = len(list(folder.iterdir()))
    after_listing(monkeypatch, change)
    jobs.ingest("run")
    monkeypatch.undo()
    jobs.extract("run")
    counts = jobs.validate("run").counts
    assert counts["listed"] == listed == counts["featured"] + counts["quarantined"]
    images, features, quarantine = jobs.published()
    assert {name: row["error_code"] for name, row in quarantine.items() if row["stage"] == "ingest"} == {
        "astronaut.jpg": "changed",
        "brick.jpg": "changed",
        "coins.jpg": "unreadable",
        "logo.jpg": "unreadable",
        "horse.jpg": "unreadable",
        "empty.jpg": "empty",
        "notes.jpg": "not_an_image",
    }
    assert images["grass.jpg"]["content"] == other
    for file, row in images.items():
        assert row["image_id"] == hashlib.sha256(row["content"]).hexdigest(), file
        assert (features.get(file) or quarantine[file])["image_id"] == row["image_id"], file
    assert "after%20the%20listing.jpg" not in features


def test_a_retry_takes_the_files_as_they_are_then(jobs: InThisProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    photo = jobs.day.folder / "coffee.jpg"
    content = photo.read_bytes()
    after_listing(monkeypatch, photo.unlink)
    jobs.ingest("run")
    monkeypatch.undo()
    photo.write_bytes(content)
    for job in (jobs.ingest, jobs.extract, jobs.validate):
        job("run")
    reader = Reader(jobs.store)
    reader.truths["run"] = jobs.day.truth()
    reader.settled("run")


def test_files_that_never_stop_changing_are_set_aside_or_consistent(jobs: InThisProcess) -> None:
    """One grows all the time, one is replaced all the time by files of the same and of other sizes."""
    folder, stop = jobs.day.folder, threading.Event()
    contents = {(folder / f"{stem}.jpg").read_bytes() for stem in ("moon", "coins", "grass")}
    contents |= {content[::-1] for content in contents}

    def meddle() -> None:
        while not stop.is_set():
            with (folder / "growing.jpg").open("ab") as file:
                file.write(b"\xff" * 100)
            for content in contents:
                (folder / ".new").write_bytes(content)
                (folder / ".new").rename(folder / "replaced.jpg")
            time.sleep(0.005)

    meddler = threading.Thread(target=meddle)
    meddler.start()
    try:
        while not (folder / "replaced.jpg").exists():
            time.sleep(0.01)
        jobs.ingest("run")
    finally:
        stop.set()
        meddler.join()
    jobs.extract("run")
    counts = jobs.validate("run").counts
    assert counts["listed"] == counts["featured"] + counts["quarantined"]
    images, features, quarantine = jobs.published()
    assert quarantine["growing.jpg"]["error_code"] in ("changed", "not_an_image")
    if "replaced.jpg" in images:
        assert images["replaced.jpg"]["content"] in contents
    for file, row in images.items():
        assert row["image_id"] == hashlib.sha256(row["content"]).hexdigest(), file
        assert (features.get(file) or quarantine[file])["image_id"] == row["image_id"], file


def test_an_ingest_given_up_for_dead_that_ends_late_is_not_mixed_into_the_run(jobs: InThisProcess) -> None:
    """Its manifest replaces that of the retry after extract has read it; validate must still publish what belongs
    together."""
    settings = IngestSettings(source=jobs.day.source, **jobs.common("run"))
    late = jobs.ingest("run", keep=False)
    photo = jobs.day.folder / "coffee.jpg"
    photo.write_bytes((jobs.day.folder / "moon.jpg").read_bytes())
    jobs.ingest("run")
    truth = jobs.day.truth()
    jobs.extract("run")
    write_manifest(settings, late)
    jobs.validate("run")
    reader = Reader(jobs.store)
    reader.truths["run"] = truth
    reader.settled("run")
