"""The Dag, run by a real scheduler, with real Spark, on real photos: every way to start it, and how it says no.

All runs that need not wait for another are started together and waited for once (`started`); the tests then read
what became of them.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pyarrow.compute as pc
import pytest
from PIL import Image
from skimage import data

from demo import other_files
from demo.airflow_client import Run, ServerError
from demo.airflow_server import AirflowServer, running
from demo.keeper import session_members
from demo.run import end_leftovers
from spark_apps import catalog, contract
from tests.airflow.scheduling import scheduling, until

pytestmark = pytest.mark.timeout(900)

FIRST, LAST = "2026-11-19", "2026-11-20"
CONNECTION = {"connection_id": "spark_of_the_test", "conn_type": "spark", "host": "local[1]"}
MODEL = "resnet18-random_0-fp32"
WHENEVER, EACH = "whenever_there_are_new_features", "for_each_partition_with_features"
SECOND, SAME = "image_features_second", "manual__the_same_id_in_both"
REPO = Path(__file__).resolve().parents[2]
EVENTS = "openlineage.jsonl"

Started = dict[str, tuple[str, Run]]
"""Name → (run id, what became of it)."""


@pytest.fixture(scope="module")
def landing(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two days of three photos and an interrupted upload, a batch of two photos, and a folder with nothing in it."""
    folder = tmp_path_factory.mktemp("landing")
    photos = {name: Image.fromarray(getattr(data, name)()) for name in ("coffee", "chelsea", "rocket")}
    for day, size in ((FIRST, 240), (LAST, 280)):
        (folder / day).mkdir()
        (folder / day / "interrupted.jpg").touch()
        for name, photo in photos.items():
            photo.crop((0, 0, size, size)).save(folder / day / f"{name}.jpg")
    (folder / "batch-7").mkdir()
    for name in ("coffee", "chelsea"):
        photos[name].save(folder / "batch-7" / f"{name}.png")
    other_files.prepare(folder, "text")
    (folder / "nothing").mkdir()
    for days in (0, 1):  # the scheduler makes a run of its own, of the last whole day: refused at once
        (folder / (datetime.now(UTC) - timedelta(days)).date().isoformat()).mkdir(exist_ok=True)
    return folder


@pytest.fixture(scope="module")
def more_dags(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The consumers of docs/airflow.md, and the daily Dag a second time under another id."""
    folder = tmp_path_factory.mktemp("more dags")
    text = (REPO / "docs" / "airflow.md").read_text()
    consumers = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert len(consumers) == 2
    for number, snippet in enumerate(consumers):
        (folder / f"consumer_{number}.py").write_text(snippet)
    daily = (REPO / "dags" / "image_features.py").read_text()
    second = daily.replace('dag_id="image_features"', f'dag_id="{SECOND}"')
    (folder / "second.py").write_text(re.sub(r"schedule=.*", "schedule=None,", second))
    return folder


@pytest.fixture(scope="module")
def airflow(landing: Path, more_dags: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[AirflowServer]:
    home = tmp_path_factory.mktemp("airflow")
    settings = {
        "CONN_ID": CONNECTION["connection_id"],
        "MODEL": "resnet18",
        "WEIGHTS": "random:0",
        "MAX_FAILED_FRACTION": "0.3",
        "RECHECK": "0",
    }
    env = {f"AIRFLOW__IMAGE_FEATURES__{name}": value for name, value in settings.items()}
    bundle = {"classpath": "airflow.dag_processing.bundles.local.LocalDagBundle"}
    bundles = [{"name": "dags-folder", "kwargs": {}}, {"name": "more", "kwargs": {"path": str(more_dags)}}]
    transport = {"type": "file", "log_file_path": str(home / EVENTS), "append": True}
    env["AIRFLOW__OPENLINEAGE__TRANSPORT"] = json.dumps(transport)
    env["AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST"] = json.dumps([{**bundle, **one} for one in bundles])
    store = str(tmp_path_factory.mktemp("store"))
    server = AirflowServer(home, store=store, source=f"{landing}/{{partition}}", env=env)
    with server:
        server.api("POST", "/api/v2/connections", CONNECTION)
        until(lambda: {WHENEVER, EACH, SECOND} <= {dag["dag_id"] for dag in server.api("GET", "/api/v2/dags")["dags"]})
        keeper = running(home)
        yield server
    assert keeper is not None
    assert not session_members(keeper)


def _backfill(airflow: AirflowServer) -> list[str]:
    """Asks again while SQLite is locked by the scheduler (503), which may leave a backfill half made."""
    for _ in range(20):
        try:
            return airflow.backfill(FIRST, LAST, at_once=2)
        except ServerError as error:
            if error.status != 503:
                raise
            time.sleep(2)
            end_leftovers(airflow)
    pytest.fail("SQLite stayed locked.")


@pytest.fixture(scope="module")
def started(airflow: AirflowServer, landing: Path) -> Started:
    """Every run, ended."""
    first, last = _backfill(airflow)
    nothing = str(landing / "nothing")
    run_ids = {
        "first day": first,
        "last day": last,
        "without anything": airflow.trigger(),
        "unknown key": airflow.trigger({"partition": LAST, "batchsize": 8}),
        "contradiction": airflow.trigger({"partition": LAST, "weights": "keras-v1"}),
        "empty, fail": airflow.trigger({"partition": "2026-11-01", "source": nothing}),
        "empty, skip": airflow.trigger(
            {"source": nothing, "on_empty": "skip"}, logical_date="2026-11-03T18:30:00+00:00"
        ),
        "batch": airflow.trigger({"partition": "batch-7"}, run_id=SAME),
        "texts": airflow.trigger({"partition": "texts", "extractor": "text"}),
    }
    body = {"conf": {"partition": "batch-7", "model": "resnet34"}, "logical_date": None, "dag_run_id": SAME}
    airflow.api("POST", f"/api/v2/dags/{SECOND}/dagRuns", body)
    runs = airflow.wait(run_ids.values(), timeout=600)
    return {name: (run_id, runs[run_id]) for name, run_id in run_ids.items()}


# --- runs that publish ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "partition"), [("first day", FIRST), ("last day", LAST)])
def test_a_backfill_publishes_each_day_under_its_date(
    name: str, partition: str, airflow: AirflowServer, started: Started
) -> None:
    run_id, run = started[name]
    assert run == _all("success"), airflow.task_log(run_id, "validate")
    assert _counts(airflow, partition, run_id) == {"listed": 4, "featured": 3, "quarantined": 1}
    assert _published(airflow)[partition].run_id == run_id


def test_a_trigger_without_logical_date_works_on_the_partition_it_names(
    airflow: AirflowServer, started: Started
) -> None:
    run_id, run = started["batch"]
    assert run == _all("success"), airflow.task_log(run_id, "validate")
    assert _counts(airflow, "batch-7", run_id) == {"listed": 2, "featured": 2, "quarantined": 0}


def test_one_parameter_makes_it_a_run_over_texts(airflow: AirflowServer, started: Started) -> None:
    run_id, run = started["texts"]
    assert run == _all("success"), airflow.task_log(run_id, "validate")
    assert _counts(airflow, "texts", run_id) == {"listed": 34, "featured": 31, "quarantined": 3}
    (published,) = catalog.partitions(airflow.store, "wordllama_256")
    assert (published.partition, published.run_id) == ("texts", run_id)


def test_each_publication_is_an_event_of_the_asset(airflow: AirflowServer, started: Started) -> None:
    events = airflow.api("GET", "/api/v2/assets/events?limit=100")["asset_events"]
    told = {event["extra"]["run_id"]: event["extra"] for event in events}
    for name, partition, rows in (("first day", FIRST, 3), ("last day", LAST, 3), ("batch", "batch-7", 2)):
        extra = told[started[name][0]]
        assert (extra["partition"], extra["rows"], extra["model"]) == (partition, rows, MODEL)
        version = extra["table_version"]
        before, after = (_rows(airflow, partition, number) for number in (version - 1, version))
        assert (before, after) == (0, rows)
        changes = {"since_version": version - 1, "version": version, "added": rows, "changed": 0, "removed": 0}
        assert extra["changes"] == changes
        assert Path(extra["report"].removeprefix("file://")).is_file()


def test_publications_start_both_kinds_of_consumer(airflow: AirflowServer, started: Started) -> None:
    expected = {FIRST, LAST, "batch-7", "texts"}

    def told() -> set[str]:
        """The partitions that the runs of the Dag with a plain schedule were started for."""
        return {event["partition"] for events in _started_for(airflow).values() for event in events}

    def keys() -> set[str]:
        runs = airflow.api("GET", f"/api/v2/dags/{EACH}/dagRuns?limit=100")["dag_runs"]
        return {run["partition_key"] for run in runs if run["state"] == "success"}

    with scheduling(airflow):
        until(lambda: bool(told()) and keys() >= expected, timeout=300)
    assert keys() == expected
    # publications that come before the scheduler looks are one run, which Airflow tells of the first of them
    assert told() and told() <= expected


def test_two_dags_with_one_run_id_publish_each_its_own(airflow: AirflowServer, started: Started) -> None:
    path = f"/api/v2/dags/{SECOND}/dagRuns/{SAME}"
    until(lambda: airflow.api("GET", path)["state"] in ("success", "failed"))
    assert airflow.api("GET", path)["state"] == "success"
    found = {item.model: item for item in catalog.partitions(airflow.store) if item.partition == "batch-7"}
    keys = {MODEL: contract.RunKey(SAME, "image_features"), "resnet34-random_0-fp32": contract.RunKey(SAME, SECOND)}
    assert {model: item.folder for model, item in found.items()} == {model: key.folder for model, key in keys.items()}
    for model, key in keys.items():
        extracted = catalog.manifest(airflow.store, "batch-7", key, "extract")
        assert extracted is not None and extracted.model is not None and extracted.model.key == model


def test_each_publication_starts_a_run_where_they_come_one_at_a_time(
    airflow: AirflowServer, started: Started, landing: Path
) -> None:
    conf = {"partition": "batch-8", "source": str(landing / "batch-7")}

    def told_of(published: str) -> list[str]:
        """The runs of the consumer that were started for the publication of one run."""
        return [run for run, events in _started_for(airflow).items() if published in {one["run_id"] for one in events}]

    with scheduling(airflow):
        until(lambda: bool(_started_for(airflow)))  # for what was published before
        consumers = []
        for _ in range(2):
            run_id = airflow.trigger(conf)
            assert airflow.wait([run_id], timeout=200)[run_id] == _all("success")
            until(lambda run_id=run_id: bool(told_of(run_id)), 300)  # type: ignore[misc]
            consumers += told_of(run_id)
    assert len(set(consumers)) == len(consumers) == 2


def test_clearing_a_run_publishes_the_same_run_again(airflow: AirflowServer, started: Started) -> None:
    run_id, _ = started["first day"]
    before = _published(airflow)[FIRST]
    body = {"dry_run": False, "dag_run_id": run_id, "task_ids": ["validate"], "only_failed": False}
    airflow.api("POST", "/api/v2/dags/image_features/clearTaskInstances", body)
    assert airflow.wait([run_id], timeout=200)[run_id] == _all("success")
    assert _published(airflow)[FIRST] == before


def test_lineage_goes_from_the_source_to_the_version_under_the_run_of_airflow(
    airflow: AirflowServer, started: Started, landing: Path
) -> None:
    """From the events that OpenLineage's provider has written in the tasks' processes."""

    def facet(run_id: str, stage: str, event_type: str) -> Any:
        lines = (airflow.home / EVENTS).read_text().splitlines()
        found = [json.loads(line) for line in lines]
        (event,) = (
            event
            for event in found
            if event["job"]["name"] == f"image_features.{stage}"
            and event["eventType"] == event_type
            and event["run"]["facets"]["airflow"]["dagRun"]["run_id"] == run_id
        )
        assert event["run"]["facets"]["parent"]["job"]["name"] == "image_features"
        return event

    run_id, _ = started["last day"]
    ingest, extract, validate = (facet(run_id, stage, "COMPLETE") for stage in ("ingest", "extract", "validate"))
    parents = {event["run"]["facets"]["parent"]["run"]["runId"] for event in (ingest, extract, validate)}
    assert len(parents) == 1, "one run of the Dag"
    (source,) = ingest["inputs"]
    assert (source["namespace"], source["name"]) == ("file", str(landing))
    assert source["inputFacets"]["inputStatistics"]["fileCount"] == 4
    assert "MODEL" in {one["facets"]["datasetType"]["datasetType"] for one in extract["inputs"]}
    features = next(one for one in validate["outputs"] if one["name"] == f"{airflow.store}/features")
    assert features["outputFacets"]["outputStatistics"]["rowCount"] == 3
    assert _rows(airflow, LAST, int(features["facets"]["version"]["datasetVersion"])) == 3
    checked = next(one for one in validate["inputs"] if one["name"] == f"{airflow.store}/features")
    names = {one["name"] for one in checked["inputFacets"]["dataQualityAssertions"]["assertions"]}
    assert {"failed_fraction", "reconciliation"} <= names
    refused = facet(started["empty, fail"][0], "ingest", "FAIL")
    assert refused["run"]["facets"]["imageFeatures_stage"]["code"] == "source_empty"


# --- runs that end early ----------------------------------------------------------------------------------------------


def test_a_run_with_a_logical_date_works_on_the_last_complete_day_and_can_be_skipped(
    airflow: AirflowServer, started: Started
) -> None:
    run_id, run = started["empty, skip"]
    assert run == {"state": "success", "tasks": dict.fromkeys(("ingest", "extract", "validate"), "skipped")}
    assert "--partition 2026-11-02 " in airflow.task_log(run_id, "ingest")


def test_a_failed_job_says_why_in_the_task_log_and_is_not_tried_again(
    airflow: AirflowServer, started: Started, landing: Path
) -> None:
    run_id, run = started["empty, fail"]
    assert run["tasks"]["ingest"] == "failed"
    last_words = airflow.task_log(run_id, "ingest").split("Task failed with exception", 1)[1]
    assert f"ingest failed: The source {landing}/nothing has no files" in last_words
    assert "Traceback" not in last_words


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("unknown key", "Unknown setting 'batchsize' (did you mean 'batch_size'?)"),
        ("contradiction", "weights keras-v1 are a resnet50, not a resnet18. Set model to resnet50."),
        ("without anything", "This run has neither a partition nor a logical date."),
    ],
)
def test_a_wrong_run_is_refused_by_its_first_task_in_plain_words(
    name: str, words: str, airflow: AirflowServer, started: Started
) -> None:
    run_id, run = started[name]
    assert run["tasks"] == {"ingest": "failed", "extract": "upstream_failed", "validate": "upstream_failed"}
    log = airflow.task_log(run_id, "ingest")
    assert words in log
    assert "Spark-Submit cmd" not in log


@pytest.mark.parametrize(
    "conf", [{"batch_size": 0}, {"partition": "../../x"}, {"precision": "fp64"}, {"extractor": "os:getcwd"}]
)
def test_a_value_out_of_bounds_does_not_even_become_a_run(conf: dict[str, Any], airflow: AirflowServer) -> None:
    with pytest.raises(ServerError, match=next(iter(conf))):
        airflow.trigger(conf)


def test_a_missing_connection_is_named(airflow: AirflowServer, started: Started) -> None:
    airflow.api("DELETE", f"/api/v2/connections/{CONNECTION['connection_id']}")
    try:
        run_id = airflow.trigger({"partition": LAST})
        assert airflow.wait([run_id], timeout=60)[run_id]["state"] == "failed"
        assert "The Spark connection 'spark_of_the_test' does not exist" in airflow.task_log(run_id, "ingest")
    finally:
        airflow.api("POST", "/api/v2/connections", CONNECTION)


# --- reading what happened --------------------------------------------------------------------------------------------


def _all(state: str) -> Run:
    return {"state": state, "tasks": dict.fromkeys(("ingest", "extract", "validate"), state)}


def _started_for(airflow: AirflowServer) -> dict[str, list[dict[str, Any]]]:
    """Ended run of the Dag with a plain schedule → what the events say that started it; the oldest run first."""
    path = f"/api/v2/dags/{WHENEVER}/dagRuns"
    runs = airflow.api("GET", f"{path}?limit=100&order_by=run_after")["dag_runs"]
    ended = [run["dag_run_id"] for run in runs if run["state"] == "success"]
    found = {run: airflow.api("GET", f"{path}/{quote(run)}/upstreamAssetEvents") for run in ended}
    return {run: [event["extra"] for event in events["asset_events"]] for run, events in found.items()}


def _counts(airflow: AirflowServer, partition: str, run_id: str) -> dict[str, int]:
    run = contract.RunKey(run_id, "image_features")
    manifest = catalog.manifest(airflow.store, partition, run, "validate")
    assert manifest is not None
    return {name: manifest.counts[name] for name in ("listed", "featured", "quarantined")}


def _published(airflow: AirflowServer) -> dict[str, catalog.Partition]:
    return {found.partition: found for found in catalog.partitions(airflow.store, MODEL)}


def _rows(airflow: AirflowServer, partition: str, version: int) -> int:
    """Rows of a partition and `MODEL` in one version of the table `features`."""
    rows = catalog.dataset(airflow.store, "features", version=version)
    return rows.count_rows(filter=(pc.field("partition") == partition) & (pc.field("model") == MODEL))
