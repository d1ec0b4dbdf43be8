"""What the driver of one run needs as a day grows: each part at three sizes, the largest foretold from the two smaller.

    python -m benchmarks.scaling --report var/bench/scaling.json

| part | what is measured | largest |
|---|---|---|
| listing | `landing.list_files` over real, empty files, and `intake.divide` | 1,000,000 files |
| objects | the same over names that `listing.files` is made to give | 10,000,000 files |
| resumed | the same, and tasks of an earlier attempt have read nine tenths of them | 10,000,000 files |
| plan | `plan.plan` over staged images (one byte each, row groups of 160), one in ten a copy | 10,000,000 photos |
| reused | the same, and of nine in ten the vector is published, in files of 16,000 | 10,000,000 photos |
| checks | `measure.measure` over staged vectors of 2,048 numbers | 100,000 vectors |
| short | the same over vectors of 64 numbers | 10,000,000 vectors |
| spread | the same by Spark tasks | 10,000,000 vectors |
| units | `contexts.spread` of work units that do nothing, a task each, on two cores | 10,000 units |
| publish | a manifest of so many staged files written and read, and `Replacement.commit` of them | 100,000 files |

Each measurement is a fresh process. Memory is by how much its peak grows; `units` and `spread` tell the size of the JVM
too. `cpu_s`: processor time of the process, which other work on the machine changes least. Linux.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import psutil
import pyarrow as pa

from benchmarks.places import ROOT
from spark_apps import contract
from spark_apps.contract import StagedFile
from spark_apps.pipeline import intake, landing, measure, plan
from spark_apps.pipeline.finished import Finished
from spark_apps.pipeline.records import TaskRecord
from spark_apps.spark import contexts, jobs, spreading
from spark_apps.storage import listing as source_listing
from spark_apps.tables import commits, schemas, staging

LARGE = (100_000, 1_000_000, 10_000_000)
SIZES = {
    "listing": (10_000, 100_000, 1_000_000),
    "objects": LARGE,
    "resumed": LARGE,
    "plan": LARGE,
    "reused": LARGE,
    "checks": (1_000, 10_000, 100_000),
    "short": LARGE,
    "spread": LARGE,
    "units": (100, 1_000, 10_000),
    "publish": (1_000, 10_000, 100_000),
}
PHOTOS_PER_GROUP = 160
"""A row group of 16 MiB holds so many photos of 100 kB."""
GROUPS_PER_FILE = 8
COPIES = 10
"""One photo in so many is a copy of another."""
PUBLISHED_ROWS = 16_000
"""Vectors of 2,048 numbers in a file of 128 MiB."""
DIM, SHORT = 2048, 64


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
    return _listed(str(folder / "source"), folder, size)


def objects(size: int, folder: Path, read_before: float = 0) -> dict[str, float]:
    """Lists names that no store has been asked for, of a thousand folders by turns, as photos of 100 kB."""

    def found(*_: Any) -> Iterator[source_listing.Row]:
        for number in range(size):
            yield _name(number), 100_000 + number % 1000, TAKEN

    def earlier() -> Iterator[Finished]:
        for begin in range(0, int(size * read_before), 1280):
            rows = [(_name(number), 100_000 + number % 1000, TAKEN) for number in range(begin, begin + 1280)]
            table = pa.table([pa.array(column) for column in zip(*rows, strict=True)], landing.LISTING.names)
            file = StagedFile(f"data/d1/r/a/{begin:08}.parquet", 128 * 2**20, 1280, (160,) * 8)
            yield Finished(TaskRecord({"images": [file]}), table.cast(landing.LISTING))

    with patch.object(source_listing, "files", found):
        return _listed("s3://bucket/landing", folder, size, earlier())


def resumed(size: int, folder: Path) -> dict[str, float]:
    """The same, and what is read already is told from the rest."""
    return objects(size, folder, 0.9)


TAKEN = datetime(2026, 11, 22, 12, tzinfo=UTC)


def _name(number: int) -> str:
    return f"s3://bucket/landing/2026-11-22/camera-{number % 1000:03}/IMG_{number:08}.jpg"


def _listed(source: str, folder: Path, size: int, earlier: Iterable[Finished] = ()) -> dict[str, float]:
    settings = contract.IngestSettings(store=str(folder / "store"), partition="d1", run_id="r", source=source)
    measured = Measured()
    found = landing.list_files(settings.source, settings.pattern)
    listed_s = measured.seconds
    division = intake.divide(settings, found, earlier, workers=32)
    result = {**measured.result(), "list_s": listed_s, "units": len(division.units), "resumed": division.resumed}
    assert found.files == size
    kept = sum(path.stat().st_size for path in Path(settings.folder).rglob("*.parquet"))
    return {**result, "kept_mb": round(kept / 1e6, 2)}


def planned(size: int, folder: Path, known: float = 0) -> dict[str, float]:
    """Plans a day of `size` staged photos."""
    settings = contract.ExtractSettings(store=str(folder), partition="d2", run_id="r")
    where = staging.folder(settings)
    files = []
    per_file = PHOTOS_PER_GROUP * GROUPS_PER_FILE
    for begin in range(0, size, per_file):
        with staging.StagedWriter(settings.store, schemas.IMAGES, where) as writer:
            for start in range(begin, min(begin + per_file, size), PHOTOS_PER_GROUP):
                writer.add_table(_images(start, min(PHOTOS_PER_GROUP, size - start)))
        files += writer.files
    if known:
        _publish_known(str(folder), int(size * known))
    measured = Measured()
    todo = plan.plan(settings, files, MODEL, FINGERPRINT)
    result = {**measured.result(), "units": len(todo.compute), "reused": todo.reused}
    assert todo.to_compute + todo.reused + todo.duplicates == size
    return result


MODEL, FINGERPRINT = "model", "0" * 16


def reused(size: int, folder: Path) -> dict[str, float]:
    """The same, and most of it was published the day before."""
    return planned(size, folder, 0.9)


def _publish_known(store: str, count: int) -> None:
    settings = contract.ExtractSettings(store=store, partition="d1", run_id="r")
    where, files = staging.folder(settings), []
    for begin in range(0, count, PUBLISHED_ROWS):
        with staging.StagedWriter(store, schemas.FEATURES, where) as writer:
            size = min(PUBLISHED_ROWS, count - begin)
            known = {"image_id": _ids(begin, size), "model_fingerprint": [FINGERPRINT] * size, "run_id": ["r"] * size}
            writer.add_table(_table(schemas.FEATURES, size, **known))
        files += writer.files
    commits.Replacement(store, "d1", MODEL, "r", {"features": files}, {}).commit()


def publish(size: int, folder: Path) -> dict[str, float]:
    """Puts down the manifest of a stage with so many files, reads it, and publishes them; they are empty."""
    settings = contract.ExtractSettings(store=str(folder), partition="d1", run_id="r")
    where = staging.folder(settings)
    below = folder / "features" / where
    below.mkdir(parents=True)
    files = [StagedFile(f"{where}/{number:016}.parquet", 10 * 2**20, 1280, (1280,)) for number in range(size)]
    for file in files:
        (folder / "features" / file.path).touch()
    measured = Measured()
    manifest = jobs.Timings().manifest("extract", settings, counts={}, staged={"features": files})
    jobs.write_manifest(settings, manifest)
    staged = jobs.read_manifest(settings, "extract").staged["features"]
    manifest_s = measured.seconds
    commits.Replacement(str(folder), "d1", MODEL, "r", {"features": staged}, {}).commit()
    log = sum(path.stat().st_size for path in (folder / "features" / "_delta_log").iterdir())
    json_kb = round(Path(settings.folder, "extract.json").stat().st_size / 1e3)
    assert staged == files
    return {**measured.result(), "manifest_s": manifest_s, "json_kb": json_kb, "log_mb": round(log / 1e6, 1)}


def checks(size: int, folder: Path, dim: int = DIM, spread: spreading.Spread = spreading.here) -> dict[str, float]:
    """Measures `size` staged vectors as validate does."""
    settings = contract.ValidateSettings(store=str(folder), partition="d1", run_id="r")
    chance, where, files = np.random.default_rng(0), staging.folder(settings), []
    per_group = staging.ROW_GROUP_BYTES // (4 * dim)
    with staging.StagedWriter(settings.store, schemas.FEATURES, where) as writer:
        for begin in range(0, size, per_group):
            writer.add_table(_features(begin, min(per_group, size - begin), chance, dim))
    files += writer.files
    measured = Measured()
    found = measure.measure(spread, measure.units({"features": files}), measure.Asked(settings.store, dim, images=size))
    result = measured.result()
    assert len(found.featured) == size
    return result


def spread(size: int, folder: Path) -> dict[str, float]:
    """Measures `size` staged vectors of 64 numbers by Spark tasks."""
    os.environ["PYSPARK_SUBMIT_ARGS"] = f"--master local[2] {contexts.BY_HAND}"
    with patch.object(spreading, "SPREAD_BYTES", 0):
        over_spark = spreading.of("scaling", 1)
    result = checks(size, folder, SHORT, over_spark)
    resident = _jvm_mb()
    contexts.context("scaling").stop()
    return {**result, "jvm_mb": resident}


def units(size: int, folder: Path) -> dict[str, float]:
    """Spreads `size` work units that do nothing; each yields a record like one of ingest's."""
    os.environ["PYSPARK_SUBMIT_ARGS"] = f"--master local[2] --driver-memory 8g {contexts.BY_HAND}"
    spark = contexts.context("scaling")
    work = [(f"{folder}/listing/{number // 64:08}.parquet", number % 64) for number in range(size)]
    contexts.spread(spark, work[:8], _nothing, 1)  # starts the workers
    measured = Measured()
    records = contexts.spread(spark, work, _nothing, 1)
    result = measured.result()
    assert len(records) == size
    resident = _jvm_mb()
    spark.stop()
    return {**result, "jvm_mb": resident}


def _jvm_mb() -> int:
    [jvm] = [child for child in psutil.Process().children(recursive=True) if child.name() == "java"]
    resident: int = jvm.memory_info().rss
    return round(resident / 1e6)


PROBES: dict[str, Callable[[int, Path], dict[str, float]]] = {
    "listing": listing,
    "objects": objects,
    "resumed": resumed,
    "plan": planned,
    "reused": reused,
    "checks": checks,
    "short": partial(checks, dim=SHORT),
    "spread": spread,
    "units": units,
    "publish": publish,
}


def _nothing(units: Iterator[tuple[str, int]]) -> Iterator[TaskRecord]:
    for uri, group in units:
        yield TaskRecord({"images": [StagedFile(f"{uri}-{group}", 128 * 2**20, 1280, (160,) * 8)]})


def _images(begin: int, count: int) -> pa.Table:
    names = [_name(number) for number in range(begin, begin + count)]
    return _table(schemas.IMAGES, count, uri=names, image_id=_ids(begin, count, COPIES), content=[b"x"] * count)


def _features(begin: int, count: int, chance: np.random.Generator, dim: int) -> pa.Table:
    names = [f"s3://bucket/landing/2026-11-22/camera-07/IMG_{begin + number:08}.jpg" for number in range(count)]
    vectors = pa.FixedSizeListArray.from_arrays(chance.random(count * dim, np.float32), dim)
    made = vectors.cast(pa.list_(pa.float32()))
    return _table(schemas.FEATURES, count, uri=names, image_id=_ids(begin, count), features=made)


def _ids(begin: int, count: int, copies: int = 0) -> list[str]:
    """Hashes as long as a sha256; of every `copies` the last is that of another photo."""
    numbers = (
        number // 2 if copies and number % copies == copies - 1 else number for number in range(begin, begin + count)
    )
    return [hashlib.sha256(b"%d" % number).hexdigest() for number in numbers]


def _table(table: schemas.Table, count: int, **known: Any) -> pa.Table:
    columns = {name: known.get(name, pa.nulls(count, kind)) for name, kind in zip(*_fields(table), strict=True)}
    return pa.table(columns, schema=table.columns)


def _fields(table: schemas.Table) -> tuple[list[str], list[pa.DataType]]:
    return table.columns.names, table.columns.types


class Measured:
    """From when it is made: seconds, seconds of a processor, and by how much the peak of this process's memory grew.
    A new peak begins by what proc(5) says of clear_refs."""

    def __init__(self) -> None:
        Path("/proc/self/clear_refs").write_text("5")
        self._before, self._cpu, self._begin = _peak_mb(), time.process_time(), time.perf_counter()

    @property
    def seconds(self) -> float:
        return round(time.perf_counter() - self._begin, 2)

    def result(self) -> dict[str, float]:
        cpu = time.process_time() - self._cpu
        return {"seconds": self.seconds, "cpu_s": round(cpu, 2), "memory_mb": round(_peak_mb() - self._before, 1)}


def _peak_mb() -> float:
    [line] = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) / 1e3


if __name__ == "__main__":
    sys.exit(main())
