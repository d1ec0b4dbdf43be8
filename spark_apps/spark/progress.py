"""Progress of a long stage: tasks note what they have done beside the data, the driver adds it up and tells.

Each task writes a small file into the run's folder every few seconds; the driver's thread reads them, logs one line and
keeps `progress.json` for pages. Nothing depends on it: what cannot be written is left out.
"""

from __future__ import annotations

import json
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pyarrow import fs

from spark_apps import contract, storage

EVERY_SECONDS = 4.0


class Ticker:
    """A task's side: counts what is done and what failed, and notes it every few seconds."""

    def __init__(self, folder: str, task: int) -> None:
        self._uri = contract.join(folder, f"{task:08d}.json")
        self._counts = {"done": 0, "failed": 0}
        self._last = time.monotonic()

    def note(self, done: int, failed: int, last: bool = False) -> None:
        """So many images are finished and so many quarantined, in all; `last` is written at once."""
        self._counts = {"done": done, "failed": failed}
        if last or time.monotonic() - self._last >= EVERY_SECONDS:
            self._flush()

    def _flush(self) -> None:
        self._last = time.monotonic()
        try:
            storage.write_json(self._uri, self._counts)
        except OSError:
            return


class Teller:
    """Says on stderr, every few seconds at most, how far something is that the driver does by itself."""

    def __init__(self) -> None:
        self._last = time.monotonic()

    def tell(self, line: str) -> None:
        if time.monotonic() - self._last >= EVERY_SECONDS:
            self._last = time.monotonic()
            print(line, file=sys.stderr, flush=True)


@contextmanager
def watching(settings: contract.Settings, stage: str, total: int, resumed: int = 0) -> Iterator[str]:
    """The driver's side: yields the folder for the tasks' notes, and reports while the block runs.

    Logs `extract 2026-11-22: 1,200 of 10,000 images, 84.3/s, 3 failed, 1 min 44 s left`. `resumed`: images, besides
    the `total`, that an earlier attempt has done.
    """
    folder = contract.join(settings.folder, f"progress-{uuid.uuid4().hex[:12]}")  # attempts may overlap
    begin, stop = time.monotonic(), threading.Event()
    with storage.reaching("store", settings.store):
        storage.ensure_folder(folder)

    def report() -> None:
        while not stop.wait(EVERY_SECONDS):
            try:
                tell(_sum(folder))
            except (OSError, ValueError):
                continue

    def tell(counts: dict[str, int]) -> None:
        finished = counts["done"] + counts["failed"]
        elapsed = time.monotonic() - begin
        rate = finished / elapsed
        left = (total - finished) / rate if rate else None
        state = {"stage": stage, "total": total, "resumed": resumed, **counts, "images_per_second": round(rate, 2)}
        eta = None if left is None else round(left)
        storage.write_json(
            contract.join(settings.folder, "progress.json"), {**state, "eta_s": eta, "at": contract.now()}
        )
        line = (
            f"{stage} {settings.partition}: {finished:,} of {total:,} images, {rate:.1f}/s, {counts['failed']:,} failed"
        )
        print(line + ("" if eta is None else f", {_duration(eta)} left"), file=sys.stderr, flush=True)

    thread = threading.Thread(target=report, name="progress", daemon=True)
    thread.start()
    try:
        yield folder
    finally:
        stop.set()
        thread.join()
        try:
            storage.delete_folder(folder)
            storage.delete(contract.join(settings.folder, "progress.json"))
        except OSError:
            pass


def _sum(folder: str) -> dict[str, int]:
    counts = {"done": 0, "failed": 0}
    filesystem, path = storage.filesystem(folder)
    for info in filesystem.get_file_info(fs.FileSelector(path, allow_not_found=True)):
        if not info.base_name.endswith(".json") or info.base_name.startswith("."):
            continue
        with filesystem.open_input_stream(info.path, compression=None) as stream:
            note: dict[str, Any] = json.loads(stream.read())
        for name in counts:
            counts[name] += note[name]
    return counts


def _duration(seconds: int) -> str:
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {seconds} s" if minutes else f"{seconds} s"
