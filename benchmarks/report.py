"""From the measurements to the report: medians with spread, the ratios against their limits, JSON and tables."""

from __future__ import annotations

import os
import platform
import re
import statistics
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.limits import LIMITS
from benchmarks.protocol import Result
from benchmarks.systems import OTHER_ENGINES, PRECISIONS, TITLES, Entry

PEERS = ("ray_data", "daft_cls", "predict_batch_udf")
INTERESTING_FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16", "amx_int8")

Line = dict[str, Any]
"""One entry of `results`."""


def line(entry: Entry, measured: list[Result], reason: str = "") -> Line:
    """What the report says of one entry: medians over the rounds, and of the rates over all warm passes."""
    rates = [rate for result in measured for rate in result.rates]
    reason = reason or next((result.reason for result in measured if result.reason), "")
    if not rates and not reason:
        reason = "it was not measured"
    return {
        "system": entry.system,
        "engine": entry.engine,
        "precision": entry.precision,
        "steady_images_per_second": _median(rates),
        "steady_spread": [min(rates), max(rates)] if rates else None,
        "first_row_seconds": _median(result.first_row_seconds for result in measured),
        "first_run_seconds": _median(result.first_run_seconds for result in measured),
        "worker_rss_mb": _median(result.worker_rss_mb for result in measured),
        "tree_pss_mb": _median(result.tree_pss_mb for result in measured),
        "cosine": min((result.cosine for result in measured if result.cosine is not None), default=None),
        "round_rates": [_median(result.rates) for result in measured],
        "reason": reason,
        "rounds": [asdict(result) for result in measured],
    }


def results(lines: list[Line]) -> dict[Entry, list[Result]]:
    """What lines were made of, to add more rounds to."""
    return {
        Entry(item["system"], item["engine"], item["precision"]): [Result(**result) for result in item["rounds"]]
        for item in lines
    }


@dataclass(frozen=True)
class Ratio:
    """`value` is None where it could not be measured; `how` says what was divided, or why it could not be."""

    value: float | None
    how: str


class Ratios:
    """The measures of `limits.LIMITS`, out of the lines and the scenarios."""

    def __init__(self, lines: list[Line], scenarios: dict[str, Any]) -> None:
        self._lines = {(item["system"], item["engine"], item["precision"]): item for item in lines}
        self._scenarios = scenarios

    def all(self) -> dict[str, Ratio]:
        """By the names of `LIMITS`."""
        found: dict[str, Ratio] = {}
        for precision in PRECISIONS:
            ours = ("ours", "openvino", precision)
            found[f"{precision}_vs_broadcast_udf"] = self._rate(ours, [("broadcast_udf", "eager", "fp32")])
            found[f"{precision}_vs_best_peer"] = self._rate(ours, [(peer, "eager", "fp32") for peer in PEERS])
            found[f"{precision}_vs_pixels"] = self._rate(ours, [("bare_engine", "openvino", precision)])
        found["same_engine_vs_best_peer"] = self._weakest(("ray_data", "daft_cls"))
        found["vs_no_spark"] = self._weakest(("no_spark",))
        found["engine_vs_others"] = _weakest(
            [
                self._rate(("bare_engine", "openvino", precision), [("bare_engine", engine, precision)])
                for engine, has in OTHER_ENGINES.items()
                for precision in has
            ]
        )
        found["wide_vs_narrow"] = self._wide()
        found["scaled_decode_12mp"] = self._scaled_decode()
        found["scaled_vs_huffman_12mp"] = self._scaled_by_huffman()
        found["cost_growth"] = self._growth("milliseconds_per_image")
        found["memory_growth"] = self._growth("worker_rss_mb")
        found["first_row_vs_predict_batch_udf"] = self._first_row()
        assert found.keys() == {limit.name for limit in LIMITS}
        return found

    def _rate(self, ours: tuple[str, str, str], others: list[tuple[str, str, str]]) -> Ratio:
        """Steady rate of ours over that of the others, the one against which ours is weakest.

        Both rates of a ratio are from the same round, because a machine may be half as fast again ten minutes later; of
        the rounds' ratios the median counts.
        """
        return _weakest([self._by_round(ours, other) for other in others])

    def _by_round(self, ours: tuple[str, str, str], other: tuple[str, str, str]) -> Ratio:
        mine, why = self._number(ours, "steady_images_per_second")
        theirs, their_why = self._number(other, "steady_images_per_second")
        if mine is None or theirs is None:
            return Ratio(None, why or their_why)
        pairs = zip(self._lines[ours]["round_rates"], self._lines[other]["round_rates"], strict=False)
        ratios = [one / another for one, another in pairs if one and another]
        spread = f"{min(ratios):.2f} to {max(ratios):.2f}"
        how = f"{spread}; {mine:.1f} and {theirs:.1f} images/s ({' '.join(other)})"
        return Ratio(_median(ratios), how)

    def _weakest(self, systems: tuple[str, ...]) -> Ratio:
        """The smallest ratio over the precisions that were measured: the fastest one shows what a framework costs."""
        ratios = [
            self._rate(("ours", "openvino", precision), [(system, "openvino", precision) for system in systems])
            for precision in PRECISIONS
        ]
        return _weakest(ratios)

    def _scaled_decode(self) -> Ratio:
        """At the fastest precision, where decoding weighs most."""
        scenario = self._scenarios.get("megapixels")
        if not scenario:
            return Ratio(None, "the scenario megapixels was not run")
        rows = [row for row in scenario["results"] if row["megapixels"] == "12"]
        rates = {row["decode"]: row["images_per_second"] for row in rows}  # the last precision is the fastest
        if not rates.get("scaled") or not rates.get("exact"):
            return Ratio(None, next((row["reason"] for row in rows if row["reason"]), "it was not measured"))
        how = f"{rates['scaled']:.1f} / {rates['exact']:.1f} images/s ({rows[-1]['precision']})"
        return Ratio(round(rates["scaled"] / rates["exact"], 3), how)

    def _scaled_by_huffman(self) -> Ratio:
        scenario = self._scenarios.get("megapixels", {})
        rates = [row for row in scenario.get("results", []) if (row["megapixels"], row["decode"]) == ("12", "scaled")]
        floor = scenario.get("floors", {}).get("12")
        if not rates or not rates[-1]["images_per_second"] or not floor:
            return Ratio(None, "the scenario megapixels was not run")
        rate = rates[-1]["images_per_second"]
        how = f"{rate:.1f} / {floor['both']:.1f} images/s; codes {floor['huffman']:.1f}, engine {floor['engine']:.1f}"
        return Ratio(round(rate / floor["both"], 3), f"{how} ({rates[-1]['precision']})")

    def _wide(self) -> Ratio:
        scenario = self._scenarios.get("cores")
        if not scenario:
            return Ratio(None, "the scenario cores was not run")
        most = max(row["cores"] for row in scenario["results"])
        rates = {row["resources"]: row["images_per_second"] for row in scenario["results"] if row["cores"] == most}
        how = f"{rates['wide']:.1f} / {rates['narrow']:.1f} images/s on {most} cores ({scenario['precision']})"
        return Ratio(round(rates["wide"] / rates["narrow"], 3), how)

    def _growth(self, what: str) -> Ratio:
        scenario = self._scenarios.get("growth")
        if not scenario:
            return Ratio(None, "the scenario growth was not run")
        first, last = scenario["results"][0], scenario["results"][-1]
        if not first[what] or not last[what]:
            return Ratio(None, "it was not measured: the run was too short")
        how = f"{last[what]:.1f} at {last['images']:,} / {first[what]:.1f} at {first['images']:,} images"
        return Ratio(round(last[what] / first[what], 3), f"{how} ({scenario['precision']})")

    def _first_row(self) -> Ratio:
        mine, why = self._number(("ours", "openvino", "fp32"), "first_row_seconds")
        theirs, their_why = self._number(("predict_batch_udf", "eager", "fp32"), "first_row_seconds")
        if mine is None or theirs is None:
            return Ratio(None, why or their_why)
        return Ratio(round(mine / theirs, 3), f"{mine:.1f} / {theirs:.1f} s")

    def _number(self, key: tuple[str, str, str], what: str) -> tuple[float | None, str]:
        """A number of a line, or the reason why there is none."""
        found = self._lines.get(key)
        if found is None:
            return None, f"{' '.join(key)} was left out"
        if found[what] is None:
            return None, found["reason"] or "it was not measured"
        return found[what], ""


def _weakest(ratios: list[Ratio]) -> Ratio:
    """The smallest of those that were measured."""
    return min(
        (ratio for ratio in ratios if ratio.value is not None), key=lambda ratio: ratio.value or 0, default=ratios[0]
    )


def build(lines: list[Line], scenarios: dict[str, Any], facts: dict[str, Any]) -> dict[str, Any]:
    """The content of `report.json`."""
    ratios = Ratios(lines, scenarios).all()
    return {
        **facts,
        "results": lines,
        "ratios": {limit.name: ratios[limit.name].value for limit in LIMITS},
        "measures": [
            {
                "name": limit.name,
                "measure": limit.measure,
                "value": ratios[limit.name].value,
                "at_least": limit.at_least,
                "aim": limit.aim,
                "lower_is_better": limit.lower_is_better,
                "verdict": limit.verdict(ratios[limit.name].value),
                "how": ratios[limit.name].how,
            }
            for limit in LIMITS
        ],
        "first_variant": first_variant(lines),
        "scenarios": scenarios,
    }


def first_variant(lines: list[Line]) -> str:
    """What Spark says to a UDF whose object holds the SparkSession; empty when it was not tried."""
    rounds = [result for item in lines for result in item["rounds"]]
    passes = [turn for result in rounds for turn in result["detail"].get("passes", [])]
    return next((turn["first_variant"] for turn in passes if "first_variant" in turn), "")


def machine(cores: int) -> dict[str, Any]:
    """What the numbers depend on."""
    from importlib.metadata import version

    import psutil

    cpuinfo = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    values = dict(part.split(":", 1) for part in cpuinfo.splitlines() if ":" in part)
    values = {name.strip(): value.strip() for name, value in values.items()}
    flags = set(values.get("flags", "").split())
    packages = ("pyspark", "torch", "torchvision", "openvino", "ray", "daft", "numpy", "pillow", "pyarrow")
    return {
        "processor": values.get("model name", platform.processor()),
        "flags": [flag for flag in INTERESTING_FLAGS if flag in flags],
        "cores": os.cpu_count(),
        "cores_used": cores,
        "memory_gb": round(psutil.virtual_memory().total / 1e9, 1),
        "load_at_start": round(os.getloadavg()[0], 2),
        "system": platform.platform(),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in packages},
    }


def arithmetic(flags: Iterable[str]) -> str:
    """The numbers that a processor is quick with, by its flags: what decides how the precisions compare."""
    has = set(flags)
    if {"amx_bf16", "amx_int8"} <= has:
        return "AMX"
    if "avx512f" not in has:
        return "AVX2"
    return "AVX512 with bf16" if "avx512_bf16" in has else "AVX512 without bf16"


# --- tables -----------------------------------------------------------------------------------------------------------

RESULT_HEAD = ("system", "engine", "precision", "images/s", "spread", "first row", "first run", "worker", "cosine")
MEASURE_HEAD = ("measure", "value", "at least", "aim", "verdict", "how")


def result_rows(report: dict[str, Any]) -> list[tuple[str, ...]]:
    """The systems, as texts; what was not measured carries its reason."""
    rows: list[tuple[str, ...]] = []
    for item in report["results"]:
        title = TITLES.get(item["system"], item["system"])
        engine = "eager torch" if item["engine"] == "eager" else item["engine"]
        if item["steady_images_per_second"] is None:
            rows.append((title, engine, item["precision"], "-", "", "", "", "", item["reason"]))
            continue
        low, high = item["steady_spread"]
        rows.append(
            (
                title,
                engine,
                item["precision"],
                f"{item['steady_images_per_second']:.1f}",
                f"{low:.1f} to {high:.1f}",
                _shown(item["first_row_seconds"], " s"),
                _shown(item["first_run_seconds"], " s"),
                _shown(item["worker_rss_mb"], " MB", 0),
                _shown(item["cosine"], "", 5),
            )
        )
    return rows


def measure_rows(report: dict[str, Any]) -> list[tuple[str, ...]]:
    """The measures against their limits, as texts."""
    return [
        (
            item["measure"],
            _shown(item["value"], "", 2),
            f"{'≤ ' if item['lower_is_better'] else ''}{item['at_least']:g}",
            f"{item['aim']:g}",
            item["verdict"],
            item["how"],
        )
        for item in report["measures"]
    ]


def scenario_tables(report: dict[str, Any]) -> Iterator[tuple[str, tuple[str, ...], list[tuple[str, ...]]]]:
    """Name, head and rows of each scenario that is a list of results."""
    for name, found in report["scenarios"].items():
        if not isinstance(results := found.get("results"), list):
            continue
        head = tuple(key for key in results[0] if any(result[key] not in (None, "") for result in results))
        yield name, head, [tuple(_cell(result[key]) for key in head) for result in results]


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.5f}" if 0.9 < value <= 1 else f"{value:.1f}"
    return "-" if value is None else f"{value:,}" if isinstance(value, int) else str(value)


def table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    """Columns for a terminal."""
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    widths[-1] = len(head[-1])  # nothing stands behind it
    lines = [head, tuple("-" * width for width in widths), *rows]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in lines
    )


def markdown(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    """The same as a Markdown table."""
    lines = [head, tuple("---" for _ in head), *(tuple(cell.replace("|", "\\|") for cell in row) for row in rows)]
    return "\n".join("| " + " | ".join(row) + " |" for row in lines)


def put(page: Path, maker: str, text: str) -> None:
    """Puts `text` into a page of the docs, in place of what `maker` has put there before.

    Raises:
        LookupError: the page has no place for it; says how to make one.
    """
    begin, end = f"<!-- made by {maker} -->\n", "<!-- end -->"
    marks = re.compile(rf"({re.escape(begin)}).*?({end})", re.DOTALL)
    content, places = marks.subn(lambda match: f"{match[1]}\n{text}\n\n{match[2]}", page.read_text())
    if not places:
        raise LookupError(f"{page.name} has no place for this: add the lines\n{begin}{end}\nwhere it belongs.")
    page.write_text(content)


def _shown(value: float | None, unit: str, digits: int = 1) -> str:
    return "-" if value is None else f"{value:.{digits}f}{unit}"


def _median(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return round(statistics.median(known), 3) if known else None
