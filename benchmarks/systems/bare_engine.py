"""The ceiling without decoding: our engine alone, in as many processes as there are cores, on pixels that are there.
Those of others (`other_engines`) beside it: by them one sees whether the model is the limit, or our engine.

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

from benchmarks import protocol
from benchmarks.protocol import Job, NotPossible, Result, parse
from benchmarks.systems import OTHER_ENGINES, other_engines
from spark_apps import model

CROP = 224
BATCHES = (1, 2, 4, 8, 16, 32)
SECONDS = 1.5
"""That one batch size is measured for, after one run that is not counted."""

_run: other_engines.Run
_barrier: Any


def load(job: Job) -> other_engines.Run:
    """The engine that `job` names, on one core. Raises NotPossible."""
    if job.engine in OTHER_ENGINES:
        return other_engines.load(job)
    engine = model.load(job.artifact(), Path(job.model), 1)
    return lambda pixels: engine.run(pixels).features


def start(job: Job, barrier: Any) -> None:
    """The beginning of a process."""
    global _run, _barrier
    _run, _barrier = load(job), barrier


def measure(batch: int) -> float:
    """images/s of this process while all others run too."""
    pixels = np.random.default_rng(0).integers(0, 256, (batch, CROP, CROP, 3), np.uint8)
    _run(pixels)
    _barrier.wait(60)
    begin, images = time.perf_counter(), 0
    while time.perf_counter() - begin < SECONDS:
        _run(pixels)
        images += batch
    return images / (time.perf_counter() - begin)


def cosine(job: Job, run: other_engines.Run) -> float:
    """The smallest of the first photos' features to plain torchvision's."""
    wanted = np.load(Path(job.photos, "reference.npz"))
    names, pixels = other_engines.pixels(Path(job.photos, "jpeg"), job.batch_size)
    found = {name: vector.astype(np.float64) for name, vector in zip(names, run(pixels), strict=True)}
    return round(min(protocol.cosine(wanted[name], found[name]) for name in wanted.files if name in found), 6)


def main() -> int:
    job = parse(__doc__)
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: job.cores])
    result = Result("bare_engine", job.engine, job.precision, job.cores)
    batches = (job.batch_size,) if job.engine in OTHER_ENGINES else BATCHES
    context = multiprocessing.get_context("spawn")
    try:
        result.cosine = cosine(job, load(job))
        with context.Pool(job.cores, start, (job, context.Barrier(job.cores))) as pool:
            rates = {
                batch: round(
                    sum(pool.map(measure, [batch] * job.cores, chunksize=1)), 2
                )  # the barrier keeps them apart
                for batch in batches
            }
        result.rates = [rates[job.batch_size]] if job.batch_size in rates else [max(rates.values())]
        result.detail = {"images_per_second_by_batch": rates, "seconds_each": SECONDS}
    except NotPossible as reason:
        result.reason = str(reason)
    Path(job.out).mkdir(parents=True, exist_ok=True)
    Path(job.out, "result.json").write_text(json.dumps(dataclasses.asdict(result), indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
