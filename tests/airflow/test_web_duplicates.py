"""The groups of duplicates through a real api-server: by partition, kind and similarity, the one to keep first."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from PIL import Image
from skimage import data

from tests.airflow.web import API
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
