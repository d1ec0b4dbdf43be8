"""The floor of decoding a JPEG at any scale: its Huffman codes, on all cores at once.

libjpeg decodes at an eighth, where a block becomes one pixel; what that takes beside the codes is little.
"""

from __future__ import annotations

import dataclasses
import io
import json
import multiprocessing
import os
import sys
import time
from itertools import cycle
from pathlib import Path
from typing import Any

from PIL import Image

from benchmarks.protocol import Result, parse

SECONDS = 3.0
PHOTOS = 16

_barrier: Any


def start(barrier: Any) -> None:
    """The beginning of a process."""
    global _barrier
    _barrier = barrier


def measure(files: list[str]) -> float:
    """images/s of this process while all others run too."""
    contents = [Path(file).read_bytes() for file in files]
    _barrier.wait(60)
    begin = time.perf_counter()
    for images, content in enumerate(cycle(contents), start=1):
        image = Image.open(io.BytesIO(content))
        image.draft("YCbCr", (1, 1))  # the smallest there is, and no colours converted
        image.load()
        if (seconds := time.perf_counter() - begin) > SECONDS:
            return images / seconds
    raise ValueError("there are no photos")


def main() -> int:
    job = parse(__doc__)
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: job.cores])
    files = [str(file) for file in sorted(Path(job.photos, "jpeg").iterdir())[:PHOTOS]]
    context = multiprocessing.get_context("spawn")
    with context.Pool(job.cores, start, (context.Barrier(job.cores),)) as pool:
        rate = sum(pool.map(measure, [files] * job.cores, chunksize=1))
    result = Result("huffman", job.engine, job.precision, job.cores, rates=[round(rate, 2)])
    Path(job.out).mkdir(parents=True, exist_ok=True)
    Path(job.out, "result.json").write_text(json.dumps(dataclasses.asdict(result), indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
