"""What a broadcast model costs beside one that is shipped as a file and mapped: `python -m benchmarks.broadcast`.

The same ResNet-50 three times, each in a fresh Spark session with two workers of one core: `broadcast_extractor`,
`ImageVectorizer` on torch, `ImageVectorizer` on OpenVINO. With `--docs` the table goes into docs/from-two-snippets.md.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import psutil

from benchmarks import photos, places, processes, report
from benchmarks.photos import PhotoSet
from benchmarks.systems import spark_session

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

SYSTEMS = {
    "broadcast": "broadcast_extractor",
    "torch": "ImageVectorizer, torch",
    "openvino": "ImageVectorizer, openvino",
}
COLUMNS = {
    "sent_mb": "sent once, MB",
    "function_kb": "in the function, kB",
    "worker_1_mb": "1st worker, MB",
    "worker_2_mb": "2nd worker, MB",
    "first_batch_cpu_seconds": "processor time of the first batch, s",
    "cpu_ms_per_image": "processor time of a further image, ms",
}
RESULT = places.BENCH / "broadcast.json"
DOCS = places.ROOT / "docs" / "from-two-snippets.md"
CORES = 2
BATCH = 16
CHECKED = 4


def main() -> int:
    parser = argparse.ArgumentParser(prog="benchmarks.broadcast", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--images", type=int, default=128, help="photos of a pass, of 0.2 megapixels")
    parser.add_argument("--rounds", type=int, default=3, help="fresh sessions of each, in turn; medians are shown")
    parser.add_argument("--passes", type=int, default=2, help="warm passes over all photos in each session")
    parser.add_argument("--docs", action="store_true", help="put the table into docs/from-two-snippets.md")
    parser.add_argument("--redraw", action="store_true", help="measure nothing: show the last result again")
    parser.add_argument("--measure", choices=SYSTEMS, help=argparse.SUPPRESS)
    parser.add_argument("--state", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(measure(options.measure, PhotoSet("0.2", options.images), options.state, options.passes)))
        return 0
    if not options.redraw:
        _measure_all(options)
    found = json.loads(RESULT.read_text())
    print(table(found["medians"]))
    if options.docs:
        _write_docs(found)
    return 0


def _measure_all(options: argparse.Namespace) -> None:
    photos.make(PhotoSet("0.2", options.images))
    measured: dict[str, list[dict[str, Any]]] = {name: [] for name in SYSTEMS}
    found: dict[str, Any] = {
        "cores": os.cpu_count(),
        "load_at_start": round(os.getloadavg()[0], 1),
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "images": options.images,
        "rounds": measured,
    }
    places.BENCH.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        state = save_weights(Path(folder))
        for _ in range(options.rounds):
            for name, results in measured.items():
                results.append(_in_a_process(name, state, options))
                print(f"{SYSTEMS[name]}: {results[-1]}", file=sys.stderr, flush=True)
            found["medians"] = {name: summary(results) for name, results in measured.items()}
            RESULT.write_text(json.dumps(found, indent=1))


def _write_docs(found: dict[str, Any]) -> None:
    """Puts the table between the two marks of the page."""
    rounds = len(next(iter(found["rounds"].values())))
    about = (
        f"{CORES} of {found['cores']} cores, {found['images']} photos of 500 x 375, batches of {BATCH}, medians of "
        f"{rounds} sessions each, {found['date']}; load of the machine at the start {found['load_at_start']}."
    )
    report.put(DOCS, "python -m benchmarks.broadcast", f"{about}\n\n{table(found['medians'])}")


def _in_a_process(name: str, state: Path, options: argparse.Namespace) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.broadcast", "--measure", name, "--state", str(state)]
    command += ["--images", str(options.images), "--passes", str(options.passes)]
    done = subprocess.run(
        command, cwd=places.ROOT, env=processes.environment(), stdout=subprocess.PIPE, text=True, check=True
    )
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def save_weights(folder: Path) -> Path:
    """A ResNet-50's state dict with random values: speed and memory do not depend on them."""
    import torch

    torch.manual_seed(0)
    torch.save(resnet50().state_dict(), folder / "resnet50.pth")
    return folder / "resnet50.pth"


def resnet50() -> Any:
    from spark_apps.model.torchvision_import import torchvision

    return torchvision().models.resnet50(weights=None)


def measure(name: str, photo_set: PhotoSet, state: str, passes: int) -> dict[str, Any]:
    """One session. MB are 1e6 bytes; memory is proportional (PSS): shared pages are shared out."""
    with spark_session.session(f"broadcast-{name}", CORES) as spark:
        frame = spark.read.parquet(str(photo_set.parquet)).select("uri", "content")
        begin = time.perf_counter()
        features, sent, model_bytes = UDFS[name](spark, state)
        made = time.perf_counter() - begin
        begin = time.perf_counter()
        _compute(frame.limit(BATCH).coalesce(1), features)
        first_batch, first_batch_cpu = time.perf_counter() - begin, workers_cpu()
        alone = workers_pss()
        shares = frame.coalesce(CORES)
        _compute(shares, features)
        both = workers_pss()
        rates, before = [], workers_cpu()
        for _ in range(passes):
            begin = time.perf_counter()
            _compute(shares, features)
            rates.append(photo_set.count / (time.perf_counter() - begin))
        cpu = workers_cpu() - before
        chosen = frame.orderBy("uri").limit(CHECKED).select(features("content")["features"].alias("features"))
        vectors = np.array([row.features for row in chosen.collect()])
        checked = cosine(vectors, photo_set, state)
    if (len(alone), len(both)) != (1, CORES):
        raise RuntimeError(f"there were {len(alone)} and {len(both)} workers, not 1 and {CORES}")
    return {
        "udf_seconds": round(made, 2),
        "first_batch_seconds": round(first_batch, 2),
        "first_batch_cpu_seconds": round(first_batch_cpu, 2),
        "worker_1_mb": round(sum(alone) / 1e6, 1),
        "worker_2_mb": round((sum(both) - sum(alone)) / 1e6, 1),
        "images_per_second": round(statistics.median(rates), 2),
        "cpu_ms_per_image": round(cpu * 1000 / (passes * photo_set.count), 1),
        "sent_mb": round(model_bytes / 1e6, 1),
        "function_kb": round(sent / 1e3, 1),
        "cosine": checked,
    }


def _broadcast(spark: SparkSession, state: str) -> tuple[Any, int, int]:
    import torch

    from spark_apps.broadcast import broadcast_extractor

    model = resnet50()
    model.load_state_dict(torch.load(state, weights_only=True))
    model.fc = torch.nn.Identity()
    features = broadcast_extractor(spark, model, batch_size=BATCH)
    files = list(Path(spark.sparkContext._temp_dir).iterdir())
    return features, _pickled(features), max(file.stat().st_size for file in files if file.is_file())


def _vectorizer(engine: str) -> Any:
    def make(spark: SparkSession, state: str) -> tuple[Any, int, int]:
        from spark_apps.vectorizer import ImageVectorizer

        vectorizer = ImageVectorizer("resnet50", state, engine=engine, batch_size=BATCH)
        features = vectorizer.udf()
        return features, _pickled(features), sum(Path(file).stat().st_size for file in vectorizer._files)

    return make


UDFS = {"broadcast": _broadcast, "torch": _vectorizer("torch"), "openvino": _vectorizer("openvino")}


def _pickled(features: Any) -> int:
    """Bytes of the function as it is sent with each query."""
    from pyspark.serializers import CloudPickleSerializer

    pickled: bytes = CloudPickleSerializer().dumps((features.func, features.returnType))  # type: ignore[no-untyped-call]
    return len(pickled)


def _compute(frame: DataFrame, features: Any) -> None:
    frame.select("uri", features("content").alias("found")).write.format("noop").mode("overwrite").save()


def workers() -> list[psutil.Process]:
    """This session's Python workers."""
    return [child for child in psutil.Process().children(recursive=True) if processes.is_worker(child)]


def workers_pss() -> list[int]:
    """Proportional memory of each, in bytes."""
    return [worker.memory_full_info().pss for worker in workers()]


def workers_cpu() -> float:
    """Seconds that they have computed so far, all together."""
    return float(sum(times.user + times.system for times in (worker.cpu_times() for worker in workers())))


def cosine(vectors: np.ndarray, photo_set: PhotoSet, state: str) -> float:
    """The smallest to plain torchvision, over the first photos."""
    import torch

    from benchmarks.systems import eager

    model = resnet50()
    model.load_state_dict(torch.load(state, weights_only=True))
    model.fc = torch.nn.Identity()
    contents = [path.read_bytes() for path in sorted(photo_set.jpeg.iterdir())[: len(vectors)]]
    expected = eager.features(model.eval(), contents)
    norms = np.linalg.norm(vectors, axis=1) * np.linalg.norm(expected, axis=1)
    return round(float(((vectors * expected).sum(1) / norms).min()), 6)


def summary(results: list[dict[str, Any]]) -> dict[str, float]:
    """Medians over the rounds."""
    return {name: round(statistics.median(result[name] for result in results), 6) for name in results[0]}


def table(lines: dict[str, dict[str, float]]) -> str:
    """A line for each measure, a column for each system. Seconds by the clock are in the JSON: benchmarks.md compares
    speed, and the processor time depends less on what else the machine does."""
    head = ("", *(SYSTEMS[system] for system in lines))
    cells = [(words, *(f"{line[name]:.1f}" for line in lines.values())) for name, words in COLUMNS.items()]
    return report.markdown(head, cells)


if __name__ == "__main__":
    sys.exit(main())
