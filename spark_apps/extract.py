"""Extract: one feature vector per photo, by a pretrained model that every Python worker loads once.

The driver resolves and verifies the weights and ships one artefact; tasks read staged images, decode, infer and write
staged features. Image bytes and vectors never cross the JVM. Vectors that are already known are copied.
"""

from __future__ import annotations

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from spark_apps import contract, guard, model, plan, progress, runtime, storage, store
from spark_apps.contract import ExtractSettings, Manifest
from spark_apps.imaging import BadImage, Preprocessing
from spark_apps.model import worker

UNITS_PER_TASK = 8
"""Row groups that a task works through on a large day, so that batches stay full and start-up is paid rarely."""
COPIED_BY_DRIVER = 5_000
COMPUTED_BY_DRIVER = 8
"""A re-run that copies at most so many known vectors, and computes at most so many photos, is done by the driver alone:
that takes a second or two, a Spark session takes longer to start. So an unchanged day is quick to run again, although
its broken photos, of which nothing is known but that they were broken, are tried again."""
TASKS_PER_WORKER = 4
"""Tasks that a worker gets at least, as far as there are row groups, so that all finish at about the same time."""


@dataclass(frozen=True)
class TaskPlan:
    """What every task of a run needs to know. `folder`: where it stages, relative to a table."""

    settings: ExtractSettings
    info: dict[str, Any]
    folder: str
    notes: str
    max_pixels: int


@dataclass(frozen=True)
class Place:
    """Where a share of the work runs. `folder`: of the model's files; `careful`: decode in a guarded child process."""

    folder: Path
    threads: int
    careful: bool
    number: int


def extract(settings: ExtractSettings, timings: runtime.Timings) -> Manifest:
    """Stages the features of one partition, and a quarantine row for every photo that gives none.

    Raises:
        BadSetting: ingest has not finished, or the model cannot be had as asked for.
        Unreachable: the store or the weights cannot be reached.
    """
    ingested = runtime.read_manifest(settings, "ingest")
    here = runtime.on_this_machine()
    with timings.phase("model"):
        artifact = model.prepare(model.ModelSpec.of(settings), here=here)
    with timings.phase("plan"):
        todo = plan.plan(settings, ingested.staged["images"], artifact.key, artifact.fingerprint)
    keep_artifact(settings.store, artifact)
    with store.staging(settings) as folder, progress.watching(settings, "extract", todo.to_compute) as notes:
        shared = TaskPlan(settings, artifact.info, folder, notes, ingested.settings["max_pixels"])
        compute, copy = partial(compute_units, shared=shared), partial(copy_units, shared=shared)
        if 0 < todo.reused <= COPIED_BY_DRIVER and todo.to_compute <= COMPUTED_BY_DRIVER and here:
            with timings.phase("copy"):
                records = list(copy(iter(todo.copy)))
            with timings.phase("compute"):
                driver = Place(artifact.files[0].parent, os.cpu_count() or 1, careful=True, number=0)
                records += compute(iter(todo.compute), place=driver) if todo.compute else []
        else:
            with timings.phase("session"):
                spark = runtime.session("image-features extract")
                for file in artifact.files:
                    runtime.ship(spark.sparkContext, file)
            workers = runtime.parallelism(spark)
            with timings.phase("compute"):
                tasks = max(TASKS_PER_WORKER * workers, len(todo.compute) // UNITS_PER_TASK)
                records = runtime.spread(spark, todo.compute, compute, tasks)
            with timings.phase("copy"):
                records += runtime.spread(spark, todo.copy, copy, 2 * workers)
    codes: Counter[str] = Counter()
    for record in records:
        codes.update(record["codes"])
    staged = {name: [file for record in records for file in record[name]] for name in ("features", "quarantine")}
    return timings.manifest(
        "extract",
        settings,
        counts={
            "listed": ingested.counts["listed"],
            "accepted": ingested.counts["accepted"],
            "duplicates": todo.duplicates,
            "quarantined": codes.total(),
            "featured": sum(file["rows"] for file in staged["features"]),
            "computed": sum(record["computed"] for record in records),
            "reused": todo.reused,
        },
        quarantined=dict(codes),
        staged=staged,
        model=artifact.info,
        outcome={"model_loads": sum(record["loads"] for record in records), "ingested": vars(ingested)},
    )


def keep_artifact(store_uri: str, artifact: model.ModelArtifact) -> None:
    """Keeps the engine artefact and `model.json` in the store, where features of this fingerprint can be explained."""
    folder = contract.join(store_uri, "models", artifact.fingerprint)
    with storage.reaching("store", store_uri):
        described = contract.join(folder, "model.json")
        if storage.read_json(described) is not None:
            return
        for file in artifact.files:
            storage.write_bytes(contract.join(folder, file.name), file.read_bytes())
        storage.write_json(described, artifact.info)  # last: it says that the rest is whole


# --- in the workers ---------------------------------------------------------------------------------------------------


def place_of_task() -> Place:
    """The place of the Spark task that calls."""
    from pyspark import SparkFiles, TaskContext

    context = TaskContext.get()
    assert context is not None
    again = context.attemptNumber() > 0  # an earlier attempt died, perhaps of one of the photos
    return Place(Path(SparkFiles.getRootDirectory()), context.cpus(), again, context.partitionId())


def compute_units(
    units: Iterator[plan.ComputeUnit], shared: TaskPlan, place: Place | None = None
) -> Iterator[dict[str, Any]]:
    """The work of one task: reads, decodes and infers the photos of its units; yields what it staged."""
    place = place or place_of_task()
    info = shared.info
    preprocessing = Preprocessing(info["preprocessing"]["resize"], info["preprocessing"]["crop"])
    loads = worker.loads
    engine = worker.engine(info, place.folder, place.threads)
    ticker = progress.Ticker(shared.notes, place.number)
    with Outbox(shared) as outbox, guard.Guard(preprocessing, shared.max_pixels) as child:
        decode = child.decode if place.careful else guard.watched(preprocessing, shared.max_pixels)
        batch = Batch(shared.settings.batch_size, preprocessing.crop)
        for photo in photos(units, shared.settings.store):
            try:
                batch.add(photo, decode(photo.content))
            except BadImage as bad:
                outbox.refuse(photo, bad)
                ticker.add(0, 1)
            if batch.full:
                ticker.add(outbox.compute(engine, batch))
        ticker.add(outbox.compute(engine, batch))
        ticker.flush()
    yield {**outbox.record(), "loads": worker.loads - loads}


def copy_units(units: Iterator[plan.CopyUnit], shared: TaskPlan) -> Iterator[dict[str, Any]]:
    """The work of one task: writes known vectors again, as rows of this run; yields what it staged."""
    settings = shared.settings
    with (
        storage.reaching("store", settings.store),
        store.StagedWriter(settings.store, store.FEATURES, shared.folder) as features,
    ):
        for row in plan.copies(units, settings.store):
            features.add({**row, "run_id": settings.run_id}, 4 * len(row["features"]))
    yield {"features": features.files, "quarantine": [], "codes": {}, "computed": 0, "loads": 0}


@dataclass(frozen=True)
class Photo:
    """One distinct photo of a work unit and all the files that hold it."""

    image_id: str
    content: bytes
    uris: list[str]


def photos(units: Iterator[plan.ComputeUnit], store_uri: str) -> Iterator[Photo]:
    """The photos of `units` that are to be computed, one row group in memory at a time."""
    filesystem, root = storage.filesystem(store.IMAGES.uri(store_uri))
    for unit in units:
        with storage.reaching("store", store_uri):
            parquet = pq.ParquetFile(f"{root}/{unit.path}", filesystem=filesystem)
            rows = parquet.read_row_group(unit.row_group, columns=["uri", "image_id", "content"])
        for index, (uri, image_id, content) in enumerate(zip(*rows.columns, strict=True)):
            if index not in unit.skip:
                yield Photo(image_id.as_py(), content.as_py(), [uri.as_py(), *unit.twins.get(index, [])])


class Batch:
    """Pixels of up to `size` photos in one array, uint8 [size, crop, crop, 3], filled again and again."""

    def __init__(self, size: int, crop: int) -> None:
        self._pixels = np.empty((size, crop, crop, 3), np.uint8)
        self.photos: list[Photo] = []

    @property
    def full(self) -> bool:
        return len(self.photos) == len(self._pixels)

    @property
    def pixels(self) -> np.ndarray:
        return self._pixels[: len(self.photos)]

    def add(self, photo: Photo, pixels: np.ndarray) -> None:
        self._pixels[len(self.photos)] = pixels
        self.photos.append(photo)

    def clear(self) -> None:
        self.photos = []


class Outbox:
    """What one task hands over: rows of features and of quarantine, in staged files."""

    def __init__(self, shared: TaskPlan) -> None:
        self._info, self._run_id, self._store = shared.info, shared.settings.run_id, shared.settings.store
        self._features = store.StagedWriter(self._store, store.FEATURES, shared.folder)
        self._quarantine = store.StagedWriter(self._store, store.QUARANTINE, shared.folder)
        self._codes: Counter[str] = Counter()
        self._computed = 0

    def compute(self, engine: model.Engine, batch: Batch) -> int:
        """Infers the batch, writes a row for every file of its photos, and empties it; returns the photos done."""
        done = len(batch.photos)
        if not done:
            return 0
        outputs = engine.run(batch.pixels)
        assert outputs.logits is not None
        tops = model.labels(self._info, outputs.logits)
        with storage.reaching("store", self._store):
            for photo, vector, (label, score) in zip(batch.photos, outputs.features, tops, strict=True):
                for uri in photo.uris:
                    row = {
                        "uri": uri,
                        "image_id": photo.image_id,
                        "features": vector,
                        "model_fingerprint": self._info["fingerprint"],
                        "top1_label": label,
                        "top1_score": score,
                        "run_id": self._run_id,
                    }
                    self._features.add(row, vector.nbytes)
        self._computed += done
        batch.clear()
        return done

    def refuse(self, photo: Photo, bad: BadImage) -> None:
        """Sets aside every file of a photo that gave no pixels."""
        for uri in photo.uris:
            common = {"uri": uri, "image_id": photo.image_id, "run_id": self._run_id}
            self._codes[bad.code] += 1
            with storage.reaching("store", self._store):
                self._quarantine.add(store.quarantine_row(common, "extract", bad, len(photo.content)), 512)

    def record(self) -> dict[str, Any]:
        """The files this task staged and its counts; complete once the outbox is closed."""
        return {
            "features": self._features.files,
            "quarantine": self._quarantine.files,
            "codes": dict(self._codes),
            "computed": self._computed,
        }

    def __enter__(self) -> Outbox:
        return self

    def __exit__(self, *failure: Any) -> None:
        with storage.reaching("store", self._store):
            self._features.__exit__(*failure)
            self._quarantine.__exit__(*failure)


def main() -> int:
    return runtime.run("extract", ExtractSettings, extract, __doc__)


if __name__ == "__main__":
    from spark_apps.extract import main as entry  # workers must find the functions by this module's real name

    sys.exit(entry())
