"""The example any_submitter in a real Airflow: a plain shell starts the three jobs, and StageSensor tells of them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from PIL import Image
from skimage import data

from demo.airflow_client import FINISHED
from demo.airflow_server import AirflowServer
from spark_apps import catalog, contract
from tests.airflow.test_landing_sensor import until

pytestmark = pytest.mark.timeout(1200)

REPO = Path(__file__).resolve().parents[2]
CONSUMER = """
from airflow.sdk import DAG
from airflow.providers.standard.operators.empty import EmptyOperator
from image_features import assets

with DAG("consumer", schedule=[assets.features("resnet18-random_0-fp32")]):
    EmptyOperator(task_id="use")
"""
PATH = "/api/v2/dags/any_submitter/dagRuns"


@pytest.fixture(scope="module")
def landing(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A day of photos, a day of which most are empty, and a day with nothing in it."""
    folder = tmp_path_factory.mktemp("landing")
    for day in ("good", "bad", "nothing"):
        (folder / day).mkdir()
    for name in ("coffee", "chelsea", "rocket"):
        Image.fromarray(getattr(data, name)()).save(folder / "good" / f"{name}.jpg")
        (folder / "bad" / f"{name}.jpg").touch()
    (folder / "good" / "empty.jpg").touch()
    Image.fromarray(data.coffee()).save(folder / "bad" / "one.jpg")
    return folder


@pytest.fixture(scope="module")
def airflow(landing: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[AirflowServer]:
    bundle = {"classpath": "airflow.dag_processing.bundles.local.LocalDagBundle"}
    dags = tmp_path_factory.mktemp("dags")
    (dags / "consumer.py").write_text(CONSUMER)
    shutil.copy(REPO / "example_dags" / "any_submitter.py", dags)
    bundles = [{"name": "dags-folder", "kwargs": {}}, {"name": "examples", "kwargs": {"path": str(dags)}}]
    env = {
        "AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST": json.dumps([{**bundle, **one} for one in bundles]),
    }
    home, store = tmp_path_factory.mktemp("airflow"), str(tmp_path_factory.mktemp("store"))
    with AirflowServer(home, store=store, source=f"{landing}/{{partition}}", env=env) as server:
        wanted = {"any_submitter", "consumer"}
        until(lambda: wanted <= {dag["dag_id"] for dag in server.api("GET", "/api/v2/dags")["dags"]}, True)
        yield server


def trigger(airflow: AirflowServer, partition: str, **conf: Any) -> str:
    body = {"conf": {"partition": partition, **conf}, "logical_date": None}
    return str(airflow.api("POST", PATH, body)["dag_run_id"])


def ended(airflow: AirflowServer, run_id: str) -> str:
    run = f"{PATH}/{quote(run_id)}"
    until(lambda: airflow.api("GET", run)["state"] in FINISHED, True, 400)
    return str(airflow.api("GET", run)["state"])


def tasks(airflow: AirflowServer, run_id: str) -> dict[str, Any]:
    found = airflow.api("GET", f"{PATH}/{quote(run_id)}/taskInstances")["task_instances"]
    return {one["task_id"]: one["state"] for one in found}


def log(airflow: AirflowServer, run_id: str, task: str, attempt: int = 1) -> str:
    path = f"{PATH}/{quote(run_id)}/taskInstances/{task}/logs/{attempt}?full_content=true"
    return json.dumps(airflow.api("GET", path)["content"])


def xcom(airflow: AirflowServer, run_id: str, task: str, key: str = "return_value") -> Any:
    path = f"{PATH}/{quote(run_id)}/taskInstances/{task}/xcomEntries/{key}?deserialize=true"
    return airflow.api("GET", path)["value"]


def manifest(airflow: AirflowServer, run_id: str, stage: str) -> contract.Manifest:
    found = catalog.manifest(airflow.store, "good", contract.RunKey(run_id, "any_submitter"), stage)
    assert found is not None
    return found


def test_each_sensor_ends_as_the_operator_of_its_stage_would(airflow: AirflowServer) -> None:
    run_ids = {
        "good": trigger(airflow, "good"),
        "bad": trigger(airflow, "bad"),
        "nothing": trigger(airflow, "nothing", on_empty="skip"),
        "wrong": trigger(airflow, "nothing"),
    }
    states = {name: ended(airflow, run_id) for name, run_id in run_ids.items()}
    seen = {name: tasks(airflow, run_id) for name, run_id in run_ids.items()}
    for name, state in {"good": "success", "bad": "failed", "nothing": "success", "wrong": "failed"}.items():
        failed = [task for task, one in seen[name].items() if one == "failed"]
        assert states[name] == state, "".join(log(airflow, run_ids[name], task)[-3000:] for task in failed)

    good = run_ids["good"]
    for stage in contract.STAGES:
        assert xcom(airflow, good, stage) == manifest(airflow, good, stage).counts
        told = xcom(airflow, good, stage, "image_features")
        assert (told["store"], told["partition"], told["stage"]) == (airflow.store, "good", stage)
        links = airflow.api("GET", f"{PATH}/{quote(good)}/taskInstances/{stage}/links")["extra_links"]
        assert links["Report"].endswith(f"/runs/{quote(good, safe='')}/plugin/image-features-run")
    assert manifest(airflow, good, "validate").counts["featured"] == 3

    events = airflow.api("GET", "/api/v2/assets/events?limit=100")["asset_events"]
    told = [event["extra"] for event in events if event["extra"]["run_id"] == good]
    assert told and {(one["partition"], one["rows"], one["verdict"]) for one in told} == {
        ("good", 3, "published_with_warnings")
    }

    assert tasks(airflow, run_ids["bad"])["validate"] == "failed"
    assert "validate failed: " in log(airflow, run_ids["bad"], "validate")
    assert tasks(airflow, run_ids["nothing"])["ingest"] == "skipped"
    assert tasks(airflow, run_ids["wrong"])["ingest"] == "failed"
    assert "has no files that match" in log(airflow, run_ids["wrong"], "ingest")

    # The same run again: what its first try has left in the store does not count.
    before = {stage: manifest(airflow, good, stage).settings["submission"] for stage in contract.STAGES}
    airflow.api("POST", f"{PATH}/{quote(good)}/clear", {"dry_run": False})
    until(lambda: airflow.api("GET", f"{PATH}/{quote(good)}")["state"] in ("queued", "running"), True)
    assert ended(airflow, good) == "success"
    for stage in contract.STAGES:
        found = manifest(airflow, good, stage)
        arguments = xcom(airflow, good, f"{stage}_job")["arguments"]
        assert found.settings["submission"] == arguments[arguments.index("--submission") + 1] != before[stage]
        assert xcom(airflow, good, stage) == found.counts
    (published,) = catalog.partitions(airflow.store)
    assert (published.partition, published.rows) == ("good", 3)
