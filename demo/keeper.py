"""Runs commands in one process session and ends every process of it, whatever happens to whoever started it.

    python keeper.py LOG_FOLDER '{"scheduler": ["airflow", "scheduler"], …}'

Standard input is the leash. When it closes (the owner has ended, by whatever signal) or SIGTERM arrives, the whole
session ends: commands, their children, and orphans that only the session still ties together. A line `detach` on
the leash lets the commands outlive their owner; from then on only SIGTERM ends them. When one command ends, all do:
half an Airflow helps nobody. The reason stands on the last line of `keeper.log`.
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil

GRACE_SECONDS = 6.0
LOG_BYTES = 16 * 2**20
"""A log that grows beyond this starts again from nothing: a forgotten server must not fill the disk."""


def session_members(session: int) -> list[psutil.Process]:
    """Every living process of `session`, its leader included."""
    members = []
    for process in psutil.process_iter():
        try:
            if os.getsid(process.pid) == session and process.status() != psutil.STATUS_ZOMBIE:
                members.append(process)
        except (OSError, psutil.Error):
            continue
    return members


def end_session(session: int, grace: float = GRACE_SECONDS) -> None:
    """End every process of `session` but the caller: asked first, killed after `grace` seconds.

    Looks again until none is left, because a dying process may still have started another.
    """
    deadline = time.monotonic() + grace
    asked: set[int] = set()
    while members := [process for process in session_members(session) if process.pid != os.getpid()]:
        late = time.monotonic() > deadline
        for process in members:
            if late or process.pid not in asked:
                asked.add(process.pid)
                try:
                    process.send_signal(signal.SIGKILL if late else signal.SIGTERM)
                except psutil.Error:
                    continue
        psutil.wait_procs(members, timeout=0.2)


def keep(log_folder: Path, commands: dict[str, list[str]]) -> str:
    """Run `commands`, each with a log of its own, until the first reason to end; returns that reason."""
    stop: list[str] = []
    signal.signal(signal.SIGTERM, lambda *_: stop.append("it was asked to stop"))
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    running: dict[str, subprocess.Popen[bytes]] = {}
    leash: list[int] = [sys.stdin.fileno()]
    logs = [log_folder / f"{name}.log" for name in commands]
    for (name, command), log in zip(commands.items(), logs, strict=True):
        with log.open("ab") as out:
            running[name] = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out)
    while not stop:
        for name, process in running.items():
            if process.poll() is not None:
                return f"{name} ended with exit code {process.returncode}"
        for log in logs:
            if log.stat().st_size > LOG_BYTES:
                os.truncate(log, 0)
        ready, _, _ = select.select(leash, [], [], 0.5)
        if ready:
            order = os.read(leash[0], 64)
            if order.strip() != b"detach":
                return "its owner ended"
            leash.clear()
    return stop[0]


def main() -> None:
    log_folder = Path(sys.argv[1])
    try:
        reason = keep(log_folder, json.loads(sys.argv[2]))
    except OSError as error:
        reason = str(error)
    finally:
        end_session(os.getsid(0))
    (log_folder / "keeper.log").write_text(reason + "\n")


if __name__ == "__main__":
    if os.getsid(0) != os.getpid():
        sys.exit("keeper.py must lead its own session (start_new_session=True): it ends every process of it.")
    main()
