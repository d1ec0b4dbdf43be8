"""The ceiling without decoding: our engine alone, in as many processes as there are cores, on pixels that are there.

For each batch size all processes start together and run for a fixed time; the rate is the sum of theirs.
"""

from __future__ import annotations

import dataclasses
import json
import multiprocessing
import os
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.protocol import Job, Result, parse
from spark_apps import model

BATCHES = (1, 2, 4, 8, 16, 32)
SECONDS = 1.5
"""That one batch size is measured for, after one run that is not counted."""

_engine: Any
_crop: int
_barrier: Any


def start(job: Job, barrier: Any) -> None:
    """The beginning of a process."""
    global _engine, _crop, _barrier
    info = job.artifact()
    _engine, _crop, _barrier = model.load(info, Path(job.model), 1), info.preprocessing["crop"], barrier


def measure(batch: int) -> float:
    """images/s of this process while all others run too."""
    pixels = np.random.default_rng(0).integers(0, 256, (batch, _crop, _crop, 3), np.uint8)
    _engine.run(pixels)
    _barrier.wait(60)
    begin, images = time.perf_counter(), 0
    while time.perf_counter() - begin < SECONDS:
        _engine.run(pixels)
        images += batch
    return images / (time.perf_counter() - begin)


def main() -> int:
    job = parse(__doc__)
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: job.cores])
    result = Result("bare_engine", job.engine, job.precision, job.cores)
    context = multiprocessing.get_context("spawn")
    with context.Pool(job.cores, start, (job, context.Barrier(job.cores))) as pool:
        rates = {
            batch: round(sum(pool.map(measure, [batch] * job.cores, chunksize=1)), 2)  # the barrier keeps them apart
            for batch in BATCHES
        }
    result.rates = [rates[job.batch_size]] if job.batch_size in rates else [max(rates.values())]
    result.detail = {"images_per_second_by_batch": rates, "seconds_each": SECONDS}
    Path(job.out).mkdir(parents=True, exist_ok=True)
    Path(job.out, "result.json").write_text(json.dumps(dataclasses.asdict(result), indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
