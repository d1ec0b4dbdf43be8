"""Shows how the demo's runs advance: one line that redraws itself on a terminal, a line per change elsewhere."""

from __future__ import annotations

import shutil
import sys
import time
from typing import TextIO

from demo.airflow_client import FINISHED, AirflowClient, Run
from spark_apps import contract

MARKS = {
    "success": "✓",
    "failed": "✗",
    "upstream_failed": "✗",
    "skipped": "–",
    "running": "…",
    "up_for_retry": "↻",
}
"""How the state of a task is drawn; a task that has not begun is a dot."""


def follow(client: AirflowClient, days: dict[str, str], timeout: float, out: TextIO = sys.stdout) -> dict[str, Run]:
    """Waits until the runs (`days`: partition → run id) have ended, at most `timeout` seconds, and shows them.

    Returns the last known state of each run by partition.

    Raises:
        ServerError: Airflow ended or refused a request.
        TimeoutError: a run has not ended in time.
    """
    begin = time.monotonic()
    shown: dict[tuple[str, str], str] = {}
    runs: dict[str, Run] = {}
    try:
        while not runs or any(run["state"] not in FINISHED for run in runs.values()):
            elapsed = time.monotonic() - begin
            if elapsed > timeout:
                raise TimeoutError(f"The runs have not ended after {timeout:.0f} s.")
            if runs:
                time.sleep(1)
            client.check_alive()
            for day, run_id in days.items():
                if runs.get(day, {}).get("state") not in FINISHED:
                    runs[day] = client.run(run_id)
            if out.isatty():
                line = status_line(runs, time.monotonic() - begin)
                out.write("\r\033[K" + line[: shutil.get_terminal_size().columns - 1])
            else:
                for change in changes(runs, shown):
                    out.write(f"  {time.monotonic() - begin:4.0f} s  {change}\n")
            out.flush()
    finally:
        if out.isatty():
            out.write("\n")
    return runs


def status_line(runs: dict[str, Run], elapsed: float) -> str:
    """All runs in one line: `0:42  2026-01-05 ingest ✓ extract … validate ·   2026-01-06 …`."""
    parts = [f"  {int(elapsed) // 60}:{int(elapsed) % 60:02d}"]
    for day, run in runs.items():
        states = {stage: run["tasks"].get(stage) for stage in contract.STAGES}
        if run["state"] == "success":
            parts.append(f"{day} ✓")
        elif any(states.values()):
            marks = (f"{stage} {MARKS.get(state or '', '·')}" for stage, state in states.items())
            parts.append(f"{day} {' '.join(marks)}")
        else:
            parts.append(f"{day} ·")
    return "   ".join(parts)


def changes(runs: dict[str, Run], shown: dict[tuple[str, str], str]) -> list[str]:
    """A sentence for each task that began or ended since the last call; `shown` remembers what was said."""
    said = []
    for day, run in runs.items():
        for stage in contract.STAGES:
            state = run["tasks"].get(stage)
            if state in MARKS and shown.get((day, stage)) != state:
                shown[day, stage] = state
                said.append(f"{day}  {stage:8}  {state.replace('_', ' ')}")
    return said
