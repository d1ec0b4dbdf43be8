"""Several Dags that fill one store, with runs of one id: each page shows the runs of its own Dag and no others'."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import pytest
from fastapi.testclient import TestClient

from spark_apps.contract import BadSetting, RunKey
from tests.airflow.test_web_pages import no_runs, shelf
from tests.airflow.web import BEGAN, PREFIX, Run, published
from tests.shelf import MODEL, Shelf

__all__ = ["no_runs", "shelf"]

DAY, RUN_ID, OTHER_MODEL = "2026-11-20", "scheduled__2026-11-20T00:00:00+00:00", "words_4"
DAGS = ("image_features", "another_dag")
Ask = Callable[[str, str], Any]


@pytest.fixture
def ask(clients: Callable[[str], TestClient], monkeypatch: pytest.MonkeyPatch) -> Ask:
    """The answer to a viewer, by Dag and path below it."""
    monkeypatch.setenv("AIRFLOW__IMAGE_FEATURES__DAG_IDS", ",".join(DAGS))
    viewer = clients("viewer")

    def answer(dag_id: str, path: str) -> Any:
        from image_features.web import store_state

        store_state._published.forget()
        found = viewer.get(f"{PREFIX}/api/{dag_id}/{path}")
        assert found.status_code == 200, found.text
        return found.json()

    return answer


def both(shelf: Shelf) -> dict[str, Run]:
    """A run of one id in each Dag: same partition, models of their own, other counts."""
    runs = {}
    for dag_id, model, names in zip(DAGS, (MODEL, OTHER_MODEL), ("ab", "xyz"), strict=True):
        run = Run(shelf.store, DAY, RUN_ID, dag_id=dag_id)
        shelf.publish(DAY, run.key, {f"file:///photos/day/{name}.jpg": name for name in names}, model=model)
        run.reports(model={"key": model, "fingerprint": "f"}, counts={"listed": len(names), "featured": len(names)})
        runs[dag_id] = run.enter()
    return runs


def test_each_overview_shows_its_own_run_with_its_own_counts(ask: Ask, shelf: Shelf) -> None:
    both(shelf)
    for dag_id, model, count in zip(DAGS, (MODEL, OTHER_MODEL), (2, 3), strict=True):
        overview = ask(dag_id, "overview")
        (row,) = overview["partitions"]
        assert (row["model"], row["rows"], row["listed"], row["dag_run_id"]) == (model, count, count, RUN_ID)
        assert overview["models"] == [model]


def test_each_run_page_shows_its_own_run(ask: Ask, shelf: Shelf) -> None:
    runs = both(shelf)
    runs["another_dag"].fails("extract", BadSetting("secret_of_another", "A secret."))
    for dag_id, count in zip(DAGS, (2, 3), strict=True):
        report = ask(dag_id, f"runs/{quote(RUN_ID)}")
        assert (report["counts"]["listed"], report["published"]) == (count, True)
        assert (report["error"] is not None) == (dag_id == "another_dag")


def test_what_one_dag_s_run_set_aside_is_not_shown_for_the_other_s(ask: Ask, shelf: Shelf) -> None:
    runs = both(shelf)
    staged = shelf.quarantine(DAY, runs["another_dag"].key, ["file:///photos/day/private.jpg"])
    runs["another_dag"].finishes("ingest", staged={"quarantine": staged}).finishes("extract", outcome={})
    totals = {dag_id: ask(dag_id, f"runs/{quote(RUN_ID)}/quarantine")["total"] for dag_id in DAGS}
    assert totals == {"image_features": 0, "another_dag": 1}


def test_merged_quarantine_of_another_dag_stays_its_own(ask: Ask, shelf: Shelf) -> None:
    mine = Run(shelf.store, DAY, RUN_ID)
    mine.finishes("ingest", staged={"quarantine": [{"path": f"data/{DAY}/gone/gone/x.parquet"}]}).enter()
    other = Run(shelf.store, DAY, RUN_ID, dag_id="another_dag")
    shelf.publish(DAY, other.key, {"file:///photos/x.jpg": "x"}, quarantined=["file:///photos/private.jpg"])
    assert ask("image_features", f"runs/{quote(RUN_ID)}/quarantine")["total"] == 0


def test_a_run_that_another_dag_replaced_is_superseded_and_the_other_s_is_not_shown(ask: Ask, shelf: Shelf) -> None:
    mine = published(shelf)
    other = Run(shelf.store, DAY, mine.run_id, dag_id="another_dag")
    shelf.publish(DAY, other.key, {"file:///photos/x.jpg": "x"})
    other.reports().enter()
    (row,) = ask("image_features", "overview")["partitions"]
    assert (row["status"], row["run_id"], row["published_run_id"]) == ("superseded", mine.run_id, None)
    assert ask("image_features", f"runs/{quote(mine.run_id)}/photos")["photos"] == []


def test_runs_from_before_dags_were_told_apart_stay_visible(ask: Ask, shelf: Shelf) -> None:
    run = Run(shelf.store, DAY, RUN_ID, old=True)
    shelf.publish(DAY, run.key, {"file:///photos/day/a.jpg": "a"})
    run.reports().enter()
    (row,) = ask("image_features", "overview")["partitions"]
    assert (row["status"], row["dag_run_id"], row["listed"]) == ("published", RUN_ID, 3)
    report = ask("image_features", f"runs/{quote(RUN_ID)}")
    assert (report["published"], report["counts"]["listed"]) == (True, 3)
    assert len(ask("image_features", f"runs/{quote(RUN_ID)}/photos")["photos"]) == 1


def test_an_old_run_whose_dag_cannot_be_told_is_shown_for_neither(ask: Ask, shelf: Shelf) -> None:
    run = Run(shelf.store, DAY, RUN_ID, old=True)
    run.fails("ingest", BadSetting("secret_of_one", "A secret.")).enter()
    Run(shelf.store, DAY, RUN_ID, dag_id="another_dag").enter()
    for dag_id in DAGS:
        assert ask(dag_id, f"runs/{quote(RUN_ID)}")["error"] is None


def test_a_run_of_the_command_line_is_not_taken_for_a_dag_s_of_the_same_id(ask: Ask, shelf: Shelf) -> None:
    by_hand = Run(shelf.store, DAY, RUN_ID, dag_id="", old=True)
    by_hand.reports(dag_id="").finishes("ingest", "extract", "validate", dag_id="")
    Run(shelf.store, DAY, RUN_ID, state="failed").enter()
    assert ask("image_features", f"runs/{quote(RUN_ID)}")["counts"]["listed"] is None


def test_of_a_run_with_several_extracts_the_one_that_failed_is_shown(ask: Ask, shelf: Shelf) -> None:
    run = Run(shelf.store, DAY, RUN_ID, state="failed", began=BEGAN).finishes("ingest").enter()
    for branch in ("good", "bad"):
        part = Run(shelf.store, DAY, RUN_ID, branch=branch)
        if branch == "bad":
            part.fails("extract", BadSetting("bad_layer", "No such layer."))
        else:
            part.finishes("extract")
    report = ask("image_features", f"runs/{quote(run.run_id)}")
    assert report["error"]["code"] == "bad_layer"
    assert report["counts"]["listed"] == 3
    assert RunKey(RUN_ID, "image_features").owns(RunKey(RUN_ID, "image_features", branch="bad").folder)
