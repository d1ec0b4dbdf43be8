"""The pages as a person sees them: inside Airflow, in both themes, on a laptop and on a phone.

The first tests look at the empty store and watch a run while it runs; the others wait until it and its neighbour have
ended. Every page that is looked at is photographed into var/screenshots.
"""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from axe_playwright_python.sync_playwright import Axe
from PIL import Image
from playwright.sync_api import Frame, Locator, Page, Route, expect

from demo.airflow_client import ServerError
from demo.airflow_server import AirflowServer
from spark_apps import contract, model, storage
from spark_apps.contract import ModelSettings
from spark_apps.extractors import kept_models
from spark_apps.model import words
from tests import small_open_clip
from tests.browser.conftest import BAD, GOOD, MARKUP, PATIENCE_MS, SCREENSHOTS, Open
from tests.browser.two_stores import PhotoShelf
from tests.shelf import Shelf

pytestmark = pytest.mark.timeout(1800)

OVERVIEW = "/plugin/image-features"
EXPLORE = f"{OVERVIEW}/image-features/explore?partition={GOOD}"
RUN_SECONDS = 800
LAPTOP, PHONE = (1440, 900), (390, 844)


@pytest.fixture(scope="module")
def begun(airflow: AirflowServer) -> dict[str, str]:
    """Day → id of its run; both have been triggered."""
    return {day: airflow.trigger({"partition": day}) for day in (GOOD, BAD)}


@pytest.fixture(scope="module")
def ended(airflow: AirflowServer, begun: dict[str, str]) -> dict[str, str]:
    """Day → id of its run; the first is published, the second rejected by its checks."""
    runs = airflow.wait(begun.values(), timeout=RUN_SECONDS)
    assert [runs[run_id]["state"] for run_id in begun.values()] == ["success", "failed"]
    return begun


# --- before the first run ---------------------------------------------------------------------------------------------


def test_an_empty_store_says_how_to_start(browse: Open) -> None:
    page = browse(OVERVIEW)
    content = _content(page)
    expect(content.get_by_role("heading", name="No photos have been turned into vectors yet")).to_be_visible()
    expect(content.locator("li")).to_have_count(4)
    _has_no_serious_violation(_frame(page))
    _photograph(page, "overview-empty")
    content.get_by_role("link", name="image_features").click()
    expect(page).to_have_url(re.compile("/dags/image_features"))


# --- the run ----------------------------------------------------------------------------------------------------------


def test_a_run_is_watched_from_its_beginning_to_its_verdict(
    browse: Open, airflow: AirflowServer, begun: dict[str, str]
) -> None:
    page = browse(_run_tab(begun[GOOD]))
    content = _content(page)
    expect(content.locator(".verdict .headline")).to_have_text(re.compile("Running|Queued"))
    expect(content.locator(".progress .stages li")).to_have_count(3)
    _photograph(page, "run-live")
    _has_no_serious_violation(_frame(page))
    expect(content.locator(".verdict .headline")).to_have_text("Published with warnings", timeout=RUN_SECONDS * 1000)
    expect(content.locator(".progress")).to_have_count(0)
    expect(content.get_by_role("heading", name="Checks")).to_be_visible()
    airflow.wait(begun.values(), timeout=RUN_SECONDS)


def test_the_tab_of_a_run_says_that_its_numbers_add_up(browse: Open, ended: dict[str, str]) -> None:
    content = _content(browse(_run_tab(ended[GOOD])))
    expect(content.locator(".verdict .headline")).to_have_text("Published with warnings")
    listed, featured, quarantined = (int(text) for text in content.locator(".equation dd").all_inner_texts())
    assert (listed, featured, quarantined) == (10, 8, 2)
    rows = content.get_by_role("table", name="Checks").get_by_role("row")
    warned, *others = [_cells(row) for row in rows.all()[1:]]
    assert {cells[0] for cells in others} == {"passed"}
    assert warned[:4] == ["warning", "warning", "20 %", "at most 30 % without a warning at most 5 %"]
    expect(content.locator(".times .time")).to_have_count(3)
    for title in ("Norms of this run", "Norms by partition", "Drift by partition"):
        expect(content.locator("figure", has_text=title)).to_be_visible()


def test_quarantined_files_have_reasons_and_photos_are_drawn(browse: Open, ended: dict[str, str]) -> None:
    content = _content(browse(_run_tab(ended[GOOD])))
    reasons = content.locator(".reasons li")
    expect(reasons).to_have_count(2)
    assert {reason.locator("code").inner_text() for reason in reasons.all()} == {"empty", "not_an_image"}
    expect(content.locator(".quarantined tbody tr")).to_have_count(2)
    sample = content.locator(".sample .photo")
    expect(sample).to_have_count(8)
    _drawn(sample.first.locator("img"))
    expect(content.locator(".sample .photo-name", has_text=MARKUP)).to_be_visible()


def test_the_poorest_photos_are_drawn_with_their_values(browse: Open, ended: dict[str, str]) -> None:
    content = _content(browse(_run_tab(ended[GOOD])))
    kinds = content.locator(".poor-kind")
    expect(kinds).to_have_count(3)
    expect(kinds.nth(0).get_by_role("heading")).to_have_text("Blank 0 of 8 photos with contrast below 2")
    expect(kinds.nth(0).locator(".photo")).to_have_count(0)
    for kind in (kinds.nth(1), kinds.nth(2)):
        expect(kind.locator(".photo")).to_have_count(6)
        kind.scroll_into_view_if_needed()
        _drawn(kind.locator("img").first)
        expect(kind.locator(".photo-facts", has_text=re.compile("brightness|sharpness"))).to_have_count(6)


def test_what_moved_the_drift_is_drawn_beside_a_second_opinion(
    browse: Open, airflow: AirflowServer, ended: dict[str, str]
) -> None:
    page = browse(OVERVIEW)

    def of_a_drifted_day(route: Route) -> None:
        report = route.fetch().json()
        photos = page.request.get(f"{route.request.url.partition('?')[0]}/photos").json()["photos"][:3]
        moved = [{"image_id": one["image_id"], "name": one["name"], "moved": 0.25} for one in photos]
        second = {"today": 256, "before": 240, "mmd2": 0.05, "p": 0.002, "auc": 0.753}
        report["drift"] |= {"value": 0.31, "limit": 0.5, "moved": moved, "second_opinion": second}
        route.fulfill(json=report)

    page.route(re.compile(r"/api/image_features/runs/[^/]+$"), of_a_drifted_day)
    page.goto(airflow.url + _run_page(ended[GOOD]))
    panel = _content(page).get_by_role("region", name="What the drift says")
    expect(panel.locator(".figure")).to_have_text(["0.310 limit 0.5", "0.75 AUC, 0.5 is chance"])
    expect(panel).to_contain_text("in 75 of 100 pairs")
    expect(panel.locator(".photo")).to_have_count(3)
    _drawn(panel.locator("img").first)
    expect(panel.locator(".photo-facts")).to_have_text(["moved0.250"] * 3)
    _has_no_serious_violation(_frame(page))
    panel.get_by_role("link").first.click()
    expect(_content(page).locator(".neighbours")).to_be_visible()


def test_a_rejected_run_says_which_check_failed_and_by_how_much(browse: Open, ended: dict[str, str]) -> None:
    page = browse(_run_tab(ended[BAD]))
    content = _content(page)
    expect(content.locator(".verdict .headline")).to_have_text("Rejected")
    first = content.get_by_role("table", name="Checks").get_by_role("row").nth(1)
    expect(first.get_by_role("rowheader")).to_contain_text("failed_fraction")
    assert _cells(first)[:4] == ["failed", "error", "66.67 %", "at most 30 % without a warning at most 5 %"]
    first.get_by_text("6 files").click()
    expect(first.get_by_text("interrupted.jpg")).to_be_visible()
    truncated = content.locator(".quarantined tr", has_text="camera.jpg")
    expect(truncated).to_contain_text("truncated")
    _drawn(truncated.locator("img"))
    _has_no_serious_violation(_frame(page))
    _photograph(page, "run-rejected")


def test_progress_moves_by_itself_and_rests_while_nobody_looks(
    browse: Open, airflow: AirflowServer, ended: dict[str, str]
) -> None:
    """The server's answer is made that of a run in the middle of extract, a little further when that was seen."""
    page = browse(OVERVIEW)
    asked, done = [], 500

    def still_running(route: Route) -> None:
        asked.append(time.monotonic())
        report = route.fetch().json()
        numbers = {"total": 1000, "done": done, "failed": 1, "images_per_second": 84.2, "eta_s": 75.0}
        report["progress"] = {"stage": "extract", "at": "2026-11-22T08:00:00+00:00", **numbers}
        report["stages"][1]["state"], report["live"] = "running", True
        route.fulfill(json=report)

    page.route(re.compile(r"/api/image_features/runs/[^/]+$"), still_running)
    page.goto(airflow.url + _run_page(ended[GOOD]))
    progress = _content(page).locator(".progress")
    expect(progress).to_contain_text("501 of 1,000 files, 84.2 images/s, 1 quarantined, about 1 min 15 s left")
    done = 700
    expect(progress).to_contain_text("701 of 1,000 files")
    assert progress.locator("progress").evaluate("bar => bar.value") >= 0.7
    _photograph(page, "run-progress")
    frame = _frame(page)
    frame.evaluate(HIDE, True)
    page.wait_for_timeout(2000)  # for an answer that was under way
    before, done = len(asked), 800
    page.wait_for_timeout(6000)
    assert len(asked) == before
    frame.evaluate(HIDE, False)
    expect(progress).to_contain_text("801 of 1,000 files")


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_page_of_an_int8_run_says_how_close_its_model_is(
    browse: Open, airflow: AirflowServer, ended: dict[str, str], theme: str
) -> None:
    page = browse(OVERVIEW, theme=theme)
    lowest = {"cosine_min": 0.98361, "cosine_q01": 0.98852, "cosine_q05": 0.99317, "cosine_median": 0.99871}
    calibration = {"partition": GOOD, "photos": 150, "held_out": 75, "below": 0.013333, **lowest}

    def of_int8(route: Route) -> None:
        report = route.fetch().json()
        report["model"] |= {"precision": "int8", "calibration": calibration}
        route.fulfill(json=report)

    page.route(re.compile(r"/api/image_features/runs/[^/]+$"), of_int8)
    page.goto(airflow.url + _run_page(ended[GOOD]))
    facts = _content(page).locator("details", has_text="Model, source and versions")
    facts.locator("summary").click()
    told = dict(zip(facts.locator("dt").all_inner_texts(), facts.locator("dd").all_inner_texts(), strict=True))
    assert told["Calibrated"] == f"on 150 photos of {GOOD}"
    assert told["Cosine to fp32"] == (
        "smallest 0.9836, 1 % 0.9885, 5 % 0.9932, median 0.9987, 1.33 % below 0.99, over 75 photos it has not seen"
    )
    _has_no_serious_violation(_frame(page))
    facts.scroll_into_view_if_needed()
    _photograph(page, f"run-int8-{theme}")


HIDE = """hidden => {
    Object.defineProperty(document, "hidden", { value: hidden, configurable: true });
    document.dispatchEvent(new Event("visibilitychange"));
}"""
"""Makes a page believe that its tab is hidden, or seen again."""


def test_the_tab_of_a_task_shows_its_run(browse: Open, ended: dict[str, str]) -> None:
    page = browse(f"/dags/image_features/runs/{quote(ended[GOOD])}/tasks/validate/plugin/image-features-task")
    expect(_content(page).locator(".verdict .headline")).to_have_text("Published with warnings")


# --- the overview -----------------------------------------------------------------------------------------------------


def test_the_navigation_leads_to_the_partitions_and_on_to_a_run(browse: Open, ended: dict[str, str]) -> None:
    page = browse("/")
    page.get_by_role("link", name="Image features").click()
    content = _content(page)
    table = content.get_by_role("table", name="Partitions, newest first")
    keys = table.get_by_role("rowheader")
    expect(keys).to_contain_text([BAD, GOOD])
    failure = content.locator(".notice.bad")
    expect(failure).to_contain_text("1 of 2 partitions not published.")
    expect(failure).to_contain_text("failed_fraction did not pass")
    expect(content.locator(".charts figure")).to_have_count(6)
    _photograph(page, "overview")
    failure.get_by_role("link", name=BAD).click()
    expect(content.locator(".verdict .headline")).to_have_text("Rejected")
    page.reload()
    expect(content.locator(".verdict .headline")).to_have_text("Rejected")
    content.get_by_role("link", name=ended[BAD]).click()
    expect(page).to_have_url(re.compile(f"/dags/image_features/runs/{re.escape(quote(ended[BAD], safe=''))}"))
    expect(page.get_by_role("heading", name=ended[BAD])).to_be_visible()


def test_partitions_are_filtered_by_model(browse: Open, ended: dict[str, str]) -> None:
    content = _content(browse(OVERVIEW))
    model = content.get_by_label("Model")
    model.select_option("resnet18-random_0-fp32")
    expect(content.get_by_role("link", name=GOOD)).not_to_have_count(0)
    expect(model).to_have_value("resnet18-random_0-fp32")


# --- exploring --------------------------------------------------------------------------------------------------------


def test_a_photo_leads_to_its_neighbours_and_they_to_theirs(browse: Open, ended: dict[str, str]) -> None:
    page = browse(OVERVIEW)
    content = _content(page)
    content.get_by_role("link", name="Explore", exact=True).click()
    photos = content.locator("section[aria-labelledby=photos] .photo")
    expect(photos).to_have_count(8)
    photos.filter(has_text="coffee.jpg").get_by_role("link").click()
    expect(content.locator(".query")).to_contain_text("coffee.jpg")
    neighbours = content.locator(".neighbours .photos .photo")
    expect(neighbours).to_have_count(7)
    distances = [
        float(text.split()[-1]) for text in neighbours.locator(".number", has_text="distance").all_inner_texts()
    ]
    assert distances == sorted(distances) and distances[0] > 0
    _drawn(neighbours.first.locator("img"))
    _photograph(page, "explore")
    nearest = neighbours.first.locator(".photo-name").inner_text()
    neighbours.first.get_by_role("link").click()
    expect(content.locator(".query")).to_contain_text(nearest)
    _frame(page).evaluate("history.back()")
    expect(content.locator(".query")).to_contain_text("coffee.jpg")


def test_a_photo_of_ones_own_finds_itself(browse: Open, ended: dict[str, str], landing: Path) -> None:
    page = browse(EXPLORE)
    content = _content(page)
    content.locator("input[type=file]").set_input_files(landing / GOOD / "chelsea.jpg")
    nearest = content.locator(".neighbours .photos .photo").first
    expect(nearest).to_contain_text("chelsea.jpg", timeout=120_000)
    expect(nearest).to_contain_text("distance 0.000")
    _drawn(content.locator(".query img"))
    _photograph(page, "explore-upload")


@pytest.fixture(scope="module")
def by_hand(ended: dict[str, str], airflow: AirflowServer, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Two partitions more: texts, and photos of a model that knows words, whose vectors are those of the words here.

    Name of a photo → words.
    """
    files = {f"file:///texts/{name}.txt": f"All about {name}." for name in ("tea", "coffee")}
    Shelf(airflow.store).publish("texts", "by-hand", files, model="words_4")
    _leave(airflow, "texts", "ingest", settings={"source": "file:///texts", "extractor": "text"})

    towers = model.prepare(ModelSettings(small_open_clip.register(tmp_path_factory.mktemp("architecture")), "random:0"))
    kept_models.keep(airflow.store, towers)
    assert towers.folder
    side = words.opened(towers.info, towers.folder, 1)
    said = {"coffee": "a cup of coffee", "chelsea": "a cat", "rocket": "a rocket that starts"}
    photos = {f"file:///photos/{name}.jpg": name for name in said}
    PhotoShelf(airflow.store).publish(
        "worded", "by-hand", photos, model=towers.key, fingerprint=towers.fingerprint,
        vectors={uri: side.vector(said[name]).tolist() for uri, name in photos.items()},
    )  # fmt: skip
    _leave(airflow, "worded", "ingest", settings={"source": "file:///photos"})
    _leave(airflow, "worded", "extract", model=towers.info)
    time.sleep(6)  # what the pages know of the store may be five seconds old
    return said


def _leave(airflow: AirflowServer, partition: str, stage: str, **facts: Any) -> None:
    """The manifest of a stage of the run "by-hand"."""
    empty: dict[str, Any] = {"settings": {}, "counts": {}, "seconds": {}, "versions": {}}
    moment = {"started_at": contract.now(), "finished_at": contract.now()}
    manifest = contract.Manifest(
        stage=stage, run_id="by-hand", partition=partition, code_hash="", **moment, **{**empty, **facts}
    )
    place = contract.join(airflow.store, "runs", partition, "by-hand", f"{stage}.json")
    storage.write_bytes(place, manifest.to_json().encode())


def test_a_partition_of_another_model_can_be_gone_to_and_left(browse: Open, by_hand: dict[str, str]) -> None:
    """Texts here; the pages call things by what they are."""
    content = _content(browse(EXPLORE))
    title = content.locator("#photos")
    expect(title).to_have_text(f"Photos of {GOOD}")
    content.get_by_role("combobox", name="Partition", exact=True).select_option("texts")
    expect(title).to_have_text("Texts of texts")
    expect(content.get_by_label("Model")).to_have_value("words_4")
    expect(content.locator(".upload")).to_contain_text("Find a text of your own")
    expect(content.locator(".photos .photo")).to_have_count(2)
    content.get_by_role("combobox", name="Partition", exact=True).select_option(GOOD)
    expect(title).to_have_text(f"Photos of {GOOD}")


def test_words_find_the_photo_that_they_say(browse: Open, by_hand: dict[str, str]) -> None:
    page = browse(EXPLORE)
    content = _content(page)
    expect(content.locator("#photos")).to_have_text(f"Photos of {GOOD}")
    field = content.get_by_label("What the photo shows")
    expect(field).to_have_count(0)  # a ResNet knows no words
    content.get_by_role("combobox", name="Partition", exact=True).select_option("worded")
    expect(content.locator("#photos")).to_have_text("Photos of worded")
    neighbours = content.locator(".neighbours .photos .photo")
    for name, said in by_hand.items():
        field.fill(said)
        field.press("Enter")
        expect(content.locator(".query")).to_contain_text(said, timeout=120_000)
        expect(neighbours).to_have_count(len(by_hand))
        expect(neighbours.first).to_contain_text(f"{name}.jpg")
        expect(neighbours.first).to_contain_text("distance 0.000")
        expect(field).to_have_value(said)
    _drawn(neighbours.first.locator("img"))
    _has_no_serious_violation(_frame(page))
    _photograph(page, "explore-words")
    first, second, _ = by_hand.values()
    for earlier in (second, first):
        _frame(page).evaluate("history.back()")
        expect(content.locator(".query")).to_contain_text(earlier)
        expect(field).to_have_value(earlier)
    neighbours.first.get_by_role("link").click()
    expect(content.locator(".query")).to_contain_text("coffee.jpg")
    expect(field).to_have_value("")


def test_a_file_that_is_no_photo_is_refused_in_words(
    browse: Open, ended: dict[str, str], tmp_path: Path, errors: list[str]
) -> None:
    forged = tmp_path / "forged.jpg"
    forged.write_text("This is no photo.")
    content = _content(browse(EXPLORE))
    content.locator("input[type=file]").set_input_files(forged)
    expect(content.locator(".result .notice.bad")).to_be_visible(timeout=120_000)
    assert len(errors) == 1 and "status of 4" in errors.pop(), "the browser notes the refusal itself"


def test_a_photo_may_be_dropped_on_the_page(browse: Open, ended: dict[str, str], landing: Path) -> None:
    page = browse(EXPLORE)
    expect(_content(page).locator("section[aria-labelledby=photos] .photo")).to_have_count(8)
    drop = """async (address) => {
        const content = await (await fetch(address)).blob();
        const files = new DataTransfer();
        files.items.add(new File([content], "dropped.webp", { type: "image/webp" }));
        document.body.dispatchEvent(new DragEvent("drop", { dataTransfer: files, bubbles: true, cancelable: true }));
    }"""
    frame = _frame(page)
    picture = frame.locator(".photo img").first
    frame.evaluate(drop, picture.get_attribute("src"))
    expect(_content(page).locator(".query")).to_contain_text("dropped.webp", timeout=120_000)


# --- look and feel ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("size", [LAPTOP, PHONE], ids=["laptop", "phone"])
@pytest.mark.parametrize("name", ["overview", "run", "explore"])
def test_a_page_is_at_home_accessible_and_calm(
    browse: Open, ended: dict[str, str], name: str, size: tuple[int, int], theme: str
) -> None:
    run = (_run_tab if size == LAPTOP else _run_page)(ended[GOOD])  # on a phone Airflow leaves no room for its tabs
    page = browse(
        {"overview": OVERVIEW, "run": run, "explore": EXPLORE}[name], theme=theme, width=size[0], height=size[1]
    )
    frame = _frame(page)
    if name == "explore":
        frame.locator(".photo").first.get_by_role("link").click()
        frame.locator(".neighbours").wait_for()
    frame.locator("main[aria-busy=false]").wait_for()
    if name != "explore":
        frame.locator("figure canvas").first.wait_for()
    assert frame.evaluate("document.documentElement.dataset.theme") == theme
    ours, airflows = (_background(place) for place in (frame.locator("html"), page.locator("html")))
    assert ours == airflows
    assert frame.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
    _has_no_serious_violation(frame)
    _photograph(page, f"{name}-{theme}-{size[0]}")
    assert frame.evaluate(LAYOUT_SHIFT) < 0.1


LAYOUT_SHIFT = """() => new Promise((tell) => {
    let sum = 0;
    new PerformanceObserver((list) => {
        for (const entry of list.getEntries()) if (!entry.hadRecentInput) sum += entry.value;
    }).observe({ type: "layout-shift", buffered: true });
    setTimeout(() => tell(sum), 200);
})"""
"""The cumulative layout shift of a page; below 0.1 counts as good (Web Vitals)."""


def test_the_pages_follow_a_change_of_theme(browse: Open, ended: dict[str, str]) -> None:
    page = browse(OVERVIEW)
    frame = _frame(page)
    frame.locator(".charts").wait_for()
    frame.wait_for_function("document.documentElement.dataset.theme === 'light'", timeout=PATIENCE_MS)
    page.get_by_role("button", name="User").click()
    page.get_by_role("menuitem", name="Appearance").click()
    page.get_by_role("menuitemradio", name="Dark Mode").click()
    page.locator("html.dark").wait_for()
    frame.wait_for_function("document.documentElement.dataset.theme === 'dark'", timeout=PATIENCE_MS)


def test_a_page_is_used_by_keyboard_alone(browse: Open, ended: dict[str, str]) -> None:
    page = browse(EXPLORE)
    content = _content(page)
    content.locator("section[aria-labelledby=photos] .photo").first.wait_for()
    content.get_by_role("combobox", name="Partition", exact=True).focus()
    for _ in range(12):
        page.keyboard.press("Tab")
        focused = _frame(page).evaluate("document.activeElement.matches('.photo a')")
        if focused:
            break
    assert focused
    assert _frame(page).evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    page.keyboard.press("Enter")
    expect(content.get_by_role("heading", name="Nearest neighbours")).to_be_focused()


def test_times_are_in_the_zone_that_was_chosen_in_airflow(browse: Open, ended: dict[str, str]) -> None:
    page = browse(OVERVIEW)
    content = _content(page)
    expect(content.get_by_role("columnheader", name="Finished (Europe/Berlin)")).to_have_count(1)
    page.evaluate("localStorage.setItem('timezone', JSON.stringify('Asia/Tokyo'))")
    page.reload()
    expect(content.get_by_role("columnheader", name="Finished (Asia/Tokyo)")).to_have_count(1)


# --- Airflow around them ----------------------------------------------------------------------------------------------


def test_the_trigger_form_is_drawn_with_its_choices(browse: Open, ended: dict[str, str]) -> None:
    page = browse("/dags/image_features")
    page.get_by_role("button", name="Trigger").first.click()
    dialog = page.get_by_role("dialog")
    for field in ("partition", "source", "weights"):
        expect(dialog.locator(f"[name=element_{field}]")).to_have_count(1)
    dialog.get_by_role("button", name="Model", exact=True).click()
    expect(dialog.get_by_text("Batch size", exact=False).first).to_be_visible()
    _photograph(page, "trigger-form")


def test_airflow_lists_the_plugin_and_every_view(airflow: AirflowServer) -> None:
    plugins = {plugin["name"]: plugin for plugin in airflow.api("GET", "/api/v2/plugins")["plugins"]}
    ours = plugins["image_features"]
    assert [app["url_prefix"] for app in ours["fastapi_apps"]] == ["/image-features"]
    assert {view["destination"] for view in ours["external_views"]} == {"nav", "dag_run", "task_instance"}
    with pytest.raises(ServerError, match="404"):
        airflow.api("GET", "/image-features/static/js/../../app.py")


# --- helpers ----------------------------------------------------------------------------------------------------------


def _run_tab(run_id: str) -> str:
    return f"/dags/image_features/runs/{quote(run_id)}/plugin/image-features-run"


def _run_page(run_id: str) -> str:
    """The same page, reached from the overview."""
    return f"{OVERVIEW}/image-features/runs?dag_id=image_features&run_id={quote(run_id, safe='')}"


def _content(page: Page) -> Locator:
    """What is inside the frame of the plugin."""
    return page.frame_locator("iframe[title='Image features']").locator("html")


def _frame(page: Page) -> Frame:
    """The frame of the plugin, when its page is there."""
    _content(page).locator("main").wait_for()
    frame = page.locator("iframe[title='Image features']").element_handle().content_frame()
    assert frame is not None
    return frame


def _cells(row: Locator) -> list[str]:
    """The cells of a row as a screen reader has them, without the signs that only eyes get."""
    texts = row.get_by_role("cell").all_inner_texts()
    return [" ".join(re.sub("[≤≥]", "", text).split()) for text in texts]


def _drawn(image: Locator) -> None:
    """Waits until a picture is there; raises when it is broken."""
    image.scroll_into_view_if_needed()
    expect(image).to_have_js_property("complete", True)
    assert image.evaluate("image => image.decode().then(() => image.naturalWidth)") > 0


def _background(place: Locator) -> str:
    """The colour as the browser paints it, whatever way it is written."""
    paint = """place => {
        const pen = new OffscreenCanvas(1, 1).getContext("2d");
        pen.fillStyle = getComputedStyle(place).backgroundColor;
        pen.fillRect(0, 0, 1, 1);
        return [...pen.getImageData(0, 0, 1, 1).data].join();
    }"""
    return str(place.evaluate(paint))


def _has_no_serious_violation(frame: Frame) -> None:
    found = Axe().run(frame).response["violations"]
    serious = [violation for violation in found if violation["impact"] in ("serious", "critical")]
    told = [f"{item['id']}: {item['help']}: {[node['html'][:200] for node in item['nodes'][:3]]}" for item in serious]
    assert told == []


def _photograph(page: Page, name: str) -> None:
    """Keeps a picture of the window, and checks that there is something on it."""
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    file = SCREENSHOTS / f"{name}.png"
    page.screenshot(path=file)
    with Image.open(file) as picture:
        assert len(picture.convert("RGB").getcolors(2**24) or []) > 50
