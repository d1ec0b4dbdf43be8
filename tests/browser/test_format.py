"""How the pages write what has little room, in Chromium."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Browser

JAVASCRIPT = Path(__file__).resolve().parents[2] / "plugins" / "image_features" / "web" / "static" / "js"
CALL = """async ([text, key]) => {
  const module = await import(URL.createObjectURL(new Blob([text], { type: "text/javascript" })));
  return module.shortKey(key);
}"""


@pytest.mark.parametrize(
    ("key", "short"),
    [
        ("2026-11-22", "Nov 22"),
        ("2026-11-22T07", "Nov 22 07h"),
        ("2026-10-25T02_0100", "Oct 25 02h"),
        ("2026-11-01T01-0400", "Nov 1 01h"),
        ("2026-W47", "2026-W47"),
        ("batch-7", "batch-7"),
        ("cam-a_2026-11-22", "…2026-11-22"),
        ("2026-13-45", "2026-13-45"),
        ("2026-11-22T07-30_0100", "…07-30_0100"),
    ],
)
def test_a_partition_key_keeps_what_tells_it_from_its_neighbours(chromium: Browser, key: str, short: str) -> None:
    page = chromium.new_page()
    page.goto("about:blank")
    assert page.evaluate(CALL, [(JAVASCRIPT / "format.js").read_text(), key]) == short
    page.close()
