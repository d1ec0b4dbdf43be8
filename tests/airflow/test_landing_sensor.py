"""LandingSensor in a real Airflow: its triggerer waits for photos on a disk and on S3, and is itself started anew."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import boto3
import pytest

from demo.airflow_server import AirflowServer
from tests.s3 import s3_server

pytestmark = pytest.mark.timeout(600)

KEY, SECRET = "somebody", "planted-secret-0123456789"
DAG = """
from airflow.sdk import DAG, Param, task
from image_features.sensors import LandingSensor

with DAG("waits", schedule=None, params={"partition": Param(None, type=["null", "string"])}):
    quick = {"settle": "2 seconds", "poke_interval": 0.5, "timeout": 240}
    by_marker = LandingSensor(task_id="by_marker", marker="_SUCCESS", poke_interval=0.5, timeout=240)
    by_rest = LandingSensor(task_id="by_rest", **quick)
    on_s3 = LandingSensor(
        task_id="on_s3", source="s3://photos/{partition}", marker="*.ok", storage_conn_id="photo_store",
        poke_interval=0.5, timeout=240,
    )
    LandingSensor.partial(task_id="several", **quick).expand(partition=["d1", "d2"])
    LandingSensor(task_id="late", marker="never", timeout=1, poke_interval=0.5, retries=3)
    LandingSensor(task_id="late_and_skipped", marker="never", timeout=1, poke_interval=0.5, soft_fail=True)
    LandingSensor(task_id="elsewhere", source="/etc", retries=3)
    LandingSensor(
        task_id="no_bucket", source="s3://no-such-bucket/{partition}", storage_conn_id="photo_store", retries=3
    )
"""


@pytest.fixture(scope="module")
def s3() -> Iterator[tuple[str, Any]]:
    with s3_server() as endpoint:
        client = boto3.client(
            "s3", endpoint_url=endpoint, region_name="us-east-1", aws_access_key_id=KEY, aws_secret_access_key=SECRET
        )
        client.create_bucket(Bucket="photos")
        yield endpoint, client


@pytest.fixture(scope="module")
def landing(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("landing")
    for day in ("d1", "d2"):
        (folder / day).mkdir()
        (folder / day / "one.jpg").write_bytes(b"12345")
    return folder


@pytest.fixture(scope="module")
def airflow(s3: tuple[str, Any], landing: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[AirflowServer]:
    dags = tmp_path_factory.mktemp("dags")
    (dags / "waits.py").write_text(DAG)
    bundle = {"classpath": "airflow.dag_processing.bundles.local.LocalDagBundle"}
    bundles = [{"name": "dags-folder", "kwargs": {}}, {"name": "more", "kwargs": {"path": str(dags)}}]
    extra = {"endpoint_url": s3[0], "region_name": "us-east-1"}
    env = {
        "AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST": json.dumps([{**bundle, **one} for one in bundles]),
        "AIRFLOW__IMAGE_FEATURES__SOURCES": "s3://photos/{partition},s3://no-such-bucket/{partition}",
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    home, store = tmp_path_factory.mktemp("airflow"), str(tmp_path_factory.mktemp("store"))
    with AirflowServer(home, store=store, source=f"{landing}/{{partition}}", env=env) as server:
        connection = {"connection_id": "photo_store", "conn_type": "aws", "login": KEY, "password": SECRET}
        server.api("POST", "/api/v2/connections", {**connection, "extra": json.dumps(extra)})
        until(lambda: "waits" in {dag["dag_id"] for dag in server.api("GET", "/api/v2/dags")["dags"]}, True)
        yield server


def test_it_waits_in_the_triggerer_until_the_photos_are_there(
    airflow: AirflowServer, landing: Path, s3: tuple[str, Any]
) -> None:
    path = "/api/v2/dags/waits/dagRuns"
    run_id = airflow.api("POST", path, {"conf": {"partition": "d1"}, "logical_date": None})["dag_run_id"]
    path = f"{path}/{quote(run_id)}"

    def states() -> dict[str, Any]:
        found = airflow.api("GET", f"{path}/taskInstances")["task_instances"]
        return {f"{one['task_id']}{one['map_index'] if one['map_index'] >= 0 else ''}": one["state"] for one in found}

    def log(task: str, attempt: int = 1) -> str:
        answer = airflow.api("GET", f"{path}/taskInstances/{task}/logs/{attempt}?full_content=true")["content"]
        return json.dumps(answer)

    def returned(task: str) -> Any:
        return airflow.api("GET", f"{path}/taskInstances/{task}/xcomEntries/return_value?deserialize=true")["value"]

    # What is late or refused ends; what waits for a marker is deferred, and holds no slot.
    ended = {
        "by_rest": "success", "several0": "success", "several1": "success", "late": "failed",
        "late_and_skipped": "skipped", "elsewhere": "failed", "no_bucket": "failed",
    }  # fmt: skip
    until(states, {**ended, "by_marker": "deferred", "on_s3": "deferred"})
    assert returned("by_rest") | {"newest": None} == {
        "partition": "d1", "source": f"{landing}/d1", "files": 1, "bytes": 5, "newest": None,
    }  # fmt: skip
    assert "holds 1 file of 5 bytes" in log("by_rest")
    for task, words in {
        "late": "There is no never in",
        "late_and_skipped": "There is no never in",
        "elsewhere": "'/etc' is not allowed in this Airflow",
        "no_bucket": "is in no bucket that is there",
    }.items():
        assert words in log(task), task
    tries = {one["task_id"]: one["try_number"] for one in airflow.api("GET", f"{path}/taskInstances")["task_instances"]}
    assert tries["late"] == tries["elsewhere"] == tries["no_bucket"] == 1, "no retry makes any of them right"

    # What waits is in Airflow's database: a triggerer that is started anew takes it up.
    airflow.stop()
    airflow.start()
    assert states()["on_s3"] == states()["by_marker"] == "deferred"

    (landing / "d1" / "_SUCCESS").touch()
    s3[1].put_object(Bucket="photos", Key="d1/all.ok", Body=b"")
    until(states, {**ended, "by_marker": "success", "on_s3": "success"})
    assert returned("by_marker") == {"partition": "d1", "source": f"{landing}/d1", "marker": "_SUCCESS"}
    assert returned("on_s3") == {"partition": "d1", "source": "s3://photos/d1", "marker": "all.ok"}
    assert not [task for task in states() if not task.startswith("several") and SECRET in log(task)]


def until(found: Callable[[], Any], expected: Any, timeout: float = 240) -> None:
    """Waits until `found()` is `expected`; what it was last is part of the failure."""
    deadline = time.monotonic() + timeout
    while (last := found()) != expected and time.monotonic() < deadline:
        time.sleep(1)
    assert last == expected
