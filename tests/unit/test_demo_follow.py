"""While the runs advance, the demo shows what changed, and says why a task is tried again."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from demo import follow
from demo.airflow_client import AirflowClient, ServerError
from spark_apps import contract, storage

DAY, RUN_ID = "2026-01-05", "backfill__2026-01-06T00:00:00+00:00"


def run(state: str, *states: str | None) -> dict[str, Any]:
    return {"state": state, "tasks": dict(zip(contract.STAGES, states, strict=False))}


class Scripted(AirflowClient):
    """An Airflow whose one run goes through the given states, one at each look."""

    def __init__(self, *looks: dict[str, Any]) -> None:
        super().__init__("", "", "")
        self.looks: Iterator[dict[str, Any]] = iter(looks)

    def run(self, run_id: str) -> dict[str, Any]:
        return next(self.looks)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follow.time, "sleep", lambda seconds: None)


def leave(store: Path, name: str, document: dict[str, Any]) -> None:
    storage.write_json(contract.join(contract.run_folder(str(store), DAY, RUN_ID), name), document)


def test_elsewhere_each_change_is_a_line(tmp_path: Path) -> None:
    out = io.StringIO()
    looks = [
        run("queued"),
        run("running", "running"),
        run("running", "running"),
        run("running", "success", "running"),
        run("success", "success", "success", "success"),
    ]
    ended = follow.follow(Scripted(*looks), str(tmp_path), {DAY: RUN_ID}, 60, out)
    assert ended == {DAY: looks[-1]}
    assert [line.split()[2:] for line in out.getvalue().splitlines()] == [
        [DAY, "ingest", "running"],
        [DAY, "ingest", "success"],
        [DAY, "extract", "running"],
        [DAY, "extract", "success"],
        [DAY, "validate", "success"],
    ]


def test_a_retry_says_why(tmp_path: Path) -> None:
    leave(tmp_path, "error.json", contract.error_record("ingest", contract.Unreachable("x", "The disk is away.")))
    for out in (io.StringIO(), Terminal()):
        looks = [run("running", "up_for_retry"), run("failed", "failed")]
        follow.follow(Scripted(*looks), str(tmp_path), {DAY: RUN_ID}, 60, out)
        assert "ingest    up for retry: The disk is away.\n" in out.getvalue()


def test_a_terminal_gets_one_line_that_redraws_itself(tmp_path: Path) -> None:
    out = Terminal()
    leave(tmp_path, "progress.json", {"done": 20, "failed": 2, "total": 36})
    looks = [run("running", "success", "running"), run("success", "success", "success", "success")]
    follow.follow(Scripted(*looks), str(tmp_path), {DAY: RUN_ID}, 60, out)
    drawn = out.getvalue()
    assert drawn.count("\n") == 1
    assert drawn.endswith("\n")
    assert f"{DAY} ingest ✓ extract … 22/36" in drawn
    assert f"{DAY} ✓\n" in drawn


def test_it_does_not_wait_forever(tmp_path: Path) -> None:
    client = Scripted(*[run("running")] * 3)
    with pytest.raises(TimeoutError, match="not ended"):
        follow.follow(client, str(tmp_path), {DAY: RUN_ID}, -1, io.StringIO())


def test_it_does_not_wait_for_an_airflow_that_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def gone() -> None:
        raise ServerError("Airflow ended.")

    client = Scripted(run("running"))
    monkeypatch.setattr(client, "check_alive", gone)
    with pytest.raises(ServerError, match="ended"):
        follow.follow(client, str(tmp_path), {DAY: RUN_ID}, 60, io.StringIO())
