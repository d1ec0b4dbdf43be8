"""A night on a real cluster: one of two workers dies in the middle of extract, and nothing is lost, doubled or told.

The Dag's own operators submit the jobs. Source and store are on S3, the credentials in an Airflow connection; the
workers' Python does not know this project, and their environment has no credentials.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import secrets
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import numpy as np
import psutil
import pytest
from PIL import Image

from spark_apps import catalog
from tests.cluster import night as script
from tests.cluster.standalone import QUICK_JAVA, Daemon, Standalone, wait_for
from tests.s3 import s3_server

REPOSITORY = Path(__file__).resolve().parents[2]
PHOTOS, DAY = 320, "2026-11-20"
SETTINGS = {"model": "resnet18", "weights": "random:0", "batch_size": 8, "recheck": 2, "max_drift": 1}
NIGHT_S = 600.0
"""For each wait. The whole night took seven minutes on two cores that had a load of twelve."""
pytestmark = pytest.mark.timeout(1800)


@dataclass
class Night:
    """What became of the night, and everything that anybody could read of it."""

    store: str
    uris: set[str]
    told: dict[str, Any]
    application: str
    dead: Daemon
    survivor: Daemon
    killed: int
    secrets: tuple[str, ...]
    pages: dict[str, str]
    command_lines: set[str]
    looks: int


@pytest.fixture(scope="module")
def night(cluster: Standalone, node_python: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Night]:
    folder = tmp_path_factory.mktemp("night")
    key, secret, token = (f"planted{secrets.token_hex(12)}" for _ in range(3))
    with s3_server() as endpoint, pytest.MonkeyPatch.context() as patch:
        storage = {
            "AWS_ACCESS_KEY_ID": key,
            "AWS_SECRET_ACCESS_KEY": secret,
            "AWS_SESSION_TOKEN": token,
            "AWS_REGION": "us-east-1",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": endpoint,
        }
        for name, value in storage.items():
            patch.setenv(name, value)  # for the look into the store; the night's own processes do not inherit it
        uris = upload_photos()
        environment = airflow(folder / "airflow", cluster, node_python, endpoint, (key, secret, token))
        watch = Watch((key, secret, token, cluster.secret))
        with watch, (cluster.folder / "task.log").open("wb") as log:
            command = [sys.executable, script.__file__, str(folder / "outcome.json"), DAY, json.dumps(SETTINGS)]
            running = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log)
            try:
                application, pages = middle_of_extract(cluster, running)
                dead, survivor = cluster.workers
                killed = dead.kill()
                assert running.wait(NIGHT_S) == 0, (cluster.folder / "task.log").read_text()[-6000:]
            finally:
                end(running)
        yield Night(
            "s3://photos/store", uris, json.loads((folder / "outcome.json").read_text()), application, dead, survivor,
            killed, watch.planted, {**pages, **cluster.pages()}, watch.seen, watch.looks,
        )  # fmt: skip


def upload_photos() -> set[str]:
    """Small photos of noise, no two alike, and an empty file."""
    client, chance = boto3.client("s3"), np.random.default_rng(0)
    client.create_bucket(Bucket="photos")
    names = [f"landing/{DAY}/{number:03d}.jpg" for number in range(PHOTOS)]
    for name in names:
        content = io.BytesIO()
        Image.fromarray(chance.integers(0, 256, (120, 160, 3), np.uint8)).save(content, "JPEG", quality=70)
        client.put_object(Bucket="photos", Key=name, Body=content.getvalue())
    client.put_object(Bucket="photos", Key=f"landing/{DAY}/empty.jpg", Body=b"")
    return {f"s3://photos/{name}" for name in names}


def airflow(
    home: Path, cluster: Standalone, python: Path, endpoint: str, credentials: tuple[str, str, str]
) -> dict[str, str]:
    """The environment of a task: the storage's credentials are in a connection and nowhere else."""
    home.mkdir()
    key, secret, token = credentials
    extra = {"endpoint_url": endpoint, "region_name": "us-east-1", "aws_session_token": token}
    connection = {"conn_type": "aws", "login": key, "password": secret, "extra": extra}
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "AWS_"))}
    return {
        **inherited,
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
        "PYTHONPATH": os.pathsep.join([str(REPOSITORY), str(REPOSITORY / "plugins")]),
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__IMAGE_FEATURES__STORE": "s3://photos/store",
        "AIRFLOW__IMAGE_FEATURES__SOURCE": "s3://photos/landing/{partition}",
        "AIRFLOW__IMAGE_FEATURES__STORAGE_CONN_ID": "storage",
        "AIRFLOW_CONN_STORAGE": json.dumps(connection),
        "AIRFLOW_CONN_SPARK_DEFAULT": json.dumps({"conn_type": "spark", "host": cluster.master}),
        "SPARK_CONF_DIR": str(cluster.conf),
        "SPARK_LOCAL_IP": "127.0.0.1",
        "PYSPARK_PYTHON": str(python),
        **QUICK_JAVA,
    }


def middle_of_extract(cluster: Standalone, running: subprocess.Popen[bytes]) -> tuple[str, dict[str, str]]:
    """Waits until each executor has finished a task of extract and one is still at it; the pages of just before."""

    def begun() -> str | None:
        assert running.poll() is None, (cluster.folder / "task.log").read_text()[-6000:]
        return cluster.application("image-features extract")

    application = wait_for(begun, NIGHT_S, "extract")
    about = f"applications/{application}"

    def executors() -> list[dict[str, Any]]:
        assert running.poll() is None, (cluster.folder / "task.log").read_text()[-6000:]
        with contextlib.suppress(OSError, ValueError):  # a driver that is busy may take longer than one waits
            found = [item for item in cluster.ask(f"{about}/allexecutors") if item["id"] != "driver"]
            return found if len(found) == 2 else []
        return []

    wait_for(executors, NIGHT_S, "both executors")
    pages = {
        path: cluster.page(f"http://127.0.0.1:{cluster.ui_port}/{path}")
        for path in ("environment/", "executors/", f"api/v1/{about}/environment")
    }  # before the moment, which they would let pass

    def at_work() -> bool:
        return min((item["completedTasks"] for item in executors()), default=0) > 0

    wait_for(at_work, NIGHT_S, "a task of each executor")
    return application, pages


class Watch(threading.Thread):
    """Looks for planted texts on every command line of the machine, for as long as it is entered."""

    def __init__(self, planted: tuple[str, ...]) -> None:
        super().__init__(daemon=True)
        self.planted, self.seen, self.looks = planted, set[str](), 0
        self._over = threading.Event()

    def run(self) -> None:
        while not self._over.wait(0.2):
            self.looks += 1
            for process in Path("/proc").glob("[0-9]*/cmdline"):
                with contextlib.suppress(OSError):
                    line = process.read_bytes().decode(errors="replace")
                    self.seen |= {text for text in self.planted if text in line}

    def __enter__(self) -> Watch:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self.join()


def end(running: subprocess.Popen[bytes]) -> None:
    if running.poll() is None:
        family = psutil.Process(running.pid).children(recursive=True)
        running.kill()
        for process in family:
            process.kill()
    running.wait()


def test_nothing_is_lost_or_doubled(night: Night) -> None:
    [published] = catalog.partitions(night.store)
    assert (published.partition, published.rows, published.run_id) == (DAY, PHOTOS, script.RUN_ID)
    vectors = catalog.vectors(night.store, DAY, "resnet18-random_0-fp32", ["uri", "image_id"])
    assert set(vectors["uri"].to_pylist()) == night.uris
    assert vectors.num_rows == len(set(vectors["image_id"].to_pylist())) == PHOTOS
    assert catalog.quarantine(night.store, DAY)["error_code"].to_pylist() == ["empty"]
    report = catalog.report(night.store, DAY, script.RUN_ID)
    assert report is not None
    assert report["verdict"] == "published"


def test_the_operators_read_what_the_jobs_counted(night: Night) -> None:
    assert night.told["ingest"]["counts"] == {"listed": PHOTOS + 1, "accepted": PHOTOS, "quarantined": 1, "resumed": 0}
    assert night.told["extract"]["counts"]["computed"] == PHOTOS
    assert night.told["validate"]["counts"]["featured"] == PHOTOS


def test_both_executors_took_part_until_one_was_killed(night: Night, cluster: Standalone) -> None:
    [victim] = cluster.executors(night.dead, night.application)
    by_executor: dict[str, int] = {}
    removed, after = set(), 0
    for event in cluster.events_of(night.application):
        if event["Event"] == "SparkListenerExecutorRemoved":
            removed.add(event["Executor ID"])
        if event["Event"] == "SparkListenerTaskEnd" and event["Task End Reason"]["Reason"] == "Success":
            executor = event["Task Info"]["Executor ID"]
            by_executor[executor] = by_executor.get(executor, 0) + 1
            after += bool(removed)
    assert removed == {victim}
    assert night.killed >= 3, "the worker, its executor and its Python"
    assert len(by_executor) == 2 and by_executor[victim] >= 1
    assert after >= 1, "the job still had work to do when the worker died"


def test_no_secret_is_told(night: Night, cluster: Standalone) -> None:
    shown = {**night.pages, **{stage: json.dumps(told) for stage, told in night.told.items()}}
    readable = [path for path in cluster.folder.rglob("*") if path.is_file() and path.parent != cluster.conf]
    shown |= {str(path): path.read_bytes().decode(errors="replace") for path in readable}
    client = boto3.client("s3")
    for item in client.list_objects_v2(Bucket="photos", Prefix="store/runs/")["Contents"]:
        body = client.get_object(Bucket="photos", Key=item["Key"])["Body"].read()
        shown[item["Key"]] = body.decode(errors="replace")
    for part in ("environment/", "task.log", "worker-0.log", "stderr", "extract.json", "app-"):
        assert [name for name in shown if part in name], f"{part} should be among what is looked through"
    assert "spark.authenticate.secret" in shown["environment/"], "the page has the name, and stars for the value"
    told = {(name, number) for name, text in shown.items() for number, word in enumerate(night.secrets) if word in text}
    assert told == set()
    assert night.command_lines == set()
    assert night.looks > 50


def test_only_the_owner_can_read_the_cluster_s_secret(cluster: Standalone) -> None:
    assert cluster.secret in (cluster.conf / "spark-defaults.conf").read_text()
    assert (cluster.conf / "spark-defaults.conf").stat().st_mode & 0o077 == 0


def test_the_workers_python_does_not_know_the_project(bare_python: Path, node_python: Path, tmp_path: Path) -> None:
    names = ("spark_apps", "image_features", "pyspark", "airflow", "torch", "torchvision", "psutil", "numpy")
    code = f"from importlib.util import find_spec; print([name for name in {names} if find_spec(name)])"
    path = {"PATH": f"{bare_python.parent}:{os.environ['PATH']}"}
    done = subprocess.run([str(node_python), "-c", code], cwd=tmp_path, env=path, capture_output=True, text=True)
    assert done.stdout.strip() == "['numpy']", done.stderr
