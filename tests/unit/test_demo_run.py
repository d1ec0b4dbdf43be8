"""The demo is green only when every day is, says the job's own words when one is not, and leaves nothing running."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import psutil
import pytest

from demo import landing, places, results, run, ui, weights
from demo.airflow_client import AirflowClient, ServerError
from spark_apps import contract, storage

RUN_IDS = {day: f"backfill__{day}T00:00:00+00:00" for day in landing.DAYS}


class FakeServer(AirflowClient):
    """An Airflow whose three runs have ended in the given states; remembers what it was asked."""

    def __init__(self, *states: str, leftovers: bool = False) -> None:
        super().__init__("http://127.0.0.1:1", "admin", "secret")
        self.states = dict(zip(RUN_IDS.values(), states, strict=False))
        self.leftovers, self.stopped = leftovers, False
        self.asked: list[Any] = []

    def __enter__(self) -> FakeServer:
        return self

    def __exit__(self, *failure: Any) -> None:
        self.stopped = True

    def api(self, method: str, path: str, json: dict[str, Any] | None = None) -> dict[str, Any]:
        self.asked.append(f"{method} {unquote(path)}")
        backfills = [{"id": 1, "completed_at": "then"}, {"id": 2, "completed_at": None}]
        runs = [{"dag_run_id": "old:run"}] if path.endswith("state=running") else []
        return {"backfills": backfills, "dag_runs": runs} if self.leftovers else {"backfills": [], "dag_runs": []}

    def backfill(
        self, first: str, last: str, conf: dict[str, Any] | None = None, *, reprocess: str = "none", at_once: int = 1
    ) -> list[str]:
        self.asked.append(f"backfill {first} {last} {conf} {reprocess}")
        return list(self.states)

    def run(self, run_id: str) -> dict[str, Any]:
        state = self.states[run_id]
        return {"state": state, "tasks": {"ingest": state}}

    def task_log(self, run_id: str, task_id: str, attempt: int = 1) -> str:
        return f"the log of {task_id}"


@pytest.fixture(scope="module", autouse=True)
def interruptible() -> Iterator[None]:
    """As at a terminal: jobs in the background are started, and start theirs, with SIGINT ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """Everything but the code under test, in the test's own folder; `server` may be replaced."""
    for name in ("LANDING", "STORE", "SUMMARY", "CONTACT_SHEET", "AIRFLOW_HOME"):
        monkeypatch.setattr(places, name, tmp_path / getattr(places, name).relative_to(places.ROOT))
    places.SUMMARY.parent.mkdir(parents=True)
    props: dict[str, Any] = {"server": FakeServer("success", "success", "success")}
    monkeypatch.setattr(run, "server", lambda chosen: props["server"])
    monkeypatch.setattr(run.landing, "prepare", lambda root: {day: root / day for day in landing.DAYS})
    monkeypatch.setattr(weights, "choose", lambda: ("random:0", ["No hub."]))
    monkeypatch.setattr(run.contact_sheet, "make", lambda *_: None)

    def read(store: str, day: str, run_id: str, folder: Path) -> results.DayResult:
        seconds = dict.fromkeys(contract.STAGES, 1.0)
        return results.DayResult(day, 4, 3, {"empty": 1}, 0, seconds, 3.0, "random:0", "f" * 16, "the-model")

    monkeypatch.setattr(results, "read", read)
    monkeypatch.setattr(results, "duplicates", lambda store, model: f"2 files of {model} show 1 pictures")
    before = signal.getsignal(signal.SIGTERM)
    yield props
    signal.signal(signal.SIGTERM, before)


def test_green(stage: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    assert run.main() == 0
    said = capsys.readouterr().out
    assert "Every file is accounted for: 12 listed = 9 featured + 3 quarantined." in said
    assert "No hub." in said
    assert "THESE WEIGHTS ARE RANDOM" in said
    assert "make up" in said
    assert "duplicates     2 files of the-model show 1 pictures" in said
    assert places.SUMMARY.is_file()
    assert stage["server"].stopped


def test_a_second_demo_runs_the_same_days_again(stage: dict[str, Any]) -> None:
    assert run.main() == 0
    conf = {"model": "resnet50", "weights": "random:0"}
    assert stage["server"].asked[-1] == f"backfill {landing.DAYS[0]} {landing.DAYS[-1]} {conf} completed"


def test_what_an_interrupted_demo_left_in_airflow_is_ended_first(stage: dict[str, Any]) -> None:
    stage["server"] = FakeServer("success", "success", "success", leftovers=True)
    assert run.main() == 0
    asked = stage["server"].asked
    assert "PUT /api/v2/backfills/2/cancel" in asked
    assert "PUT /api/v2/backfills/1/cancel" not in asked
    assert "PATCH /api/v2/dags/image_features/dagRuns/old:run" in asked
    assert asked[-1].startswith("backfill")


def test_a_failed_day_fails_the_demo_with_the_jobs_own_words(
    stage: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    stage["server"] = FakeServer("success", "failed", "failed")
    second, third = landing.DAYS[1:]
    folder = contract.run_folder(str(places.STORE), second, RUN_IDS[second])
    error = contract.QualityFailed("too_many_failed", "Half of the photos are broken.", "Look at them.")
    storage.write_json(contract.join(folder, "error.json"), contract.error_record("validate", error))
    assert run.main() == 1
    said = capsys.readouterr().err
    assert f"{second}, validate: Half of the photos are broken. Look at them." in said
    assert f"{third}, ingest failed; the end of its log:\n  the log of ingest" in said
    assert "Traceback" not in said
    assert not places.SUMMARY.exists()


@pytest.mark.parametrize("error", [results.NotAccountedFor("a.jpg is lost"), ServerError("no Airflow")])
def test_other_failures_are_a_sentence(
    stage: dict[str, Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: Exception
) -> None:
    def fail(*_: Any) -> None:
        raise error

    monkeypatch.setattr(results, "read", fail)
    assert run.main() == 1
    assert capsys.readouterr().err == f"\nThe demo failed: {error}\n"
    assert stage["server"].stopped


def test_a_locked_database_is_asked_again(stage: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    answers: list[Any] = [ServerError("Database is locked", 503)] * 2 + [list(RUN_IDS.values())]

    def backfill(*_: Any, **__: Any) -> list[str]:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(stage["server"], "backfill", backfill)
    monkeypatch.setattr(run.time, "sleep", lambda seconds: None)
    assert run.main() == 0
    assert answers == []
    answers[:] = [ServerError("Another backfill is running", 409), list(RUN_IDS.values())]
    assert run.main() == 1


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signals_stop_the_server_and_are_told_to_the_caller(
    stage: dict[str, Any], monkeypatch: pytest.MonkeyPatch, number: int, code: int
) -> None:
    monkeypatch.setattr(stage["server"], "run", lambda run_id: os.kill(os.getpid(), number))
    assert run.main() == code
    assert stage["server"].stopped


def test_a_backfill_without_all_days_is_a_failure(stage: dict[str, Any]) -> None:
    stage["server"] = FakeServer("success", "success")
    assert run.main() == 1


def test_up_without_a_demo_says_what_to_do(stage: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    assert ui.up() == 1
    assert "run `make demo` first" in capsys.readouterr().err


def test_down_when_nothing_runs(stage: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    assert ui.down() == 0
    assert "not running" in capsys.readouterr().out


SCRIPT = """
import sys
from pathlib import Path
from demo import places
for name in ("LANDING", "STORE", "SUMMARY", "CONTACT_SHEET", "AIRFLOW_HOME"):
    setattr(places, name, Path(sys.argv[1]) / getattr(places, name).relative_to(places.ROOT))
from demo import run, weights
weights.choose = lambda: ("random:0", [])
sys.exit(run.main())
"""


def test_an_interrupted_demo_leaves_no_process(tmp_path: Path) -> None:
    """The real thing, interrupted as by Ctrl-C while a real Airflow runs a real job."""
    command = [sys.executable, "-u", "-c", SCRIPT, str(tmp_path)]
    demo = subprocess.Popen(command, cwd=places.ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert demo.stdout is not None
    assert demo.stderr is not None
    try:
        told = []
        for line in demo.stdout:
            told.append(line)
            if "ingest    running" in line:
                break
        else:
            pytest.fail(f"The demo ended ({demo.wait()}):\n{''.join(told)}{demo.stderr.read()}")
        assert ours(tmp_path), "Airflow runs"
        demo.send_signal(signal.SIGINT)
        assert demo.wait(120) == 130
        assert "Nothing is left running" in demo.stderr.read()
        deadline = time.monotonic() + 30
        while ours(tmp_path) and time.monotonic() < deadline:
            time.sleep(0.2)
        assert ours(tmp_path) == []
    finally:
        demo.kill()


def ours(folder: Path) -> list[str]:
    """Command lines of the processes that work in or for `folder`."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.pid != os.getpid() and (
                process.environ().get("AIRFLOW_HOME", "").startswith(str(folder)) or str(folder) in process.cmdline()
            ):
                found.append(" ".join(process.cmdline()))
        except psutil.Error:
            continue
    return found
