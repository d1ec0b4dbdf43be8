"""Whoever waits is told how far it is, and nothing depends on the telling."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path

import pytest

from spark_apps.contract import ExtractSettings, Unreachable
from spark_apps.spark import progress
from spark_apps.spark.progress import Ticker, watching


@pytest.fixture
def settings(tmp_path: Path) -> ExtractSettings:
    return ExtractSettings(store=str(tmp_path / "store"), partition="d1", run_id="r")


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "EVERY_SECONDS", 0.05)


def wait_for_state(settings: ExtractSettings, finished: int) -> dict[str, object]:
    file, deadline = Path(settings.folder, "progress.json"), time.monotonic() + 20
    while time.monotonic() < deadline:
        if file.exists():
            state: dict[str, object] = json.loads(file.read_text())
            if state["done"] == finished:
                return state
        time.sleep(0.01)
    raise AssertionError("progress.json did not come")


def test_what_the_tasks_did_is_added_up_logged_and_cleared(
    settings: ExtractSettings, capfd: pytest.CaptureFixture[str]
) -> None:
    with watching(settings, "extract", 1200) as folder:
        first, second = Ticker(folder, 0), Ticker(folder, 1)
        second.note(0, 3, last=True)  # before what is waited for
        first.note(300, 0, last=True)
        state = wait_for_state(settings, 300)
        assert {key: state[key] for key in ("stage", "total", "done", "failed")} == {
            "stage": "extract",
            "total": 1200,
            "done": 300,
            "failed": 3,
        }
        assert isinstance(state["images_per_second"], float) and state["images_per_second"] > 0
        assert isinstance(state["eta_s"], int)
    assert "extract d1: 303 of 1,200 images, " in capfd.readouterr().err
    assert list(Path(settings.folder).iterdir()) == []


def test_a_task_that_starts_again_counts_from_the_beginning(settings: ExtractSettings) -> None:
    with watching(settings, "extract", 10) as folder:
        died = Ticker(folder, 0)
        died.note(7, 0, last=True)
        wait_for_state(settings, 7)
        again = Ticker(folder, 0)
        again.note(2, 0, last=True)
        wait_for_state(settings, 2)


def test_a_ticker_notes_by_itself_after_a_while(settings: ExtractSettings) -> None:
    with watching(settings, "extract", 10) as folder:
        ticker = Ticker(folder, 0)
        time.sleep(0.06)
        ticker.note(4, 1)
        state = wait_for_state(settings, 4)
        assert state["failed"] == 1


def test_notes_of_an_earlier_attempt_do_not_count(settings: ExtractSettings) -> None:
    old = Path(settings.folder, "progress", "00000007.json")
    old.parent.mkdir(parents=True)
    old.write_text('{"done": 1000, "failed": 0}')
    with watching(settings, "extract", 10) as folder:
        ticker = Ticker(folder, 0)
        ticker.note(1, 0, last=True)
        wait_for_state(settings, 1)


def test_before_anything_is_done_there_is_no_estimate(
    settings: ExtractSettings, capfd: pytest.CaptureFixture[str]
) -> None:
    with watching(settings, "extract", 10):
        assert wait_for_state(settings, 0)["eta_s"] is None
    assert "left" not in capfd.readouterr().err


def test_a_note_that_cannot_be_written_or_read_stops_nobody(settings: ExtractSettings, tmp_path: Path) -> None:
    (tmp_path / "a file").touch()
    ticker = Ticker(str(tmp_path / "a file" / "below"), 0)
    ticker.note(1, 0, last=True)
    with watching(settings, "extract", 10) as folder:
        broken = Path(folder, "00000001.json")
        broken.write_text('{"done": ')
        time.sleep(0.2)
        broken.unlink()
        good = Ticker(folder, 0)
        good.note(5, 0, last=True)
        wait_for_state(settings, 5)


def test_a_failure_inside_passes_and_ends_the_telling(settings: ExtractSettings) -> None:
    with pytest.raises(KeyError), watching(settings, "extract", 10):
        raise KeyError
    assert "progress" not in [thread.name for thread in threading.enumerate()]
    assert list(Path(settings.folder).iterdir()) == []


def test_a_store_that_cannot_be_written_to_is_unreachable(tmp_path: Path) -> None:
    (tmp_path / "a file").touch()
    settings = ExtractSettings(store=str(tmp_path / "a file"), partition="d1", run_id="r")
    with pytest.raises(Unreachable), watching(settings, "extract", 10):
        raise AssertionError("the block must not begin")


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0, "0 s"), (59, "59 s"), (60, "1 min 0 s"), (104, "1 min 44 s"), (3600, "1 h 0 min"), (7384, "2 h 3 min")],
)
def test_durations_are_said_as_a_person_says_them(seconds: int, words: str) -> None:
    assert progress._duration(seconds) == words
