"""Which Dags the pages show: those with tasks of this project, read from Airflow's database as it really is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from airflow.sdk import DAG, TaskGroup
from fastapi.testclient import TestClient

from tests.airflow.web import API, PREFIX, enter_dag, forget_dags, pipeline

Clients = Callable[[str], TestClient]


@pytest.fixture(autouse=True)
def only_the_stock_dag(airflow_app: Any) -> Iterator[None]:
    """Airflow's database without the Dags of earlier tests."""
    _remove()
    yield
    _remove()


def _remove() -> None:
    from airflow.models.dag import DagModel
    from airflow.models.serialized_dag import SerializedDagModel
    from airflow.utils.session import create_session
    from sqlalchemy import delete, update

    with create_session() as session:
        for model in (SerializedDagModel, DagModel):
            session.execute(delete(model).where(model.dag_id != "image_features"))
        session.execute(update(DagModel).values(is_stale=False, is_paused=False))
    forget_dags()


def shown(clients: Clients) -> list[str]:
    forget_dags()
    found: list[str] = clients("viewer").get(f"{PREFIX}/api/dags").json()["dag_ids"]
    return found


def test_dags_with_our_tasks_are_shown_and_no_others(clients: Clients) -> None:
    from airflow.providers.standard.operators.empty import EmptyOperator
    from image_features.operators import MaintainOperator

    enter_dag(pipeline("cameras"))
    with DAG("something_else") as other:
        EmptyOperator(task_id="ingest")
    enter_dag(other)
    with DAG("upkeep") as upkeep:
        MaintainOperator(task_id="maintain")
    enter_dag(upkeep)
    assert shown(clients) == ["cameras", "image_features"]
    assert clients("viewer").get(f"{PREFIX}/api/cameras/overview").status_code == 200
    for dag_id in ("something_else", "upkeep"):
        answer = clients("viewer").get(f"{PREFIX}/api/{dag_id}/overview")
        assert (answer.status_code, answer.json()["code"]) == (404, "not_our_dag")


def test_a_derived_class_a_group_a_mapped_task_and_a_sensor_of_a_stage_are_found(clients: Clients) -> None:
    from image_features.operators import ExtractOperator, IngestOperator
    from image_features.sensors import StageSensor

    class Mine(IngestOperator):
        """A class of somebody's own, in a module of their own."""

    with DAG("derived") as derived:
        Mine(task_id="ingest")
    with DAG("grouped") as grouped, TaskGroup("features"):
        IngestOperator(task_id="ingest")
    with DAG("mapped") as mapped:
        ExtractOperator.partial(task_id="extract").expand(conf=[{"a": "1"}, {"a": "2"}])
    with DAG("waited_for") as waited_for:
        StageSensor(task_id="ingest", stage="ingest")
    for dag in (derived, grouped, mapped, waited_for):
        enter_dag(dag)
    assert shown(clients) == ["derived", "grouped", "image_features", "mapped", "waited_for"]


def test_a_dag_that_is_paused_or_whose_file_is_gone_stays_and_comes_last_then(clients: Clients) -> None:
    from airflow.models.dag import DagModel
    from airflow.utils.session import create_session
    from sqlalchemy import update

    for dag_id in ("cameras", "drones"):
        enter_dag(pipeline(dag_id))
    with create_session() as session:
        session.execute(update(DagModel).where(DagModel.dag_id == "cameras").values(is_stale=True))
        session.execute(update(DagModel).where(DagModel.dag_id == "drones").values(is_paused=True))
    assert shown(clients) == ["drones", "image_features", "cameras"]


def test_a_dag_that_is_deleted_is_gone(clients: Clients) -> None:
    enter_dag(pipeline("cameras"))
    assert "cameras" in shown(clients)
    _remove()
    assert shown(clients) == ["image_features"]
    assert clients("viewer").get(f"{PREFIX}/api/cameras/overview").status_code == 404


@pytest.mark.parametrize("data", [{}, {"dag": {}}, {"dag": {"tasks": ["x"]}}, {"dag": {"tasks": [{"__var": {}}]}}, []])
def test_a_dag_in_a_form_that_is_not_known_hides_no_other(data: Any, clients: Clients) -> None:
    from airflow.models.serialized_dag import SerializedDagModel
    from airflow.utils.session import create_session
    from sqlalchemy import update

    enter_dag(pipeline("cameras"))
    changed = {"_data": data, "_data_compressed": None, "dag_hash": str(data)[:32]}
    with create_session() as session:
        session.execute(update(SerializedDagModel).where(SerializedDagModel.dag_id == "cameras").values(**changed))
    assert shown(clients) == ["image_features"]


def test_a_dag_that_changes_is_read_again(clients: Clients) -> None:
    with DAG("cameras") as before:
        pass
    enter_dag(before)
    assert shown(clients) == ["image_features"]
    enter_dag(pipeline("cameras"))
    assert shown(clients) == ["cameras", "image_features"]


def test_dag_ids_leaves_only_those_it_names(clients: Clients, monkeypatch: pytest.MonkeyPatch) -> None:
    enter_dag(pipeline("cameras"))
    monkeypatch.setenv("AIRFLOW__IMAGE_FEATURES__DAG_IDS", "not_yet_parsed, cameras")
    assert shown(clients) == ["not_yet_parsed", "cameras"]
    assert clients("viewer").get(f"{API}/overview").json()["code"] == "not_our_dag"


def task(**given: Any) -> dict[str, Any]:
    """A task of a serialized Dag, with what all versions of Airflow since 3.1 write of it."""
    known = {"task_id": "ingest", "task_type": "IngestOperator", "_task_module": "image_features.operators"}
    return {"__type": "operator", "__var": {**known, **given}}


def mapped(expansion: Any, **partial: Any) -> dict[str, Any]:
    return task(_is_mapped=True, partial_kwargs=partial, expand_input=expansion)


def as_dict(**values: Any) -> dict[str, Any]:
    return {"__type": "dict", "__var": values}


@pytest.mark.parametrize(
    ("one", "stores"),
    [
        (task(store="s3://a/b", storage_conn_id="mine"), [("s3://a/b", "mine")]),
        (task(), [(None, None)]),
        (task(store="s3://a/{{ ds }}"), [("LATER", None)]),
        (task(store={"__type": "xcomref", "__var": {}}), [("LATER", None)]),
        (task(task_type="StageSensor", job="{{ ti.xcom_pull() }}"), [("LATER", None)]),
        (mapped({"type": "dict-of-lists", "value": as_dict(conf=["x"])}, store="s3://a"), [("s3://a", None)]),
        (
            mapped({"type": "dict-of-lists", "value": as_dict(store=["s3://a", "s3://b"])}, storage_conn_id="c"),
            [("s3://a", "c"), ("s3://b", "c")],
        ),
        (
            mapped({"type": "dict-of-lists", "value": as_dict(store={"__type": "xcomref", "__var": {}})}),
            [("LATER", None)],
        ),
        (
            mapped(
                {"type": "list-of-dicts", "value": [as_dict(store="s3://a", storage_conn_id="x"), as_dict(store="b")]}
            ),
            [("s3://a", "x"), ("b", None)],
        ),
        (mapped({"type": "list-of-dicts", "value": {"__type": "xcomref", "__var": {}}}), [("LATER", "LATER")]),
    ],
)
def test_what_a_task_says_of_its_store(one: Any, stores: list[Any]) -> None:
    from image_features.web.our_dags import LATER, parse

    dag = parse("d", {"dag": {"tasks": [one]}})
    assert dag is not None

    def word(value: Any) -> Any:
        return "LATER" if value is LATER else value

    assert [(word(said.store), word(said.storage_conn_id)) for said in dag.said] == stores
