"""Shows how the demo's runs advance: one line that redraws itself on a terminal, a line per change elsewhere."""

from __future__ import annotations

import shutil
import sys
import time
from typing import Any, TextIO

from demo.airflow_client import FINISHED, AirflowClient, Run
from spark_apps import catalog, contract

STAGES = (*contract.STAGES, "index", "duplicates")
MARKS = {
    "success": "✓",
    "failed": "✗",
    "upstream_failed": "✗",
    "skipped": "–",
    "running": "…",
    "up_for_retry": "↻",
}
"""How the state of a task is drawn; a task in another state has not begun and is left out."""


def follow(
    client: AirflowClient, store: str, days: dict[str, str], timeout: float, out: TextIO | None = None
) -> dict[str, Run]:
    """Waits until the runs (`days`: partition → run id) have ended, at most `timeout` seconds, and shows them.

    Returns the last known state of each run by partition.

    Raises:
        ServerError: Airflow ended or refused a request.
        TimeoutError: a run has not ended in time.
    """
    out = out or sys.stdout
    begin = time.monotonic()
    seen: dict[tuple[str, str], str] = {}
    runs: dict[str, Run] = {}
    try:
        while not runs or any(run["state"] not in FINISHED for run in runs.values()):
            if time.monotonic() - begin > timeout:
                raise TimeoutError(f"The runs have not ended after {timeout:.0f} s.")
            if runs:
                time.sleep(1)
            client.check_alive()
            for day, run_id in days.items():
                if runs.get(day, {}).get("state") not in FINISHED:
                    runs[day] = client.run(run_id)
            elapsed = time.monotonic() - begin
            for day, stage, state in changes(runs, seen):
                trouble = state in ("failed", "up_for_retry")
                if trouble or not out.isatty():
                    reason = _reason(store, day, days[day]) if trouble else ""
                    said = f"{elapsed:5.0f} s  {day}  {stage:8}  {state.replace('_', ' ')}{reason}"
                    out.write(f"\r\033[K{said}\n" if out.isatty() else f"{said}\n")
            if out.isatty():
                line = status_line(runs, elapsed, {day: _done(store, day, days[day]) for day in days})
                out.write("\r\033[K" + line[: shutil.get_terminal_size().columns - 1])
            out.flush()
    finally:
        if out.isatty():
            out.write("\n")
    return runs


def status_line(runs: dict[str, Run], elapsed: float, done: dict[str, str]) -> str:
    """All runs in one line: `0:42  2026-01-05 ✓  2026-01-06 ingest ✓ extract … 22/36  2026-01-07 ·`."""
    parts = [f"{int(elapsed) // 60:3}:{int(elapsed) % 60:02d}"]
    for day, run in runs.items():
        begun = {stage: run["tasks"].get(stage) for stage in STAGES if run["tasks"].get(stage) in MARKS}
        if run["state"] == "success" or not begun:
            parts.append(f"{day} {MARKS['success'] if begun else '·'}")
            continue
        marks = [f"{stage} {MARKS[state or '']}" for stage, state in begun.items()]
        if begun.get("extract") == "running" and done.get(day):
            marks[-1] += f" {done[day]}"
        parts.append(" ".join([day, *marks]))
    return "  ".join(parts)


def changes(runs: dict[str, Run], seen: dict[tuple[str, str], str]) -> list[tuple[str, str, str]]:
    """(day, stage, state) of each task that began or ended since the last call; `seen` remembers what was told."""
    told = []
    for day, run in runs.items():
        for stage in STAGES:
            state = run["tasks"].get(stage)
            if state in MARKS and seen.get((day, stage)) != state:
                seen[day, stage] = state
                told.append((day, stage, state))
    return told


def _reason(store: str, day: str, run_id: str) -> str:
    """What the job itself says about its failure."""
    error = _document(store, day, run_id, "error.json")
    return f": {error['message']}" if error else ""


def _done(store: str, day: str, run_id: str) -> str:
    """`22/36` while a stage counts its photos."""
    progress = _document(store, day, run_id, "progress.json")
    return f"{progress['done'] + progress['failed']}/{progress['total']}" if progress else ""


def _document(store: str, day: str, run_id: str, name: str) -> dict[str, Any] | None:
    """A decoration must not end the demo: what cannot be read now is left out."""
    try:
        found: dict[str, Any] | None = catalog.document(store, day, run_id, name)
    except (contract.Unreachable, ValueError):
        return None
    return found
