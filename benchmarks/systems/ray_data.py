"""Ray Data: `map_batches` over a pool of actors, one per core, each with one thread.

As in Ray's guide to batch inference: a class that loads the model once per actor, Parquet in, Parquet out. The cluster
is told of one logical CPU more than there are cores, so that reading and writing need not wait for the actors.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.protocol import Job, OnePass, Pass, serve
from benchmarks.systems.streaming import Long
from benchmarks.systems.vectorizers import load
from benchmarks.ticks import Ticker


class Features:
    """The actor."""

    def __init__(self, job: Job, ticks: str) -> None:
        self._vectorizer, self._ticker = load(job), Ticker(ticks)

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        features = self._vectorizer.features(batch["content"])
        self._ticker.done(len(features))
        return {"uri": batch["uri"], "features": features}


@contextmanager
def ray_data(job: Job) -> Iterator[OnePass]:
    import ray

    ray.init(num_cpus=job.cores + 1, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.use_datasource_v2 = False  # it starts 32 actors to look at files, and gives a small set to one actor whole
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    with Long(job) as long:

        def one_pass(out: Path) -> Pass:
            ticks, files = long.execution(out)
            dataset = ray.data.read_parquet(files, override_num_blocks=len(files)).map_batches(
                Features,
                fn_constructor_args=(job, str(ticks)),
                batch_size=job.batch_size,
                compute=ray.data.ActorPoolStrategy(size=job.cores),
                num_cpus=1,
            )
            dataset.write_parquet(str(out))
            return long.measured(out)

        yield one_pass
    ray.shutdown()


if __name__ == "__main__":
    sys.exit(serve("ray_data", ray_data, __doc__, warm_calls=1))
