"""Where the benchmarks keep things: below `var/bench`, which git ignores, but for what the docs show."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BENCH = ROOT / "var" / "bench"
PHOTOS = BENCH / "photos"
STORE = BENCH / "store"
WORK = BENCH / "work"
REPORT = BENCH / "report.json"
CHARTS = BENCH / "charts"
HOOKS = Path(__file__).parent / "hooks"
DOCS = ROOT / "docs" / "benchmarks.md"
DOCS_IMAGES = ROOT / "docs" / "images"
