"""Daft: a class UDF (`daft.cls` with a batch method), one instance per core in a process of its own, one thread each.

As in Daft's guide to stateful UDFs: the class loads the model once per worker, Parquet in, Parquet out.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.protocol import Job, OnePass, Pass, serve
from benchmarks.systems.streaming import Long
from benchmarks.systems.vectorizers import load
from benchmarks.ticks import Ticker


@contextmanager
def daft_cls(job: Job) -> Iterator[OnePass]:
    os.environ["DAFT_PROGRESS_BAR"] = "0"
    os.environ["OMP_NUM_THREADS"] = "1"
    import daft
    from daft import DataType

    daft.set_runner_native()
    vector = DataType.list(DataType.float32())

    @daft.cls(max_concurrency=job.cores, use_process=True)
    class Features:
        def __init__(self, ticks: str) -> None:
            self._vectorizer, self._ticker = load(job), Ticker(ticks)

        @daft.method.batch(return_dtype=vector, batch_size=job.batch_size)  # type: ignore[untyped-decorator]
        def features(self, content: daft.Series) -> Any:
            import pyarrow as pa

            found = self._vectorizer.features(content.to_pylist())
            self._ticker.done(len(found))
            return pa.FixedSizeListArray.from_arrays(pa.array(found.ravel()), found.shape[1]).cast(
                pa.list_(pa.float32())
            )

    with Long(job) as long:

        def one_pass(out: Path) -> Pass:
            ticks, files = long.execution(out)
            frame = daft.read_parquet(files)
            features = Features(str(ticks)).features(frame["content"])
            frame.select(frame["uri"], features.alias("features")).write_parquet(str(out))
            return long.measured(out)

        yield one_pass


if __name__ == "__main__":
    sys.exit(serve("daft_cls", daft_cls, __doc__, warm_calls=1))
