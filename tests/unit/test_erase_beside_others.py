"""An erasure beside publications, undos and other jobs: neither is lost, and no erased photo comes back."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from spark_apps import catalog, contract
from spark_apps.contract import EraseSettings, JobError, MaintainSettings, Manifest, UndoSettings
from spark_apps.erase import erase
from spark_apps.erasure import data
from spark_apps.erasure.heeding import TRIES, heeding
from spark_apps.maintain import main as maintain_command
from spark_apps.maintain import maintain
from spark_apps.spark.jobs import Timings
from spark_apps.tables import tombstones
from spark_apps.undo import undo
from tests.shelf import MODEL, Shelf, image_id

FILES = {"file:///l/a.jpg": "photo a", "file:///l/b.jpg": "photo b"}
A = image_id("photo a")


def forget(shelf: Shelf, **options: Any) -> Manifest:
    return erase(EraseSettings(store=shelf.store, **{"image_id": A, **options}), Timings())


def names(shelf: Shelf, day: str = "d1") -> dict[str, set[str]]:
    """What readers see of a day, by table."""
    tables = {"images": catalog.images(shelf.store, day), "features": catalog.vectors(shelf.store, day, MODEL)}
    return {name: {uri.rsplit("/", 1)[-1] for uri in found["uri"].to_pylist()} for name, found in tables.items()}


def both(shown: set[str]) -> dict[str, set[str]]:
    return {"images": shown, "features": shown}


def left(shelf: Shelf) -> list[str]:
    """The data files that hold the photo."""
    stones = tombstones.with_added(tombstones.NONE, [A], [])
    return [file.name for file in data.look(shelf.store, data.lying(shelf.store), stones).hit]


def just_before(monkeypatch: pytest.MonkeyPatch, name: str, then: Callable[[], object]) -> None:
    """Does something in the middle of an erasure: once, before a step of it."""
    step, done = getattr(data, name), list[object]()

    def late(*arguments: Any, **options: Any) -> Any:
        if not done:
            done.append(then())
        return step(*arguments, **options)

    monkeypatch.setattr(data, name, late)


def test_a_publication_in_the_middle_stands_without_the_photo(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    for step in ("rewritten", "commit", "removable", "remove"):
        shelf.publish("d1", f"before {step}", FILES)
        with monkeypatch.context() as patch:
            more = {**FILES, f"file:///l/{step}.jpg": step}
            just_before(patch, step, partial(shelf.publish, "d1", f"during {step}", more))
            forget(shelf)
        assert names(shelf) == both({"b.jpg", f"{step}.jpg"})
        assert left(shelf) == []


def test_an_undo_in_the_middle_brings_nothing_back(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = UndoSettings(store=shelf.store, partition="d1", model=MODEL)
    refused = []

    def undone() -> None:
        try:
            undo(settings)
        except (JobError, contract.BadSetting) as error:
            refused.append(error.code)

    for step in ("rewritten", "commit", "removable", "remove"):
        shelf.publish("d1", f"first {step}", FILES)
        shelf.publish("d1", f"second {step}", {**FILES, "file:///l/c.jpg": "c"})
        with monkeypatch.context() as patch:
            just_before(patch, step, undone)
            forget(shelf)
        assert left(shelf) == []
        assert names(shelf)["features"] in ({"b.jpg"}, {"b.jpg", "c.jpg"})
    assert {*refused} == {"erasure_unfinished"}
    undo(settings)
    assert names(shelf) == both({"b.jpg"})


def test_a_file_that_is_named_again_when_it_is_about_to_go_is_replaced(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As by an undo of a version that knows nothing of erasures."""
    shelf.publish("d1", "first", FILES)
    former = shelf.publication("d1", "second", FILES)
    former.commit()
    shelf.publish("d1", "third", {"file:///l/c.jpg": "c"})
    just_before(monkeypatch, "remove", former.commit)
    forget(shelf)
    assert names(shelf) == both({"b.jpg"})
    assert left(shelf) == []


def test_merging_goes_on_and_a_merged_file_can_be_erased_from(shelf: Shelf) -> None:
    publication = shelf.publication("d1", "r", {})
    files = [{uri.replace("/l/", f"/l/{number}"): name} for number in range(4) for uri, name in FILES.items()]
    for name, stage in (("images", shelf.images), ("features", shelf.features)):
        publication.staged[name] = [file for one in files for file in stage("d1", "r", one)]
    publication.commit()
    assert maintain(MaintainSettings(store=shelf.store), Timings()).counts["merged"] > 0
    forget(shelf)
    assert names(shelf)["features"] == {f"{number}b.jpg" for number in range(4)}
    shown = data.data_files.files(catalog.table(shelf.store, "features"))
    assert all(data.data_files.is_merged(path) for path in shown) and left(shelf) == []


def test_a_run_that_was_over_is_over_after_the_erasure(shelf: Shelf) -> None:
    shelf.publish("d1", "r", FILES)
    folder = Path(contract.run_folder(shelf.store, "d1", "r"))
    folder.mkdir(parents=True)
    (folder / "report.json").write_text('{"recomputed": ["file:///l/a.jpg"]}')
    (folder / "validate.json").write_text("{}")
    forget(shelf)
    assert (folder / "report.json").read_text() == '{\n "recomputed": [\n  "(erased)"\n ]\n}'
    assert maintain(MaintainSettings(store=shelf.store), Timings()).outcome["running"] == []


# --- jobs that heed it ------------------------------------------------------------------------------------------------


def job(shelf: Shelf, *steps: Callable[[], object], staged: Any = ()) -> Callable[[], Manifest]:
    """A job of `validate` that does one of `steps` each time that it is done."""
    settings = contract.ValidateSettings(store=shelf.store, partition="d1", run_id="r")
    left = [*steps]

    def work(settings: contract.ValidateSettings, timings: Timings) -> Manifest:
        left.pop(0)()
        return timings.manifest("validate", settings, counts={"left": len(left)}, staged=dict(staged))

    return lambda: heeding(work)(settings, Timings())


def publishing_late(shelf: Shelf, **options: Any) -> None:
    """An erasure begins and ends while a run publishes."""
    shelf.publish("d0", "r", FILES)
    publication = shelf.publication("d1", "r", FILES)
    hidden = {path: path.rename(path.with_suffix(".hidden")) for path in Path(shelf.store).rglob("d1/r/*/*.parquet")}
    forget(shelf, **options)
    for path, there in hidden.items():
        there.rename(path)
    publication.commit()


def test_who_publishes_after_the_erasure_has_looked_removes_the_photo(shelf: Shelf) -> None:
    job(shelf, lambda: publishing_late(shelf))()
    assert names(shelf) == both({"b.jpg"})
    assert left(shelf) == []


def test_photos_that_an_erasure_is_repeated_with_are_heeded_too(shelf: Shelf) -> None:
    shelf.publish("d2", "r", {"file:///l/c.jpg": "photo c"})
    forget(shelf, image_id=image_id("photo c"), run_id="ticket")
    job(shelf, lambda: publishing_late(shelf, run_id="ticket"))()
    assert names(shelf) == both({"b.jpg"})
    assert left(shelf) == []


def test_a_job_that_fails_beside_an_erasure_is_done_once_more(shelf: Shelf) -> None:
    def failing() -> None:
        raise FileNotFoundError("a file that was there")

    def erased_meanwhile() -> None:
        publishing_late(shelf)
        failing()

    assert job(shelf, erased_meanwhile, lambda: None)().counts == {"left": 0}
    with pytest.raises(FileNotFoundError):
        job(shelf, failing, lambda: None)()


def test_what_a_failed_attempt_has_written_after_the_erasure_had_looked_goes_too(shelf: Shelf) -> None:
    """As merged files that no commit names, when the next ones to merge have been taken away."""
    shelf.publish("d1", "before", FILES)

    failing = partial(failing_late, shelf)
    assert job(shelf, failing, lambda: None)().counts == {"left": 0}
    assert left(shelf) == [] and names(shelf) == both({"b.jpg"})
    with pytest.raises(FileNotFoundError):
        job(shelf, *([failing] * TRIES))()
    assert left(shelf) == []


def failing_late(shelf: Shelf) -> None:
    forget(shelf, run_id=str(len(tombstones.erasures(shelf.store))))
    shelf.images("d1", "late", FILES)
    raise FileNotFoundError("a file that was there")


def test_maintenance_heeds_an_erasure(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has read a file that is erased before the merged one is written, and somebody takes the next one away."""
    shelf.publish("d1", "r", FILES)

    def compact(store: str, table: Any, *_: Any) -> Any:
        monkeypatch.undo()
        forget(shelf)
        shelf.images("d1", "merged", FILES)
        raise FileNotFoundError("a file that was there")

    monkeypatch.setattr("spark_apps.upkeep.compaction.compact", compact)
    monkeypatch.setattr("sys.argv", ["maintain", "--store", shelf.store])
    assert maintain_command() == 0
    assert left(shelf) == []


def test_what_has_staged_files_is_done_again_because_they_have_other_names_now(shelf: Shelf) -> None:
    staged = {"images": [contract.StagedFile("data/d1/r/x/y.parquet")]}
    assert job(shelf, lambda: publishing_late(shelf), lambda: None, staged=staged)().counts == {"left": 0}
    assert job(shelf, lambda: None, lambda: None, staged=staged)().counts == {"left": 1}


def test_who_undoes_before_an_erasure_is_finished_is_told_to_finish_it(shelf: Shelf) -> None:
    shelf.publish("d1", "first", FILES)
    shelf.publish("d1", "second", {"file:///l/b.jpg": "photo b"})
    tombstones.write(shelf.store, "killed", [A], [])
    with pytest.raises(JobError, match="Run first had published photos that were erased") as caught:
        undo(UndoSettings(store=shelf.store, partition="d1", model=MODEL))
    assert caught.value.code == "erasure_unfinished"
    erase(EraseSettings(store=shelf.store), Timings())
    undo(UndoSettings(store=shelf.store, partition="d1", model=MODEL))
    assert names(shelf)["images"] == {"b.jpg"}


def test_a_file_that_somebody_is_writing_is_waited_for_and_one_of_the_dead_removed(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    shelf.publish("d1", "r", FILES)
    half = Path(shelf.store, "images/data/d1/killed/0123456789ab/0123456789abcdef.parquet")
    half.parent.mkdir(parents=True)
    half.write_bytes(b"PAR1 photo a, and no end")
    with pytest.raises(JobError, match="seem to be written by a run in progress") as caught:
        forget(shelf)
    assert caught.value.code == "left_to_runs" and names(shelf)["images"] == {"b.jpg"}
    monkeypatch.setattr("spark_apps.upkeep.vacuum.QUIET", contract.settings.datetime.resolution)
    forget(shelf)
    assert not half.exists()
