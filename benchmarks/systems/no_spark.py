"""The ceiling with decoding: plain processes, one per core: read Parquet, decode, run our engine, write Parquet.

No scheduler, no hashes, no quarantine, no labels: what is left when everything but the work itself is taken away.
"""

from __future__ import annotations

import multiprocessing
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks import protocol
from benchmarks.protocol import Job, OnePass, Pass, serve
from benchmarks.systems.streaming import Long
from benchmarks.systems.vectorizers import Vectorizer, load

_vectorizer: Vectorizer
_batch_size: int


def start(job: Job) -> None:
    """The beginning of a worker."""
    global _vectorizer, _batch_size
    _vectorizer, _batch_size = load(job), job.batch_size


def work(files: tuple[str, str]) -> int:
    """One Parquet file of photos to one of features; returns how many."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    source, target = files
    rows = pq.read_table(source)
    vectors = []
    for start in range(0, rows.num_rows, _batch_size):
        vectors += list(_vectorizer.features(rows["content"].slice(start, _batch_size).to_pylist()))
        protocol.first_row()
    columns = {"uri": rows["uri"], "features": pa.array(vectors, pa.list_(pa.float32()))}
    pq.write_table(pa.table(columns), target, compression="zstd")
    return len(vectors)


@contextmanager
def no_spark(job: Job) -> Iterator[OnePass]:
    with multiprocessing.get_context("spawn").Pool(job.cores, start, (job,)) as pool, Long(job) as long:

        def one_pass(out: Path) -> Pass:
            shutil.rmtree(out, ignore_errors=True)
            out.mkdir(parents=True)
            shares = [(file, str(out / Path(file).name)) for file in long.files(out)]
            return Pass(images=sum(pool.map(work, shares, chunksize=1)))

        yield one_pass


if __name__ == "__main__":
    sys.exit(serve("no_spark", no_spark, __doc__, warm_calls=1))
