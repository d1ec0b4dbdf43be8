"""Dags of example_dags/, run by a real Airflow as it stands there, but for the places and models that it names.

Each test starts the runs that it reads; the server is one for all.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import numpy as np
import pytest
from PIL import Image

from demo.airflow_server import AirflowServer
from spark_apps import catalog

pytestmark = pytest.mark.timeout(1800)

EXAMPLES = Path(__file__).resolve().parents[2] / "example_dags"
SMALL, LARGE = "resnet18-random_0-fp32", "resnet34-random_0-fp32"

DAY = "2026-11-21"

Run = dict[str, Any]
"""What Airflow's API says of a run, and its `tasks`: {task id, and map index where it is mapped: state}."""


@pytest.fixture(scope="module")
def landing(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two photos and a broken one."""
    folder = tmp_path_factory.mktemp("photos")
    fill(folder / DAY, 2)
    return folder


@pytest.fixture(scope="module")
def airflow(landing: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[AirflowServer]:
    """A server with the examples; what they name in capitals is set to what is small and here."""
    stores, dags = tmp_path_factory.mktemp("stores"), tmp_path_factory.mktemp("dags")
    named = {"MODEL": LARGE}
    for name in SHAPES:
        text = (EXAMPLES / f"{name}.py").read_text()
        for constant, value in named.items():
            text = re.sub(rf"^{constant} = .*", f"{constant} = {value!r}", text, flags=re.MULTILINE)
        (dags / f"{name}.py").write_text(text.replace('"resnet50"', '"resnet34"'))
    bundle = {"classpath": "airflow.dag_processing.bundles.local.LocalDagBundle"}
    bundles = [{"name": "dags-folder", "kwargs": {}}, {"name": "examples", "kwargs": {"path": str(dags)}}]
    settings = {
        "MODEL": "resnet18",
        "WEIGHTS": "random:0",
        "MAX_FAILED_FRACTION": "0.5",
        "RECHECK": "0",
    }
    env = {f"AIRFLOW__IMAGE_FEATURES__{name}": value for name, value in settings.items()}
    env["AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST"] = json.dumps([{**bundle, **one} for one in bundles])
    env["AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION"] = "True"
    env["AIRFLOW_CONN_SPARK_DEFAULT"] = json.dumps({"conn_type": "spark", "host": "local[1]"})
    home = tmp_path_factory.mktemp("airflow")
    with AirflowServer(home, store=f"{stores}/one", source=f"{landing}/{{partition}}", env=env) as server:
        until(lambda: set(SHAPES) <= {dag["dag_id"] for dag in server.api("GET", "/api/v2/dags")["dags"]})
        assert server.api("GET", "/api/v2/importErrors")["import_errors"] == []
        yield server


SHAPES: dict[str, set[str]] = {
    "two_models": {
        "image_features.ingest",
        *(f"image_features.{stage}_{model}" for stage in ("extract", "validate") for model in ("resnet18", "resnet34")),
    },
    "missing_at_six": {"look"},
}
"""Example → its tasks."""


@pytest.fixture(scope="module")
def both(airflow: AirflowServer) -> Run:
    """The run of two models, ended."""
    trigger(airflow, "two_models", logical_date="2026-11-22T09:00:00Z")
    (run,) = ended(airflow, "two_models")
    return run


def test_two_models_share_one_ingest(airflow: AirflowServer, both: Run) -> None:
    assert both["tasks"] == dict.fromkeys(SHAPES["two_models"], "success")
    found = {one.model: one for one in catalog.partitions(airflow.store) if one.partition == DAY}
    assert {model: (one.rows, one.run_id) for model, one in found.items()} == {
        SMALL: (2, both["dag_run_id"]),
        LARGE: (2, both["dag_run_id"]),
    }


def test_missing_features_raise_the_alarm(airflow: AirflowServer, both: Run) -> None:
    trigger(airflow, "missing_at_six", logical_date="2026-11-22T05:00:00Z")
    trigger(airflow, "missing_at_six", logical_date="2026-11-23T05:00:00Z")
    there, missing = ended(airflow, "missing_at_six")
    assert (there["state"], missing["state"]) == ("success", "failed")
    assert "ALARM: There are no features of 2026-11-22 yet." in log(airflow, missing, "look")


# --- what the tests share ---------------------------------------------------------------------------------------------


def fill(folder: Path, count: int) -> None:
    """`count` small photos that are not one another's, and a file that is none."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        pixels = np.random.default_rng(number).integers(0, 255, (40, 40, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    (folder / "broken.jpg").touch()


def trigger(airflow: AirflowServer, dag_id: str, conf: dict[str, Any] | None = None, **more: Any) -> None:
    airflow.api("POST", f"/api/v2/dags/{dag_id}/dagRuns", {"conf": conf or {}, "logical_date": None, **more})
    pause(airflow, False, dag_id)


def pause(airflow: AirflowServer, paused: bool, *dag_ids: str) -> None:
    for dag_id in dag_ids:
        airflow.api("PATCH", f"/api/v2/dags/{dag_id}", {"is_paused": paused})


def runs(airflow: AirflowServer, dag_id: str) -> list[Run]:
    """The runs of a Dag, the earliest first."""
    path = f"/api/v2/dags/{dag_id}/dagRuns"
    found: list[Run] = airflow.api("GET", f"{path}?{urlencode({'order_by': 'run_after', 'limit': 100})}")["dag_runs"]
    for run in found:
        tasks = airflow.api("GET", f"{path}/{quote(run['dag_run_id'])}/taskInstances")["task_instances"]
        index = {task["id"]: task["map_index"] if task["map_index"] >= 0 else "" for task in tasks}
        run["tasks"] = {f"{task['task_id']}{index[task['id']]}": task["state"] for task in tasks}
    return found


def ended(airflow: AirflowServer, dag_id: str) -> list[Run]:
    """Waits until no run of a Dag is left to run, says why tasks have failed, and pauses the Dag."""
    until(lambda: all(run["state"] in ("success", "failed") for run in runs(airflow, dag_id)), 600)
    pause(airflow, True, dag_id)
    found = runs(airflow, dag_id)
    for run in found:
        for task_id in (task_id for task_id, state in run["tasks"].items() if state == "failed"):
            print(run["dag_run_id"], task_id, log(airflow, run, task_id)[-2000:])
    return found


def log(airflow: AirflowServer, run: Run, task_id: str) -> str:
    """The log of a task that is not mapped, as JSON."""
    path = f"/api/v2/dags/{run['dag_id']}/dagRuns/{quote(run['dag_run_id'])}/taskInstances/{task_id}/logs/1"
    return json.dumps(airflow.api("GET", f"{path}?full_content=true")["content"])


def until(condition: Callable[[], bool], timeout: float = 120) -> None:
    deadline = time.monotonic() + timeout
    while not condition() and time.monotonic() < deadline:
        time.sleep(1)
