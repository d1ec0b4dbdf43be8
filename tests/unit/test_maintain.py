"""Maintenance removes what nobody needs and nothing else, changes no row, and never gets in the way."""

from __future__ import annotations

import json
import os
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from deltalake import DeltaTable

from spark_apps import catalog, contract
from spark_apps.contract import BadSetting, ExtractSettings, MaintainSettings, Manifest, NothingToDo, UndoSettings
from spark_apps.maintain import maintain
from spark_apps.pipeline import plan
from spark_apps.spark.jobs import Timings
from spark_apps.spark.spreading import Spread
from spark_apps.tables import commits, data_files, rewrites, schemas, staging
from spark_apps.undo import undo
from spark_apps.upkeep import compaction, vacuum
from tests.shelf import FINGERPRINT, MODEL, Shelf

NOW = datetime.now(UTC)
"""The moment at which the test began."""
FILES = {f"u{index}": str(index) for index in range(12)}


@pytest.fixture(autouse=True)
def present(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules[__name__], "NOW", datetime.now(UTC))


def run(shelf: Shelf, hours_later: float = 0, **options: Any) -> Manifest:
    """Maintenance as it would go so many hours from now."""
    return maintain(MaintainSettings(store=shelf.store, **options), Timings(), NOW + timedelta(hours=hours_later))


def data(shelf: Shelf, table: str = "features") -> set[str]:
    """The data files that lie below a table, whoever knows them."""
    root = Path(shelf.store, table)
    return {str(path.relative_to(root)) for path in root.rglob("*.parquet") if "_delta_log" not in path.parts}


def age(path: Path, hours: float) -> None:
    """Makes a file, or all files of a folder, look as if it was written so many hours ago."""
    moment = (NOW - timedelta(hours=hours)).timestamp()
    for file in [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]:
        os.utime(file, (moment, moment))


def finish(shelf: Shelf, partition: str, run_id: str, hours_ago: float = 0) -> Path:
    """The run's folder, as three finished stages leave it."""
    folder = Path(contract.run_folder(shelf.store, partition, run_id))
    for name in ("listing/1/0.parquet", "copies/1.parquet", "ingest.json", "extract.json", "report.json"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("{}")
    age(folder, hours_ago + 1)
    (folder / "validate.json").write_text("{}")
    age(folder / "validate.json", hours_ago)
    return folder


def small_files(shelf: Shelf, partition: str, run_id: str, **options: Any) -> commits.Replacement:
    """A run that stages one file for each photo."""
    publication = shelf.publication(partition, run_id, {}, **options)
    for name, stage in (("images", shelf.images), ("features", shelf.features)):
        publication.staged[name] = [
            file for uri, image in FILES.items() for file in stage(partition, run_id, {uri: image})
        ]
    return publication


def rows(shelf: Shelf, partition: str = "d1") -> dict[str, list[dict[str, Any]]]:
    tables = {
        "images": catalog.images(shelf.store, partition),
        "quarantine": catalog.quarantine(shelf.store, partition),
        "features": catalog.vectors(shelf.store, partition, MODEL),
    }
    return {name: sorted(table.to_pylist(), key=lambda row: str(row["uri"])) for name, table in tables.items()}


# --- what is removed --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("hours", "goes"), [(47.9, False), (48.1, True)])
def test_what_was_replaced_goes_when_the_retention_is_over_and_not_a_moment_earlier(
    shelf: Shelf, hours: float, goes: bool
) -> None:
    shelf.publish("d1", "old", {"u1": "a"}, quarantined=["q"])
    old = {name: data(shelf, name) for name in schemas.TABLES}
    finish(shelf, "d1", "old")
    shelf.publish("d1", "new", {"u1": "a"}, quarantined=["q"])
    finish(shelf, "d1", "new")
    new = {name: data(shelf, name) - old[name] for name in schemas.TABLES}
    counts = run(shelf, hours, retention_hours=48).counts
    assert counts["replaced"] == (3 if goes else 0)
    for name in schemas.TABLES:
        assert data(shelf, name) == (new[name] if goes else new[name] | old[name])
    assert [row["run_id"] for row in rows(shelf)["features"]] == ["new"]
    version_1 = catalog.dataset(shelf.store, "features", version=1)
    if not goes:
        assert version_1.to_table()["run_id"].to_pylist() == ["old"], "time travel works within the retention"


def test_the_age_of_a_replaced_file_counts_from_its_replacement(shelf: Shelf) -> None:
    shelf.publish("d1", "old", {"u1": "a"})
    age(Path(shelf.store), 1000)
    shelf.publish("d1", "new", {"u1": "a"})
    assert run(shelf, 100).counts["replaced"] == 0
    assert run(shelf, 169).counts["replaced"] == 2


def test_what_is_published_stays_however_old_it_is(shelf: Shelf) -> None:
    shelf.publish("d1", "r", {"u1": "a"}, quarantined=["q"])
    finish(shelf, "d1", "r")
    age(Path(shelf.store), 10_000)
    before = rows(shelf)
    run(shelf, retention_hours=1)
    assert rows(shelf) == before


@pytest.mark.parametrize(("hours", "goes"), [(47.9, False), (48.1, True)])
def test_what_a_dead_run_staged_goes_when_it_has_been_silent_for_the_retention(
    shelf: Shelf, hours: float, goes: bool
) -> None:
    shelf.publish("d1", "r", {"u1": "a"})
    published = {name: data(shelf, name) for name in schemas.TABLES}
    shelf.publication("d1", "dead", {"u1": "a"}, quarantined=["q"])
    age(Path(shelf.store), hours)
    counts = run(shelf, retention_hours=48).counts
    assert counts["orphans"] == (3 if goes else 0)
    assert (data(shelf, "features") == published["features"]) is goes
    assert not goes or not list(Path(shelf.store).glob("*/data/d1/dead")), "no empty folder stays behind"


def test_what_a_running_run_staged_stays_though_it_is_older_than_the_retention(shelf: Shelf) -> None:
    """Ingest staged it 30 hours ago; extract has been computing since, and noted its progress 20 hours ago."""
    shelf.publish("d0", "r", {"u1": "a"})
    publication = shelf.publication("d1", "slow", {"u1": "a"}, quarantined=["q"])
    folder = Path(contract.run_folder(shelf.store, "d1", "slow"))
    (folder / "progress-1").mkdir(parents=True)
    (folder / "progress-1" / "00000000.json").write_text("{}")
    (folder / "ingest.json").write_text("{}")
    age(Path(shelf.store), 30)
    age(folder / "progress-1", 20)
    manifest = run(shelf, retention_hours=1)
    assert manifest.outcome["running"] == ["d1/slow"]
    assert (folder / "progress-1" / "00000000.json").exists()
    publication.commit()
    assert [row["run_id"] for row in rows(shelf)["images"]] == ["slow"]


def test_what_was_replaced_since_a_running_run_began_stays_for_it(shelf: Shelf) -> None:
    """The run may have planned to copy vectors out of it."""
    shelf.publish("d1", "old", {"u1": "a"})
    folder = finish(shelf, "d2", "slow", 5)
    (folder / "validate.json").unlink()
    shelf.publish("d1", "new", {"u1": "a"})
    for name in ("old", "new"):
        finish(shelf, "d1", name)
    assert run(shelf, 3, retention_hours=1).counts["replaced"] == 0
    (folder / "validate.json").write_text("{}")
    assert run(shelf, 3, retention_hours=1).counts["replaced"] == 2


def test_a_failed_attempt_of_a_run_that_was_published_goes(shelf: Shelf) -> None:
    shelf.publication("d1", "r", {"u1": "a"})
    shelf.publish("d1", "r", {"u1": "a"})
    assert len(data(shelf)) == 2
    age(Path(shelf.store), 200)
    assert run(shelf).counts["orphans"] == 2
    assert len(data(shelf)) == 1
    assert len(rows(shelf)["features"]) == 1


@pytest.mark.parametrize(("hours", "goes"), [(23.9, False), (24.1, True)])
def test_what_was_checked_and_not_published_stays_for_a_day_at_least(shelf: Shelf, hours: float, goes: bool) -> None:
    """Somebody may be about to look at it, or to publish it after all."""
    shelf.publish("d0", "r", {"u1": "a"})
    shelf.publication("d1", "checked", {"u1": "a"})
    age(Path(shelf.store), hours)
    folder = finish(shelf, "d1", "checked", hours)
    manifest = run(shelf, retention_hours=1)
    assert manifest.counts["orphans"] == (2 if goes else 0)
    assert (folder / "listing").exists() is not goes


def test_files_of_others_below_a_table_are_left_alone(shelf: Shelf) -> None:
    shelf.publish("d1", "r", {"u1": "a"})
    for name in ("notes.parquet", "data/notes.parquet", "partition=d1/part-0.parquet", "_delta_index/x.parquet"):
        path = Path(shelf.store, "features", name)
        path.parent.mkdir(exist_ok=True)
        path.touch()
    before = data(shelf)
    age(Path(shelf.store), 1000)
    run(shelf)
    assert data(shelf) == before


def test_run_folders_keep_manifests_and_reports(shelf: Shelf) -> None:
    shelf.publish("d1", "old", {"u1": "a"})
    old, new = finish(shelf, "d1", "old", 200), finish(shelf, "d1", "new", 20)
    (old / "progress.json").write_text("{}")
    (old / ".report.json.1234").write_text("{")
    (old / "unfinished-extract" / "1").mkdir(parents=True)
    (old / "unfinished-extract" / "1" / "attempt.json").write_text("{}")
    age(old, 200)
    age(Path(shelf.store, "features"), 200)
    age(Path(shelf.store, "images"), 200)
    assert run(shelf).counts["working_files"] == 5
    assert sorted(path.name for path in old.rglob("*")) == [
        "extract.json",
        "ingest.json",
        "report.json",
        "validate.json",
    ]
    assert (new / "listing/1/0.parquet").exists()


def test_a_dry_run_prints_what_would_go_and_changes_nothing(shelf: Shelf, capsys: pytest.CaptureFixture[str]) -> None:
    small_files(shelf, "d1", "old").commit()
    old = min(data(shelf, "images"))
    finish(shelf, "d1", "old")
    small_files(shelf, "d1", "new").commit()
    finish(shelf, "d1", "new")
    shelf.publication("d2", "dead", {"u1": "a"})
    files = {path: path.stat().st_mtime_ns for path in Path(shelf.store).rglob("*") if path.is_file()}
    counts = run(shelf, 200, dry_run=True).counts
    assert counts == {
        "replaced": 24,
        "orphans": 2,
        "working_files": 4,
        "emptied": 0,
        "merged": 24,
        "log_files": 0,
        "bytes_removed": counts["bytes_removed"],
    }
    assert {path: path.stat().st_mtime_ns for path in Path(shelf.store).rglob("*") if path.is_file()} == files
    printed = capsys.readouterr().out
    assert f"images, replaced: {old}\n" in printed
    assert counts["bytes_removed"] > 0
    assert run(shelf, 200, no_compact=True).counts == {**counts, "merged": 0}, "and that is what goes"


def test_a_log_that_no_longer_tells_enough_keeps_everything(shelf: Shelf) -> None:
    for number in range(3):
        shelf.publish("d1", f"r{number}", {"u1": "a"})
    DeltaTable(Path(shelf.store, "features")).create_checkpoint()
    for version in range(3):
        Path(shelf.store, "features", "_delta_log", f"{version:020}.json").unlink()
    before = data(shelf)
    manifest = run(shelf, 100, retention_hours=150)
    assert data(shelf) == before
    assert "within the retention" in manifest.outcome["tables"]["features"]["vacuum"]
    assert run(shelf, 100, retention_hours=90).counts["replaced"] > 0


def test_an_undo_during_the_maintenance_keeps_its_files(shelf: Shelf) -> None:
    shelf.publish("d1", "old", {"u1": "a"})
    old = data(shelf)
    shelf.publish("d1", "new", {"u1": "a"})
    root = schemas.FEATURES.uri(shelf.store)
    assert vacuum.remove(root, old, data(shelf), lambda: old) == []
    assert old <= data(shelf)
    assert vacuum.remove(root, old, data(shelf), set) == sorted(old)
    assert not old & data(shelf)


def test_a_store_without_tables_is_nothing_to_do(shelf: Shelf) -> None:
    with pytest.raises(NothingToDo) as caught:
        run(shelf)
    assert caught.value.code == "store_empty"


@pytest.mark.parametrize("hours", [0, -1, 29 * 24])
def test_a_retention_that_cannot_be_kept_is_refused(hours: int) -> None:
    with pytest.raises(BadSetting):
        MaintainSettings(store="/s", retention_hours=hours)


# --- copies of photos -------------------------------------------------------------------------------------------------


def without_copies(found: dict[str, list[dict[str, Any]]]) -> dict[str, list[dict[str, Any]]]:
    return {**found, "images": [{**row, "content": None} for row in found["images"]]}


@pytest.mark.parametrize("merged", [False, True])
def test_old_copies_are_let_go_of_and_nothing_else(shelf: Shelf, merged: bool) -> None:
    publication = small_files(shelf, "d1", "r", quarantined=["q"])
    publication.commit()
    if merged:
        run(shelf)
    before, partitions, table = rows(shelf), catalog.partitions(shelf.store), DeltaTable(Path(shelf.store, "images"))
    lying, version = data_files.files(table), table.version()
    assert run(shelf, 7 * 24 - 1, content_days=7, no_compact=True).counts["emptied"] == 0
    assert run(shelf, 7 * 24 + 1, content_days=7, no_compact=True).counts["emptied"] == len(FILES)
    assert rows(shelf) == without_copies(before) != before
    assert catalog.partitions(shelf.store) == partitions
    assert DeltaTable(Path(shelf.store, "images")).version() == version + 1
    assert rows(shelf)["images"] == sorted(
        catalog.dataset(shelf.store, "images").to_table().to_pylist(), key=lambda row: str(row["uri"])
    )
    assert lying <= data(shelf, "images"), "undo and time travel have them until the retention is over"
    assert run(shelf, 8 * 24, content_days=7).counts["emptied"] == 0, "once, and never again"
    publication.commit()
    assert rows(shelf) == without_copies(before), "a retry of the publication still knows it"
    run(shelf, 16 * 24)
    assert not lying & data(shelf, "images")
    assert rows(shelf) == without_copies(before)


def test_only_partitions_that_are_old_enough_are_emptied(shelf: Shelf) -> None:
    shelf.publish("old", "r1", FILES)
    before = datetime.now(UTC)
    shelf.publish("new", "r2", FILES)
    settings = MaintainSettings(store=shelf.store, content_days=3)
    assert maintain(settings, Timings(), before + timedelta(days=3)).counts["emptied"] == len(FILES)
    assert {row["content"] for row in rows(shelf, "old")["images"]} == {None}
    assert None not in {row["content"] for row in rows(shelf, "new")["images"]}


def test_a_dry_run_says_whose_copies_would_go(shelf: Shelf) -> None:
    shelf.publish("d1", "r1", FILES)
    before = rows(shelf)
    assert run(shelf, 49, content_days=2, dry_run=True).counts["emptied"] == len(FILES)
    assert rows(shelf) == before


def test_a_publication_during_the_emptying_wins(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    shelf.publish("d1", "old", FILES)
    rewrite = rewrites.rewrite

    def late(*arguments: Any) -> list[rewrites.Rewrite]:
        shelf.publish("d1", "new", {"u1": "a"})
        return rewrite(*arguments)

    monkeypatch.setattr(rewrites, "rewrite", late)
    manifest = run(shelf, 49, content_days=2)
    assert manifest.counts["emptied"] == 0
    assert manifest.outcome["tables"]["images"]["emptied"]["gave_way"] == 1
    assert [row["run_id"] for row in rows(shelf)["images"]] == ["new"]
    assert len(data(shelf, "images")) == 2, "nothing is left of what was written for it"


def test_an_undo_reaches_behind_the_emptying(shelf: Shelf) -> None:
    shelf.publish("d1", "old", FILES)
    before = rows(shelf)
    run(shelf, 49, content_days=2)
    shelf.publish("d1", "new", {"u1": "a"})
    undo(UndoSettings(store=shelf.store, partition="d1", model=MODEL))
    assert rows(shelf) == without_copies(before)


# --- compaction -------------------------------------------------------------------------------------------------------


def test_small_files_become_one_and_no_row_changes(shelf: Shelf) -> None:
    small_files(shelf, "d1", "r", quarantined=["q1", "q2"]).commit()
    small_files(shelf, "d2", "r2").commit()
    before, partitions = rows(shelf), catalog.partitions(shelf.store)
    manifest = run(shelf)
    assert rows(shelf) == before
    assert manifest.counts["merged"] == 4 * len(FILES)
    current = DeltaTable(Path(shelf.store, "features"))
    assert len(data_files.files(current, {"partition": "d1"})) == 1
    assert [(item.partition, item.rows, item.run_id) for item in catalog.partitions(shelf.store)] == [
        (item.partition, item.rows, item.run_id) for item in partitions
    ]
    assert run(shelf).counts["merged"] == 0, "merged once, never again"


def test_few_or_large_files_are_left_alone(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    shelf.publish("d1", "r", {"u1": "a"}, quarantined=["q"])
    small_files(shelf, "d2", "r").commit()
    monkeypatch.setattr(staging, "FILE_BYTES", 3000)  # the files of a photo have about 2,200 bytes
    assert run(shelf).counts["merged"] == 0


def test_a_publication_that_was_merged_is_still_known_as_published(shelf: Shelf) -> None:
    publication = small_files(shelf, "d1", "r", quarantined=["q"])
    publication.commit()
    finish(shelf, "d1", "r")
    run(shelf)
    assert run(shelf, 200).counts["replaced"] == 2 * len(FILES), "its own staged files are gone"
    before, versions = rows(shelf), publication.commit()
    assert versions == publication.commit()
    assert rows(shelf) == before


def test_staged_files_that_are_gone_are_refused_before_anything_is_published(shelf: Shelf) -> None:
    shelf.publish("d1", "good", {"u1": "a"})
    late = shelf.publication("d1", "late", {"u1": "a", "u2": "b"})
    Path(shelf.store, "features", late.staged["features"][0].path).unlink()
    before = rows(shelf)
    with pytest.raises(BadSetting) as caught:
        late.commit()
    assert caught.value.code == "staged_files_gone"
    assert rows(shelf) == before


def test_vectors_are_reused_from_merged_files(shelf: Shelf) -> None:
    small_files(shelf, "d1", "r").commit()
    run(shelf)
    settings = ExtractSettings(store=shelf.store, partition="d2", run_id="next")
    todo = plan.plan(settings, shelf.images("d2", "next", FILES), MODEL, FINGERPRINT)
    assert (todo.to_compute, todo.reused) == (0, len(FILES))
    copied = {row["uri"]: row["features"] for row in plan.copies(todo.copy, shelf.store)}
    assert copied == {row["uri"]: row["features"] for row in rows(shelf)["features"]}


def test_a_partition_that_is_published_again_while_it_is_merged_is_left_to_the_publication(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_files(shelf, "d1", "old").commit()
    small_files(shelf, "d2", "r").commit()
    merge = compaction._merge

    def overtaken(store_uri: str, table: schemas.Table, groups: list[rewrites.Rewrite], spread: Spread) -> None:
        merge(store_uri, table, groups, spread)
        if "d1" in [group.keys["partition"] for group in groups]:
            shelf.publish("d1", f"new {table.name}", {"u1": "a"})

    monkeypatch.setattr(compaction, "_merge", overtaken)
    manifest = run(shelf)
    assert manifest.outcome["tables"]["images"]["compaction"]["gave_way"] == 1
    assert {name: {row["run_id"] for row in found} for name, found in rows(shelf).items()} == {
        "images": {"new images"},
        "quarantine": set(),
        "features": {"new images"},
    }
    assert {row["uri"] for row in rows(shelf, "d2")["features"]} == FILES.keys()
    merged = [path for name in schemas.TABLES for path in data(shelf, name) if "/merged-" in path and "/d1/" in path]
    assert merged == [], "what it wrote in vain is removed"


def test_eight_publications_and_a_maintenance_at_once_lose_nothing(shelf: Shelf) -> None:
    for partition in ("d0", "d1"):
        small_files(shelf, partition, "before").commit()
    before = rows(shelf, "d0")
    publications = [small_files(shelf, f"d{number}", f"run {number}", quarantined=["q"]) for number in range(1, 9)]
    start = threading.Barrier(9)

    def publish(publication: commits.Replacement) -> None:
        start.wait()
        publication.commit()

    def keep_house() -> None:
        start.wait()
        for _ in range(2):
            run(shelf, retention_hours=1)

    with ThreadPoolExecutor(9) as pool:
        for future in [*(pool.submit(publish, publication) for publication in publications), pool.submit(keep_house)]:
            future.result()
    assert rows(shelf, "d0") == before
    for number in range(1, 9):
        found = rows(shelf, f"d{number}")
        assert {row["run_id"] for part in found.values() for row in part} == {f"run {number}"}
        assert [len(found[name]) for name in schemas.TABLES] == [len(FILES), len(FILES), 1]


# --- the log ----------------------------------------------------------------------------------------------------------


def test_the_log_is_summed_up_and_versions_of_the_last_thirty_days_can_be_read(shelf: Shelf) -> None:
    for number in range(45):
        shelf.publish(f"d{number}", "r", {"u1": "a"})
    log = Path(shelf.store, "features", "_delta_log")
    for path in log.iterdir():
        if path.name[:20].isdigit() and int(path.name[:20]) < 30:
            age(path, 31 * 24)
    assert run(shelf).counts["log_files"] > 0
    assert json.loads((log / "_last_checkpoint").read_text())["version"] == 45
    assert min(int(path.name[:20]) for path in log.iterdir() if path.name[:20].isdigit()) <= 29
    for version in (29, 30, 45):
        assert catalog.dataset(shelf.store, "features", version=version).count_rows() == version
    assert len(catalog.partitions(shelf.store)) == 45
    assert run(shelf).counts["log_files"] == 0


def test_a_refusal_while_merging_is_not_taken_for_contention(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    """A newer version may add a column between the look at a table and the commit."""
    small_files(shelf, "d1", "r").commit()
    look, looks = commits.open_table, []

    def newer(store: str, table: schemas.Table) -> Any:
        looks.append(table)
        if len(looks) > 1:
            raise contract.BadSetting("newer_store", "It has more columns.", "Update.")
        return look(store, table)

    monkeypatch.setattr(commits, "open_table", newer)
    with pytest.raises(contract.BadSetting, match="more columns"):
        compaction.compact(shelf.store, schemas.FEATURES)
