"""The pages on a store that an older version wrote: overview, runs, quarantine and photos."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from fastapi.testclient import TestClient

from tests import old_store
from tests.airflow.test_web_pages import get, no_runs
from tests.airflow.web import Run
from tests.old_store import FEATURED, MODEL, QUARANTINED, RUNS

__all__ = ["get", "no_runs"]


@pytest.fixture(autouse=True)
def store(tmp_path: Path) -> str:
    """The store that is configured."""
    return old_store.unpack(tmp_path)


def test_every_old_day_is_shown_with_its_numbers(get: Callable[[str], Any]) -> None:
    overview = get("overview")
    assert overview["store"]["code"] == "ok" and overview["models"] == [MODEL]
    shown = {row["partition"]: row for row in overview["partitions"]}
    assert {day: row["published_run_id"] for day, row in shown.items()} == RUNS
    for day, row in shown.items():
        assert (row["status"], row["rows"]) == ("published", len(FEATURED[day]))
        assert (row["quarantined"], row["checks_failed"]) == (1, [])


@pytest.mark.parametrize("partition", RUNS)
def test_every_old_run_is_shown(
    partition: str,
    store: str,
    get: Callable[[str], Any],
    clients: Callable[[str], TestClient],
) -> None:
    run = Run(store, partition, RUNS[partition]).enter()
    page = get(f"runs/{quote(run.run_id)}")
    assert page["published"] and page["counts"]["featured"] == len(FEATURED[partition])
    aside = get(f"runs/{quote(run.run_id)}/quarantine")
    assert {row["name"]: row["code"] for row in aside["files"]} == QUARANTINED[partition]
    photos = get(f"partitions/{partition}/photos")["photos"]
    assert len(photos) + sum(photo["copies"] - 1 for photo in photos) == len(FEATURED[partition])
    assert get(f"runs/{quote(run.run_id)}/poor")["measured"] == 0
    found = get(f"partitions/{partition}/neighbours?image={photos[0]['image_id']}")
    assert len(found["neighbours"]) == len(photos) - 1
