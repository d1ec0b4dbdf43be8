"""What searching costs: the index beside an exact scan by numpy, in one run, on vectors mixed of real ones.

Publishes days of 10,000 vectors into a new store, runs the command `index` on it, and searches in a fresh process;
then one day more, until its photos are found. A vector is a mixture of three of real photos with noise on each number,
so that neighbours are neither copies nor strangers. numpy scans the same vectors from a mapped file, which stays in
memory where there is room.

    python -m benchmarks.search --rows 1000000 --pictures FOLDER --weights keras-v1 --report search.json
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from spark_apps import contract
from spark_apps.tables import commits, schemas, staging

MODEL = "resnet50-mixed-fp32"
DAY_ROWS = 10_000
QUERIES, SCANS, K = 200, 10, 10
CHUNK = 32_768
"""Vectors that numpy multiplies at a time."""

Vectors = NDArray[np.float32]


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--rows", type=int, default=1_000_000, help="vectors in the index")
    parser.add_argument("--pictures", type=Path, help="folder of photos to mix; default: those of scikit-image")
    parser.add_argument("--weights", default="keras-v1", help="weights of the ResNet-50 that the vectors are of")
    parser.add_argument("--folder", type=Path, help="where there is room for three times the vectors")
    parser.add_argument("--report", type=Path, help="where the numbers go as JSON")
    parser.add_argument("--probe", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.probe:
        return probe(options.probe)
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        found = measure(Path(folder), options.rows, real_vectors(options.pictures, options.weights))
    print(json.dumps(found, indent=1))
    if options.report:
        options.report.write_text(json.dumps(found, indent=1))
    return 0


def measure(folder: Path, rows: int, real: Vectors) -> dict[str, Any]:
    """All numbers of one size."""
    random = np.random.default_rng(0)
    queries = mixed(random, real, QUERIES)
    store, plain, asked = folder / "store", folder / "vectors", folder / "queries.npy"
    np.save(asked, queries)
    best = Best(QUERIES)
    with plain.open("wb") as file:
        for day in range(rows // DAY_ROWS):
            vectors = mixed(random, real, DAY_ROWS)
            publish(str(store), f"d{day:05}", vectors)
            file.write(vectors.data)
            best.add(day * DAY_ROWS, vectors @ queries.T)
            say(f"published {(day + 1) * DAY_ROWS:,} of {rows:,}")
    built = timed_index(store)
    say(f"indexed in {built['seconds']} s")
    before = probed(store, asked)
    recall = statistics.mean(
        len(set(names) & {uri(row) for row in exact}) / K
        for names, exact in zip(before["found"], best.rows, strict=True)
    )
    scan_s = numpy_scan(plain, rows, queries)
    begin = time.perf_counter()
    last = mixed(random, real, DAY_ROWS)
    publish(str(store), "e00000", last, rows)
    published_s = time.perf_counter() - begin
    added = timed_index(store)
    np.save(asked, last[:QUERIES])
    after = probed(store, asked)
    nearest_is_itself = [names[0] for names in after["found"]] == [uri(rows + row) for row in range(QUERIES)]
    dataset = store / "search" / f"{MODEL}.lance"
    size = {name: bytes_below(dataset / name) for name in ("data", "_indices")}
    return {
        "rows": rows,
        "dimension": queries.shape[1],
        "real_vectors": len(real),
        "recall_at_10": round(recall, 4),
        "median_ms": before["median_ms"],
        "p95_ms": before["p95_ms"],
        "numpy_ms": round(1000 * scan_s, 1),
        "numpy_over_ours": round(1000 * scan_s / before["median_ms"], 1),
        "open_s": before["open_s"],
        "searching_rss_mb": before["rss_mb"],
        "build_s": built["seconds"],
        "build_rss_mb": built["rss_mb"],
        "day_publish_s": round(published_s, 1),
        "day_index_s": added["seconds"],
        "day_found": nearest_is_itself,
        "day_until_found_s": round(added["seconds"] + after["open_s"] + after["first_s"], 1),
        "median_ms_after_day": after["median_ms"],
        "index_bytes_over_vectors": round(size["_indices"] / (4 * (rows + DAY_ROWS) * queries.shape[1]), 4),
        "data_bytes_over_vectors": round(size["data"] / (4 * (rows + DAY_ROWS) * queries.shape[1]), 4),
        "load_before_and_cores": [round(os.getloadavg()[0], 1), os.cpu_count()],
    }


def real_vectors(pictures: Path | None, weights: str) -> Vectors:
    """The unit vectors of the photos of a folder, by the model itself."""
    import skimage

    from spark_apps.media.imaging import BadImage
    from spark_apps.vectorizer import ImageVectorizer

    vectorizer, found = ImageVectorizer(weights=weights), []
    for path in sorted((pictures or Path(skimage.__file__).parent / "data").rglob("*")):
        try:
            found.append(vectorizer.extract_features(path.read_bytes()) if path.is_file() else None)
        except BadImage:
            continue
    return normed(np.asarray([vector for vector in found if vector is not None], np.float32))


def mixed(random: np.random.Generator, real: Vectors, rows: int) -> Vectors:
    """Unit vectors, each of three real ones."""
    shares = random.dirichlet([0.5] * 3, rows).astype(np.float32)
    of = random.integers(0, len(real), (rows, 3))
    noise = random.standard_normal((rows, real.shape[1]), np.float32)
    noise *= 0.4
    np.exp(noise, out=noise)
    mixture = np.zeros_like(noise)
    for column in range(3):
        mixture += real[of[:, column]] * shares[:, column : column + 1]
    return normed(mixture * noise)


def normed(vectors: Vectors) -> Vectors:
    units: Vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return units


class Best:
    """The exact neighbours of each query, added up chunk by chunk."""

    def __init__(self, queries: int) -> None:
        self._cosines, self.rows = np.full((queries, K), -2, np.float32), np.zeros((queries, K), np.int64)

    def add(self, first: int, cosines: Vectors) -> None:
        """`cosines`: float32 [vectors, queries], of vectors from the row `first` on."""
        both = np.concatenate([self._cosines, cosines.T], axis=1)
        numbers = np.concatenate(
            [self.rows, np.broadcast_to(np.arange(first, first + len(cosines)), cosines.T.shape)], axis=1
        )
        best = np.argpartition(-both, K, axis=1)[:, :K]
        self._cosines = np.take_along_axis(both, best, axis=1)
        self.rows = np.take_along_axis(numbers, best, axis=1)


def publish(store: str, partition: str, vectors: Vectors, first: int | None = None) -> None:
    """Publishes the vectors as a partition; nothing but the table features has rows."""
    start = int(partition[1:]) * DAY_ROWS if first is None else first
    names = [uri(start + row) for row in range(len(vectors))]
    settings = contract.ValidateSettings(store=store, partition=partition, run_id="bench")
    made = {
        "uri": pa.array(names),
        "image_id": pa.array([f"{start + row:064x}" for row in range(len(vectors))]),
        "features": pa.FixedSizeListArray.from_arrays(vectors.ravel(), vectors.shape[1]).cast(pa.list_(pa.float32())),
        "run_id": pa.repeat("bench", len(vectors)),
    }
    columns = schemas.FEATURES.columns
    rows = pa.table({one.name: made.get(one.name, pa.nulls(len(vectors), one.type)) for one in columns}, schema=columns)
    with staging.StagedWriter(store, schemas.FEATURES, staging.folder(settings)) as writer:
        for begin in range(0, len(vectors), 2_000):
            writer.add_table(rows.slice(begin, 2_000))
    commits.Replacement(store, partition, MODEL, "bench", {"features": writer.files}, {}).commit()


def uri(row: int) -> str:
    return f"file:///photos/{row:09}.jpg"


def timed_index(store: Path) -> dict[str, Any]:
    """The command `index`, in a process of its own, without Spark."""
    command = [sys.executable, "-m", "spark_apps.index", "--store", str(store), "--model", MODEL]
    begin = time.perf_counter()
    subprocess.run([*command, "--driver-rows", str(2**31)], check=True)
    seconds = time.perf_counter() - begin
    return {
        "seconds": round(seconds, 1),
        "rss_mb": round(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1e3),  # Linux: in kilobytes
    }


def probed(store: Path, queries: Path) -> dict[str, Any]:
    """`probe` in a fresh process."""
    asked = queries.with_suffix(".json")
    asked.write_text(json.dumps({"store": str(store), "queries": str(queries)}))
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.search", "--probe", str(asked)], check=True, capture_output=True, text=True
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def probe(asked: Path) -> int:
    """Opens the index, searches, and says how long each took and what memory the process had at most."""
    what = json.loads(asked.read_text())
    queries = np.load(what["queries"])
    begin = time.perf_counter()
    from spark_apps.search import open_index

    index = open_index(what["store"], MODEL)
    opened = time.perf_counter()
    index.nearest(queries[0], K)
    first = time.perf_counter()
    found, seconds = [], []
    for query in [*queries, *queries]:  # the first half warms up
        at = time.perf_counter()
        found.append([one.uri for one in index.nearest(query, K)])
        seconds.append(time.perf_counter() - at)
    warm = sorted(seconds[len(queries) :])
    answer = {
        "open_s": round(opened - begin, 2),
        "first_s": round(first - opened, 2),
        "median_ms": round(1000 * statistics.median(warm), 1),
        "p95_ms": round(1000 * warm[int(0.95 * len(warm))], 1),
        "rss_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3),
        "found": found[len(queries) :],
    }
    print(json.dumps(answer))
    return 0


def numpy_scan(plain: Path, rows: int, queries: Vectors) -> float:
    """The median seconds of one exact search by numpy, after one that brings the file into memory, if it fits."""
    vectors = np.memmap(plain, np.float32, "r", shape=(rows, queries.shape[1]))
    seconds = []
    for query in queries[: SCANS + 1]:
        begin = time.perf_counter()
        cosines = np.concatenate([chunk @ query for chunk in _chunks(vectors)])
        best = np.argpartition(-cosines, K)[:K]
        best[np.argsort(-cosines[best])]
        seconds.append(time.perf_counter() - begin)
    return statistics.median(seconds[1:])


def _chunks(vectors: Vectors) -> Iterator[Vectors]:
    for begin in range(0, len(vectors), CHUNK):
        yield vectors[begin : begin + CHUNK]


def bytes_below(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def say(message: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {message}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
