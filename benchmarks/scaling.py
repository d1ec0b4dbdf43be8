"""What the driver of one run needs as a day grows: each part at three sizes, the largest foretold from the two smaller.

    python -m benchmarks.scaling --report var/bench/scaling.json

| part | what is measured | sizes |
|---|---|---|
| listing | `landing.list_files` over real, empty files and `intake.write_listing` | up to 1,000,000 files |
| plan | `plan.plan` over staged images (content of one byte, row groups of 160 rows) | up to 1,000,000 photos |
| checks | `quality.measure` over staged vectors of 2,048 numbers | up to 100,000 vectors |
| units | `contexts.spread` of work units that do nothing, a task each, on two cores | up to 10,000 units |

Each measurement is a fresh process. Memory is by how much its peak grows; `units` tells the size of the JVM too. Linux.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow as pa

from benchmarks.places import ROOT
from spark_apps import contract
from spark_apps.contract import StagedFile
from spark_apps.pipeline import intake, landing, plan, quality
from spark_apps.pipeline.records import TaskRecord
from spark_apps.spark import contexts
from spark_apps.tables import schemas, staging

SIZES = {
    "listing": (10_000, 100_000, 1_000_000),
    "plan": (10_000, 100_000, 1_000_000),
    "checks": (1_000, 10_000, 100_000),
    "units": (100, 1_000, 10_000),
}
PHOTOS_PER_GROUP = 160
"""A row group of 16 MiB holds so many photos of 100 kB."""
GROUPS_PER_FILE = 8
DIM = 2048


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--parts", nargs="+", default=list(SIZES), choices=SIZES)
    parser.add_argument("--largest", type=int, help="leave out sizes beyond this one")
    parser.add_argument("--report", type=Path, help="where the numbers go as JSON")
    parser.add_argument("--probe", nargs=3, metavar=("PART", "SIZE", "FOLDER"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.probe:
        part, size, folder = options.probe
        print(json.dumps(PROBES[part](int(size), Path(folder))))
        return 0
    report: dict[str, Any] = {}
    for part in options.parts:
        sizes = [size for size in SIZES[part] if size <= (options.largest or size)]
        report[part] = [_in_a_process(part, size) for size in sizes]
        _show(part, report[part])
    if options.report:
        options.report.write_text(json.dumps(report, indent=1))
    return 0


def _in_a_process(part: str, size: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "benchmarks.scaling", "--probe", part, str(size), folder]
        done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    measured: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return {"size": size, **measured}


def _show(part: str, results: list[dict[str, Any]]) -> None:
    """A line for each size, and what the straight line through the two before the last foretold of it."""
    print(part)
    for result in results:
        print("  " + "  ".join(f"{name} {value:,}" for name, value in result.items()), flush=True)
    if len(results) < 3:
        return
    *_, one, two, last = results
    for name in last:
        if name == "size":
            continue
        slope = (two[name] - one[name]) / (two["size"] - one["size"])
        foretold = two[name] + slope * (last["size"] - two["size"])
        print(f"  {name} at {last['size']:,}: foretold {foretold:,.1f}, measured {last[name]:,.1f}", flush=True)


# --- the parts --------------------------------------------------------------------------------------------------------


def listing(size: int, folder: Path) -> dict[str, float]:
    """Lists a folder of `size` files, a thousand in each subfolder, and keeps the listing."""
    for begin in range(0, size, 1000):
        below = folder / "source" / f"{begin // 1000:06}"
        below.mkdir(parents=True)
        for number in range(min(1000, size - begin)):
            os.close(os.open(below / f"IMG_{begin + number:08}.jpg", os.O_CREAT | os.O_WRONLY))
    settings = contract.IngestSettings(
        store=str(folder / "store"), partition="d1", run_id="r", source=str(folder / "source")
    )
    before, begin_s = _forget_peak(), time.perf_counter()
    found = landing.list_files(settings.source, settings.pattern)
    listed_s = time.perf_counter()
    units, _ = intake.write_listing(settings, found, workers=32)
    written_s = time.perf_counter()
    assert found.num_rows == size
    kept = sum(path.stat().st_size for path in Path(settings.folder).rglob("*.parquet"))
    return {
        "list_s": round(listed_s - begin_s, 2),
        "write_s": round(written_s - listed_s, 2),
        "memory_mb": round(_peak_mb() - before, 1),
        "kept_mb": round(kept / 1e6, 2),
        "units": len(units),
    }


def planned(size: int, folder: Path) -> dict[str, float]:
    """Plans a day of `size` staged photos, none of which is known."""
    settings = contract.ExtractSettings(store=str(folder), partition="d1", run_id="r")
    files = []
    where = staging.folder(settings)
    per_file = PHOTOS_PER_GROUP * GROUPS_PER_FILE
    for begin in range(0, size, per_file):
        with staging.StagedWriter(settings.store, schemas.IMAGES, where) as writer:
            for start in range(begin, min(begin + per_file, size), PHOTOS_PER_GROUP):
                writer.add_table(_images(start, min(PHOTOS_PER_GROUP, size - start)))
        files += writer.files
    before, begin_s = _forget_peak(), time.perf_counter()
    todo = plan.plan(settings, files, "model", "0" * 16)
    seconds = time.perf_counter() - begin_s
    assert todo.to_compute == size
    return {"plan_s": round(seconds, 2), "memory_mb": round(_peak_mb() - before, 1), "units": len(todo.compute)}


def checks(size: int, folder: Path) -> dict[str, float]:
    """Measures `size` staged vectors as validate does."""
    settings = contract.ValidateSettings(store=str(folder), partition="d1", run_id="r")
    chance, where, files = np.random.default_rng(0), staging.folder(settings), []
    per_group = staging.ROW_GROUP_BYTES // (4 * DIM)
    with staging.StagedWriter(settings.store, schemas.FEATURES, where) as writer:
        for begin in range(0, size, per_group):
            writer.add_table(_features(begin, min(per_group, size - begin), chance))
    files += writer.files
    before, begin_s = _forget_peak(), time.perf_counter()
    measured = quality.measure(settings.store, files, DIM)
    seconds = time.perf_counter() - begin_s
    assert len(measured.uris) == size
    return {"measure_s": round(seconds, 2), "memory_mb": round(_peak_mb() - before, 1)}


def units(size: int, folder: Path) -> dict[str, float]:
    """Spreads `size` work units that do nothing; each yields a record like one of ingest's."""
    os.environ["PYSPARK_SUBMIT_ARGS"] = f"--master local[2] --driver-memory 8g {contexts.BY_HAND}"
    spark = contexts.context("scaling")
    work = [(f"{folder}/listing/{number // 64:08}.parquet", number % 64) for number in range(size)]
    contexts.spread(spark, work[:8], _nothing, 1)  # starts the workers
    before, begin_s = _forget_peak(), time.perf_counter()
    records = contexts.spread(spark, work, _nothing, 1)
    seconds = time.perf_counter() - begin_s
    assert len(records) == size
    [jvm] = [child for child in psutil.Process().children(recursive=True) if child.name() == "java"]
    resident = round(jvm.memory_info().rss / 1e6)
    spark.stop()
    return {"spread_s": round(seconds, 2), "memory_mb": round(_peak_mb() - before, 1), "jvm_mb": resident}


PROBES: dict[str, Callable[[int, Path], dict[str, float]]] = {
    "listing": listing,
    "plan": planned,
    "checks": checks,
    "units": units,
}


def _nothing(units: Iterator[tuple[str, int]]) -> Iterator[TaskRecord]:
    for uri, group in units:
        yield TaskRecord({"images": [StagedFile(f"{uri}-{group}", 128 * 2**20, 1280, (160,) * 8)]})


def _images(begin: int, count: int) -> pa.Table:
    names = [f"s3://bucket/landing/2026-11-22/camera-07/IMG_{begin + number:08}.jpg" for number in range(count)]
    return _table(schemas.IMAGES, count, uri=names, image_id=_ids(begin, count), content=[b"x"] * count)


def _features(begin: int, count: int, chance: np.random.Generator) -> pa.Table:
    names = [f"s3://bucket/landing/2026-11-22/camera-07/IMG_{begin + number:08}.jpg" for number in range(count)]
    vectors = pa.FixedSizeListArray.from_arrays(chance.random(count * DIM, np.float32), DIM)
    made = vectors.cast(pa.list_(pa.float32()))
    return _table(schemas.FEATURES, count, uri=names, image_id=_ids(begin, count), features=made)


def _ids(begin: int, count: int) -> list[str]:
    """Texts as long as a sha256, no two alike."""
    return [f"{begin + number:064x}" for number in range(count)]


def _table(table: schemas.Table, count: int, **known: Any) -> pa.Table:
    columns = {name: known.get(name, pa.nulls(count, kind)) for name, kind in zip(*_fields(table), strict=True)}
    return pa.table(columns, schema=table.columns)


def _fields(table: schemas.Table) -> tuple[list[str], list[pa.DataType]]:
    return table.columns.names, table.columns.types


def _forget_peak() -> float:
    """Begins a new peak of this process's memory; what it is now, in MB. See proc(5), clear_refs."""
    Path("/proc/self/clear_refs").write_text("5")
    return _peak_mb()


def _peak_mb() -> float:
    [line] = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) / 1e3


if __name__ == "__main__":
    sys.exit(main())
