"""Several Dags and several stores: who may read a Dag sees its stores and no others; nothing of two stores is mixed."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from airflow.sdk import DAG
from fastapi.testclient import TestClient

from spark_apps.contract import BadSetting, RunKey
from tests.airflow.test_web_dags import only_the_stock_dag
from tests.airflow.test_web_pages import no_runs
from tests.airflow.web import PREFIX, Run, enter_dag
from tests.s3 import witness
from tests.shelf import MODEL, Shelf, image_id

__all__ = ["no_runs", "only_the_stock_dag"]

DAY, RUN_ID = "2026-11-20", "scheduled__2026-11-20T00:00:00+00:00"
Clients = Callable[[str], TestClient]


def chain(dag_id: str, **given: Any) -> DAG:
    """A Dag with the three stages, whose settings of the place are these."""
    from image_features.operators import ExtractOperator, IngestOperator, ValidateOperator

    with DAG(dag_id) as dag:
        ingest = IngestOperator(task_id="ingest", **given)
        ingest >> ExtractOperator(task_id="extract", **given) >> ValidateOperator(task_id="validate", **given)
    return dag


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Where the stores of two Dags are, `north` and `south`, which each Dag names itself."""
    monkeypatch.setenv("AIRFLOW__IMAGE_FEATURES__STORES", str(tmp_path / "cameras"))
    found = {name: str(tmp_path / "cameras" / name) for name in ("north", "south")}
    for name, store in found.items():
        enter_dag(chain(name, store=store))
    forget()
    return found


def forget() -> None:
    """Nothing that the pages have kept counts any more."""
    from image_features.web import airflow_runs, store_state, stores

    from tests.airflow.web import forget_dags

    forget_dags()
    store_state._published.forget()
    stores._told.forget()
    airflow_runs._facts.drop()


def publish(store: str, dag_id: str, names: str, *, run: Run | None = None, model: str = MODEL) -> Run:
    """A run that published the photos `names`, with all its documents."""
    run = run or Run(store, DAY, RUN_ID, began=datetime.now(UTC) - timedelta(minutes=10), dag_id=dag_id)
    Shelf(store).publish(run.partition, run.key, {f"file:///photos/{name}.jpg": name for name in names}, model=model)
    run.ended = datetime.now(UTC)
    return run.reports(model={"key": model, "fingerprint": "f"}, counts={"listed": len(names), "featured": len(names)})


def keys(viewer: TestClient) -> dict[str, list[str]]:
    """Dag → the keys of its stores."""
    answer = viewer.get(f"{PREFIX}/api/dags").json()
    return {dag["dag_id"]: [store["key"] for store in dag["stores"]] for dag in answer["dags"]}


@pytest.fixture
def only_north(monkeypatch: pytest.MonkeyPatch) -> None:
    """The viewer may read the Dag `north` and no other."""
    from airflow.api_fastapi.auth.managers.simple.simple_auth_manager import SimpleAuthManager

    def may(*_: Any, details: Any = None, **__: Any) -> bool:
        return bool(details) and details.id == "north"

    monkeypatch.setattr(SimpleAuthManager, "is_authorized_dag", may)


# --- who may see what -------------------------------------------------------------------------------------------------


def ways(store: str, image: str) -> list[str]:
    """Every address below `/api` that takes a store."""
    return [
        f"overview?store={store}",
        f"north/overview?store={store}",
        f"north/partitions/{DAY}/photos?store={store}",
        f"north/partitions/{DAY}/neighbours?image={image}&store={store}",
        f"north/thumbnails/{DAY}/{image}?store={store}",
    ]


def test_a_right_to_one_dag_opens_its_store_and_no_other(
    clients: Clients, places: dict[str, str], monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    viewer = clients("viewer")
    for name, letters in (("north", "ab"), ("south", "acd")):
        publish(places[name], name, letters).enter()
    known = keys(viewer)
    assert known["north"] != known["south"]
    request.getfixturevalue("only_north")
    assert viewer.get(f"{PREFIX}/api/dags").json()["dag_ids"] == ["north"]
    assert [row["dag_id"] for row in viewer.get(f"{PREFIX}/api/overview").json()["partitions"]] == ["north"]
    others = [*known["south"], places["south"], "../south", "1", "*", RunKey(RUN_ID, "south").folder]
    for other in others:
        for way in ways(quote(other, safe=""), image_id("c")):
            answer = viewer.get(f"{PREFIX}/api/{way}")
            assert answer.status_code in (400, 404), (way, answer.text)
            assert answer.json()["code"] in ("no_such_store", "bad_request"), (way, answer.text)
            assert places["south"] not in answer.json()["message"]
    upload = {"Content-Type": "image/jpeg", "X-Image-Features": "1"}
    path = f"{PREFIX}/api/north/partitions/{DAY}/neighbours?store={known['south'][0]}"
    assert viewer.post(path, content=b"x", headers=upload).json()["code"] == "no_such_store"
    for path in ("overview", f"runs/{quote(RUN_ID)}", f"partitions/{DAY}/photos"):
        assert viewer.get(f"{PREFIX}/api/south/{path}").status_code == 403, path


@pytest.mark.usefixtures("only_north")
def test_a_part_of_another_dag_s_run_is_no_part_of_this_one(clients: Clients, places: dict[str, str]) -> None:
    from image_features.web import airflow_runs

    for name in places:
        publish(places[name], name, "ab").enter().tells("extract", "extract")
    forget()
    (other,) = airflow_runs.find("south", RUN_ID)
    for rest in ("", "/quarantine", "/photos"):
        answer = clients("viewer").get(f"{PREFIX}/api/north/runs/{quote(RUN_ID)}{rest}?part={other.key}")
        assert (answer.status_code, answer.json()["code"]) == (404, "no_such_part")


def test_a_store_that_a_run_has_named_is_opened_only_where_that_is_allowed(
    clients: Clients, places: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = str(tmp_path / "elsewhere")
    enter_dag(chain("templated", store="{{ var.value.store }}"))
    publish(elsewhere, "templated", "ab").enter().tells("extract", "extract")
    forget()
    viewer = clients("viewer")
    (row,) = viewer.get(f"{PREFIX}/api/templated/overview").json()["partitions"]
    assert (row["status"], row["listed"], row["rows"]) == ("unknown", None, None), "what Airflow says of it, no more"
    report = viewer.get(f"{PREFIX}/api/templated/runs/{quote(RUN_ID)}").json()
    assert (report["store"]["code"], report["counts"]["listed"]) == ("not_allowed", None)
    for way in ("overview", f"partitions/{DAY}/photos"):
        assert viewer.get(f"{PREFIX}/api/templated/{way}?store={report['chosen_store']['key']}").json().get(
            "code", report["store"]["code"]
        ) in ("no_such_store", "not_allowed")
    monkeypatch.setenv("AIRFLOW__IMAGE_FEATURES__STORES", elsewhere)
    forget()
    (row,) = viewer.get(f"{PREFIX}/api/templated/overview").json()["partitions"]
    assert (row["status"], row["listed"]) == ("published", 2)
    assert viewer.get(f"{PREFIX}/api/templated/partitions/{DAY}/photos?store={row['store']}").json()["total"] == 2


def test_a_store_that_another_dag_names_is_not_opened_for_a_run_that_says_so(
    clients: Clients, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever may write an XCom of one Dag does not read another's store by it."""
    south = str(tmp_path / "south")
    monkeypatch.setenv("AIRFLOW__IMAGE_FEATURES__STORES", south)
    enter_dag(chain("south", store=south))
    enter_dag(chain("templated", store="{{ var.value.store }}"))
    publish(south, "south", "ab").enter()
    Run(south, DAY, RUN_ID, dag_id="templated").enter().tells("extract", "extract")
    monkeypatch.delenv("AIRFLOW__IMAGE_FEATURES__STORES")
    forget()
    report = clients("viewer").get(f"{PREFIX}/api/templated/runs/{quote(RUN_ID)}").json()
    assert report["store"]["code"] == "not_allowed"
    assert clients("viewer").get(f"{PREFIX}/api/south/overview").json()["partitions"][0]["rows"] == 2


@pytest.mark.parametrize("told", [None, "text", 7, [], {}, {"store": 1}, {"store": "relative", "partition": "x"}])
def test_what_is_not_what_our_tasks_write_is_not_believed(told: Any, clients: Clients, places: dict[str, str]) -> None:
    from airflow.models.xcom import XComModel
    from airflow.utils.session import create_session
    from sqlalchemy import update

    publish(places["north"], "north", "ab").enter().tells("extract", "extract")
    with create_session() as session:
        session.execute(update(XComModel).values(value=told))
    forget()
    report = clients("viewer").get(f"{PREFIX}/api/north/runs/{quote(RUN_ID)}").json()
    assert (report["parts"], report["published"]) == ([], True)


# --- nothing is mixed -------------------------------------------------------------------------------------------------


def test_the_same_partition_run_and_photo_in_two_stores_stay_apart(
    clients: Clients, places: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from image_features.web import thumbnails

    class Artist:
        def ask(self, content: bytes, patience: float) -> tuple[dict[str, Any], bytes]:
            return {}, b"drawn of " + content

    monkeypatch.setattr(thumbnails, "_artist", Artist())
    viewer = clients("viewer")
    for name, letters in (("north", "ab"), ("south", "acd")):
        publish(places[name], name, letters).enter()
    for _ in range(2):  # the second time from what was kept
        for name, letters in (("north", "ab"), ("south", "acd")):
            (key,) = keys(viewer)[name]
            page = viewer.get(f"{PREFIX}/api/{name}/partitions/{DAY}/photos?store={key}").json()
            assert [photo["name"] for photo in page["photos"]] == [f"{letter}.jpg" for letter in letters]
            near = viewer.get(f"{PREFIX}/api/{name}/partitions/{DAY}/neighbours?image={image_id('a')}&store={key}")
            assert {photo["name"] for photo in near.json()["neighbours"]} == {f"{letter}.jpg" for letter in letters[1:]}
            report = viewer.get(f"{PREFIX}/api/{name}/runs/{quote(RUN_ID)}").json()
            assert report["counts"]["listed"] == len(letters)
            sample = viewer.get(f"{PREFIX}/api/{name}/runs/{quote(RUN_ID)}/photos").json()["photos"]
            assert len(sample) == len(letters)
            for letter in "abcd":
                drawn = viewer.get(f"{PREFIX}/api/{name}/thumbnails/{DAY}/{image_id(letter)}?store={key}")
                assert (drawn.content == b"drawn of " + letter.encode()) == (letter in letters), (name, letter)


def test_two_stores_with_two_connections_are_read_side_by_side_each_with_its_own_keys(
    clients: Clients, monkeypatch: pytest.MonkeyPatch
) -> None:
    from spark_apps import catalog

    with witness() as north, witness() as south:
        servers = {"north": north, "south": south}
        monkeypatch.setenv("AIRFLOW__IMAGE_FEATURES__STORES", "s3://photos")
        for name, server in servers.items():
            access = {"AWS_ACCESS_KEY_ID": f"key-{name}", "AWS_SECRET_ACCESS_KEY": "planted", "AWS_REGION": "us-east-1"}
            extra = {"region_name": "us-east-1", "endpoint_url": server.endpoint}
            connection = {"conn_type": "aws", "login": f"key-{name}", "password": "planted", "extra": extra}
            monkeypatch.setenv(f"AIRFLOW_CONN_{name.upper()}", json.dumps(connection))
            store = f"s3://photos/{name}"
            run = Run(store, DAY, RUN_ID, dag_id=name, began=datetime.now(UTC) - timedelta(minutes=10))
            with catalog.reached_with({**access, "AWS_ENDPOINT_URL": server.endpoint}):
                files = {f"file:///photos/{letter}.jpg": letter for letter in ("ab" if name == "north" else "acd")}
                Shelf(store).publish(DAY, run.key, files)
            enter_dag(chain(name, store=store, storage_conn_id=name))
            run.enter()
            server.asked.clear()
        forget()
        viewer = clients("viewer")

        def rows(name: str) -> int:
            (row,) = viewer.get(f"{PREFIX}/api/{name}/overview").json()["partitions"]
            photos = viewer.get(f"{PREFIX}/api/{name}/partitions/{DAY}/photos?store={row['store']}").json()
            assert photos["total"] == row["rows"]
            return int(row["rows"])

        with ThreadPoolExecutor(6) as pool:
            found = list(pool.map(rows, ["north", "south"] * 3))
        assert found == [2, 3] * 3
        assert {row["rows"] for row in viewer.get(f"{PREFIX}/api/overview").json()["partitions"]} == {2, 3}
        assert (north.keys, south.keys) == ({"key-north"}, {"key-south"})


def test_a_store_whose_connection_only_the_tasks_know_is_read_with_no_other(
    clients: Clients, places: dict[str, str]
) -> None:
    enter_dag(chain("templated", store=places["north"], storage_conn_id="{{ var.value.connection }}"))
    publish(places["north"], "templated", "ab").enter()
    forget()
    assert clients("viewer").get(f"{PREFIX}/api/templated/overview").json()["store"]["code"] == "denied"


# --- a run in parts ---------------------------------------------------------------------------------------------------


@pytest.fixture
def mapped(places: dict[str, str]) -> Iterator[dict[str, str]]:
    """A Dag that is mapped over the two stores."""
    from image_features.operators import ExtractOperator, IngestOperator, ValidateOperator

    with DAG("mapped") as dag:
        stages = (IngestOperator, ExtractOperator, ValidateOperator)
        tasks = [kind.partial(task_id=kind.stage).expand(store=list(places.values())) for kind in stages]
        tasks[0] >> tasks[1] >> tasks[2]
    enter_dag(dag)
    with suppress(Exception):
        yield places


def test_a_run_of_mapped_tasks_has_a_row_and_a_part_for_each(clients: Clients, mapped: dict[str, str]) -> None:
    viewer, whole = clients("viewer"), None
    for index, (name, letters) in enumerate((("north", "ab"), ("south", "acd"))):
        run = Run(mapped[name], DAY, RUN_ID, dag_id="mapped", map_index=index, state="failed")
        run.began = datetime.now(UTC) - timedelta(minutes=10)
        run.ended = datetime.now(UTC)
        whole = whole or run.enter()
        for stage in ("ingest", "extract"):
            run.tells(stage, stage, model=MODEL if stage == "extract" else "")
        if name == "north":
            publish(mapped[name], "mapped", letters, run=run).tells("validate", "validate")
        else:
            run.finishes("ingest").fails("extract", BadSetting("bad_layer", "No such layer."))
    forget()
    rows = viewer.get(f"{PREFIX}/api/mapped/overview").json()["partitions"]
    by_status = {row["status"]: row for row in rows}
    assert set(by_status) == {"published", "failed"} and len(rows) == 2
    assert by_status["published"]["store"] != by_status["failed"]["store"]
    report = viewer.get(f"{PREFIX}/api/mapped/runs/{quote(RUN_ID)}").json()
    assert report["error"]["code"] == "bad_layer", "of several parts the first that failed is shown"
    told = [(part["map_index"], part["store"]["name"], part["model"], part["status"]) for part in report["parts"]]
    assert told == [(0, "north", MODEL, "published"), (1, "south", MODEL, "failed")]
    good = by_status["published"]["part"]
    chosen = viewer.get(f"{PREFIX}/api/mapped/runs/{quote(RUN_ID)}?part={good}").json()
    assert (chosen["part"], chosen["verdict"]["status"], chosen["published"]) == (good, "published", True)
    sample = viewer.get(f"{PREFIX}/api/mapped/runs/{quote(RUN_ID)}/photos?part={good}").json()
    assert len(sample["photos"]) == 2


def test_two_models_after_one_ingest_are_two_parts_that_share_it(clients: Clients, tmp_path: Path) -> None:
    store = str(tmp_path / "store")
    run = Run(store, DAY, RUN_ID, state="running", began=datetime.now(UTC) - timedelta(minutes=10)).enter()
    run.finishes("ingest").tells("ingest", "ingest")
    forget()
    viewer, path = clients("viewer"), f"{PREFIX}/api/image_features/runs/{quote(RUN_ID)}"
    (alone,) = viewer.get(path).json()["parts"]
    for branch, model in (("small", "m-small"), ("large", "m-large")):
        part = Run(store, DAY, RUN_ID, branch=branch, began=run.began)
        part.tells(f"extract_{branch}", "extract", model=model)
        if branch == "small":
            publish(store, "image_features", "ab", run=part, model=model)
            (part.folder / "ingest.json").unlink()
    forget()
    report = viewer.get(path).json()
    told = [(part["branch"], part["model"], part["status"]) for part in report["parts"]]
    assert told == [("large", "m-large", "running"), ("small", "m-small", "published")]
    assert [stage["state"] for stage in report["stages"]] == ["done", "running", "missing"]
    assert report["counts"]["listed"] == 3
    rows = viewer.get(f"{PREFIX}/api/image_features/overview").json()["partitions"]
    assert {(row["model"], row["status"]) for row in rows} == {("m-large", "running"), ("m-small", "published")}
    still = viewer.get(f"{path}?part={alone['key']}")
    assert still.status_code == 200, "an address that was right while only ingest ran still leads somewhere"
    assert still.json()["stages"][0]["state"] == "done"


def test_several_partitions_in_one_run_each_have_their_row(clients: Clients, tmp_path: Path) -> None:
    store, hours = str(tmp_path / "store"), ["2026-11-20T00", "2026-11-20T01"]
    for index, hour in enumerate(hours):
        run = Run(store, hour, RUN_ID, map_index=index, began=datetime.now(UTC) - timedelta(minutes=10))
        if index == 0:
            run.ended = datetime.now(UTC)
            run.enter()
        publish(store, "image_features", "ab", run=run).tells("extract", "extract")
    forget()
    rows = clients("viewer").get(f"{PREFIX}/api/image_features/overview").json()["partitions"]
    assert [(row["partition"], row["status"], row["dag_run_id"]) for row in rows] == [
        (hour, "published", RUN_ID) for hour in reversed(hours)
    ]
    assert len({row["part"] for row in rows}) == 2


def test_a_queued_run_whose_partition_only_its_tasks_know_shows_no_guess(
    clients: Clients, places: dict[str, str]
) -> None:
    enter_dag(chain("hourly", store=places["north"], partition="{{ data_interval_start | ds }}"))
    Run(places["north"], DAY, RUN_ID, dag_id="hourly", state="queued").enter(conf={})
    enter_dag(chain("fixed", store=places["north"], partition="batch-7"))
    Run(places["north"], DAY, RUN_ID, dag_id="fixed", state="queued").enter(conf={})
    forget()
    assert clients("viewer").get(f"{PREFIX}/api/hourly/overview").json()["partitions"] == []
    (row,) = clients("viewer").get(f"{PREFIX}/api/fixed/overview").json()["partitions"]
    assert (row["partition"], row["status"]) == ("batch-7", "queued")


# --- all Dags ---------------------------------------------------------------------------------------------------------


def test_the_overview_of_all_dags_names_each_row_s_dag_and_store(clients: Clients, places: dict[str, str]) -> None:
    for name, letters in (("north", "ab"), ("south", "acd")):
        publish(places[name], name, letters).enter()
    viewer = clients("viewer")
    overview = viewer.get(f"{PREFIX}/api/overview").json()
    known = keys(viewer)
    rows = {row["dag_id"]: (row["store"], row["rows"]) for row in overview["partitions"]}
    assert rows == {"north": (known["north"][0], 2), "south": (known["south"][0], 3)}
    states = {store["name"]: (store["dag_ids"], store["state"]["code"]) for store in overview["stores"]}
    assert states["north"] == (["north"], "ok") and states["south"] == (["south"], "ok")
    only = viewer.get(f"{PREFIX}/api/overview?store={known['south'][0]}").json()
    assert [row["dag_id"] for row in only["partitions"]] == ["south"]


def test_one_store_that_cannot_be_read_leaves_the_others_on_the_page(clients: Clients, places: dict[str, str]) -> None:
    publish(places["north"], "north", "ab").enter()
    log = Path(places["south"], "features", "_delta_log")
    log.mkdir(parents=True)
    (log / "00000000000000000000.json").write_text('{"proto')
    forget()
    overview = clients("viewer").get(f"{PREFIX}/api/overview").json()
    assert overview["store"]["code"] == "ok" and len(overview["partitions"]) == 1
    assert {store["name"]: store["state"]["code"] for store in overview["stores"]}["south"] == "damaged"


def test_what_the_command_line_published_is_shown_once_for_all_dags_of_the_store(
    clients: Clients, tmp_path: Path
) -> None:
    enter_dag(chain("another"))
    Shelf(str(tmp_path / "store")).publish(DAY, "by-hand", {"file:///photos/a.jpg": "a"})
    forget()
    (row,) = clients("viewer").get(f"{PREFIX}/api/overview").json()["partitions"]
    assert (row["dag_id"], row["dag_run_id"]) == (None, None)
