"""Every Dag of example_dags/, run by a real Airflow as it stands there, but for the places and models that it names.

Each test starts the runs that it reads; the server is one for all. Of the Dags only those that are being run are not
paused: while the tasks of others run, SQLite is locked too often for Airflow to create a backfill.
"""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import numpy as np
import pyarrow.compute as pc
import pytest
from PIL import Image

from demo.airflow_server import AirflowServer
from spark_apps import catalog
from spark_apps.search import open_index
from tests.airflow import loopback
from tests.airflow.scheduling import environment, scheduling, until

pytestmark = [pytest.mark.timeout(1800), pytest.mark.examples]

EXAMPLES = Path(__file__).resolve().parents[2] / "example_dags"
(COMMAND,) = re.findall(r"airflow backfill .*", (EXAMPLES / "hours_in_berlin.py").read_text())
BACKFILL = f"{COMMAND.partition('--from-date')[0]}--from-date {{}} --to-date {{}}"
RUN_ELSEWHERE = {"any_submitter"}
"""The examples that other tests run."""
BESIDE_ANOTHER = {"by_six"}
"""Dags that are in the file of another."""
OF_LARGE = ["image_features.extract_resnet34", "image_features.validate_resnet34"]
SMALL, LARGE = "resnet18-random_0-fp32", "resnet34-random_0-fp32"

DAYS = ["2026-03-29", "2026-10-25", "2026-10-26"]
HOURS_OF_MARCH = ["2026-03-29T01_0100", "2026-03-29T03_0200"]
HOURS_OF_OCTOBER = ["2026-10-25T02_0200", "2026-10-25T02_0100"]
EMPTY_HOURS = ["2026-10-25T01_0200", "2026-10-25T03_0100"]
LANDED, CAMERAS, DAY = "2026-11-20", ["gate", "north", "south"], "2026-11-21"
WARNED, REJECTED = "2026-11-24", "2026-11-25"

Run = dict[str, Any]
"""What Airflow's API says of a run, and its `tasks`: {task id, and map index where it is mapped: state}."""


@pytest.fixture(scope="module")
def landing(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two photos and a broken one for each partition, and for each camera as many as its place in the list."""
    folder = tmp_path_factory.mktemp("photos")
    for partition in [*DAYS, *HOURS_OF_MARCH, *HOURS_OF_OCTOBER, LANDED, DAY]:
        fill(folder / partition, 2)
    fill(folder / WARNED, 2)
    fill(folder / REJECTED, 1)
    (folder / REJECTED / "empty, too.jpg").touch()
    for hour in EMPTY_HOURS:
        (folder / hour).mkdir()
    for number, camera in enumerate(CAMERAS, 1):
        fill(folder / "cameras" / camera / LANDED, number)
    return folder


@pytest.fixture(scope="module")
def on_call() -> Iterator[tuple[int, list[Any]]]:
    """The port of a webhook, and what it was sent."""
    with loopback.webhook() as found:
        yield found


@pytest.fixture(scope="module")
def airflow(
    landing: Path, on_call: tuple[int, list[Any]], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[AirflowServer]:
    """A server with the examples; what they name in capitals is set to what is small and here."""
    stores, dags = tmp_path_factory.mktemp("stores"), tmp_path_factory.mktemp("dags")
    named: dict[str, Any] = {"PHOTOS": f"{landing}/cameras", "STORES": f"{stores}/cameras", "MODEL": LARGE}
    named["LIMITS"] = {"warn_failed_fraction": 0.02, "max_failed_fraction": 0.5}
    names = {example.stem for example in EXAMPLES.glob("*.py")} - RUN_ELSEWHERE
    assert names == set(SHAPES) - BESIDE_ANOTHER
    for name in names:
        text = (EXAMPLES / f"{name}.py").read_text()
        for constant, value in named.items():
            text = re.sub(rf"^{constant} = .*", f"{constant} = {value!r}", text, flags=re.MULTILINE)
        text = text.replace("timeout=6 * 3600", "timeout=6 * 3600, poke_interval=3")
        (dags / f"{name}.py").write_text(text.replace('"resnet50"', '"resnet34"'))
    bundle = {"classpath": "airflow.dag_processing.bundles.local.LocalDagBundle"}
    bundles = [{"name": "dags-folder", "kwargs": {}}, {"name": "examples", "kwargs": {"path": str(dags)}}]
    settings = {
        "SOURCES": f"{landing}/cameras",
        "STORES": f"{stores}/cameras",
        "MODEL": "resnet18",
        "WEIGHTS": "random:0",
        "MAX_FAILED_FRACTION": "0.5",
        "RECHECK": "0",
    }
    env = {f"AIRFLOW__IMAGE_FEATURES__{name}": value for name, value in settings.items()}
    env["AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST"] = json.dumps([{**bundle, **one} for one in bundles])
    env["AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION"] = "True"
    env["AIRFLOW_CONN_SPARK_DEFAULT"] = json.dumps({"conn_type": "spark", "host": "local[1]"})
    env["AIRFLOW_CONN_ON_CALL"] = json.dumps({"conn_type": "http", "host": "127.0.0.1", "port": on_call[0]})
    home = tmp_path_factory.mktemp("airflow")
    with AirflowServer(home, store=f"{stores}/one", source=f"{landing}/{{partition}}", env=env) as server:
        until(lambda: set(SHAPES) <= {dag["dag_id"] for dag in server.api("GET", "/api/v2/dags")["dags"]})
        assert server.api("GET", "/api/v2/importErrors")["import_errors"] == []
        pause(server, False, "new_features", "new_partitions")  # Airflow forgets events where a Dag is paused
        yield server


SHAPES: dict[str, set[str]] = {
    "days_in_berlin": {"image_features.ingest", "image_features.extract", "image_features.validate"},
    "hours_in_berlin": {"image_features.ingest", "image_features.extract", "image_features.validate"},
    "wait_for_photos": {"landed", "image_features.ingest", "image_features.extract", "image_features.validate"},
    "three_cameras": {
        f"camera.features.{stage}{number}" for stage in ("ingest", "extract", "validate") for number in range(3)
    },
    "two_models": {
        "image_features.ingest",
        *(f"image_features.{stage}_{model}" for stage in ("extract", "validate") for model in ("resnet18", "resnet34")),
    },
    "new_features": {"read"},
    "new_partitions": {"read"},
    "missing_at_six": {"look"},
    "by_six": {
        f"features.{task}" for task in ("ingest", "extract", "validate", "ask", "approve", "published", "index")
    },
    "undo_features": {"undo"},
    "wake_somebody": {"image_features.ingest", "image_features.extract", "image_features.validate"},
    "erase_photos": {"erase", "verify"},
    "person_decides": {"image_features.ingest", "image_features.extract", "image_features.validate", "ask", "approve"},
}
"""Example → its tasks, which all succeed in the runs of these tests where nothing else is said."""


# --- time zones -------------------------------------------------------------------------------------------------------


def test_a_backfill_publishes_each_local_day_once_where_the_clock_is_set(airflow: AirflowServer) -> None:
    command = BACKFILL.replace("hours_in_berlin", "days_in_berlin")
    backfill(airflow, command.format("2026-03-29T00:00+01:00", "2026-03-29T00:00+01:00"))
    backfill(airflow, command.format("2026-10-25T00:00+02:00", "2026-10-26T00:00+01:00"))
    found = runs(airflow, "days_in_berlin")
    assert [(run["state"], set(run["tasks"].values())) for run in found] == [("success", {"success"})] * 3
    assert [hours(run) for run in found] == [23, 25, 24]
    assert published_by(airflow, found, DAYS) == [run["dag_run_id"] for run in found]


def test_a_backfill_publishes_each_local_hour_once_where_the_clock_is_set(airflow: AirflowServer) -> None:
    backfill(airflow, BACKFILL.format("2026-03-29T01:00+01:00", "2026-03-29T03:00+02:00"))
    backfill(airflow, COMMAND)
    found = runs(airflow, "hours_in_berlin")
    assert [hours(run) for run in found] == [1] * 6
    empty, full = [found[2], found[5]], [*found[:2], *found[3:5]]
    assert [set(run["tasks"].values()) for run in empty] == [{"skipped"}] * 2
    assert [(run["state"], set(run["tasks"].values())) for run in full] == [("success", {"success"})] * 4
    assert published_by(airflow, full, HOURS_OF_MARCH + HOURS_OF_OCTOBER) == [run["dag_run_id"] for run in full]


def published_by(airflow: AirflowServer, found: list[Run], partitions: list[str]) -> list[str]:
    """Who published each of the partitions, whose rows are all there; nothing else is published by these runs."""
    ids = {run["dag_run_id"] for run in found}
    table = {one.partition: one for one in catalog.partitions(airflow.store, SMALL)}
    assert {one.partition for one in table.values() if one.run_id in ids} == set(partitions)
    for partition in partitions:
        rows = catalog.vectors(airflow.store, partition, SMALL).to_pylist()
        assert sorted(Path(row["uri"]).parts[-2:] for row in rows) == [(partition, "0.png"), (partition, "1.png")]
        assert {row["run_id"] for row in rows} == {table[partition].run_id}
        assert len(catalog.publications(airflow.store, partition, SMALL)) == 1
    return [table[partition].run_id for partition in partitions]


# --- waiting, several stores ------------------------------------------------------------------------------------------


def test_photos_are_waited_for(airflow: AirflowServer, landing: Path) -> None:
    trigger(airflow, "wait_for_photos", logical_date="2026-11-21T09:00:00Z")
    until(lambda: runs(airflow, "wait_for_photos")[0]["tasks"].get("landed") == "deferred")
    # Airflow may take a task that is resumed within moments for one that was killed
    until(lambda: "There is no _SUCCESS" in log(airflow, runs(airflow, "wait_for_photos")[0], "landed"))
    (landing / LANDED / "_SUCCESS").touch()
    (run,) = ended(airflow, "wait_for_photos")
    assert run["tasks"] == dict.fromkeys(SHAPES["wait_for_photos"], "success")
    assert {one.partition: one.rows for one in catalog.partitions(airflow.store, SMALL)}[LANDED] == 2


def test_mapped_tasks_publish_into_a_store_each(airflow: AirflowServer) -> None:
    trigger(airflow, "three_cameras", logical_date="2026-11-21T09:00:00Z")
    (run,) = ended(airflow, "three_cameras")
    assert run["tasks"] == dict.fromkeys(SHAPES["three_cameras"], "success")
    for number, camera in enumerate(CAMERAS, 1):
        (found,) = catalog.partitions(f"{Path(airflow.store).parent}/cameras/{camera}")
        assert (found.partition, found.model, found.rows, found.run_id) == (LANDED, SMALL, number, run["dag_run_id"])


# --- two models, consumers, undo, the deadline ------------------------------------------------------------------------


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


def test_missing_features_raise_the_alarm(airflow: AirflowServer, both: Run, on_call: tuple[int, list[Any]]) -> None:
    trigger(airflow, "missing_at_six", logical_date="2026-11-22T05:00:00Z")
    trigger(airflow, "missing_at_six", logical_date="2026-11-23T05:00:00Z")
    there, missing = ended(airflow, "missing_at_six")
    assert (there["state"], missing["state"]) == ("success", "failed")
    (told,) = [body for _, _, body in on_call[1] if body["dag_id"] == "missing_at_six"]
    assert "There are no features of 2026-11-22 yet." in told["text"] and told["run_id"] == missing["dag_run_id"]


def test_a_night_with_warnings_and_a_rejected_one_are_told(
    airflow: AirflowServer, on_call: tuple[int, list[Any]]
) -> None:
    for morning_after in ("2026-11-25", "2026-11-26"):
        trigger(airflow, "wake_somebody", logical_date=f"{morning_after}T09:00:00Z")
        ended(airflow, "wake_somebody")
    said = [body for _, _, body in on_call[1] if body["dag_id"] == "wake_somebody"]
    assert [(body["title"], body["tone"], body["task_id"]) for body in said] == [
        (f"{WARNED} published with warnings (wake_somebody)", "warning", "image_features.validate"),
        (f"{REJECTED} rejected (wake_somebody)", "bad", "image_features.validate"),
    ], "and nothing of the stages before, where all was well"
    (check,) = said[1]["parts"][0]["checks"]
    assert (check["value"], check["files"]) == ("66.67 %", ["broken.jpg", "empty, too.jpg"])
    for body in said:
        assert body["report"].startswith(f"{airflow.url}/dags/wake_somebody/runs/")
        assert "/tasks/image_features.validate" in body["log"], body


def test_both_kinds_of_consumer_run_after_each_publication_and_each_undo(
    airflow: AirflowServer, both: Run, landing: Path
) -> None:
    read: list[int] = []
    with scheduling(airflow):
        consumed(airflow, read, rows=2)
        fill(landing / DAY, 3)
        clear(airflow, both, "image_features.ingest", *OF_LARGE)
        ended(airflow, "two_models")
        consumed(airflow, read, rows=3)
        trigger(airflow, "undo_features", {"partition": DAY, "model": LARGE})
        (undo,) = ended(airflow, "undo_features")
        consumed(airflow, read, rows=2)
    assert (undo["state"], undo["tasks"]) == ("success", {"undo": "success"})
    events = airflow.api("GET", "/api/v2/assets/events?order_by=timestamp&limit=100")["asset_events"]
    told = [event for event in events if event["uri"].endswith(f"/features/{LARGE}")]
    assert [event["source_task_id"] for event in told] == [OF_LARGE[1]] * 4 + ["undo"] * 2
    assert [event["extra"]["rows"] for event in told] == [2, 2, 3, 3, 2, 2]
    assert sorted(event["partition_key"] or "" for event in told) == [""] * 3 + [DAY] * 3
    same = {"partition": DAY, "model": LARGE, "store": airflow.store, "quarantined": 1, "run_id": both["dag_run_id"]}
    warned = {"verdict": "published_with_warnings", "warnings": ["failed_fraction"]}  # by an undo, too
    for extra in (event["extra"] for event in told):
        assert {**extra, **same, **warned} == extra
        assert extra["drift"] is None, "there is no partition before"
        version = catalog.dataset(airflow.store, "features", version=extra["table_version"])
        matches = (pc.field("partition") == DAY) & (pc.field("model") == LARGE)
        assert version.count_rows(filter=matches) == extra["rows"]
        assert json.loads(Path(extra["report"]).read_text())["verdict"] == "published_with_warnings"


def consumed(airflow: AirflowServer, read: list[int], rows: int) -> None:
    """Waits for one more run of each consumer, and checks that it has read so many rows of the partition."""
    read.append(rows)

    def returned(dag_id: str) -> list[Any]:
        found = [run for run in runs(airflow, dag_id) if run["state"] == "success"]
        path = f"/api/v2/dags/{dag_id}/dagRuns/{{}}/taskInstances/read/xcomEntries/return_value?deserialize=true"
        return [airflow.api("GET", path.format(quote(run["dag_run_id"])))["value"] for run in found]

    until(lambda: all(len(returned(name)) >= len(read) for name in ("new_features", "new_partitions")))
    assert returned("new_features") == [{DAY: number} for number in read]
    assert returned("new_partitions") == read
    assert {run["partition_key"] for run in runs(airflow, "new_partitions")} == {DAY}


def test_a_person_publishes_a_rejected_night_and_that_is_kept(airflow: AirflowServer) -> None:
    approved = answered(airflow, "person_decides", "ask", "Approve", "2026-11-26T10:00:00Z")
    assert (approved["state"], approved["tasks"]["approve"]) == ("success", "success")
    assert approved["tasks"]["image_features.validate"] == "failed"
    (shown,) = [item for item in catalog.partitions(airflow.store, SMALL) if item.partition == REJECTED]
    assert shown.run_id == approved["dag_run_id"] and shown.rows == 1
    facts = catalog.publications(airflow.store, REJECTED, SMALL)[0].facts
    assert (facts["approved_by"], facts["approved_reason"]) == ("admin", "because of Approve")
    events = airflow.api("GET", "/api/v2/assets/events?order_by=-timestamp&limit=4")["asset_events"]
    told = [event["extra"]["approval"] for event in events if event["source_task_id"] == "approve"]
    assert told and told[0]["by"] == "admin" and told[0]["checks"] == ["failed_fraction"]


def test_what_follows_a_publication_follows_the_answer_and_each_step_is_told_once(
    airflow: AirflowServer, on_call: tuple[int, list[Any]]
) -> None:
    def states(run: Run) -> list[Any]:
        names = ("ingest", "validate", "ask", "approve", "published", "index")
        return [run["state"], *(run["tasks"][f"features.{name}"] for name in names)]

    rejected = answered(airflow, "by_six", "features.ask", "Reject", "2026-11-26T10:00:00Z")
    none = "upstream_failed"
    assert states(rejected) == ["failed", "success", "failed", "failed", none, none, none]
    approved = answered(airflow, "by_six", "features.ask", "Approve", "2026-11-26T11:00:00Z")
    assert states(approved) == ["success", "success", "failed", "success", "success", "success", "success"]
    good = run_to_its_end(airflow, "by_six", "2026-11-25T10:00:00Z")
    assert states(good) == ["success", "success", "success", "skipped", "skipped", "success", "success"]
    no_folder = run_to_its_end(airflow, "by_six", "2026-11-01T10:00:00Z")
    assert states(no_folder) == ["failed", "failed", none, "failed", none, none, none]
    assert {REJECTED, WARNED} <= set(open_index(airflow.store, SMALL).between("2026-11-01", "2026-11-30"))

    said = [body for _, _, body in on_call[1] if body["dag_id"] == "by_six"]
    told = {
        run["dag_run_id"]: [body for body in said if body["run_id"] == run["dag_run_id"]]
        for run in (rejected, approved, good, no_folder)
    }
    first, second, third, fourth = told.values()
    assert [body["title"] for body in first] == [f"{REJECTED} rejected (by_six)", f"{REJECTED} left rejected (by_six)"]
    assert first[0]["answer"].endswith("/tasks/features.ask/required_actions") and first[1]["answer"] == ""
    assert "reason: because of Reject." in first[1]["text"] and "admin has left it so on" in first[1]["text"]
    assert [body["title"] for body in second] == [
        f"{REJECTED} rejected (by_six)",
        f"{REJECTED} published with warnings (by_six)",
    ]
    assert "failed fraction overruled by admin" in second[1]["text"]
    assert [body["task_id"] for body in third] == ["features.validate"] and "warnings" in third[0]["title"]
    assert [body["task_id"] for body in fourth] == ["features.ingest"]


def answered(airflow: AirflowServer, dag_id: str, task_id: str, answer: str, logical_date: str) -> Run:
    """A run of a rejected night, ended after its question was answered."""
    run_id = trigger(airflow, dag_id, logical_date=logical_date)
    until(lambda: found(airflow, dag_id, run_id)["tasks"].get(task_id) in ("awaiting_input", "deferred"), 600)
    of_run = f"/api/v2/dags/{dag_id}/dagRuns/{quote(run_id)}"
    (asked,) = airflow.api("GET", f"{of_run}/hitlDetails")["hitl_details"]
    assert REJECTED in asked["subject"] and SMALL in asked["subject"]
    assert "**failed fraction** 66.67 % (" in asked["body"] and "1 vectors of 3 files wait" in asked["body"]
    assert f"({airflow.url}/dags/{dag_id}/runs/{quote(run_id, safe='')}/plugin/" in asked["body"]
    time.sleep(5)  # one second after the question, Airflow takes an answer for a task that changed by itself
    reply = {"chosen_options": [answer], "params_input": {"reason": f"because of {answer}"}}
    airflow.api("PATCH", f"{of_run}/taskInstances/{task_id}/-1/hitlDetails", reply)
    ended(airflow, dag_id)
    return found(airflow, dag_id, run_id)


def run_to_its_end(airflow: AirflowServer, dag_id: str, logical_date: str) -> Run:
    run_id = trigger(airflow, dag_id, logical_date=logical_date)
    ended(airflow, dag_id)
    return found(airflow, dag_id, run_id)


def found(airflow: AirflowServer, dag_id: str, run_id: str) -> Run:
    return next(run for run in runs(airflow, dag_id) if run["dag_run_id"] == run_id)


# --- what the tests share ---------------------------------------------------------------------------------------------


def fill(folder: Path, count: int) -> None:
    """`count` small photos that are not one another's, and a file that is none."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        pixels = np.random.default_rng(number).integers(0, 255, (40, 40, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    (folder / "broken.jpg").touch()


def trigger(airflow: AirflowServer, dag_id: str, conf: dict[str, Any] | None = None, **more: Any) -> str:
    """The id of the new run."""
    made = airflow.api("POST", f"/api/v2/dags/{dag_id}/dagRuns", {"conf": conf or {}, "logical_date": None, **more})
    pause(airflow, False, dag_id)
    return str(made["dag_run_id"])


def pause(airflow: AirflowServer, paused: bool, *dag_ids: str) -> None:
    for dag_id in dag_ids:
        airflow.api("PATCH", f"/api/v2/dags/{dag_id}", {"is_paused": paused})


def clear(airflow: AirflowServer, run: Run, *task_ids: str) -> None:
    pause(airflow, False, run["dag_id"])
    body = {"dry_run": False, "dag_run_id": run["dag_run_id"], "task_ids": task_ids, "only_failed": False}
    airflow.api("POST", f"/api/v2/dags/{run['dag_id']}/clearTaskInstances", body)


def backfill(airflow: AirflowServer, command: str) -> None:
    """Creates the backfill of a paused Dag, and waits until its runs have ended.

    Where SQLite was locked, what was made of it is taken away before it is tried again.
    """
    words = shlex.split(command)
    dag_id = words[words.index("--dag-id") + 1]
    for _ in range(10):
        done = subprocess.run(words, env=environment(airflow), capture_output=True, text=True, timeout=200)
        if done.returncode == 0:
            pause(airflow, False, dag_id)
            ended(airflow, dag_id)
            return
        for made in airflow.api("GET", f"/api/v2/backfills?dag_id={dag_id}")["backfills"]:
            if made["completed_at"] is None:
                airflow.api("PUT", f"/api/v2/backfills/{made['id']}/cancel")
        for run in runs(airflow, dag_id):
            if not run["start_date"]:
                airflow.api("DELETE", f"/api/v2/dags/{dag_id}/dagRuns/{quote(run['dag_run_id'])}")
    pytest.fail(done.stderr)


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


def hours(run: Run) -> float:
    """How long a run's data interval is."""
    begin, end = (datetime.fromisoformat(run[f"data_interval_{which}"]) for which in ("start", "end"))
    return (end - begin).total_seconds() / 3600
