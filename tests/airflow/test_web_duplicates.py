"""The groups of duplicates through a real api-server: by partition, kind and similarity, the one to keep first."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from fastapi.testclient import TestClient
from PIL import Image
from skimage import data

from spark_apps import contract
from spark_apps.contract import DuplicatesSettings
from spark_apps.dedup import share
from spark_apps.spark.jobs import Timings
from tests.airflow.web import API, published
from tests.shelf import MODEL, Shelf
from tests.unit.test_duplicates import jpeg, look, part, publish

Clients = Callable[[str], TestClient]


@pytest.fixture(autouse=True)
def ended() -> Iterator[None]:
    """No child process outlives its test."""
    yield
    from image_features.web import thumbnails

    thumbnails._artist.close()


@pytest.fixture
def filled(tmp_path: Path) -> Shelf:
    """A cat on two days, the same bytes twice, and a cup with a part of it."""
    shelf = Shelf(str(tmp_path / "store"))
    cat, cup = (Image.fromarray(getattr(data, name)()).resize((300, 200)) for name in ("chelsea", "coffee"))
    publish(shelf, "2026-11-20", "r1", {"file:///p/cat.jpg": jpeg(cat), "file:///p/cup.jpg": jpeg(cup)})
    files = {"file:///p/cat again.jpg": jpeg(cat), "file:///p/part.jpg": jpeg(part(cup, 0.02, 0.02, 0.95))}
    publish(shelf, "2026-11-21", "r2", files)
    publish(shelf, "2026-11-22", "r3", {"file:///p/other.jpg": jpeg(Image.fromarray(data.astronaut()))})
    return shelf


def get(clients: Clients, **asked: Any) -> dict[str, Any]:
    answer = clients("viewer").get(f"{API}/duplicates", params=asked)
    assert answer.status_code == 200, answer.text
    return answer.json()


def names(answer: dict[str, Any]) -> list[list[str]]:
    return sorted([file["name"] for file in group["files"]] for group in answer["groups"])


def test_the_run_page_says_how_many_files_have_a_twin_and_shows_the_check(clients: Clients, tmp_path: Path) -> None:
    shelf = Shelf(str(tmp_path / "store"))
    run = published(shelf)
    settings = DuplicatesSettings(store=shelf.store, partition=run.partition, run_id=run.run_id, dag_id=run.dag_id)
    address = f"{API}/runs/{quote(run.run_id, safe='')}"
    assert clients("viewer").get(address).json()["duplicates"] is None
    check = share.check(run.partition, {run.partition: 2}, {"2026-11-19": 3, run.partition: 3}, 7, 0.2)
    counts, outcome = {"groups": 1, "twins": 2}, {"checks": [check.to_json(), {"name": "of a newer version"}]}
    Path(settings.folder).mkdir(parents=True)
    left = Path(settings.folder, "duplicates.json")
    left.write_text(Timings().manifest("duplicates", settings, counts=counts, outcome=outcome).to_json())
    report = clients("viewer").get(address).json()
    assert report["duplicates"]["message"] == "2 files of this partition show the same picture as another."
    assert [one["name"] for one in report["stages"]][-1] == "duplicates"
    (shown,) = [one for one in report["checks"] if one["name"] == "duplicates"]
    assert (shown["passed"], shown["severity"], shown["limit"]) == (False, "warning", 0.2)
    left.unlink()
    error = contract.error_record("duplicates", contract.JobError("x", "No room."), settings.run)
    left.with_name("error.json").write_text(json.dumps(error))
    failed = clients("viewer").get(address).json()
    assert failed["duplicates"] == {
        "tone": "warning",
        "message": "The task duplicates failed: No room.",
        "hint": "Clear that task.",
    }
    assert failed["published"] and failed["stages"][-1]["state"] == "failed"


def test_groups_are_shown_by_partition_kind_and_similarity(clients: Clients, filled: Shelf) -> None:
    assert get(clients)["looked"] is False
    look(filled)
    cats, cups = ["cat.jpg", "cat again.jpg"], ["cup.jpg", "part.jpg"]
    everything = get(clients)
    assert names(everything) == sorted([cats, cups])
    assert (everything["looked"], everything["groups_total"], everything["files_total"]) == (True, 2, 4)
    assert everything["partitions"] == ["2026-11-21", "2026-11-20"] and everything["models"] == [MODEL]
    for group in everything["groups"]:
        assert [file["keeper"] for file in group["files"]] == [True, False]
    assert names(get(clients, partition="2026-11-20")) == sorted([cats, cups])
    assert names(get(clients, partition="2026-11-22")) == []
    assert names(get(clients, kind="exact")) == [cats]
    assert names(get(clients, kind="near")) == [cups]
    alike = max(file["similarity"] for group in get(clients, kind="near")["groups"] for file in group["files"])
    assert names(get(clients, similarity=(1 + alike) / 2)) == [cats]
    file = everything["groups"][0]["files"][0]
    picture = clients("viewer").get(f"{API}/thumbnails/{file['partition']}/{file['image_id']}")
    assert picture.headers["content-type"] == "image/webp"


def test_a_replaced_day_is_gone_after_the_next_look(clients: Clients, filled: Shelf) -> None:
    look(filled)
    assert get(clients)["groups_total"] == 2
    publish(filled, "2026-11-21", "r4", {"file:///p/new.jpg": jpeg(Image.fromarray(data.astronaut()))})
    look(filled)
    assert names(get(clients)) == [["new.jpg", "other.jpg"]]


@pytest.mark.parametrize(
    ("asked", "status"),
    [({"kind": "far"}, 400), ({"similarity": 2}, 400), ({"partition": "../x"}, 400), ({"model": "none"}, 404)],
)
def test_what_cannot_be_is_refused(asked: dict[str, Any], status: int, clients: Clients, filled: Shelf) -> None:
    answer = clients("viewer").get(f"{API}/duplicates", params=asked)
    assert answer.status_code == status
    assert answer.json().keys() == {"code", "message", "hint"}
