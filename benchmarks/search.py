"""What searching costs as a model's vectors grow: `python -m benchmarks.search --rows 100000 --report search.json`.

Publishes synthetic days through the tables, brings each into the search index as the task `index` does, and measures in
processes of their own:

| measure | how |
|---|---|
| recall@10 | of `--queries` vectors that are not in the index, against an exact comparison with all |
| answer | median seconds of `open_index(...).nearest(vector)`, warm; and the first one of a process, opening included |
| scan | median seconds of an exact scan by numpy over 100,000 vectors in memory, times as many as there are more |
| memory | peak resident memory of the process that has opened the index and answered all queries |
| new day | from the start of the command `index` for one more day of 10,000 until a search finds it |
| size | bytes of the index beside those of the vectors |

**The vectors** are random, in clusters, of 2,048 numbers: 32 normally distributed numbers around the middle of one of
`rows / 1000` clusters, which is as far away as the middles are from each other, turned into 2,048 by one random matrix,
with what is negative cut off, as after a ReLU, and a little noise of their own. So many dimensions have the features of
photos (Ansuini et al., Intrinsic dimension of data representations in deep neural networks, NeurIPS 2019).

They are made in pieces, and the files of a day are deleted as soon as the index has it, so that neither memory nor disk
holds them twice: the disk has to hold 9 GB for a million.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from benchmarks import places
from spark_apps import contract
from spark_apps.search import ann, datasets, open_index, reading, writing
from spark_apps.tables import commits, schemas, staging

MODEL = "resnet50-synthetic-fp32"
DIM, LATENT, OF_A_CLUSTER, SPREAD, K = 2048, 32, 1000, 1.0, 10
PIECE, DAY = 10_000, 10_000
"""Vectors that are made, published and brought in at a time; and those of one more day."""
SCANNED = 100_000
WARM_UP = 20
CELLS = (5, 10, 20, 40, 80)
"""Of the index that a search looks through, beside those that it looks through by itself."""
Vectors = NDArray[np.float32]


class Source:
    """Vectors that are the same for the same number of rows, whichever piece is asked for."""

    def __init__(self, rows: int) -> None:
        random = np.random.default_rng(0)
        self._mixing = random.normal(size=(LATENT, DIM)).astype(np.float32) / np.sqrt(LATENT)
        self._middles = random.normal(size=(max(1, rows // OF_A_CLUSTER), LATENT)).astype(np.float32)

    def piece(self, seed: int, rows: int) -> Vectors:
        """float32 [rows, DIM]."""
        random: Any = np.random.default_rng([1, seed])
        chosen = self._middles[random.integers(0, len(self._middles), rows)]
        latent = chosen + SPREAD * random.standard_normal((rows, LATENT), np.float32)
        found: Vectors = np.maximum(latent @ self._mixing, 0)
        found += 0.05 * np.abs(random.standard_normal((rows, DIM), np.float32))
        return found


class Truth:
    """The nearest of all vectors that it was shown, for each query, by cosine."""

    def __init__(self, queries: Vectors) -> None:
        self._queries = queries / np.linalg.norm(queries, axis=1, keepdims=True)
        self._scores: Any = np.empty((len(queries), 0), np.float32)
        self._names: Any = np.empty((len(queries), 0), np.int64)

    def show(self, vectors: Vectors, first: int) -> None:
        """`first`: the number of the first of these vectors."""
        scores = self._queries @ (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).T
        best = np.argpartition(-scores, K, axis=1)[:, :K]
        self._scores = np.concatenate([self._scores, np.take_along_axis(scores, best, axis=1)], axis=1)
        self._names = np.concatenate([self._names, best + first], axis=1)
        order = np.argsort(-self._scores, axis=1)[:, :K]
        self._scores = np.take_along_axis(self._scores, order, axis=1)
        self._names = np.take_along_axis(self._names, order, axis=1)

    @property
    def names(self) -> list[list[int]]:
        found: list[list[int]] = self._names.tolist()
        return found


def main() -> int:
    options = _options()
    if options.probe:
        print(json.dumps(PROBES[options.probe](options.folder, options.rows)))
        return 0
    folder: Path = options.folder / f"search-{options.rows}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        found = measure(folder, options.rows, options.queries)
    finally:
        if not options.keep:
            shutil.rmtree(folder, ignore_errors=True)
    for name, value in found.items():
        print(f"{name:24} {value}")
    if options.report:
        options.report.write_text(json.dumps(found, indent=1))
    return 0


def measure(folder: Path, rows: int, queries: int) -> dict[str, Any]:
    """All measures at `rows` vectors, in a store that is made in `folder`."""
    store, source = str(folder / "store"), Source(rows)
    asked = source.piece(-1 % 2**32, queries)
    truth = Truth(asked)
    begin = time.perf_counter()
    for number, first in enumerate(range(0, rows, PIECE)):
        vectors = source.piece(number, min(PIECE, rows - first))
        truth.show(vectors, first)
        publish(store, f"day-{number:04}", vectors, first)
        writing.reconcile(store, MODEL, lambda _: _here, lambda _: None)
        shutil.rmtree(Path(store, "features", "data", f"day-{number:04}"))
        _say(f"{first + len(vectors):,} vectors are in after {time.perf_counter() - begin:.0f} s")
    brought_in = time.perf_counter() - begin
    np.save(folder / "queries.npy", asked)
    built = _in_a_process("build", folder, rows)
    answers = _in_a_process("ask", folder, rows)
    recall = [_recall(truth, found) for found in answers.pop("found")]
    scan = _in_a_process("scan", folder, rows)["scan_s"]
    lance = Path(datasets.location(store, MODEL))
    sizes = {name: _bytes(lance / name) for name in ("data", "_indices")}
    return {
        "rows": rows,
        "recall_at_10": recall[0],
        **answers,
        "recall_by_cells": dict(zip(answers["answer_s_by_cells"], recall[1:], strict=True)),
        "scan_s": scan,
        "scan_against_ours": round(scan / answers["answer_s"], 1),
        "new_day_s": round(_new_day(store, source, rows), 1),
        "index_share": round(sizes["_indices"] / sizes["data"], 4),
        "vector_bytes": sizes["data"],
        "brought_in_s": round(brought_in, 1),
        **built,
        "peak_rss_mb": _peak_mb(),
    }


def _recall(truth: Truth, found: list[list[int]]) -> float:
    hits = [len({*got} & {*want}) for got, want in zip(found, truth.names, strict=True)]
    return round(sum(hits) / (K * len(hits)), 4)


def publish(store: str, day: str, vectors: Vectors, first: int) -> None:
    """One day's vectors in the table features, as validate publishes them; names are their numbers."""
    names = [f"file:///photos/{number:09}.jpg" for number in range(first, first + len(vectors))]
    made = {
        "uri": pa.array(names),
        "image_id": pa.array([hashlib.sha256(name.encode()).hexdigest() for name in names]),
        "features": pa.ListArray.from_arrays(
            pa.array(np.arange(0, vectors.size + 1, DIM, dtype=np.int32)), pa.array(vectors.ravel())
        ),
        "model_fingerprint": pa.array(["synthetic"] * len(names)),
        "run_id": pa.array(["bench"] * len(names)),
    }
    columns = schemas.FEATURES.columns
    rows = pa.table([made.get(one.name, pa.nulls(len(names), one.type)) for one in columns], schema=columns)
    settings = contract.ValidateSettings(store=store, partition=day, run_id="bench")
    with staging.StagedWriter(store, schemas.FEATURES, staging.folder(settings)) as writer:
        for begin in range(0, len(names), 2000):  # row groups of 16 MB
            writer.add_table(rows.slice(begin, 2000))
    staged: contract.Staged = {"images": [], "quarantine": [], "features": writer.files}
    commits.Replacement(store, day, MODEL, "bench", staged, {}).commit()


def _here(units: list[writing.Unit], work: Callable[[Iterator[writing.Unit]], Iterator[str]]) -> list[str]:
    return list(work(iter(units)))


def _in_a_process(probe: str, folder: Path, rows: int) -> dict[str, Any]:
    command = [
        sys.executable,
        "-m",
        "benchmarks.search",
        "--probe",
        probe,
        "--folder",
        str(folder),
        "--rows",
        str(rows),
    ]
    done = subprocess.run(command, cwd=places.ROOT, check=True, capture_output=True, text=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def _build(folder: Path, rows: int) -> dict[str, Any]:
    """Builds the index as the command `index` does, and what that takes."""
    store = str(folder / "store")
    dataset = datasets.opened(store, MODEL)
    seconds = _seconds(lambda: ann.build(dataset))
    writing.tidy(store, MODEL)
    return {"built_s": round(seconds, 1), "building_rss_mb": _peak_mb()}


def _ask(folder: Path, rows: int) -> dict[str, Any]:
    """Opens the index of a store and asks each query, as a process that does nothing else."""
    queries = np.load(folder / "queries.npy")
    begin = time.perf_counter()
    index = open_index(str(folder / "store"), MODEL)
    index.nearest(queries[0], K)
    opened = time.perf_counter() - begin
    for query in queries[:WARM_UP]:
        index.nearest(query, K)
    seconds, found = _answers(index, queries)
    measured = {
        "answer_s": round(statistics.median(seconds), 5),
        "answer_p95_s": round(float(np.quantile(seconds, 0.95)), 5),
        "opened_s": round(opened, 3),
        "searching_rss_mb": _peak_mb(),
    }
    all_found, by_cells = [found], {}
    for cells in CELLS:
        with patch.object(reading, "CELLS", cells):
            seconds, found = _answers(index, queries)
        all_found.append(found)
        by_cells[cells] = round(statistics.median(seconds), 5)
    return {**measured, "found": all_found, "answer_s_by_cells": by_cells}


def _answers(index: reading.Index, queries: Vectors) -> tuple[list[float], list[list[int]]]:
    """Seconds of each answer, and the numbers of the vectors in it."""
    seconds, found = [], []
    for query in queries:
        begin = time.perf_counter()
        answer = index.nearest(query, K)
        seconds.append(time.perf_counter() - begin)
        found.append([int(Path(one.uri).stem) for one in answer])
    return seconds, found


def _scan(folder: Path, rows: int) -> dict[str, Any]:
    """Median seconds of an exact scan by numpy, one query after the other; of `SCANNED` vectors, as if of all."""
    source, queries, scanned = Source(rows), np.load(folder / "queries.npy"), min(rows, SCANNED)
    vectors = np.empty((scanned, DIM), np.float32)
    for number, first in enumerate(range(0, scanned, PIECE)):
        piece = source.piece(number, min(PIECE, scanned - first))
        vectors[first : first + len(piece)] = piece / np.linalg.norm(piece, axis=1, keepdims=True)

    def ask(query: Vectors) -> None:
        scores = vectors @ (query / np.linalg.norm(query))
        best = np.argpartition(-scores, K)[:K]
        best[np.argsort(-scores[best])]

    seconds = statistics.median([_seconds(partial(ask, query)) for query in queries[:WARM_UP]])
    return {"scan_s": round(seconds * rows / scanned, 4)}


PROBES = {"build": _build, "ask": _ask, "scan": _scan}
"""What is measured in a process of its own."""


def _new_day(store: str, source: Source, rows: int) -> float:
    """Seconds until one more day is found by another process."""
    vectors = source.piece(rows, DAY)
    publish(store, "one-more-day", vectors, rows)
    command = [sys.executable, "-m", "spark_apps.index", "--store", store, "--model", MODEL]
    begin = time.perf_counter()
    subprocess.run(command, cwd=places.ROOT, check=True, capture_output=True)
    (nearest,) = open_index(store, MODEL).nearest(vectors[0], 1)
    assert nearest.partition == "one-more-day", "the day is not found"
    return time.perf_counter() - begin


def _seconds(action: Callable[[], object]) -> float:
    begin = time.perf_counter()
    action()
    return time.perf_counter() - begin


def _bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _peak_mb() -> float:
    """Of this process alone: `ru_maxrss` begins with what the process had that started it."""
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return round(int(line.split()[1]) * 1.024e-3, 1)


def _say(message: str) -> None:
    print(message, file=sys.stderr, flush=True)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser("benchmarks.search", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--rows", type=int, default=100_000, help="vectors (default: %(default)s)")
    parser.add_argument("--queries", type=int, default=200, help="vectors that are searched for (default: %(default)s)")
    parser.add_argument("--folder", type=Path, default=places.WORK, help="where the store is made (%(default)s)")
    parser.add_argument("--keep", action="store_true", help="leave the store there")
    parser.add_argument("--report", type=Path, help="where the numbers go as JSON")
    parser.add_argument("--probe", choices=PROBES, help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
