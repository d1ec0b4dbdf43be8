"""The human step as a person walks through it: from the page of a rejected run to the question, and back to the page
that says who has answered what, and why. In a real Airflow, for minutes."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from demo.airflow_server import AirflowServer
from tests.browser.conftest import BAD, Open
from tests.browser.test_pages import RUN_SECONDS, _content, _frame, _has_no_serious_violation, _photograph, _run_tab

pytestmark = [pytest.mark.timeout(1800), pytest.mark.examples]

REASON = {"Reject": "The disk of camera 3 is full", "Approve": "Camera 3 is being replaced"}
SAID = {
    "Reject": re.compile(f"admin has left it so on .* UTC; reason: {REASON['Reject']}"),
    "Approve": re.compile(f"failed fraction overruled by admin on .* UTC: {REASON['Approve']}"),
}


@pytest.fixture(scope="module")
def airflow(chromium: Browser, landing: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[AirflowServer]:
    """Airflow whose stock Dag asks."""
    settings = {"MODEL": "resnet18", "WEIGHTS": "random:0", "RECHECK": "0", "ASK_TO_PUBLISH": "True"}
    env = {f"AIRFLOW__IMAGE_FEATURES__{name}": value for name, value in settings.items()}
    env["AIRFLOW_CONN_SPARK_DEFAULT"] = '{"conn_type": "spark", "host": "local[1]"}'
    home, store = tmp_path_factory.mktemp("airflow"), str(tmp_path_factory.mktemp("store") / "features")
    with AirflowServer(home, store=store, source=f"{landing}/{{partition}}", env=env) as server:
        yield server


@pytest.mark.parametrize(("answer", "theme"), [("Reject", "light"), ("Approve", "dark")])
def test_the_page_leads_to_the_question_and_says_what_was_answered(
    browse: Open, airflow: AirflowServer, answer: str, theme: str
) -> None:
    run_id = airflow.trigger({"partition": BAD})
    page = browse(_run_tab(run_id), theme=theme)
    content = _content(page)
    link = content.get_by_role("link", name="Answer under Required Actions")
    link.wait_for(timeout=RUN_SECONDS * 1000)
    expect(content.locator(".verdict .headline")).to_have_text("Rejected")
    expect(content.locator(".progress")).to_have_count(0)
    _has_no_serious_violation(_frame(page))
    _photograph(page, f"person-asked-{theme}")
    link.click()
    expect(page.get_by_text(f"Publish {BAD} despite failed fraction?")).to_be_visible()
    fields = page.locator("input[name^=element_]")
    expect(fields).to_have_count(1)
    fields.fill(REASON[answer])
    _photograph(page, f"person-question-{theme}")
    time.sleep(5)  # one second after the question, Airflow takes an answer for a task that changed by itself
    page.get_by_role("button", name=answer, exact=True).click()
    expect(page.get_by_text("from admin")).to_be_visible()
    runs = airflow.wait([run_id], timeout=RUN_SECONDS)
    assert runs[run_id]["state"] == {"Reject": "failed", "Approve": "success"}[answer]
    page = browse(_run_tab(run_id), theme=theme)
    expect(_content(page).locator(".verdict")).to_contain_text(SAID[answer])
    _photograph(page, f"person-answered-{theme}")
