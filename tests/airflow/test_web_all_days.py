"""Explore searches all days of a model by its index, shows nothing that is not published, and says what it left out."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from spark_apps import contract
from spark_apps.contract import IndexSettings
from spark_apps.index import index
from spark_apps.spark.jobs import Timings
from tests.airflow.web import API, Run, published
from tests.shelf import MODEL, Shelf, image_id

DAYS = ("2026-11-18", "2026-11-19", "2026-11-20")


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    from image_features.web import search_index, store_state

    store_state._published.forget()
    search_index.forget()
    return Shelf(str(tmp_path / "store"))


@pytest.fixture
def get(clients: Callable[[str], Any]) -> Callable[[str], Any]:
    def ask(path: str, status: int = 200) -> Any:
        from image_features.web import search_index, store_state

        store_state._published.forget()
        search_index._looked.forget()
        answer = clients("viewer").get(f"{API}/{path}")
        assert answer.status_code == status, answer.text
        return answer.json()

    return ask


def fill(shelf: Shelf) -> None:
    """Three days of three photos; the first of each day is on every day."""
    for day in DAYS:
        published(
            shelf, day, files={f"file:///photos/day/{name}.jpg": name for name in ("same", f"{day}-a", f"{day}-b")}
        )


def make_index(shelf: Shelf) -> None:
    index(IndexSettings(store=shelf.store, model=MODEL), Timings())


def seen(found: Any) -> set[tuple[str, str]]:
    return {(photo["partition"], photo["name"]) for photo in found["neighbours"]}


def near(rest: str = "", day: str = DAYS[1], name: str = DAYS[1] + "-a") -> str:
    return f"partitions/{day}/neighbours?image={image_id(name)}{rest}"


def test_all_days_are_searched_by_the_index_and_without_it_the_one(get: Any, shelf: Shelf) -> None:
    fill(shelf)
    alone = get(near())
    assert seen(alone) == {(DAYS[1], "same.jpg"), (DAYS[1], f"{DAYS[1]}-b.jpg")}
    assert (alone["compared"]["index"], alone["compared"]["partitions"]) == ("none", 1)
    make_index(shelf)
    everywhere = get(near())
    assert len(everywhere["neighbours"]) == 8
    assert {day for day, _ in seen(everywhere)} == set(DAYS)
    assert everywhere["searched"] == 9
    expected = {"first": DAYS[0], "last": DAYS[-1], "partitions": 3, "exact": True, "index": "ok"}
    assert everywhere["compared"].items() >= expected.items()
    assert everywhere["query"]["name"] == f"{DAYS[1]}-a.jpg"
    cosines = [photo["cosine"] for photo in everywhere["neighbours"]]
    assert cosines == sorted(cosines, reverse=True)
    within = {photo["name"]: photo["cosine"] for photo in everywhere["neighbours"] if photo["partition"] == DAYS[1]}
    assert within == pytest.approx({photo["name"]: photo["cosine"] for photo in alone["neighbours"]}, abs=1e-5)


def test_a_span_or_one_day_by_choice(get: Any, shelf: Shelf) -> None:
    fill(shelf)
    make_index(shelf)
    assert {day for day, _ in seen(get(near(f"&first={DAYS[1]}")))} == set(DAYS[1:])
    assert {day for day, _ in seen(get(near(f"&first={DAYS[0]}&last={DAYS[1]}")))} == set(DAYS[:2])
    one = get(near(f"&first={DAYS[1]}&last={DAYS[1]}"))
    assert {day for day, _ in seen(one)} == {DAYS[1]}
    get(near("&first=../x"), 400)


def test_results_can_be_paged_through(get: Any, shelf: Shelf) -> None:
    fill(shelf)
    make_index(shelf)
    pages = [get(near(f"&k=3&page={number}")) for number in (1, 2, 3, 4)]
    assert [len(page["neighbours"]) for page in pages] == [3, 3, 2, 0]
    assert [page["more"] for page in pages] == [True, True, False, False]
    names = [(one["partition"], one["name"]) for page in pages for one in page["neighbours"]]
    assert len(set(names)) == 8
    day = [get(near(f"&k=1&page={number}&first={DAYS[1]}&last={DAYS[1]}")) for number in (1, 2)]
    assert [page["more"] for page in day] == [True, False]
    get(near("&k=100&page=11"), 400)


def test_what_is_no_longer_published_is_not_shown_and_what_is_missing_is_counted(get: Any, shelf: Shelf) -> None:
    fill(shelf)
    make_index(shelf)
    published(shelf, DAYS[0], files={"file:///photos/day/new.jpg": "new"})
    behind = get(near())
    assert {day for day, _ in seen(behind)} == set(DAYS[1:])
    assert (behind["compared"]["behind_partitions"], behind["compared"]["behind_rows"]) == (1, 1)
    fresh = get(near(day=DAYS[0], name="new"))  # not in the index yet, and searched for in it all the same
    assert {day for day, _ in seen(fresh)} == set(DAYS[1:])
    make_index(shelf)
    again = get(near())
    assert (DAYS[0], "new.jpg") in seen(again) and again["compared"]["behind_rows"] == 0


def test_the_run_page_and_the_overview_say_that_search_is_behind_and_the_publication_stands(
    get: Any, shelf: Shelf
) -> None:
    fill(shelf)
    make_index(shelf)
    run = published(shelf, "2026-11-21", files={"file:///photos/day/new.jpg": "new"})
    settings = IndexSettings(store=shelf.store, partition=run.partition, run_id=run.run_id, dag_id=run.dag_id)
    folder = Path(settings.folder)
    folder.mkdir(parents=True)
    (folder / "error.json").write_text(json.dumps(contract.error_record("index", contract.JobError("x", "No room."))))
    set_state(run, "failed")
    report = get(f"runs/{quote(run.run_id, safe='')}")
    assert report["published"] and report["verdict"]["status"] == "published"
    assert report["verdict"]["tone"] == "warning" and "after the publication failed" in report["verdict"]["message"]
    assert report["search"]["tone"] == "warning"
    assert "No room." in report["search"]["message"] and "1 vector of 1 partition" in report["search"]["message"]
    assert {stage["name"]: stage["state"] for stage in report["stages"]}["index"] == "failed"
    (said,) = get("overview")["search"]
    assert "1 vector of 1 partition" in said["message"]
    make_index(shelf)
    assert get("overview")["search"] == []
    assert "behind" not in get(f"runs/{quote(run.run_id, safe='')}")["search"]["message"]


def set_state(run: Run, state: str) -> None:
    from airflow.models.dagrun import DagRun
    from airflow.utils.session import create_session

    with create_session() as session:
        found = session.query(DagRun).filter(DagRun.dag_id == run.dag_id, DagRun.run_id == run.run_id).one()
        found.state = state


def test_a_damaged_index_leaves_the_day_to_be_searched(get: Any, shelf: Shelf) -> None:
    fill(shelf)
    make_index(shelf)
    for manifest in Path(shelf.store, "search", f"{MODEL}.lance", "_versions").iterdir():
        manifest.write_bytes(b"damaged")
    found = get(near())
    assert found["compared"]["index"] == "unavailable" and {day for day, _ in seen(found)} == {DAYS[1]}
