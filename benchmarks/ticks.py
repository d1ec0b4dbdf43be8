"""A worker's own clock: when each batch was done. For frameworks that start new workers with every execution.

Ray Data and Daft end their workers with the execution that used them, so a second execution finds none that is warm.
Their steady state is taken from inside one long execution instead: the images finished while all workers were warm and
none had run out of work.
"""

from __future__ import annotations

import time
import uuid
from pathlib import Path

from benchmarks import protocol


class Ticker:
    """Notes the end of each batch of one worker, in a file of its own."""

    def __init__(self, folder: str) -> None:
        self._path = Path(folder, f"{uuid.uuid4().hex}.ticks")

    def done(self, images: int) -> None:
        """`images` feature rows are there."""
        protocol.first_row()
        with self._path.open("a") as file:
            file.write(f"{time.time()!r} {images}\n")


def read(folder: Path) -> list[list[tuple[float, int]]]:
    """For each worker the moments (seconds since 1970) and images of its batches, in order."""
    workers = []
    for path in folder.glob("*.ticks"):
        lines = [line.split() for line in path.read_text().splitlines()]
        workers.append([(float(moment), int(images)) for moment, images in lines])
    return workers


def steady(workers: list[list[tuple[float, int]]]) -> tuple[float, int]:
    """Seconds from when the last worker finished its first batch until the first one finished its last; and the images
    finished in between.

    Raises:
        ValueError: the workers were never all at work at the same time.
    """
    begin, end = max(batches[0][0] for batches in workers), min(batches[-1][0] for batches in workers)
    images = sum(count for batches in workers for moment, count in batches if begin < moment <= end)
    if not images:
        raise ValueError("the workers were never all at work at the same time")
    return end - begin, images
