"""What finished tasks leave is taken over by the next attempt when it is whole and fits; all else is computed again."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from spark_apps.contract import ExtractSettings, IngestSettings, JobError, StagedFile, Unreachable
from spark_apps.pipeline import intake, landing, lists, plan, resume
from spark_apps.pipeline.finished import Finished
from spark_apps.pipeline.plan import Plan
from spark_apps.pipeline.records import TaskRecord
from spark_apps.pipeline.sorting import Sorter
from spark_apps.tables import schemas, staging
from tests.shelf import FINGERPRINT, MODEL, Shelf, image_id, vector

DAY = {"u0": "a", "u1": "b", "u2": "a", "u3": "c", "u4": "d", "u5": "e", "u6": "f"}
TASKS = ({"u0": "a", "u2": "a", "u1": "b"}, {"u3": "c"}, {"u4": "d", "u5": "e"})
"""What three tasks have done of the day; `f` was in flight."""
FITTING = resume.basis(ingest="one", fingerprint="same")


class Run:
    """Attempts at extract, as the command makes them: `images` are staged, tasks put features beside them."""

    def __init__(self, shelf: Shelf) -> None:
        self.shelf = shelf
        self.settings = ExtractSettings(store=shelf.store, partition="d1", run_id="r")
        self.images = shelf.images("d1", "r", DAY)
        self.root = Path(staging.unfinished(self.settings.folder, "extract"))

    @contextmanager
    def attempt(self, basis: dict[str, Any] = FITTING, recompute: bool = False) -> Iterator[tuple[str, Plan]]:
        """An attempt that goes by `basis`: the folder of its files, and its plan."""
        earlier = resume.look(self.settings, "extract", basis, schemas.FEATURES, ("uri", "image_id"))
        finished = [] if recompute else earlier.finished
        todo = plan.plan(self.settings, self.images, MODEL, FINGERPRINT, finished)
        with resume.attempt(self.settings, "extract", basis, earlier, todo.taken) as folder:
            yield folder, todo

    def task(self, folder: str, files: dict[str, str], keep: bool = True) -> TaskRecord:
        """A task that gives each of `files`, uri → image, a vector, and leaves its record if it is to `keep` one."""
        with staging.StagedWriter(self.shelf.store, schemas.FEATURES, folder) as features:
            for uri, name in files.items():
                row = {"uri": uri, "image_id": image_id(name), "features": vector(name), "run_id": "r"}
                features.add(row | {"model_fingerprint": FINGERPRINT}, 100)
        record = TaskRecord({"features": features.files, "quarantine": []}, {}, len(set(files.values())), 1)
        return resume.keep(self.settings, "extract", folder, record) if keep else record

    def killed(self) -> list[TaskRecord]:
        """What an attempt leaves that is killed when `TASKS` are done and one more has staged its files."""
        with self.attempt() as (folder, _):
            done = [self.task(folder, files) for files in TASKS]
            self.task(folder, {"u6": "f"}, keep=False)
        return done

    def staged(self) -> set[str]:
        """The staged files of features, as records name them."""
        root = Path(self.shelf.store, "features")
        return {path.relative_to(root).as_posix() for path in root.rglob("*.parquet")}

    def file(self, record: TaskRecord) -> Path:
        return Path(self.shelf.store, "features", record.staged["features"][0].path)

    def document(self, record: TaskRecord) -> Path:
        """Where a task's record lies."""
        (found,) = (path for path in self.root.rglob("*.json") if record.staged["features"][0].path in path.read_text())
        return found


@pytest.fixture
def run(shelf: Shelf) -> Run:
    return Run(shelf)


def paths(*records: TaskRecord) -> set[str]:
    return {file.path for record in records for file in record.staged["features"]}


def test_what_finished_tasks_did_is_taken_over_and_the_rest_planned(run: Run) -> None:
    done = run.killed()
    assert len(run.staged()) == 4
    with run.attempt() as (_, todo):
        assert (todo.resumed, todo.to_compute, todo.reused, todo.duplicates) == (5, 1, 0, 1)
        assert paths(*todo.taken) == paths(*done) == run.staged(), "the unfinished file is removed"
        assert sum(record.computed + record.loads for record in todo.taken) == 0, "it was not done now"
        (unit,) = todo.compute
        assert [row for row in range(7) if unit.to_compute()[row]] == [6] and not unit.twins


def test_what_was_taken_over_is_taken_over_again_with_what_came_since(run: Run) -> None:
    done = run.killed()
    with pytest.raises(ZeroDivisionError), run.attempt() as (folder, _):  # noqa: PT012  its exit is what is tried
        more = run.task(folder, {"u6": "f"})
        raise ZeroDivisionError
    with run.attempt() as (_, todo):
        assert (todo.resumed, todo.to_compute) == (6, 0)
        assert paths(*todo.taken) == paths(*done, more) == run.staged()


def test_recompute_means_everything(run: Run) -> None:
    run.killed()
    with run.attempt(recompute=True) as (_, todo):
        assert (todo.resumed, todo.to_compute) == (0, 6)
        assert not run.staged()


def truncated(run: Run, record: TaskRecord) -> None:
    content = run.file(record).read_bytes()
    run.file(record).write_bytes(content[:-9])


def of_the_same_size_without_a_footer(run: Run, record: TaskRecord) -> None:
    content = run.file(record).read_bytes()
    run.file(record).write_bytes(content[:-4] + b"\0\0\0\0")


def missing(run: Run, record: TaskRecord) -> None:
    run.file(record).unlink()


def half_written(run: Run, record: TaskRecord) -> None:
    document = run.document(record)
    document.write_text(document.read_text()[:-40])


def not_a_record(run: Run, record: TaskRecord) -> None:
    run.document(record).write_text('["something", "else"]')


def rewritten(run: Run, record: TaskRecord, **changes: Any) -> None:
    document = run.document(record)
    content = json.loads(document.read_text())
    content["staged"]["features"][0] |= changes
    document.write_text(json.dumps(content))


def of_another_count(run: Run, record: TaskRecord) -> None:
    (file,) = record.staged["features"]
    rewritten(run, record, rows=file.rows + 1)


def with_a_file_of_another_run(run: Run, record: TaskRecord) -> None:
    (file,) = run.shelf.features("d1", "other", TASKS[1])
    rewritten(run, record, path=file.path, size_bytes=file.size_bytes)


def with_a_photo_that_ingest_does_not_know(run: Run, record: TaskRecord) -> None:
    _again(run, record, {"u3": "c", "u7": "g"})


def without_a_copy(run: Run, record: TaskRecord) -> None:
    """Of a photo that two files hold it has one only."""
    _again(run, record, {"u0": "a", "u3": "c"})


def _again(run: Run, record: TaskRecord, files: dict[str, str]) -> None:
    folder = record.staged["features"][0].path.rsplit("/", 1)[0]
    (file,) = run.task(folder, files, keep=False).staged["features"]
    run.file(record).unlink()
    rewritten(run, record, **vars(file))


@pytest.mark.parametrize(
    "damage",
    [
        truncated,
        of_the_same_size_without_a_footer,
        missing,
        half_written,
        not_a_record,
        of_another_count,
        with_a_file_of_another_run,
        with_a_photo_that_ingest_does_not_know,
        without_a_copy,
    ],
)
def test_a_doubtful_task_is_computed_again_and_its_files_go(
    damage: Callable[[Run, TaskRecord], None], run: Run
) -> None:
    first, doubtful, third = run.killed()
    damage(run, doubtful)
    others = {path for path in run.staged() if "/other/" in path}
    with run.attempt() as (_, todo):
        assert (todo.resumed, todo.to_compute) == (4, 2)
        assert paths(*todo.taken) == paths(first, third) == run.staged() - others
        assert others <= run.staged(), "another run's files are not touched"


@pytest.mark.parametrize("other", [{"ingest": "two"}, {"fingerprint": "other"}, {"code_hash": "other"}])
def test_what_was_made_by_other_facts_is_not_taken_over(run: Run, other: dict[str, str]) -> None:
    run.killed()
    with run.attempt(FITTING | other) as (_, todo):
        assert (todo.resumed, todo.to_compute, run.staged()) == (0, 6, set())


def test_a_document_of_an_attempt_that_is_damaged_speaks_for_none_of_its_tasks(run: Run) -> None:
    run.killed()
    (document,) = run.root.rglob(resume.ATTEMPT)
    document.write_text('{"basis": {"ingest"')
    with run.attempt() as (_, todo):
        assert (todo.resumed, run.staged()) == (0, set())


def test_of_two_attempts_at_one_task_one_counts(run: Run) -> None:
    with pytest.raises(ZeroDivisionError), run.attempt() as (folder, _):  # noqa: PT012  its exit is what is tried
        for _again in range(2):
            run.task(folder, TASKS[0])
        run.task(folder, {"u1": "b", "u3": "c"})  # shared out otherwise: it has a photo of those
        raise ZeroDivisionError
    with run.attempt() as (_, todo):
        assert todo.resumed == len(set(TASKS[0].values()))
        assert len(run.staged()) == len(todo.taken) == 1


def test_a_failed_attempt_keeps_what_is_finished_and_frees_the_rest(run: Run) -> None:
    with pytest.raises(Unreachable), run.attempt() as (folder, _):  # noqa: PT012  its exit is what is tried
        done = run.task(folder, TASKS[0])
        run.task(folder, TASKS[1], keep=False)
        raise Unreachable("store_unreachable", "No space left on device")
    assert run.staged() == paths(done)


def test_of_two_attempts_at_once_the_later_goes_on_and_the_earlier_is_told(run: Run) -> None:
    """A job that Airflow has given up for dead still runs: it finishes tasks before and after the next one begins."""
    with pytest.raises(JobError) as caught, run.attempt() as (first_folder, _):  # noqa: PT012  its exit raises
        before = run.task(first_folder, TASKS[0])
        writing = staging.StagedWriter(run.shelf.store, schemas.FEATURES, first_folder)
        writing.add_table(pa.Table.from_pylist([{"uri": "u3"}], schema=schemas.FEATURES.columns))
        with run.attempt() as (second_folder, todo):
            assert paths(*todo.taken) == paths(before)
            rest = run.task(second_folder, {"u3": "c", "u4": "d", "u5": "e", "u6": "f"})
            writing.__exit__(None, None, None)
            resume.keep(run.settings, "extract", first_folder, TaskRecord({"features": writing.files}))
            late = run.task(first_folder, TASKS[1])
    assert caught.value.code == "attempt_replaced"
    assert paths(before, rest) <= run.staged(), "the one that was replaced takes nothing away"
    with run.attempt() as (_, todo):
        assert paths(*todo.taken) == paths(before, rest)
        assert todo.to_compute == 0
    assert late.staged["features"][0].path not in {file for record in todo.taken for file in paths(record)}


def test_files_that_vanish_under_an_attempt_are_noticed_before_it_says_that_it_is_done(run: Run) -> None:
    first, *_ = run.killed()
    with pytest.raises(JobError, match="taken over"), run.attempt():
        run.file(first).unlink()


def test_nothing_is_left_to_resume_when_the_stage_is_done(run: Run) -> None:
    run.killed()
    before = run.staged()
    staging.settle(run.settings.folder, "extract")
    assert not run.root.exists()
    with run.attempt() as (_, todo):
        assert todo.resumed == 0
        assert run.staged() == before, "they may have been published: that is for maintenance to say"


def test_a_store_where_a_task_may_leave_no_record_loses_nothing_but_that(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    with run.attempt() as (folder, _):
        shutil.rmtree(run.root)
        run.root.write_text("no folder")
        record = run.task(folder, TASKS[0])
        run.root.unlink()
        resume.keep(run.settings, "extract", folder, record)
        (Path(run.root) / folder.rsplit("/", 1)[-1] / resume.ATTEMPT).write_text("{}")
    assert run.staged() == paths(record)


# --- ingest -----------------------------------------------------------------------------------------------------------

MORNING, NOON = datetime(2026, 11, 22, 6, tzinfo=UTC), datetime(2026, 11, 22, 12, tzinfo=UTC)


def rows(*files: tuple[str, int, datetime]) -> pa.Table:
    return pa.Table.from_pylist([dict(zip(intake.FACTS, file, strict=True)) for file in files], schema=landing.LISTING)


def finished(*files: tuple[str, int, datetime]) -> Finished:
    return Finished(TaskRecord({"images": [StagedFile(files[0][0])]}), rows(*files))


def listing(*files: tuple[str, int, datetime]) -> landing.Listing:
    sorter = Sorter(landing.LISTING, "uri")
    sorter.add(rows(*files))
    return landing.Listing(len(files), sum(size for _, size, _ in files), sorter)


def divided(shelf: Shelf, *earlier: Finished) -> tuple[intake.Division, list[str], list[str]]:
    """A listing of six files, divided: the uris that are to be read, and all that are kept."""
    settings = IngestSettings(store=shelf.store, partition="d1", run_id="r", source="/landing")
    listed = listing(*((name, 3, MORNING) for name in "abcdef"))
    division = intake.divide(settings, listed, earlier, 1)
    to_read = [uri for unit in division.units for uri in lists.read(unit)["uri"].to_pylist()]
    kept = [uri for file in division.listing for uri in pq.read_table(file)["uri"].to_pylist()]
    return division, to_read, kept


def test_a_file_is_not_read_again_when_it_is_listed_as_it_was_read(shelf: Shelf) -> None:
    whole, again = finished(("a", 3, MORNING), ("b", 3, MORNING)), finished(("b", 3, MORNING), ("c", 3, MORNING))
    larger, later = finished(("d", 4, MORNING)), finished(("e", 3, NOON), ("f", 3, MORNING))
    gone = finished(("f", 3, MORNING), ("z", 3, MORNING))
    twice = finished(("e", 3, MORNING), ("e", 3, MORNING))
    division, to_read, kept = divided(shelf, whole, again, larger, later, gone, twice)
    assert (division.taken, division.resumed) == ([whole.record], 2)
    assert to_read == ["c", "d", "e", "f"]
    assert sorted(kept) == list("abcdef")


def test_a_task_that_does_not_count_takes_nothing_from_one_after_it(shelf: Shelf) -> None:
    doubtful, sound = finished(("a", 3, MORNING), ("b", 4, MORNING)), finished(("a", 3, MORNING), ("c", 3, MORNING))
    division, to_read, _ = divided(shelf, doubtful, sound)
    assert (division.taken, to_read) == ([sound.record], ["b", "d", "e", "f"])


def test_the_parts_of_a_listing_are_all_of_it(shelf: Shelf) -> None:
    for earlier in ([], [finished(("a", 3, MORNING), ("f", 3, MORNING))]):
        assert sorted(divided(shelf, *earlier)[2]) == list("abcdef")
    everything = finished(*((name, 3, MORNING) for name in "abcdef"))
    division, to_read, kept = divided(shelf, everything)
    assert (division.units, to_read, kept) == ([], [], list("abcdef"))
