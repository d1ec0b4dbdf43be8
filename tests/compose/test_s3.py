"""The profiles `s3` and `history`: photos and results in an S3-compatible store, finished jobs in Spark's own pages.

The server is the image that S3_IMAGE names (with S3_COMMAND and S3_HEALTH), else moto's, built here: it answers like
S3, keeps everything in memory and checks no key.
"""

from __future__ import annotations

import io
import json
import os
import urllib.request
from collections.abc import Iterator

import pytest
from PIL import Image
from skimage import data

from demo import ports
from tests.compose.stack import REPOSITORY, YESTERDAY, Stack, docker, log, needs_engine, switch_on

pytestmark = pytest.mark.timeout(3600)

STORE = "s3://features/store"
MOTO = "image-features-test-moto"
UPLOAD = """
from spark_apps import storage
for name, content in photos.items():
    storage.write_bytes(f"s3://photos/{day}/{name}", content)
print(len(photos))
"""
READ = """
import json
from spark_apps import catalog
(entry,) = catalog.partitions(store)
uris = catalog.vectors(store, entry.partition, entry.model, ["uri"])["uri"].to_pylist()
print(json.dumps({"partition": entry.partition, "run_id": entry.run_id, "uris": sorted(uris)}))
"""


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """The stack with both profiles, healthy; its settings are those that `make env` writes as comments."""
    needs_engine()
    folder = tmp_path_factory.mktemp("s3")
    settings = {} if "S3_IMAGE" in os.environ else moto()
    stack = Stack(
        folder, "image-features-test-s3", AIRFLOW_PORT=str(ports.free()), SPARK_HISTORY_PORT=str(ports.free())
    )
    block = stack.env_file.read_text().partition("#COMPOSE_PROFILES=s3")[2].splitlines()
    stack.set(**dict(line.removeprefix("#").split("=", 1) for line in block if line.startswith("#")))
    stack.set(COMPOSE_PROFILES="s3,history", SPARK_EVENT_LOG="true", SPARK_WORKERS="1", WEIGHTS="random:0", **settings)
    stack.compose("build", timeout=3000)
    with stack.running(folder):
        yield stack


def moto() -> dict[str, str]:
    """The settings for moto's server, whose image is built."""
    base = ["--build-arg", f"BASE_IMAGE={os.environ['BASE_IMAGE']}"] if "BASE_IMAGE" in os.environ else []
    pip_conf = os.environ.get("PIP_CONF", str(REPOSITORY / "deploy" / "pip.conf"))
    recipe = str(REPOSITORY / "tests" / "compose" / "moto.Dockerfile")
    secret = ["--secret", f"id=pip_conf,src={pip_conf}"]
    docker("build", "--quiet", "--tag", MOTO, "--file", recipe, *base, *secret, str(REPOSITORY), timeout=1200)
    health = 'bash -c ":</dev/tcp/127.0.0.1/9000"'
    return {"S3_IMAGE": MOTO, "S3_COMMAND": "--host 0.0.0.0 --port 9000", "S3_HEALTH": f"'{health}'"}


def test_a_day_goes_from_bucket_to_bucket(stack: Stack) -> None:
    photos = {}
    for name in ("coffee", "chelsea", "rocket"):
        Image.fromarray(getattr(data, name)()).save(buffer := io.BytesIO(), "JPEG")
        photos[f"{name}.jpg"] = buffer.getvalue()
    assert stack.python(UPLOAD, photos=photos, day=YESTERDAY) == 3
    airflow = stack.airflow
    run_id = switch_on(airflow)
    run = airflow.wait([run_id], 1200)[run_id]
    assert run["state"] == "success", run
    found = stack.python(READ, store=STORE)
    log.info("published in %s: %s", STORE, found)
    assert (found["partition"], found["run_id"]) == (YESTERDAY, run_id)
    assert found["uris"] == [f"s3://photos/{YESTERDAY}/{name}" for name in sorted(photos)]


def test_the_keys_of_the_store_stay_with_those_who_need_them(stack: Stack) -> None:
    keys = [stack.settings()[name] for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")]
    for service in ("spark-worker", "spark-master", "history-server", "dag-processor"):
        assert not [key for key in keys if key in json.dumps(stack.config()["services"][service])], service
    logs = stack.compose("logs", "--no-color")
    assert logs
    assert not [key for key in keys if key in logs]


def test_the_history_server_shows_the_jobs(stack: Stack) -> None:
    url = f"http://127.0.0.1:{stack.settings()['SPARK_HISTORY_PORT']}/api/v1/applications"
    with urllib.request.urlopen(url, timeout=60) as answer:
        names = {application["name"] for application in json.load(answer)}
    log.info("the history server shows %s", sorted(names))
    assert names >= {"image-features ingest", "image-features extract"}
