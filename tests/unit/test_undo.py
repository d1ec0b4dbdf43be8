"""One command puts the former publication back, exactly, and no other partition or model notices."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from deltalake import DeltaTable

from spark_apps import catalog, contract
from spark_apps.contract import BadSetting, JobError, MaintainSettings, NothingToDo, UndoSettings
from spark_apps.maintain import maintain
from spark_apps.spark.jobs import Timings
from spark_apps.tables import commits, schemas
from spark_apps.undo import listing, undo
from tests.shelf import MODEL, Shelf

REPOSITORY = Path(__file__).resolve().parents[2]
OTHER_MODEL = "resnet50-random_0-fp32"


def settings(shelf: Shelf, **options: Any) -> UndoSettings:
    return UndoSettings(**{"store": shelf.store, "partition": "d1", "model": MODEL, **options})


def rows(shelf: Shelf, partition: str = "d1", model: str = MODEL) -> dict[str, list[dict[str, Any]]]:
    tables = {
        "images": catalog.images(shelf.store, partition),
        "quarantine": catalog.quarantine(shelf.store, partition),
        "features": catalog.vectors(shelf.store, partition, model),
    }
    return {name: sorted(table.to_pylist(), key=lambda row: str(row["uri"])) for name, table in tables.items()}


def house_keeping(shelf: Shelf, hours_later: float) -> None:
    now = datetime.now(UTC) + timedelta(hours=hours_later)
    maintain(MaintainSettings(store=shelf.store, retention_hours=1), Timings(), now)


@pytest.fixture
def history(shelf: Shelf) -> list[dict[str, list[dict[str, Any]]]]:
    """Three runs of d1 in versions 2, 3 and 4 (and one of d0 in version 1): what each of them showed."""
    shelf.publish("d0", "other day", {"u1": "a"}, quarantined=["q"])
    contents: list[tuple[dict[str, str], list[str]]] = [
        ({"u1": "a", "u2": "b"}, ["q1"]),
        ({"u1": "a"}, ["q1", "q2"]),
        ({"u1": "z", "u2": "y", "u3": "x"}, []),
    ]
    shown = []
    for number, (files, quarantined) in enumerate(contents, start=1):
        shelf.publish("d1", f"manual:{number}", files, quarantined=quarantined)
        shown.append(rows(shelf))
    return shown


def test_undo_puts_back_exactly_the_rows_of_the_run_before(shelf: Shelf, history: list[Any]) -> None:
    other = rows(shelf, "d0")
    said = undo(settings(shelf))
    assert rows(shelf) == history[1]
    assert rows(shelf, "d0") == other
    assert "manual:2" in said and "--to-version 4" in said
    [published] = [item for item in catalog.partitions(shelf.store) if item.partition == "d1"]
    assert (published.run_id, published.rows) == ("manual:2", 1)


def test_undo_is_one_new_commit_per_table_that_says_what_it_is(shelf: Shelf, history: list[Any]) -> None:
    before = {name: DeltaTable(Path(shelf.store, name)).version() for name in schemas.TABLES}
    undo(settings(shelf))
    for name in schemas.TABLES:
        delta = DeltaTable(Path(shelf.store, name))
        assert delta.version() == before[name] + 1
        (commit,) = delta.history(1)
        assert (commit["run_id"], commit["restored"], commit["replaced_run_id"]) == ("manual:2", "3", "manual:3")
        assert commit["featured"] == "1", "the counts of the run come back with it"


def test_undo_twice_goes_back_two_runs_and_no_further(shelf: Shelf, history: list[Any]) -> None:
    undo(settings(shelf))
    undo(settings(shelf))
    assert rows(shelf) == history[0]
    with pytest.raises(BadSetting) as caught:
        undo(settings(shelf))
    assert caught.value.code == "nothing_to_undo" and "manual:1" in caught.value.message
    assert rows(shelf) == history[0]


def test_naming_a_version_goes_there_forward_too(shelf: Shelf, history: list[Any]) -> None:
    undo(settings(shelf, to_version=2))
    assert rows(shelf) == history[0]
    undo(settings(shelf, to_version=4))
    assert rows(shelf) == history[2]
    undo(settings(shelf))
    assert rows(shelf) == history[1], "the one before version 4, not the one before in time"


def test_a_run_after_an_undo_can_be_undone(shelf: Shelf, history: list[Any]) -> None:
    undo(settings(shelf, to_version=2))
    shelf.publish("d1", "manual:4", {"u9": "q"})
    undo(settings(shelf))
    assert rows(shelf) == history[2], "what was published by a run before it; undos are not publications"


def test_the_list_says_what_can_be_put_back(shelf: Shelf, history: list[Any]) -> None:
    undo(settings(shelf))
    lines = [line.split("  ") for line in listing(settings(shelf)).splitlines()]
    table = [[cell.strip() for cell in line if cell.strip()] for line in lines]
    assert [(line[0], *line[2:]) for line in table] == [
        ("version", "run", "rows", "state"),
        ("5", "manual:2", "1", "published now, an undo back to 3"),
        ("4", "manual:3", "3", "can be put back"),
        ("3", "manual:2", "1", "can be put back"),
        ("2", "manual:1", "2", "can be put back"),
    ]


def test_what_maintenance_has_removed_is_refused_and_nothing_changes(shelf: Shelf, history: list[Any]) -> None:
    house_keeping(shelf, 30)
    for options in ({}, {"to_version": 2}):
        with pytest.raises(BadSetting) as caught:
            undo(settings(shelf, **options))
        assert caught.value.code == "version_vacuumed"
        assert "maintenance has removed" in caught.value.message and caught.value.hint
    assert rows(shelf) == history[2]
    assert listing(settings(shelf)).count("gone: maintenance has removed") == 2


def test_a_publication_that_was_merged_can_be_put_back_after_its_staged_files_went(shelf: Shelf) -> None:
    publication = shelf.publication("d1", "manual:1", {}, quarantined=["q"])
    for name, stage in (("images", shelf.images), ("features", shelf.features)):
        publication.staged[name] = [file for n in range(6) for file in stage("d1", "manual:1", {f"u{n}": str(n)})]
    publication.commit()
    before = rows(shelf)
    house_keeping(shelf, 0)
    house_keeping(shelf, 30)
    assert len(list(Path(shelf.store, "features", "data").rglob("*.parquet"))) == 1
    shelf.publish("d1", "manual:2", {"u1": "a"})
    undo(settings(shelf))
    assert rows(shelf) == before


def test_another_model_keeps_its_vectors(shelf: Shelf, history: list[Any]) -> None:
    shelf.publish("d1", "manual:4", {"u1": "a"}, model=OTHER_MODEL)
    other = rows(shelf, model=OTHER_MODEL)["features"]
    undo(settings(shelf))
    assert rows(shelf) == history[1]
    assert rows(shelf, model=OTHER_MODEL)["features"] == other


def test_an_undo_that_was_killed_between_two_tables_is_completed_by_the_next(
    shelf: Shelf, history: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = commits.Replacement._commit

    def killed(self: commits.Replacement, table: schemas.Table, *arguments: Any) -> Any:
        if table is schemas.FEATURES:
            raise KeyboardInterrupt
        return commit(self, table, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(commits.Replacement, "_commit", killed)
        with pytest.raises(KeyboardInterrupt):
            undo(settings(shelf))
    assert rows(shelf)["features"] == history[2]["features"], "the last commit is the publication"
    undo(settings(shelf))
    assert rows(shelf) == history[1]


def after_restoring(monkeypatch: pytest.MonkeyPatch, then: Callable[[commits.Replacement], object]) -> None:
    """Does something in the moment after the run before has been put back."""
    commit = commits.Replacement.commit

    def raced(self: commits.Replacement) -> dict[str, int]:
        versions = commit(self)
        if self.run_id == "manual:2":
            then(self)
        return versions

    monkeypatch.setattr(commits.Replacement, "commit", raced)


def test_files_that_vanish_while_they_are_put_back_bring_the_present_back(
    shelf: Shelf, history: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A maintenance may have judged them just before."""
    after_restoring(
        monkeypatch, lambda restored: Path(shelf.store, "features", restored.staged["features"][0].path).unlink()
    )
    with pytest.raises(BadSetting) as caught:
        undo(settings(shelf))
    assert caught.value.code == "version_vacuumed"
    assert rows(shelf) == history[2]


def test_a_run_that_publishes_at_the_same_moment_stands(
    shelf: Shelf, history: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    after_restoring(monkeypatch, lambda _: shelf.publish("d1", "newer", {"u1": "a"}))
    with pytest.raises(JobError) as caught:
        undo(settings(shelf))
    assert caught.value.code == "overtaken"
    assert {row["run_id"] for row in rows(shelf)["features"]} == {"newer"}


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({"partition": "d7"}, "never_published"),
        ({"model": "resnet50"}, "never_published"),
        ({"to_version": 99}, "unknown_version"),
        ({"to_version": 1}, "unknown_version"),  # that is another day's
        ({"partition": "d0"}, "nothing_to_undo"),
    ],
)
def test_what_cannot_be_undone_is_refused_in_plain_words(
    shelf: Shelf, history: list[Any], options: dict[str, Any], code: str
) -> None:
    with pytest.raises(BadSetting) as caught:
        undo(settings(shelf, **options))
    assert caught.value.code == code and caught.value.hint
    assert rows(shelf) == history[2]


def test_going_to_what_is_published_is_nothing_to_do(shelf: Shelf, history: list[Any]) -> None:
    with pytest.raises(NothingToDo):
        undo(settings(shelf, to_version=4))
    undo(settings(shelf))
    with pytest.raises(NothingToDo):
        undo(settings(shelf, to_version=3))


def test_the_command_lists_undoes_and_refuses_with_an_exit_code(shelf: Shelf, history: list[Any]) -> None:
    def command(*arguments: str) -> subprocess.CompletedProcess[str]:
        call = [sys.executable, "-m", "spark_apps.undo", "--store", shelf.store, "--partition", "d1", "--model", MODEL]
        return subprocess.run(
            [*call, *arguments], cwd=REPOSITORY, env=os.environ, capture_output=True, text=True, check=False
        )

    files = set(Path(shelf.store).rglob("*"))
    shown = command("--list")
    assert (shown.returncode, "manual:3" in shown.stdout) == (contract.ExitCode.DONE, True)
    assert set(Path(shelf.store).rglob("*")) == files, "a look changes nothing"
    done = command()
    assert done.returncode == contract.ExitCode.DONE, done.stderr
    assert done.stdout.startswith(f"d1 of {MODEL} is run manual:2 again")
    (left,) = Path(shelf.store, "undo", "d1", MODEL).glob("*/undo.json")
    manifest = contract.Manifest.from_record(json.loads(left.read_text()))
    assert (manifest.counts["featured"], manifest.outcome["run_id"]) == (1, "manual:2")
    assert manifest.outcome["table_versions"] == {"features": 5}
    assert rows(shelf) == history[1]
    refused = command("--to-version", "77")
    assert refused.returncode == contract.ExitCode.BAD_SETTING
    assert refused.stderr.startswith("undo failed: Version 77 published nothing of d1")
