"""The report of the benchmarks: medians with spread, ratios against the right opponent, reasons for what is missing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks import report
from benchmarks.limits import LIMITS, Limit
from benchmarks.protocol import Result
from benchmarks.systems import ENTRIES, TITLES, Entry

RATES = {
    "broadcast_udf eager fp32": 20.0,
    "predict_batch_udf eager fp32": 19.0,
    "ray_data eager fp32": 23.0,
    "daft_cls eager fp32": 24.0,
    "ray_data openvino fp32": 50.0,
    "daft_cls openvino fp32": 40.0,
    "ray_data openvino int8": 100.0,
    "daft_cls openvino int8": 120.0,
    "ours openvino fp32": 60.0,
    "ours openvino int8": 132.0,
    "no_spark openvino fp32": 62.0,
    "no_spark openvino int8": 150.0,
    "bare_engine openvino fp32": 75.0,
    "bare_engine openvino int8": 165.0,
    "bare_engine onnxruntime fp32": 50.0,
    "bare_engine onnxruntime int8": 150.0,
    "bare_engine torch.compile fp32": 60.0,
}
NO_BF16 = "This machine's processor has no bf16 arithmetic."


def result(entry: Entry, *rates: float, **more: Any) -> Result:
    facts = {"first_row_seconds": 8.0, "first_run_seconds": 20.0, "worker_rss_mb": 400.0, "cosine": 1.0}
    return Result(entry.system, entry.engine, entry.precision, 2, 100, rates=list(rates), **{**facts, **more})


@pytest.fixture
def lines() -> list[report.Line]:
    """A report in which bf16 was refused, and pandas and torch were left unmeasured."""
    found = []
    for entry in ENTRIES:
        rate = RATES.get(str(entry))
        reason = NO_BF16 if entry.precision == "bf16" else ""
        found.append(report.line(entry, [result(entry, rate)] if rate else [], reason))
    return found


SCENARIOS: dict[str, Any] = {
    "growth": {
        "precision": "int8",
        "results": [
            {"images": 1_000, "milliseconds_per_image": 8.0, "worker_rss_mb": 400.0},
            {"images": 10_000, "milliseconds_per_image": 9.9, "worker_rss_mb": 404.0},
            {"images": 50_000, "milliseconds_per_image": 8.4, "worker_rss_mb": 420.0},
        ],
    },
    "megapixels": {
        "results": [
            {"megapixels": "2", "decode": "exact", "precision": "int8", "images_per_second": 50.0, "reason": ""},
            {"megapixels": "12", "decode": "exact", "precision": "fp32", "images_per_second": 10.0, "reason": ""},
            {"megapixels": "12", "decode": "scaled", "precision": "fp32", "images_per_second": 20.0, "reason": ""},
            {"megapixels": "12", "decode": "exact", "precision": "int8", "images_per_second": 12.0, "reason": ""},
            {"megapixels": "12", "decode": "scaled", "precision": "int8", "images_per_second": 48.0, "reason": ""},
        ],
        "floors": {"12": {"huffman": 90.0, "engine": 180.0, "both": 60.0}},
    },
    "cores": {
        "precision": "int8",
        "results": [
            {"cores": 1, "resources": "narrow", "images_per_second": 60.0},
            {"cores": 2, "resources": "narrow", "images_per_second": 120.0},
            {"cores": 2, "resources": "wide", "images_per_second": 114.0},
        ],
    },
}


def test_a_line_is_the_median_of_all_rounds_with_the_slowest_and_fastest_pass() -> None:
    entry = Entry("ours", "openvino", "fp32")
    rounds = [result(entry, 50, 52, first_row_seconds=9), result(entry, 10, 54, first_row_seconds=7, cosine=0.999)]
    line = report.line(entry, rounds)
    assert (line["steady_images_per_second"], line["steady_spread"]) == (51, [10, 54])
    assert (line["first_row_seconds"], line["cosine"]) == (8, 0.999)
    kept = json.loads(json.dumps([line]))
    assert report.results(kept) == {entry: rounds}, "rounds can be added to a report"


def test_a_line_that_was_not_measured_says_why() -> None:
    entry = Entry("ours", "openvino", "bf16")
    refused = report.line(entry, [], NO_BF16)
    assert (refused["steady_images_per_second"], refused["steady_spread"], refused["reason"]) == (None, None, NO_BF16)
    assert report.line(entry, [])["reason"]
    assert report.line(entry, [result(entry, reason="no such setting", cosine=None)])["reason"] == "no such setting"


def test_each_ratio_is_taken_against_its_own_opponent(lines: list[report.Line]) -> None:
    ratios = {name: ratio.value for name, ratio in report.Ratios(lines, SCENARIOS).all().items()}
    assert ratios == {
        "fp32_vs_broadcast_udf": 3.0,
        "bf16_vs_broadcast_udf": None,
        "int8_vs_broadcast_udf": 6.6,
        "fp32_vs_best_peer": 2.5,  # Daft's 24, not predict_batch_udf's 19
        "bf16_vs_best_peer": None,
        "int8_vs_best_peer": 5.5,
        "same_engine_vs_best_peer": 1.1,  # int8 against Daft; fp32 would give 60 / 50
        "vs_no_spark": 0.88,
        "fp32_vs_pixels": 0.8,
        "bf16_vs_pixels": None,
        "int8_vs_pixels": 0.8,
        "engine_vs_others": 1.1,  # int8 by ONNX Runtime; fp32 would give 75 / 60
        "wide_vs_narrow": 0.95,
        "scaled_decode_12mp": 4.0,
        "scaled_vs_huffman_12mp": 0.8,
        "cost_growth": 1.05,
        "memory_growth": 1.05,
        "first_row_vs_predict_batch_udf": 1.0,
    }


def test_a_ratio_is_of_one_round_whatever_the_machine_does_between_rounds() -> None:
    ours, other = Entry("ours", "openvino", "fp32"), Entry("daft_cls", "openvino", "fp32")
    slow, fast = [result(ours, 22), result(ours, 44, 44)], [result(other, 20), result(other, 40, 40)]
    ratios = report.Ratios(
        [report.line(ours, [*slow, result(ours, 33)]), report.line(other, [*fast, result(other, 60)])], {}
    )
    ratio = ratios.all()["same_engine_vs_best_peer"]
    assert ratio.value == pytest.approx(1.1)
    assert ratio.how.startswith("0.55 to 1.10")


def test_what_cannot_be_measured_is_null_with_its_reason(lines: list[report.Line]) -> None:
    ratios = report.Ratios(lines, {}).all()
    assert ratios["bf16_vs_broadcast_udf"].how == ratios["bf16_vs_best_peer"].how == NO_BF16
    assert "growth" in ratios["cost_growth"].how and ratios["cost_growth"].value is None
    assert "megapixels" in ratios["scaled_decode_12mp"].how
    assert "left out" in report.Ratios([], {}).all()["vs_no_spark"].how


def test_scaled_decoding_that_is_refused_gives_its_reason(lines: list[report.Line]) -> None:
    rows = [dict(row) for row in SCENARIOS["megapixels"]["results"]]
    for row in rows:
        if row["decode"] == "scaled":
            row |= {"images_per_second": None, "reason": "extract has no option decode"}
    ratio = report.Ratios(lines, {"megapixels": {"results": rows}}).all()["scaled_decode_12mp"]
    assert (ratio.value, ratio.how) == (None, "extract has no option decode")


def test_the_report_has_the_shape_that_readers_rely_on(lines: list[report.Line]) -> None:
    made = report.build(lines, SCENARIOS, {"weights": "keras-v1"})
    assert made["weights"] == "keras-v1"
    promised = {"system", "engine", "precision", "steady_images_per_second", "first_run_seconds"}
    assert all(promised <= line.keys() for line in made["results"])
    assert list(made["ratios"]) == [limit.name for limit in LIMITS]
    verdicts = {measure["name"]: measure["verdict"] for measure in made["measures"]}
    assert verdicts["fp32_vs_broadcast_udf"] == "aim reached"
    assert verdicts["int8_vs_broadcast_udf"] == "enough"
    assert verdicts["vs_no_spark"] == "too low"
    assert verdicts["cost_growth"] == "enough"
    assert verdicts["first_row_vs_predict_batch_udf"] == "too high"
    assert verdicts["bf16_vs_broadcast_udf"] == "not measured"


@pytest.mark.parametrize(("value", "verdict"), [(1.09, "enough"), (1.0, "aim reached"), (1.2, "too high")])
def test_a_limit_from_above_reads_the_other_way_round(value: float, verdict: str) -> None:
    assert Limit("cost", "cost", 1.1, 1.0, lower_is_better=True).verdict(value) == verdict


def test_tables_show_every_line_and_reasons_where_there_are_no_numbers(lines: list[report.Line]) -> None:
    made = report.build(lines, SCENARIOS, {})
    shown = report.table(report.RESULT_HEAD, report.result_rows(made))
    assert len(shown.splitlines()) == len(ENTRIES) + 2
    assert NO_BF16 in shown and all(title in shown for title in TITLES.values())
    marked = report.markdown(report.MEASURE_HEAD, report.measure_rows(made)).splitlines()
    assert {line.count("|") for line in marked} == {len(report.MEASURE_HEAD) + 1}


def test_scenarios_are_shown_without_columns_that_say_nothing(lines: list[report.Line]) -> None:
    found = report.build(lines, SCENARIOS, {})
    tables = {name: (head, rows) for name, head, rows in report.scenario_tables(found)}
    head, rows = tables["growth"]
    assert head == ("images", "milliseconds_per_image", "worker_rss_mb")
    assert rows[1] == ("10,000", "9.9", "404.0")


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (("avx2",), "AVX2"),
        (("avx2", "avx512f", "avx512_vnni"), "AVX512 without bf16"),
        (("avx2", "avx512f", "avx512_vnni", "avx512_bf16"), "AVX512 with bf16"),
        (report.INTERESTING_FLAGS, "AMX"),
    ],
)
def test_a_processor_is_told_by_its_arithmetic(flags: tuple[str, ...], expected: str) -> None:
    assert report.arithmetic(flags) == expected


def test_a_page_keeps_what_others_have_put_there_and_says_where_there_is_no_place(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# Page\n\n<!-- made by one -->\nold\n<!-- end -->\n\n<!-- made by two -->\nkept\n<!-- end -->\n")
    report.put(page, "one", "new")
    assert page.read_text() == (
        "# Page\n\n<!-- made by one -->\n\nnew\n\n<!-- end -->\n\n<!-- made by two -->\nkept\n<!-- end -->\n"
    )
    with pytest.raises(LookupError, match=r"page\.md has no place .*\n<!-- made by three -->"):
        report.put(page, "three", "new")
