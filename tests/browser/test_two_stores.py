"""Three Dags and two stores as a person sees them: all at once, one after the other, and a run in two parts."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
from playwright.sync_api import Browser, expect

from demo.airflow_server import AirflowServer
from tests.browser.conftest import REPOSITORY, Open
from tests.browser.test_pages import PHONE, _content, _drawn, _frame, _has_no_serious_violation, _photograph
from tests.browser.two_stores import BOTH, BOTH_RUN, DAGS, DAYS, OTHER_MODEL, PHOTOS
from tests.shelf import MODEL

pytestmark = pytest.mark.timeout(900)

OVERVIEW = "/plugin/image-features"
DAG_FILE = """
from airflow.sdk import DAG
from image_features.operators import ExtractOperator, IngestOperator, ValidateOperator

STAGES = IngestOperator, ExtractOperator, ValidateOperator
with DAG({south!r}):
    ingest, extract, validate = (kind(task_id=kind.stage, store={stores[1]!r}) for kind in STAGES)
    ingest >> extract >> validate
with DAG({both!r}):
    ingest, extract, validate = (kind.partial(task_id=kind.stage).expand(store={stores!r}) for kind in STAGES)
    ingest >> extract >> validate
"""


@pytest.fixture(scope="module")
def airflow(chromium: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[AirflowServer]:
    """Airflow with the stock Dag, which fills the store in the north, one for the south and one for both."""
    folder, home = tmp_path_factory.mktemp("dags"), tmp_path_factory.mktemp("airflow")
    cameras = tmp_path_factory.mktemp("cameras")
    stores = [str(cameras / name) for name in PHOTOS]
    (folder / "cameras.py").write_text(DAG_FILE.format(south=DAGS["south"], both=BOTH, stores=stores))
    bundle = {"classpath": "airflow.dag_processing.bundles.local.LocalDagBundle"}
    bundles = [{"name": "dags-folder", "kwargs": {}}, {"name": "more", "kwargs": {"path": str(folder)}}]
    env = {
        "AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST": json.dumps([{**bundle, **one} for one in bundles]),
        "AIRFLOW__IMAGE_FEATURES__STORES": str(cameras),
    }
    with AirflowServer(home, store=stores[0], source="/photos/{partition}", env=env) as server:
        _enter(home, stores)
        yield server


def _enter(home: Path, stores: list[str]) -> None:
    """By a process, because this one has no Airflow of its own."""
    database = f"sqlite:///{home.resolve()}/airflow.db?timeout=60"
    env = {**os.environ, "AIRFLOW_HOME": str(home), "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": database}
    env["PYTHONPATH"] = os.pathsep.join([str(REPOSITORY), str(REPOSITORY / "plugins")])
    command = [sys.executable, "-m", "tests.browser.two_stores", *stores]
    subprocess.run(command, env=env, cwd=REPOSITORY, check=True)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_all_dags_and_stores_are_on_one_page(browse: Open, theme: str) -> None:
    page = browse(OVERVIEW, theme=theme)
    content = _content(page)
    table = content.get_by_role("table", name="Partitions, newest first")
    expect(table.get_by_role("columnheader", name="Dag")).to_be_visible()
    expect(content.get_by_label("Dag").locator("option")).to_have_text(["All Dags", BOTH, *sorted(DAGS.values())])
    expect(table.get_by_role("row", name=OTHER_MODEL).first).to_contain_text("north")
    expect(table.locator("tr.flagged").first).to_contain_text("south")
    expect(content.locator(".notice.bad")).to_contain_text("resnet18 has no layer layer9.")
    _has_no_serious_violation(_frame(page))
    _photograph(page, f"two-stores-overview-{theme}")


def test_a_dag_and_a_store_are_picked_and_the_address_keeps_them(browse: Open) -> None:
    page = browse(OVERVIEW)
    content = _content(page)
    content.get_by_label("Dag").select_option(DAGS["south"])
    rows = content.locator(".partitions tbody tr")
    expect(rows).to_have_count(len(DAYS))
    expect(content.locator(".charts figure")).to_have_count(6)
    content.get_by_label("Dag").select_option(BOTH)
    expect(content.get_by_label("Store").locator("option")).to_have_text(["All stores", "north", "south"])
    content.get_by_label("Store").select_option(label="north")
    expect(content.locator(".partitions tbody tr")).to_have_count(1)
    assert "store=" in _frame(page).url and f"dag_id={BOTH}" in _frame(page).url
    _photograph(page, "two-stores-one-dag")


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_a_run_in_parts_shows_the_one_that_failed_and_leads_to_the_other(browse: Open, theme: str) -> None:
    page = browse(f"/dags/{BOTH}/runs/{quote(BOTH_RUN, safe='')}/plugin/image-features-run", theme=theme)
    content = _content(page)
    expect(content.locator(".verdict .headline")).to_have_text("Failed")
    parts = content.get_by_role("table", name="Parts of this run")
    expect(parts.locator("tbody tr")).to_have_count(2)
    expect(parts.locator("tr.chosen")).to_contain_text("south")
    _has_no_serious_violation(_frame(page))
    _photograph(page, f"two-stores-run-{theme}")
    parts.get_by_role("link", name=DAYS[-1]).click()
    expect(content.locator(".verdict .headline")).to_have_text("Published")
    expect(parts.locator("tr.chosen")).to_contain_text("north")
    sample = content.locator(".sample .photo")
    expect(sample).to_have_count(len(PHOTOS["north"]))
    _drawn(sample.first.locator("img"))
    _photograph(page, f"two-stores-run-part-{theme}")


def test_explore_goes_from_one_store_to_the_other(browse: Open) -> None:
    page = browse(f"{OVERVIEW}/image-features/explore?dag_id={BOTH}")
    content = _content(page)
    names = content.locator("section[aria-labelledby=photos] .photo-name")
    expect(names).to_have_count(len(PHOTOS["north"]))
    content.get_by_label("Store").select_option(label="south")
    expect(content.locator(".notice")).to_contain_text("There is nothing to explore yet.")
    content.get_by_label("Dag").select_option(DAGS["south"])
    expect(names).to_have_count(len(PHOTOS["south"]))
    expect(content.get_by_label("Model")).to_have_value(MODEL)
    names.filter(has_text="coins.jpg").click()
    expect(content.locator(".query")).to_contain_text("coins.jpg")
    neighbours = content.locator(".neighbours .photos .photo")
    expect(neighbours).to_have_count(len(PHOTOS["south"]) - 1)
    _drawn(neighbours.first.locator("img"))
    _has_no_serious_violation(_frame(page))
    _photograph(page, "two-stores-explore")
    content.get_by_label("Dag").select_option(DAGS["north"])
    expect(names).to_have_count(len(PHOTOS["north"]))


def test_a_phone_shows_it_all(browse: Open) -> None:
    page = browse(OVERVIEW, width=PHONE[0], height=PHONE[1])
    row = _content(page).locator(".partitions tbody tr").first
    row.scroll_into_view_if_needed()
    key, status, dag = (row.locator(part).bounding_box() for part in ("th", "td.corner", "td[data-label=Dag]"))
    assert key and status and dag and key["y"] == status["y"] < dag["y"], "the status is beside the partition"
    overflow = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
    assert _frame(page).evaluate(overflow) <= 0
    _photograph(page, "two-stores-phone")
