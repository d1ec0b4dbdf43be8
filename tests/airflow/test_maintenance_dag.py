"""The maintenance Dag: weekly, alone, and with exactly the settings that its form was given."""

from __future__ import annotations

import json
import stat
import sys
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk import DAG, Param
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException, ParamValidationError

from spark_apps import contract
from spark_apps.contract import MaintainSettings

REPO = Path(__file__).resolve().parents[2]
RUN_ID = "scheduled__2026-11-22T12:00:00+00:00"


@pytest.fixture
def dag() -> DAG:
    from airflow.dag_processing.dagbag import DagBag

    bag = DagBag(REPO / "dags" / "image_features_maintenance.py")
    assert bag.import_errors == {}
    return bag.dags["image_features_maintenance"]


@pytest.fixture
def submitted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A `spark-submit` on PATH that runs the job with plain Python and keeps its arguments in this file."""
    script, calls = tmp_path / "bin" / "spark-submit", tmp_path / "calls.json"
    script.parent.mkdir()
    script.write_text(
        f"#!/bin/sh\n'''exec' \"{sys.executable}\" \"$0\" \"$@\"\n' '''\n"  # a #! cannot hold a blank
        "import json, os, sys\n"
        "at = next(i for i, argument in enumerate(sys.argv) if argument.endswith('.py'))\n"
        f"open({str(calls)!r}, 'w').write(json.dumps(sys.argv[at:]))\n"
        "os.execv(sys.executable, [sys.executable, *sys.argv[at:]])\n"
    )
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", str(script.parent))
    return calls


def context(dag: DAG, **conf: Any) -> Any:
    params = {name: param.value if isinstance(param, Param) else param for name, param in dag.params.items()}
    task_instance = SimpleNamespace(map_index=-1, xcom_push=lambda key, value: None)
    return {"run_id": RUN_ID, "params": {**params, **conf}, "dag_run": SimpleNamespace(conf=conf), "ti": task_instance}


def test_it_runs_every_sunday_at_noon_and_never_twice_at_once(dag: DAG) -> None:
    from airflow.sdk import timezone
    from airflow.serialization.serialized_objects import DagSerialization

    there_and_back = DagSerialization.from_dict(DagSerialization.to_dict(dag))
    moment = timezone.coerce_datetime(datetime(2026, 11, 24, 9, tzinfo=UTC))
    interval = there_and_back.timetable.infer_manual_data_interval(run_after=moment)
    assert (interval.start.isoformat(), interval.end.isoformat()) == (
        "2026-11-15T12:00:00+00:00",
        "2026-11-22T12:00:00+00:00",
    )
    assert not there_and_back.catchup
    assert there_and_back.max_active_runs == 1


def test_the_form_offers_the_retention_within_its_bounds(dag: DAG) -> None:
    param = dag.params.get_param("retention_hours")
    assert param.value == contract.describe(MaintainSettings, "retention_hours")["default"]
    for value in (0, contract.MAX_RETENTION_HOURS + 1, "a week"):
        with pytest.raises(ParamValidationError):
            param.resolve(value)


def test_the_form_asks_how_long_copies_of_photos_are_kept(dag: DAG) -> None:
    param = dag.params.get_param("content_days")
    assert param.value == contract.describe(MaintainSettings, "content_days")["default"]
    with pytest.raises(ParamValidationError):
        param.resolve(-1)


def test_a_store_is_maintained_with_the_settings_of_the_form(dag: DAG, submitted: Path, tmp_path: Path) -> None:
    from tests.shelf import Shelf

    store = str(tmp_path / "store")
    Shelf(store).publish("d1", "r", {"u1": "a"})
    counts = dag.get_task("maintain").execute(context(dag, retention_hours=24, dry_run=True, content_days=30))
    assert counts["orphans"] == 0
    script, *arguments = json.loads(submitted.read_text())
    assert script.endswith("spark_apps/maintain.py")
    job = contract.parse(MaintainSettings, arguments, "test", "")
    assert job == MaintainSettings(
        store=store,
        run_id=RUN_ID,
        dag_id="image_features_maintenance",
        retention_hours=24,
        dry_run=True,
        content_days=30,
    )
    assert Path(job.folder, "maintain.json").exists()


def test_an_empty_store_is_skipped_and_an_unknown_setting_refused(dag: DAG, submitted: Path) -> None:
    with pytest.raises(AirflowSkipException, match="has no tables yet"):
        dag.get_task("maintain").execute(context(dag))
    with pytest.raises(AirflowFailException, match="retention_hours"):
        dag.get_task("maintain").execute(context(dag, retention=24))
