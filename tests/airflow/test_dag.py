"""The Dag and the plugin as Airflow loads them."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from airflow.sdk import DAG

REPO = Path(__file__).resolve().parents[2]


@pytest.fixture
def dag() -> DAG:
    from airflow.dag_processing.dagbag import DagBag

    bag = DagBag(REPO / "dags" / "image_features.py")
    assert bag.import_errors == {}
    return bag.dags["image_features"]


def test_the_dag_is_ingest_then_extract_then_validate(dag: DAG) -> None:
    assert {task.task_id: task.downstream_task_ids for task in dag.tasks} == {
        "ingest": {"extract"},
        "extract": {"validate"},
        "validate": set(),
    }


@pytest.mark.parametrize("following", [["index"], ["duplicates"], ["index", "duplicates"]])
def test_with_the_options_others_follow_what_publishes(monkeypatch: pytest.MonkeyPatch, following: list[str]) -> None:
    from airflow.dag_processing.dagbag import DagBag

    for name in following:
        monkeypatch.setenv(f"AIRFLOW__IMAGE_FEATURES__{name.upper()}", "true")
    bag = DagBag(REPO / "dags" / "image_features.py")
    assert bag.import_errors == {}
    tasks = bag.dags["image_features"].task_dict
    for one, next_one in itertools.pairwise(["validate", *following]):
        assert tasks[one].downstream_task_ids == {next_one}
    assert tasks[following[-1]].downstream_task_ids == set()


def test_where_a_person_is_asked_the_rest_follows_the_publication_whoever_decided_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from airflow.dag_processing.dagbag import DagBag

    monkeypatch.setenv("AIRFLOW__IMAGE_FEATURES__ASK_TO_PUBLISH", "true")
    monkeypatch.setenv("AIRFLOW__IMAGE_FEATURES__ASK_HOURS", "1.5")
    alone = DagBag(REPO / "dags" / "image_features.py").dags["image_features"]
    assert alone.task_dict["published"].downstream_task_ids == set()
    monkeypatch.setenv("AIRFLOW__IMAGE_FEATURES__INDEX", "true")
    tasks = DagBag(REPO / "dags" / "image_features.py").dags["image_features"].task_dict
    rules = {name: (task.upstream_task_ids, task.trigger_rule) for name, task in list(tasks.items())[2:]}
    assert rules == {
        "validate": ({"extract"}, "all_success"),
        "ask": ({"validate"}, "one_failed"),
        "approve": ({"ask"}, "all_success"),
        "published": ({"validate", "approve"}, "one_success"),
        "index": ({"published"}, "all_success"),
    }
    assert tasks["approve"].outlets == tasks["validate"].outlets != []
    assert (tasks["ask"].defaults, tasks["ask"].response_timeout) == (["Reject"], timedelta(hours=1.5))
    assert [tasks[name].checks.key for name in ("approve",)] == ["checks"], "the answer, by name"


def test_a_daily_run_covers_one_utc_day_and_the_past_is_left_alone(dag: DAG) -> None:
    from airflow.serialization.serialized_objects import DagSerialization

    there_and_back = DagSerialization.from_dict(DagSerialization.to_dict(dag))
    interval = there_and_back.timetable.infer_manual_data_interval(run_after=_pendulum(datetime(2026, 11, 22, 9)))
    assert (interval.start.isoformat(), interval.end.isoformat()) == (
        "2026-11-21T00:00:00+00:00",
        "2026-11-22T00:00:00+00:00",
    )
    assert not there_and_back.catchup
    assert there_and_back.max_active_runs == 1


def test_tasks_are_tried_again_with_growing_pauses(dag: DAG) -> None:
    for task in dag.tasks:
        assert task.retries == 2
        assert task.retry_exponential_backoff


def test_pool_queue_and_active_runs_are_configured(dag: DAG, monkeypatch: pytest.MonkeyPatch) -> None:
    def placed() -> dict[str, set[tuple[str, str]]]:
        dags = DagBag(REPO / "dags").dags
        return {name: {(task.pool, task.queue) for task in found.tasks} for name, found in dags.items()}

    from airflow.dag_processing.dagbag import DagBag

    names = ("image_features", "image_features_maintenance")
    assert placed() == {name: {("default_pool", "default")} for name in names}
    for option, text in {"pool": "spark", "queue": "big", "max_active_runs": "4"}.items():
        monkeypatch.setenv(f"AIRFLOW__IMAGE_FEATURES__{option.upper()}", text)
    assert placed() == {name: {("spark", "big")} for name in names}
    active = {name: found.max_active_runs for name, found in DagBag(REPO / "dags").dags.items()}
    assert active == {"image_features": 4, "image_features_maintenance": 1}


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("timezone", "Berlin"),
        ("partition_format", "%H"),
        ("max_active_runs", "0"),
        ("schedule", "every day"),
        ("check_levels", "drift=loud"),
    ],
)
def test_a_wrong_option_is_an_import_error_that_says_where(
    name: str, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from airflow.dag_processing.dagbag import DagBag

    monkeypatch.setenv(f"AIRFLOW__IMAGE_FEATURES__{name.upper()}", text)
    (error,) = DagBag(REPO / "dags" / "image_features.py").import_errors.values()
    assert f"[image_features] {name} = '{text}'" in error
    assert f"AIRFLOW__IMAGE_FEATURES__{name.upper()}" in error


def test_the_dag_parses_quickly_where_only_dags_and_plugins_are_known() -> None:
    """In a fresh process outside the repository, and without what only a job needs."""
    code = """
import json, sys, time
from pathlib import Path
from airflow.dag_processing.dagbag import BundleDagBag
before = time.perf_counter()
bag = BundleDagBag(sys.argv[1], bundle_path=Path(sys.argv[1]))
heavy = [name for name in ("pyspark", "torch", "deltalake", "openvino", "PIL") if name in sys.modules]
print(json.dumps([time.perf_counter() - before, bag.import_errors, heavy]))
"""
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "-c", code, str(REPO / "dags")], env=env, cwd="/", capture_output=True, text=True, check=True
    )
    seconds, import_errors, heavy = json.loads(done.stdout.splitlines()[-1])
    assert (import_errors, heavy) == ({}, [])
    assert seconds < 10


def test_airflow_registers_the_plugin_and_executes_nothing_else() -> None:
    code = """
import json, sys
from airflow import plugins_manager
plugins, errors = plugins_manager._get_plugins()
executed = sorted({"operators", "form", "settings", "partition"} & set(sys.modules))
print(json.dumps([[plugin.name for plugin in plugins if plugin.name == "image_features"], errors, executed]))
"""
    done = subprocess.run([sys.executable, "-c", code], cwd="/", capture_output=True, text=True, check=True)
    assert json.loads(done.stdout.splitlines()[-1]) == [["image_features"], {}, []]


def _pendulum(moment: datetime) -> object:
    from airflow.sdk import timezone

    return timezone.coerce_datetime(moment.replace(tzinfo=UTC))
