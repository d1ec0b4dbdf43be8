"""The keeper leaves no process behind, however its owner, its commands or their children behave."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from demo import keeper

SLEEP = [sys.executable, "-c", "import time; time.sleep(120)"]
STUBBORN = [
    sys.executable,
    "-c",
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('ready', flush=True); time.sleep(120)",
]
LEAVES_AN_ORPHAN = ["sh", "-c", "sh -c 'sleep 120 &'; sleep 120"]


class Kept:
    """A keeper at work on `commands`."""

    def __init__(self, logs: Path, **commands: list[str]) -> None:
        self.logs = logs
        self.process = subprocess.Popen(
            [sys.executable, str(Path(keeper.__file__)), str(logs), json.dumps(commands)],
            stdin=subprocess.PIPE,
            start_new_session=True,
        )

    def members(self) -> int:
        """Living processes of the session, the keeper not counted."""
        return len([process for process in keeper.session_members(self.process.pid) if process.pid != self.process.pid])

    def reason(self) -> str:
        self.process.wait(keeper.GRACE_SECONDS + 10)
        return (self.logs / "keeper.log").read_text().strip()


@pytest.fixture
def keep(tmp_path: Path) -> Iterator[Callable[..., Kept]]:
    started: list[Kept] = []

    def start(**commands: list[str]) -> Kept:
        started.append(Kept(tmp_path, **commands))
        return started[-1]

    yield start
    for kept in started:
        keeper.end_session(kept.process.pid, grace=0)
        kept.process.wait()


def test_when_the_owner_is_gone_everything_ends(keep: Callable[..., Kept]) -> None:
    kept = keep(one=SLEEP, parent=LEAVES_AN_ORPHAN)
    _until(lambda: kept.members() == 4)
    assert kept.process.stdin is not None
    kept.process.stdin.close()
    assert kept.reason() == "its owner ended"
    assert kept.members() == 0


def test_a_command_that_will_not_end_is_killed(keep: Callable[..., Kept]) -> None:
    kept = keep(stubborn=STUBBORN)
    _until(lambda: "ready" in (kept.logs / "stubborn.log").read_text())
    kept.process.send_signal(signal.SIGTERM)
    assert kept.reason() == "it was asked to stop"
    assert kept.members() == 0


def test_when_one_command_ends_all_do_and_the_reason_is_written_down(keep: Callable[..., Kept]) -> None:
    kept = keep(one=SLEEP, two=[sys.executable, "-c", "print('no such table'); raise SystemExit(3)"])
    assert kept.reason() == "two ended with exit code 3"
    assert kept.members() == 0
    assert "no such table" in (kept.logs / "two.log").read_text()


def test_a_command_that_is_not_there_is_the_reason_too(keep: Callable[..., Kept]) -> None:
    kept = keep(one=SLEEP, two=["no-such-command"])
    assert "no-such-command" in kept.reason()
    assert kept.members() == 0


def test_a_detached_session_outlives_its_owner_until_it_is_asked_to_stop(keep: Callable[..., Kept]) -> None:
    kept = keep(one=SLEEP)
    _until(lambda: kept.members() == 1)
    assert kept.process.stdin is not None
    kept.process.stdin.write(b"detach\n")
    kept.process.stdin.close()
    time.sleep(1.5)
    assert kept.members() == 1
    os.kill(kept.process.pid, signal.SIGTERM)
    assert kept.reason() == "it was asked to stop"
    assert kept.members() == 0


def _until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not _quietly(condition):
        assert time.monotonic() < deadline, "did not happen within 20 s"
        time.sleep(0.1)


def _quietly(condition: Callable[[], bool]) -> bool:
    try:
        return condition()
    except FileNotFoundError:
        return False
