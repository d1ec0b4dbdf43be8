"""A job that was killed near its end is run again: what its tasks had finished is not done twice, and none is lost."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import boto3
import numpy as np
import pytest
from PIL import Image
from pyarrow import fs

from spark_apps import catalog, contract, storage
from spark_apps.contract import ExtractSettings, IngestSettings, Manifest
from spark_apps.extract import extract
from spark_apps.ingest import ingest
from spark_apps.pipeline import compute
from spark_apps.pipeline.compute import TaskSlot
from spark_apps.spark import contexts
from spark_apps.spark.jobs import Timings, write_manifest
from spark_apps.tables import staging
from tests.faults.day import PARTITION
from tests.faults.jobs import REPOSITORY, Job
from tests.s3 import s3_server

PHOTOS = 60
KEY = "resnet18-random_0-fp32"


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Tiny photos, each another one, with a last one that takes a while to decode; and two files that are none."""
    landing = tmp_path_factory.mktemp("landing")
    folder = landing / PARTITION
    folder.mkdir()
    chance = np.random.default_rng(0)
    Image.new("RGB", (9000, 9000)).save(folder / "large.png")
    for number in range(PHOTOS - 1):
        Image.fromarray(chance.integers(0, 255, (48, 64, 3), np.uint8)).save(folder / f"{number:02}.png")
    (folder / "00 empty.png").touch()
    (folder / "00 notes.png").write_text("no photo")
    return f"{landing}/{{partition}}"


def records(store: str, stage: str) -> list[dict[str, Any]]:
    """What the tasks of attempts at a stage have left so far."""
    filesystem, root = storage.filesystem(staging.unfinished(contract.run_folder(store, PARTITION, "r"), stage))
    found = filesystem.get_file_info(fs.FileSelector(root, recursive=True, allow_not_found=True))
    names = [info.path for info in found if info.path.endswith(".json") and not info.base_name.startswith((".", "att"))]
    return [json.loads(filesystem.open_input_stream(name).read()) for name in names]


KILL = """
import glob, os, signal
from spark_apps.pipeline import resume
keep = resume.keep

def keep_and_kill(settings, stage, *more):
    kept = keep(settings, stage, *more)
    root = resume.staging.unfinished(settings.folder, stage)
    if len(glob.glob(os.path.join(glob.escape(root), "*", 16 * "[0-9a-f]" + ".json"))) >= {tasks}:
        os.killpg(os.getsid(0), signal.SIGKILL)
        os.killpg(0, signal.SIGKILL)  # Spark's daemon has made its workers a group of their own
    return kept

resume.keep = keep_and_kill
"""
"""The task that leaves the last of so many records kills the whole job: who looks from outside may come too late."""


def killed(stage: str, store: str, tasks: int, **common: Any) -> list[dict[str, Any]]:
    """Runs a job, all of which is killed when so many of its tasks have left a record; what they say."""
    hook = Path(common["logs"]) / stage / "sitecustomize.py"
    hook.parent.mkdir()
    hook.write_text(KILL.format(tasks=tasks))
    paths = os.pathsep.join([str(hook.parent), str(REPOSITORY)])
    job = Job(stage, "r", store, environment={"PYTHONPATH": paths}, **common)
    assert job.wait() == -signal.SIGKILL, job.last_words
    job.gone()
    return records(store, stage)


def finished(job: Job, store: str) -> Manifest:
    assert job.wait() == 0, job.last_words
    found = catalog.manifest(store, PARTITION, "r", job.stage)
    assert found is not None
    assert not records(store, job.stage), "nothing is left to resume"
    return found


def whole(store: str) -> None:
    """The published day: every file once."""
    featured = catalog.vectors(store, PARTITION, KEY)["uri"].to_pylist()
    refused = catalog.quarantine(store, PARTITION)["uri"].to_pylist()
    assert (len(featured), len(set(featured)), len(refused)) == (PHOTOS, PHOTOS, 2)


def test_a_day_that_is_killed_near_the_end_of_each_stage(source: str, tmp_path: Path) -> None:
    """Whatever had a record is resumed, and nothing else."""
    store = str(tmp_path / "store")

    def job(stage: str) -> Job:
        return Job(stage, "r", store, logs=tmp_path, source=source)

    left = killed("ingest", store, 2, logs=tmp_path, source=source)
    read = sum(file["rows"] for record in left for file in record["staged"]["images"])
    ingested = finished(job("ingest"), store)
    resumed = ingested.counts["resumed"]
    assert ingested.counts == {"listed": PHOTOS + 2, "accepted": PHOTOS, "quarantined": 2, "resumed": resumed}
    assert resumed == read > 0

    left = killed("extract", store, 6, logs=tmp_path, source=source)
    computed = sum(record["computed"] for record in left)
    again = job("extract")
    extracted = finished(again, store)
    resumed = extracted.counts["resumed"]
    assert resumed == computed > PHOTOS / 2
    assert extracted.counts["computed"] == PHOTOS - resumed > 0
    assert f"{resumed:,} resumed in " in again.last_words
    assert job("validate").wait() == 0
    whole(store)


LENGTHS = """
import numpy as np
from spark_apps.extractors import Extractor

class Lengths(Extractor):
    name, dim = "lengths", 2

    def extract(self, items):
        return np.array([[len(item), 1] for item in items], np.float32)
"""


class Died(Exception):
    """What ends an attempt in the middle."""


def in_this_process(monkeypatch: pytest.MonkeyPatch, lives: int) -> None:
    """Tasks are done here, one after another, and the job dies when so many of them are done."""

    def spread(_: object, units: Sequence[Any], work: Callable[[Iterator[Any]], Iterator[Any]], largest: int) -> Any:
        records: list[Any] = []
        for share in contexts.shared_out(units, 2, largest):
            if len(records) == lives:
                raise Died
            records += work(iter(share))
        return records

    slot = TaskSlot(None, 1, careful=False, number=0)
    monkeypatch.setattr(contexts, "context", lambda *_: SimpleNamespace(addPyFile=str))
    monkeypatch.setattr(contexts, "parallelism", lambda _: 2)
    monkeypatch.setattr(contexts, "ship", lambda *_: None)
    monkeypatch.setattr(contexts, "spread", spread)
    monkeypatch.setattr(compute, "slot_of_task", lambda: slot)


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    with s3_server() as endpoint:
        for name, value in {
            "AWS_ENDPOINT_URL": endpoint,
            "AWS_ACCESS_KEY_ID": "somebody",
            "AWS_SECRET_ACCESS_KEY": "a secret",
            "AWS_REGION": "us-east-1",
        }.items():
            monkeypatch.setenv(name, value)
        boto3.client("s3", region_name="us-east-1").create_bucket(Bucket="photos")
        yield "s3://photos/store"


@pytest.mark.parametrize("content", ["keep", "reference"])
def test_a_store_on_s3_resumes_too(
    bucket: str, source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str
) -> None:
    module = tmp_path / "lengths.py"
    module.write_text(LENGTHS)
    common: dict[str, Any] = {"store": bucket, "partition": PARTITION, "run_id": "r", "extractor": f"{module}:Lengths"}
    jobs: dict[str, tuple[Callable[..., Manifest], Any]] = {
        "ingest": (ingest, IngestSettings(source=source, content=content, **common)),
        "extract": (extract, ExtractSettings(**common)),
    }
    for stage, (job, settings) in jobs.items():
        in_this_process(monkeypatch, lives=3)
        with pytest.raises(Died):
            job(settings, Timings())
        left = records(bucket, stage)
        assert len(left) == 3
        in_this_process(monkeypatch, lives=100)
        manifest = job(settings, Timings())
        write_manifest(settings, manifest)
        own = "images" if stage == "ingest" else "features"
        rows = sum(file["rows"] for record in left for file in record["staged"][own])
        assert manifest.counts["resumed"] == rows > 0
        assert not records(bucket, stage)
    assert manifest.counts["featured"] == manifest.counts["computed"] + manifest.counts["resumed"] == PHOTOS + 1
