"""The report as charts: SVG that reads on a white and on a dark page, the same bytes for the same report."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("svg")
from matplotlib import pyplot as plt

from benchmarks.systems import TITLES

INK = "#57606a"
COLOURS = {"ours": "#0969da", "ceiling": "#8c959f", "engine inside": "#bf8700", "as documented": "#a40e26"}
WIDTH = 8.0
"""Inches."""


def draw(report: dict[str, Any], folder: Path) -> list[Path]:
    """`bench-*.svg` in `folder`: those that the report has numbers for."""
    folder.mkdir(parents=True, exist_ok=True)
    matplotlib.rcParams.update({"svg.hashsalt": "bench", "svg.fonttype": "none", "font.family": "sans-serif"})
    made = [_throughput(report, folder / "bench-throughput.svg"), _start(report, folder / "bench-start.svg")]
    if "growth" in report["scenarios"]:
        made.append(_growth(report["scenarios"]["growth"], folder / "bench-growth.svg"))
    if "megapixels" in report["scenarios"]:
        made.append(_megapixels(report["scenarios"]["megapixels"], folder / "bench-megapixels.svg"))
    return made


def _throughput(report: dict[str, Any], path: Path) -> Path:
    """Steady images/s of every system; the whisker runs from the slowest to the fastest pass."""
    items = [item for item in report["results"] if item["steady_images_per_second"]]
    items.sort(key=lambda item: item["steady_images_per_second"])
    with _figure(path, "Steady state, images/s: median, slowest and fastest pass", len(items)) as axes:
        for row, item in enumerate(items):
            low, high = item["steady_spread"]
            value = item["steady_images_per_second"]
            axes.barh(row, value, color=COLOURS[_kind(item)], height=0.7)
            axes.plot([low, high], [row, row], color=INK, linewidth=1)
            _number(axes, max(value, high), row, f"{value:.0f}")
        axes.set_yticks(range(len(items)), [_label(item) for item in items])
        handles = [plt.Rectangle((0, 0), 1, 1, color=colour) for colour in COLOURS.values()]
        axes.legend(handles, COLOURS.keys(), loc="lower right", frameon=False, labelcolor=INK)
    return path


def _start(report: dict[str, Any], path: Path) -> Path:
    """Seconds from the start of the process to the first row, and on to all rows."""
    items = [item for item in report["results"] if item["first_run_seconds"]]
    items.sort(key=lambda item: -item["first_run_seconds"])
    with _figure(
        path, "From the start of the process, s: to the first row (full colour), to all rows", len(items)
    ) as axes:
        for row, item in enumerate(items):
            colour = COLOURS[_kind(item)]
            axes.barh(row, item["first_run_seconds"], color=colour, alpha=0.4, height=0.7)
            axes.barh(row, item["first_row_seconds"] or 0, color=colour, height=0.7)
            _number(axes, item["first_run_seconds"], row, f"{item['first_run_seconds']:.0f}")
        axes.set_yticks(range(len(items)), [_label(item) for item in items])
    return path


def _growth(scenario: dict[str, Any], path: Path) -> Path:
    """Cost per image and a worker's memory over the size of the day, relative to the smallest."""
    rows = scenario["results"]
    with _figure(
        path, f"Growth of a day ({scenario['precision']}), relative to {rows[0]['images']:,} images", 5
    ) as axes:
        for what, label, colour in (
            ("milliseconds_per_image", "cost per image", COLOURS["ours"]),
            ("worker_rss_mb", "memory of a worker", COLOURS["engine inside"]),
        ):
            if rows[0][what]:
                values = [row[what] / rows[0][what] if row[what] else float("nan") for row in rows]
                axes.plot([row["images"] for row in rows], values, "o-", color=colour, label=label)
        axes.axhline(1.1, color=INK, linewidth=1, linestyle=":")
        axes.set_xscale("log")
        axes.set_xticks([row["images"] for row in rows], [f"{row['images']:,}" for row in rows], minor=False)
        axes.minorticks_off()
        axes.set_ylim(0, 1.15 * max(1.1, axes.get_ylim()[1]))
        axes.set_xlabel("images", color=INK)
        axes.legend(frameon=False, labelcolor=INK, loc="lower right")
    return path


def _megapixels(scenario: dict[str, Any], path: Path) -> Path:
    """images/s by size of the photos, with exact and with scaled decoding."""
    rows = [row for row in scenario["results"] if row["images_per_second"]]
    with _figure(path, "Size of the photos and decoding, images/s", len(rows)) as axes:
        for number, row in enumerate(reversed(rows)):
            colour = COLOURS["ours"] if row["decode"] == "scaled" else COLOURS["ceiling"]
            axes.barh(number, row["images_per_second"], color=colour, height=0.7)
            _number(axes, row["images_per_second"], number, f"{row['images_per_second']:.0f}")
        labels = [f"{row['megapixels']} MP, {row['decode']}, {row['precision']}" for row in reversed(rows)]
        axes.set_yticks(range(len(rows)), labels)
    return path


@contextmanager
def _figure(path: Path, title: str, rows: int) -> Iterator[Any]:
    """Axes of a figure for `rows` bars, saved at the end."""
    figure, axes = plt.subplots(figsize=(WIDTH, 0.9 + 0.32 * max(rows, 3)))
    figure.suptitle(title, x=0.01, ha="left", color=INK, fontsize=11)
    axes.tick_params(colors=INK, length=0)
    for name, spine in axes.spines.items():
        spine.set_visible(name == "left")
        spine.set_color(INK)
    axes.margins(x=0.12)
    yield axes
    figure.tight_layout()
    figure.savefig(path, transparent=True, metadata={"Date": None})
    plt.close(figure)


def _number(axes: Any, x: float, y: float, text: str) -> None:
    """A number to the right of the end of a bar."""
    axes.annotate(text, (x, y), xytext=(4, 0), textcoords="offset points", va="center", color=INK)


def _kind(item: dict[str, Any]) -> str:
    if item["system"] == "ours":
        return "ours"
    if item["system"] in ("no_spark", "bare_engine"):
        return "ceiling"
    return "as documented" if item["engine"] == "eager" else "engine inside"


def _label(item: dict[str, Any]) -> str:
    engine = "eager torch" if item["engine"] == "eager" else f"{item['engine']} {item['precision']}"
    return f"{TITLES[item['system']]} · {engine}"
