"""The table of metrics, the page about them and the dashboard say the same, and each stage gives the values it has."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from image_features import metrics
from image_features.metrics import METRICS, samples
from image_features.outcomes import TONES, Outcome

from deploy import dashboard
from spark_apps import contract
from spark_apps.spark.jobs import Timings

PAGE = dashboard.REPOSITORY / "docs" / "metrics.md"
STORE = {"store": "/store", "folder": "/store/runs/d1/r", "partition": "d1"}
MODEL = contract.ModelInfo(key="m-fp32", fingerprint="f")


def of(stage: str, **facts: Any) -> Outcome:
    """A stage that has ended well."""
    kind = contract.COMMANDS[stage]
    needed = {"source": "/photos"} if stage == "ingest" else {"model": "m-fp32"} if stage == "duplicates" else {}
    settings = kind(store="/store", run_id="r", **{**({"partition": "d1"} if stage != "duplicates" else {}), **needed})
    return Outcome(stage=stage, **STORE, manifest=Timings().manifest(stage, settings, **facts))


def values(found: Outcome) -> dict[tuple[str, ...], float]:
    """(name, last tag where it is no model) → value."""
    told = {}
    for sample in samples(found, "nightly", "features.stage"):
        assert set(sample.tags) == set(sample.metric.tags) and all(sample.tags.values())
        assert sample.tags["dag_id"] == "nightly" and sample.tags["stage"] == found.stage
        last = sample.metric.tags[-1]
        told[(sample.metric.name, *([sample.tags[last]] if last not in ("model", "task_id") else []))] = sample.value
    return told


def test_the_page_and_the_dashboard_have_the_metrics_of_the_table() -> None:
    rows = re.findall(r"^\| `image_features\.(\w+)` \| ([\w, ]+) \| (\w+) \|", PAGE.read_text(), re.MULTILINE)
    assert rows == [(metric.name, ", ".join(metric.tags), metric.kind) for metric in METRICS]
    assert dashboard.shown() == {metric.name for metric in METRICS}
    assert json.loads(dashboard.FILE.read_text()) == dashboard.dashboard(), "Run: make docs"


def test_each_panel_asks_for_metrics_and_labels_that_there_are() -> None:
    panels = json.loads(dashboard.FILE.read_text())["panels"]
    places = {(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in panels}
    assert len({panel["id"] for panel in panels}) == len(places) == len(panels)
    for panel in panels:
        for target in panel["targets"]:
            (name,) = re.findall(r"image_features_(\w+?)(?:\(|\{)", target["expr"])
            metric = metrics.BY_NAME[name]
            labels = re.findall(r"(\w+)(?:=|!=)", target["expr"].replace("__name__", "").replace("==", ""))
            named = re.findall(r"\{\{(\w+)\}\}", target["legendFormat"])
            assert {*labels, *named} - {"__name__"} <= set(metric.tags), target


def test_every_verdict_of_a_run_is_a_verdict_of_the_metric() -> None:
    assert set(metrics.VERDICTS) == set(TONES) - {"done", "failed", "skipped"}


def test_ingest_tells_files_bytes_and_the_quarantine_by_code() -> None:
    counts = {"listed": 41, "accepted": 38, "quarantined": 3, "resumed": 2}
    found = values(of("ingest", counts=counts, quarantined={"truncated": 2, "empty": 1}, outcome={"bytes": 99}))
    assert {name: found[name,] for name in ("listed", "resumed", "bytes", "failed")} == {
        **{"listed": 41, "resumed": 2, "bytes": 99, "failed": 0},
    }
    codes = {name[1]: value for name, value in found.items() if name[0] == "quarantined"}
    assert set(codes) == set(contract.QUARANTINE_CODES), "those that did not come up are 0, or they would stay"
    assert {code: count for code, count in codes.items() if count} == {"truncated": 2, "empty": 1}
    assert ("seconds", "total") in found and ("drift",) not in found and ("failures",) not in found


def test_extract_tells_its_speed_and_where_the_vectors_came_from() -> None:
    counts = {"listed": 9, "featured": 8, "computed": 6, "reused": 1, "resumed": 1, "duplicates": 2}
    done = of("extract", counts=counts, model=MODEL)
    assert done.manifest is not None
    done.manifest.seconds["compute"] = 1.5
    found = values(done)
    assert {name: found[name,] for name in ("computed", "reused", "duplicates", "images_per_second")} == {
        **{"computed": 6, "reused": 1, "duplicates": 2, "images_per_second": 4.0},
    }
    assert found["seconds", "compute"] == 1.5
    assert {sample.tags["model"] for sample in samples(done, "d", "t") if "model" in sample.tags} == {"m-fp32"}
    done.manifest.counts["computed"] = 0
    assert ("images_per_second",) not in values(done), "nothing was computed, so it is not known"


@pytest.mark.parametrize("verdict", contract.STANDING)
def test_validate_tells_drift_and_one_verdict(verdict: str) -> None:
    outcome = {"verdict": verdict, "drift": 0.25}
    found = values(of("validate", counts={"listed": 20, "quarantined": 1}, outcome=outcome, model=MODEL))
    assert (found["drift",], found["failed_fraction",]) == (0.25, 0.05)
    told = {name[1]: value for name, value in found.items() if name[0] == "verdict"}
    assert told == {**dict.fromkeys(metrics.VERDICTS, 0), verdict: 1}


def test_a_rejected_run_tells_what_its_report_says() -> None:
    report = {
        **{"counts": {"listed": 10, "featured": 4, "quarantined": 6}, "quarantined": {"truncated": 6}, "bytes": 7},
        **{"drift": {"value": 0.7}, "model": {"key": "m-fp32"}, "seconds": {"validate": {"read": 1.0, "total": 2.0}}},
    }
    error = contract.QualityFailed("quality_failed", "Check failed.")
    found = values(Outcome(stage="validate", **STORE, error=error, report=report))
    assert (found["failed",], found["failures", "quality_failed"]) == (1, 1)
    assert (found["verdict", "rejected"], found["verdict", "published"]) == (1, 0)
    assert (found["quarantined", "truncated"], found["drift",], found["bytes",]) == (6, 0.7, 7)
    assert found["seconds", "read"] == 1.0


def test_a_killed_job_tells_that_it_failed_and_nothing_else() -> None:
    assert values(Outcome(stage="validate", **STORE)) == {("failed",): 1, ("failures", "no_word"): 1}


def test_index_and_duplicates_tell_the_lag_of_search_and_the_spare_files() -> None:
    found = values(of("index", counts={"differing": 3}, outcome={"model": "m-fp32", "lag_seconds": 61.5}))
    assert (found["search_lag_rows",], found["search_lag_seconds",]) == (3, 61.5)
    spare = of("duplicates", counts={"groups": 2, "spare": 5}, outcome={})
    assert (values(spare)["spare",], spare.model) == (5, "m-fp32")
