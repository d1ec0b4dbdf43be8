"""Runs of one id in several Dags, map indexes and branches: never one folder for two, and old stores still read."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import pytest

from spark_apps import catalog, contract, storage
from spark_apps.contract import BadSetting, ExtractSettings, Manifest, RunKey, ValidateSettings
from spark_apps.spark import jobs
from spark_apps.tables import staging
from tests.shelf import MODEL, Shelf

RUN_ID = "scheduled__2026-11-22T00:00:00+00:00"
IDS = [
    "a:b",
    "a+b",
    "a_b",
    "a.b",
    "A",
    "a",
    "..",
    ".",
    "/",
    "é",
    "e\u0301",
    "x" * 250,
    "x" * 249 + "y",
    "map1",
    "of-a",
    "@",
    "-",
]


def test_different_runs_have_different_folders_that_are_plain_names() -> None:
    keys = [RunKey(run_id, dag_id) for run_id, dag_id in itertools.product(IDS, ["", *IDS])]
    keys += [
        RunKey("r", dag_id, index, branch)
        for dag_id in ("", "d", "d.r", "@")
        for index in (-1, 0, 1)
        for branch in ("", "a", "a/b", "a_b", "map1", "x" * 250)
    ]
    # as an id may be chosen to equal what another is written as
    keys += [RunKey(part, "d") for part in RunKey("a:b", "d").folder.split(".")[1:]]
    folders = {key.folder for key in keys}
    assert len(folders) == len(set(keys))
    assert all(len(folder.encode()) <= 255 and "/" not in folder and folder[0] != "." for folder in folders)


def test_a_run_of_a_dag_knows_its_folders_and_no_other_dag_s() -> None:
    mine = RunKey(RUN_ID, "cameras")
    for key in (mine, RunKey(RUN_ID, "cameras", 3), RunKey(RUN_ID, "cameras", branch="b")):
        assert mine.owns(key.folder)
        assert (contract.is_of_dag(key.folder, "cameras"), contract.is_of_dag(key.folder, "other")) == (True, False)
    for key in (RunKey(RUN_ID, "cameras2"), RunKey(RUN_ID), RunKey(RUN_ID + "0", "cameras"), RunKey(RUN_ID, "camera")):
        assert not mine.owns(key.folder)
    assert contract.is_of_dag(RunKey(RUN_ID).folder, "cameras") is None


def settings(shelf: Shelf, run: RunKey) -> ExtractSettings:
    return ExtractSettings(
        store=shelf.store,
        partition="d1",
        run_id=run.run_id,
        dag_id=run.dag_id,
        map_index=run.map_index,
        branch=run.branch,
    )


def leave(shelf: Shelf, run: RunKey, stage: str, **facts: object) -> None:
    manifest = jobs.Timings().manifest(stage, settings(shelf, run), counts={"listed": 1})
    record = {**json.loads(manifest.to_json()), **facts}
    storage.write_json(f"{contract.run_folder(shelf.store, 'd1', run)}/{stage}.json", record)


def test_two_dags_with_one_run_id_stage_publish_and_read_apart(shelf: Shelf) -> None:
    for dag_id, files in (("one", {"u1": "a"}), ("two", {"u1": "a", "u2": "b"})):
        shelf.publish(f"day of {dag_id}".replace(" ", "-"), RunKey(RUN_ID, dag_id), files)
        leave(shelf, RunKey(RUN_ID, dag_id), "ingest", counts={"listed": len(files)})
    assert {(item.folder, item.rows, item.run_id) for item in catalog.partitions(shelf.store, MODEL)} == {
        (RunKey(RUN_ID, "one").folder, 1, RUN_ID),
        (RunKey(RUN_ID, "two").folder, 2, RUN_ID),
    }
    for dag_id, listed in (("one", 1), ("two", 2)):
        assert jobs.read_manifest(settings(shelf, RunKey(RUN_ID, dag_id)), "ingest").counts == {"listed": listed}
    with pytest.raises(BadSetting, match="has not finished"):
        jobs.read_manifest(settings(shelf, RunKey(RUN_ID, "three")), "ingest")


def test_who_gives_a_dag_s_run_without_its_dag_is_told_so(shelf: Shelf) -> None:
    leave(shelf, RunKey(RUN_ID, "one"), "ingest")
    with pytest.raises(BadSetting, match=r"For a run of a Dag give its --dag-id too\.$"):
        jobs.read_manifest(settings(shelf, RunKey(RUN_ID)), "ingest")
    with pytest.raises(BadSetting, match=r"and --run-id\.$"):
        jobs.read_manifest(settings(shelf, RunKey(RUN_ID, "two")), "ingest")


def test_a_run_id_alone_finds_the_one_dag_s_run_and_asks_which_of_several(shelf: Shelf) -> None:
    leave(shelf, RunKey(RUN_ID, "one"), "ingest")
    found = catalog.manifest(shelf.store, "d1", RUN_ID, "ingest")
    assert found is not None and found.dag_id == "one"
    leave(shelf, RunKey(RUN_ID, "two"), "ingest")
    with pytest.raises(BadSetting, match=r"2 Dags have a run .*RunKey"):
        catalog.manifest(shelf.store, "d1", RUN_ID, "ingest")


def test_one_ingest_serves_every_branch_and_index_but_an_extract_its_own(shelf: Shelf) -> None:
    leave(shelf, RunKey(RUN_ID, "d"), "ingest")
    leave(shelf, RunKey(RUN_ID, "d"), "extract")
    branch = settings(shelf, RunKey(RUN_ID, "d", 2, "resnet50"))
    assert jobs.read_manifest(branch, "ingest").dag_id == "d"
    with pytest.raises(BadSetting, match=r"stage extract .* has not finished"):
        jobs.read_manifest(branch, "extract")
    leave(shelf, RunKey(RUN_ID, "d", 2), "ingest", counts={"listed": 7})
    assert jobs.read_manifest(settings(shelf, RunKey(RUN_ID, "d", 2)), "ingest").counts == {"listed": 7}


def test_validate_goes_by_the_ingest_that_its_extract_has_read(shelf: Shelf) -> None:
    """An attempt at ingest that was given up for dead may end after the next one, and after extract."""
    job, facts = settings(shelf, RunKey(RUN_ID, "d")), {"stage": "ingest", "run_id": RUN_ID, "partition": "d1"}
    common = {"started_at": "", "finished_at": "", "seconds": {}, "settings": {}, "versions": {}, "code_hash": ""}
    for attempt, listed in (("aaaaaaaaaaaa", 3), ("bbbbbbbbbbbb", 5)):
        jobs.write_manifest(job, Manifest(**facts, **common, attempt=attempt, counts={"listed": listed}))
    assert jobs.read_manifest(job, "ingest").counts == {"listed": 5}
    extracted = Manifest(**facts, **common, counts={}, outcome={"ingest_attempt": "aaaaaaaaaaaa"})
    found = catalog.ingest_of(job, extracted)
    assert found is not None and (found.attempt, found.counts) == ("aaaaaaaaaaaa", {"listed": 3})
    assert catalog.ingest_of(job, Manifest(**facts, **common, counts={}, outcome={"ingested": vars(found)})) == found
    for damaged in ("../../x", 7, None):
        with pytest.raises((ValueError, TypeError)):
            catalog.ingest_of(job, Manifest(**facts, **common, counts={}, outcome={"ingest_attempt": damaged}))


def test_a_run_begun_before_dags_were_told_apart_can_be_finished(shelf: Shelf) -> None:
    leave(shelf, RunKey(RUN_ID), "ingest", dag_id=None)
    assert jobs.read_manifest(settings(shelf, RunKey(RUN_ID, "d")), "ingest").counts == {"listed": 1}
    leave(shelf, RunKey(RUN_ID), "ingest")  # now one of the command line
    with pytest.raises(BadSetting, match="has not finished"):
        jobs.read_manifest(settings(shelf, RunKey(RUN_ID, "d")), "ingest")


def test_attempts_of_two_dags_are_staged_in_folders_of_their_own(shelf: Shelf) -> None:
    folders = [staging.folder(settings(shelf, RunKey(RUN_ID, dag_id))) for dag_id in ("", "one", "two")]
    assert len({staging.run_of(f"{folder}/file") for folder in folders}) == 3
    assert folders[0].startswith(f"data/d1/{contract.path_safe(RUN_ID)}/"), "as the command line always has"


def test_two_models_of_one_run_are_both_published(shelf: Shelf) -> None:
    ingest = shelf.images("d1", RunKey(RUN_ID, "d"), {"u": "a"})
    for model in ("m1", "m2"):
        publication = shelf.publication("d1", RunKey(RUN_ID, "d", branch=model), {"u": "a"}, model=model)
        publication.staged["images"] = ingest
        publication.commit()
    assert {item.model: item.rows for item in catalog.partitions(shelf.store)} == {"m1": 1, "m2": 1}
    assert catalog.images(shelf.store, "d1").num_rows == 1


def test_a_folder_that_was_written_before_is_found_by_the_command_line(shelf: Shelf) -> None:
    old = Path(shelf.store, "runs", "d1", contract.path_safe(RUN_ID))
    assert ValidateSettings(store=shelf.store, partition="d1", run_id=RUN_ID).folder == str(old)
