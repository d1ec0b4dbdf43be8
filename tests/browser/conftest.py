"""Real Chromium on real Airflow on a store of two small days. Without a browser these tests are skipped, aloud."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, expect, sync_playwright
from skimage import data

from demo.airflow_server import AirflowServer

REPOSITORY = Path(__file__).resolve().parents[2]
SCREENSHOTS = REPOSITORY / "var" / "screenshots"
GOOD, BAD = "2026-11-19", "2026-11-20"
"""The day that is published and the day that is rejected."""
MARKUP = "<img src=x onerror=alert(1)>.jpg"
"""The name of a photo, which is no less a name for looking like markup."""
FLAGS = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync", "--disable-default-apps"),
)
PATIENCE_MS = 60_000
"""For a page that is slow because everything runs on this one machine."""
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
REQUIRED = os.environ.get("IMAGE_FEATURES_BROWSER") == "required"

Open = Callable[..., Page]


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> Iterator[None]:
    """Says last of all, where it is read, that the pages were not looked at."""
    yield
    skipped = [report for report in terminalreporter.stats.get("skipped", []) if "tests/browser" in report.nodeid]
    if skipped and not CHROMIUM:
        terminalreporter.section("No browser", yellow=True)
        terminalreporter.line(
            f"{len(skipped)} tests of the pages were skipped, because no Chromium was found. "
            "Install it with 'sudo apt install chromium' to run them."
        )


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """The browser of this machine; none is ever downloaded."""
    if CHROMIUM is None:
        if REQUIRED:
            pytest.fail("IMAGE_FEATURES_BROWSER=required, but no Chromium was found.")
        pytest.skip("no Chromium on this machine")
    expect.set_options(timeout=PATIENCE_MS)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def landing(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A day of eight photos with two broken files, and a day on which most files are broken."""
    folder = tmp_path_factory.mktemp("landing")
    names = ("astronaut", "chelsea", "coffee", "rocket", "camera", "coins", "moon", "page")
    for day, size, whole in ((GOOD, 260, len(names)), (BAD, 300, 3)):
        (folder / day).mkdir()
        for place, name in enumerate(names):
            file = folder / day / f"{name}.jpg"
            Image.fromarray(getattr(data, name)()).convert("RGB").crop((0, 0, size, size)).save(file)
            if place >= whole:
                file.write_bytes(file.read_bytes()[:1000])
        (folder / day / "interrupted.jpg").touch()
    (folder / GOOD / "moon.jpg").rename(folder / GOOD / MARKUP)
    (folder / GOOD / "readme.jpg").write_text("This is no photo.")
    return folder


@pytest.fixture(scope="module")
def airflow(chromium: Browser, landing: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[AirflowServer]:
    """Airflow with an empty store."""
    settings = {"MODEL": "resnet18", "WEIGHTS": "random:0", "MAX_FAILED_FRACTION": "0.3", "RECHECK": "0"}
    env = {f"AIRFLOW__IMAGE_FEATURES__{name}": value for name, value in settings.items()}
    env["AIRFLOW_CONN_SPARK_DEFAULT"] = '{"conn_type": "spark", "host": "local[1]"}'
    store = str(tmp_path_factory.mktemp("store") / "features")
    with AirflowServer(
        tmp_path_factory.mktemp("airflow"), store=store, source=f"{landing}/{{partition}}", env=env
    ) as server:
        yield server


@pytest.fixture(scope="module")
def session_state(chromium: Browser, airflow: AirflowServer) -> dict[str, object]:
    """The cookies of a person who has signed in through Airflow's own page."""
    context = chromium.new_context()
    page = context.new_page()
    page.goto(airflow.url)
    page.locator("input[name=username]").fill(airflow.username)
    page.locator("input[name=password]").fill(airflow.password)
    page.keyboard.press("Enter")
    page.get_by_role("link", name="Image features").wait_for()
    state = context.storage_state()
    context.close()
    return dict(state)


@pytest.fixture
def errors() -> Iterator[list[str]]:
    """What the browser's console complained of; a test fails when there is anything in the end."""
    found: list[str] = []
    yield found
    assert found == []


@pytest.fixture
def browse(
    chromium: Browser, airflow: AirflowServer, session_state: dict[str, object], errors: list[str]
) -> Iterator[Open]:
    """A function that opens a path of Airflow, signed in."""
    contexts: list[BrowserContext] = []

    def listen(message: ConsoleMessage) -> None:
        if message.type == "error":
            errors.append(f"{message.text} ({message.location.get('url', '')})")

    def open_page(path: str, *, theme: str = "light", width: int = 1440, height: int = 900) -> Page:
        context = chromium.new_context(
            storage_state=session_state,  # type: ignore[arg-type]
            viewport={"width": width, "height": height},
            locale="en-US",
            timezone_id="Europe/Berlin",
        )
        context.set_default_timeout(PATIENCE_MS)
        context.add_init_script(f"localStorage.getItem('theme') ?? localStorage.setItem('theme', '{theme}')")
        contexts.append(context)
        page = context.new_page()
        page.on("console", listen)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(airflow.url + path)
        return page

    yield open_page
    for context in contexts:
        for page in context.pages:
            page.unroute_all(behavior="ignoreErrors")
        context.close()
