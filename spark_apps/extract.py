"""Extract: one feature vector per photo, by a pretrained model that every Python worker loads once.

The driver resolves and verifies the model and ships one artefact; tasks read staged images, decode, infer and write
staged features. Image bytes and vectors never cross the JVM. Vectors that are already known are copied. Other files
than photos go the same way, with another --extractor.
"""

from __future__ import annotations

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from functools import partial

from spark_apps import extractors
from spark_apps.contract import PHOTOS, BadSetting, ExtractSettings, Manifest
from spark_apps.erasure.heeding import heeding
from spark_apps.host import cores
from spark_apps.model import ModelArtifact
from spark_apps.pipeline import plan, resume
from spark_apps.pipeline.compute import TaskPlan, TaskSlot, compute_units, copy_units
from spark_apps.pipeline.records import TaskRecord, total
from spark_apps.spark import contexts, jobs, progress, resources
from spark_apps.tables import data_files, schemas

UNITS_PER_TASK = 8
"""Row groups, or files of known vectors, that a task works through at most: what is lost when a worker dies."""
COPIED_BY_DRIVER = 5_000
COMPUTED_BY_DRIVER = 8
"""A re-run that copies at most so many known vectors, and computes at most so many photos, is done by the driver alone:
that takes a second or two, a Spark session takes longer to start. So an unchanged day is quick to run again, although
its broken photos, of which nothing is known but that they were broken, are tried again."""


def extract(settings: ExtractSettings, timings: jobs.Timings) -> Manifest:
    """Stages the features of one partition, and a quarantine row for every photo that gives none.

    Raises:
        BadSetting: ingest has not finished, or the model cannot be had as asked for.
        Unreachable: the store or the weights cannot be reached.
    """
    ingested = jobs.read_manifest(settings, "ingest")
    here = contexts.on_this_machine()
    _check_ingested(settings, ingested)
    with timings.phase("model"):
        artifact = extractors.prepare(settings, ingested, here)
    damaged: set[str] = set()
    while True:
        try:
            todo, records = _computed(settings, timings, ingested, artifact, here, damaged)
            break
        except BadSetting as error:
            damaged.add(_known_file(error, settings, damaged))
    done = total([*todo.taken, *records], ("features", "quarantine"))
    return timings.manifest(
        "extract",
        settings,
        counts={
            "listed": ingested.counts["listed"],
            "accepted": ingested.counts["accepted"],
            "duplicates": todo.duplicates,
            "quarantined": sum(done.codes.values()),
            "featured": sum(file.rows for file in done.staged["features"]),
            "computed": done.computed,
            "reused": todo.reused,
            "resumed": todo.resumed,
        },
        quarantined=done.codes,
        staged=done.staged,
        model=artifact.info,
        outcome={"model_loads": done.loads, "ingest_attempt": ingested.attempt},
    )


def _computed(
    settings: ExtractSettings,
    timings: jobs.Timings,
    ingested: Manifest,
    artifact: ModelArtifact,
    here: bool,
    damaged: set[str],
) -> tuple[plan.Plan, list[TaskRecord]]:
    """One attempt: what there was to do, and what its tasks have done. `damaged`: published files to copy nothing from.

    Raises as `extract`, and BadSetting for one more damaged file; what has been finished by then is taken over next.
    """
    with timings.phase("plan"):
        basis = resume.basis(ingest=ingested.attempt, model=artifact.key, fingerprint=artifact.fingerprint)
        earlier = resume.look(settings, "extract", basis, schemas.FEATURES, ("uri", "image_id"))
        finished = [] if settings.recompute else earlier.finished
        todo = plan.plan(settings, ingested.staged["images"], artifact.key, artifact.fingerprint, finished, damaged)
    with (
        resume.attempt(settings, "extract", basis, earlier, todo.taken) as folder,
        progress.watching(settings, "extract", todo.to_compute, todo.resumed) as notes,
    ):
        of_files = ingested.settings["max_pixels"], ingested.settings.get("within", "")
        shared = TaskPlan(settings, artifact.info, folder, notes, *of_files)
        compute, copy = partial(compute_units, shared=shared), partial(copy_units, shared=shared)
        little = todo.reused <= COPIED_BY_DRIVER and todo.to_compute <= COMPUTED_BY_DRIVER
        if little and todo.reused + todo.resumed and here:
            with timings.phase("copy"):
                records = list(copy(iter(todo.copy)))
            with timings.phase("compute"):
                driver = TaskSlot(artifact.folder, cores.available(), careful=True, number=0)
                records += compute(iter(todo.compute), slot=driver) if todo.compute else []
        else:
            with timings.phase("session"):
                on_gpu = artifact.info.device == "cuda"
                spark = contexts.context(
                    "image-features extract", partial(resources.task_settings, settings.resources, on_gpu)
                )
                for file in artifact.files:
                    contexts.ship(spark, file)
                for source in artifact.sources:
                    spark.addPyFile(str(source))
            with timings.phase("compute"):
                records = contexts.spread(spark, todo.compute, compute, UNITS_PER_TASK)
            with timings.phase("copy"):
                records += contexts.spread(spark, todo.copy, copy, UNITS_PER_TASK)
    return todo, records


def _known_file(error: BadSetting, settings: ExtractSettings, damaged: set[str]) -> str:
    """The published file that an attempt failed of: its photos are computed anew. Raises any other error again."""
    root = schemas.FEATURES.uri(settings.store) + "/"
    uri = data_files.damaged(error) or ""
    if not uri.startswith(root) or uri.removeprefix(root) in damaged:
        raise error
    print(
        f"extract {settings.partition}: {error} Until then its photos are computed anew.", file=sys.stderr, flush=True
    )
    return uri.removeprefix(root)


def _check_ingested(settings: ExtractSettings, ingested: Manifest) -> None:
    """Raises BadSetting when ingest has refused, as no photos, what this extractor is to read."""
    photos_only = ingested.settings.get("extractor", PHOTOS) == PHOTOS
    if photos_only and settings.extractor != PHOTOS:
        raise BadSetting(
            "contradiction",
            f"Ingest took only photos, but the extractor is {settings.extractor}.",
            f"Run ingest with --extractor {settings.extractor}, too.",
        )


def main() -> int:
    return jobs.run("extract", ExtractSettings, heeding(extract), __doc__)


if __name__ == "__main__":
    from spark_apps.extract import main as entry  # workers must find the functions by this module's real name

    sys.exit(entry())
