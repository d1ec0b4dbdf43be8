"""Beyond the systems side by side: how ours behaves as days grow, photos grow, cores are added, and days repeat.

Each scenario returns what the report keeps of it. It runs the same module `systems/ours.py`, in fresh processes.
"""

from __future__ import annotations

import json
import shutil
import statistics
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from benchmarks import photos, places, prepare, processes
from benchmarks.photos import DISTINCT, PhotoSet
from benchmarks.prepare import Models, Say
from benchmarks.protocol import Result
from benchmarks.systems import Entry
from spark_apps import catalog
from spark_apps.contract import STAGES


@dataclass(frozen=True)
class Setting:
    """What all scenarios share.

    `main`: the set that the systems are measured on, staged and with its models. `days`: photos of each day that grows.
    """

    main: PhotoSet
    models: Models
    cores: int
    batch_size: int
    days: list[int]
    quick: bool
    say: Say

    def ours(self, day: PhotoSet, precision: str, engine: str = "openvino", **options: Any) -> Result:
        """One run of ours over `day` in a process of its own, in a session warmed up on the main set; a reason in the
        result where it is not possible."""
        entry = Entry("ours", engine, precision)
        job = prepare.job(entry, day, self.models, self.cores, self.batch_size, 1)
        return processes.run("ours", replace(job, warm_up=self.main.name, **options))


Scenario = Callable[[Setting], Any]

ENOUGH = {"0.2": 1_536, "2": 1_024, "12": 512}
"""Photos by megapixels, beside whose work the 0.2 s are little that a Spark job takes at its start and its end."""


def growth(setting: Setting) -> dict[str, Any]:
    """Cost per image and memory of a worker as a day grows, each size in a fresh session.

    The photos of a day are copies that differ in trailing bytes, so that each is read, decoded and computed.
    """
    precision = setting.models.fastest()
    results = []
    for count in setting.days:
        day = PhotoSet("0.2", count)
        prepare.stage(day, setting.say, parquet=False)
        result = setting.ours(day, precision)
        results.append(
            {
                "images": count,
                "milliseconds_per_image": 1000 / result.rates[0],
                "worker_rss_mb": result.worker_rss_mb,
                "tree_pss_mb": result.tree_pss_mb,
            }
        )
        if count > 1_000:  # gigabytes
            remove(day)
    return {"precision": precision, "results": results}


def megapixels(setting: Setting) -> dict[str, Any]:
    """Photos of 0.2, 2 and 12 megapixels, decoded exactly and, where a JPEG can be, at a reduced scale. `floors`: what
    the Huffman codes of a JPEG and the engine let through at most, by size; see `systems/huffman.py`."""
    results, floors = [], {}
    for size, count in (("12", 16),) if setting.quick else ENOUGH.items():
        chosen = PhotoSet(size, count)
        prepare.stage(chosen, setting.say)
        prepare.reference_vectors(setting.models.weights, chosen)
        fastest = setting.models.fastest()
        for precision in dict.fromkeys([fastest] if setting.quick else ["fp32", fastest]):
            for decode in ("exact", "fast", "scaled"):
                setting.say(f"megapixels: {size}, decode {decode}, {precision}")
                result = setting.ours(chosen, precision, decode=decode)
                size_bytes = statistics.mean(path.stat().st_size for path in chosen.jpeg.iterdir())
                results.append(
                    {
                        "megapixels": size,
                        "decode": decode,
                        "precision": precision,
                        "images_per_second": result.rates[0] if result.rates else None,
                        "cosine": result.cosine,
                        "mean_bytes": round(size_bytes),
                        "reason": result.reason,
                    }
                )
        floors[size] = _floor(setting, chosen, fastest)
    return {"results": results, "floors": floors}


def _floor(setting: Setting, chosen: PhotoSet, precision: str) -> dict[str, float]:
    """images/s of Huffman codes alone, of the engine alone, and of one after the other."""
    job = prepare.job(
        Entry("bare_engine", "openvino", precision), chosen, setting.models, setting.cores, setting.batch_size, 1
    )
    setting.say(f"megapixels: {chosen.megapixels}, Huffman codes and engine alone, {precision}")
    huffman, engine = (processes.run(system, job).rates[0] for system in ("huffman", "bare_engine"))
    return {"huffman": huffman, "engine": engine, "both": round(1 / (1 / huffman + 1 / engine), 2)}


def fidelity(setting: Setting) -> dict[str, Any]:
    """How far from fp32 and exact decoding each precision and each way of decoding is, over all photos of the main set:
    cosines of their vectors, the smallest, the 1 % quantile and the median."""
    import numpy as np

    from benchmarks.systems.our_engine import Vectorizer

    contents = [path.read_bytes() for path in sorted(setting.main.jpeg.iterdir())[: DISTINCT[setting.main.megapixels]]]

    def vectors(precision: str, decode: str = "exact") -> Any:
        setting.say(f"fidelity: {precision}, decode {decode}")
        job = prepare.job(
            Entry("ours", "openvino", precision), setting.main, setting.models, 1, setting.batch_size, 1, decode=decode
        )
        vectorizer = Vectorizer(job)
        parts = [contents[at : at + setting.batch_size] for at in range(0, len(contents), setting.batch_size)]
        found = np.concatenate([vectorizer.features(part) for part in parts]).astype(np.float64)
        return found / np.linalg.norm(found, axis=1, keepdims=True)

    exact, results = vectors("fp32"), []
    kinds = [(precision, "exact") for engine, precision in setting.models.artifacts if engine == "openvino"]
    for precision, decode in (*(kind for kind in kinds if kind[0] != "fp32"), ("fp32", "fast"), ("fp32", "scaled")):
        cosines = np.einsum("ij,ij->i", exact, vectors(precision, decode))
        low, tail, middle = (round(float(np.quantile(cosines, share)), 5) for share in (0, 0.01, 0.5))
        results.append({"precision": precision, "decode": decode, "min": low, "q01": tail, "median": middle})
    return {"images": len(contents), "results": results}


def cores(setting: Setting) -> dict[str, Any]:
    """From one core to all: a worker with one thread for each. And all in one task, which decodes beside the model.
    How much `tree_pss_mb` grows from one core to two is what a second worker takes: mapped weights count once."""
    precision = setting.models.fastest()
    day = PhotoSet(setting.main.megapixels, ENOUGH[setting.main.megapixels])
    prepare.stage(day, setting.say)
    results = []
    shapes = [(count, "narrow") for count in range(1, setting.cores + 1)]
    for count, resources in (*shapes, (setting.cores, "wide")):
        setting.say(f"cores: {count}, {resources} tasks")
        result = setting.ours(day, precision, cores=count, resources=resources)
        results.append(
            {
                "cores": count,
                "resources": resources,
                "images_per_second": result.rates[0],
                "tree_pss_mb": result.tree_pss_mb,
            }
        )
    return {"precision": precision, "results": results}


def rerun(setting: Setting) -> dict[str, Any]:
    """The three commands on a fresh store, and again on the unchanged day: seconds of each stage, by its manifest."""
    different = min(setting.main.count, DISTINCT[setting.main.megapixels])  # validate refuses a day of twins
    day = photos.make(PhotoSet(setting.main.megapixels, different))
    store = places.WORK / "rerun"
    shutil.rmtree(store, ignore_errors=True)
    found: dict[str, dict[str, float]] = {}
    for run_id in ("first", "second"):
        setting.say(f"rerun: {run_id} run")
        found[run_id] = {}
        for stage in STAGES:
            options = {
                "ingest": ["--source", str(day.jpeg)],
                "extract": ["--weights", setting.models.weights],
                "validate": ["--max-failed-fraction", "1"],
            }
            common = ["--store", str(store), "--partition", "day", "--run-id", run_id]
            command = [sys.executable, "-m", f"spark_apps.{stage}", *common, *options[stage]]
            subprocess.run(command, cwd=places.ROOT, check=True, capture_output=True)
            manifest = catalog.manifest(str(store), "day", run_id, stage)
            assert manifest is not None
            found[run_id][stage] = manifest.seconds["total"]
    shutil.rmtree(store)
    return {"images": day.count, "seconds": found}


def publish(setting: Setting) -> dict[str, Any]:
    """Time and memory of one more publication as the tables grow."""
    setting.say("publish: growing tables")
    report = places.WORK / "publish.json"
    sizes = ["10", "50"] if setting.quick else ["10", "100", "1000"]
    options = ["--tries", "5"] if setting.quick else []
    command = [sys.executable, "-m", "benchmarks.publish_growth", "--report", str(report), "--partitions", *sizes]
    subprocess.run([*command, *options], cwd=places.ROOT, check=True, capture_output=True)
    found: dict[str, Any] = json.loads(report.read_text())
    return found


def search(setting: Setting) -> dict[str, Any]:
    """Recall, speed, memory and size of the search index over synthetic vectors; see `benchmarks.search`."""
    rows = 20_000 if setting.quick else 100_000
    setting.say(f"search: {rows:,} vectors")
    report = places.WORK / "search.json"
    command = [sys.executable, "-m", "benchmarks.search", "--report", str(report), "--rows", str(rows)]
    subprocess.run(command, cwd=places.ROOT, check=True, capture_output=True)
    found: dict[str, Any] = json.loads(report.read_text())
    return found


SCENARIOS: dict[str, Scenario] = {
    "growth": growth,
    "megapixels": megapixels,
    "fidelity": fidelity,
    "cores": cores,
    "rerun": rerun,
    "publish": publish,
    "search": search,
}


def remove(day: PhotoSet) -> None:
    """The photos and the staged files of a day."""
    shutil.rmtree(day.folder)
    for table in ("images", "features", "quarantine"):
        shutil.rmtree(places.STORE / table / "data" / day.name, ignore_errors=True)
    shutil.rmtree(places.STORE / "runs" / day.name, ignore_errors=True)
