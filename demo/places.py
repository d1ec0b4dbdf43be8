"""Where the demo keeps things: everything lies below `var/`, which git ignores."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
VAR = ROOT / "var"
LANDING = VAR / "demo" / "landing"
STORE = VAR / "demo" / "store"
SUMMARY = VAR / "demo" / "summary.json"
CONTACT_SHEET = VAR / "demo" / "contact-sheet.png"
AIRFLOW_HOME = VAR / "airflow"


def source() -> str:
    """The setting `source` of the pipeline."""
    return f"{LANDING}/{{partition}}"


def shown(path: Path) -> str:
    """`path` as a person standing in the checkout would write it."""
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else str(path)
