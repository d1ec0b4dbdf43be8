"""The metrics of each stage, and their values by what became of it; `stats` hands them to Airflow.

`METRICS` is the one table: the page docs/metrics.md and the dashboard in deploy/grafana are held to it. All but one are
gauges of the last run. A task is a process of its own, and what short-lived processes count each for themselves, no
backend but StatsD adds up. This module knows no Airflow.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from image_features.outcomes import JUDGED, Outcome
from spark_apps import contract

PREFIX = "image_features"
OF_A_MODEL, OF_A_TASK = ("dag_id", "stage", "model"), ("dag_id", "stage", "task_id")
NONE = "none"
"""Stands for a model that is not known, as in ingest."""
VERDICTS = (*contract.STANDING, "checked", "superseded", "rejected")


@dataclass(frozen=True)
class Metric:
    """One metric, `image_features.<name>`. `unit`: as Grafana names it. `tags`: as they follow in a name with them."""

    name: str
    help: str
    unit: str = "short"
    tags: tuple[str, ...] = OF_A_MODEL
    kind: Literal["gauge", "counter"] = "gauge"


METRICS = (
    Metric("listed", "files of the source"),
    Metric("featured", "files with a vector"),
    Metric(
        "quarantined", "files without one, by code; 0 for the codes that did not come up", tags=(*OF_A_MODEL, "code")
    ),
    Metric("computed", "photos that the model computed"),
    Metric("reused", "photos whose vector was known"),
    Metric("resumed", "photos, in ingest files, that an earlier attempt of the run had done"),
    Metric("duplicates", "files with the bytes of another one of the partition"),
    Metric("spare", "files of all groups of duplicates, but for the one to keep of each"),
    Metric("bytes", "size of the source's files", "bytes"),
    Metric("images_per_second", "computed photos by the seconds of the phase compute", "suffix: images/s"),
    Metric("seconds", "time by phase, and as a whole: total", "s", (*OF_A_MODEL, "phase")),
    Metric("drift", "drift against recent partitions, 0 to 1", "none"),
    Metric("failed_fraction", "share of the files that were quarantined, 0 to 1", "percentunit"),
    Metric("verdict", "1 for the verdict of validate, 0 for the others", "none", (*OF_A_MODEL, "verdict")),
    Metric("search_lag_rows", "rows in which the search index still differs from what is published"),
    Metric("search_lag_seconds", "from the publication of the run's partition until search held it", "s"),
    Metric("failed", "1 when the last attempt of the task failed, else 0", "none", OF_A_TASK),
    Metric("failures", "attempts that failed, by code", "short", (*OF_A_TASK, "code"), "counter"),
)
BY_NAME: Mapping[str, Metric] = {metric.name: metric for metric in METRICS}
COUNTED = ("listed", "featured", "computed", "reused", "resumed", "duplicates", "spare")
"""Counts of a manifest, or of a rejected run's report, that are metrics under their own name."""


@dataclass(frozen=True)
class Sample:
    """A value of a metric. `tags`: as many as the metric has, none empty."""

    metric: Metric
    value: float
    tags: Mapping[str, str]


def samples(found: Outcome, dag_id: str, task_id: str) -> Iterator[Sample]:
    """The metrics of a stage that has ended."""
    tags = {"dag_id": dag_id, "stage": found.stage, "model": found.model or NONE, "task_id": task_id}

    def sample(name: str, value: float, **more: str) -> Sample:
        metric, known = BY_NAME[name], {**tags, **more}
        return Sample(metric, value, {tag: known[tag] for tag in metric.tags})

    failed = found.tone == "bad"
    yield sample("failed", int(failed))
    if failed:
        yield sample("failures", 1, code=found.error.code if found.error else "no_word")
    for name in COUNTED:
        if name in found.counts:
            yield sample(name, found.counts[name])
    if found.stage in contract.STAGES and found.counts:
        for code in contract.QUARANTINE_CODES:
            yield sample("quarantined", found.quarantined.get(code, 0), code=code)
    for phase, seconds in found.seconds.items():
        yield sample("seconds", seconds, phase=phase)
    for name, value in _measures(found).items():
        if value is not None:
            yield sample(name, value)
    if found.stage in JUDGED and found.verdict in VERDICTS:
        for verdict in VERDICTS:
            yield sample("verdict", int(verdict == found.verdict), verdict=verdict)


def _measures(found: Outcome) -> dict[str, float | None]:
    """What is no count. None: not known, or not of this stage."""
    outcome: Mapping[str, Any] = found.manifest.outcome if found.manifest else {}
    computed, computing = found.counts.get("computed"), found.seconds.get("compute")
    measures: dict[str, float | None] = {"bytes": outcome.get("bytes")}
    if found.stage == "extract":
        measures["images_per_second"] = computed / computing if computed and computing else None
    if found.stage in JUDGED and found.counts:
        measures["bytes"] = found.report.get("bytes")
        measures["drift"] = outcome.get("drift", found.report.get("drift", {}).get("value"))
        erased = found.quarantined.get("erased", 0)  # as in the check: no failure, and not asked for
        failed = found.counts.get("quarantined", 0) - erased
        measures["failed_fraction"] = failed / max(1, found.counts.get("listed", 0) - erased)
    if found.stage == "index" and found.manifest:
        measures["search_lag_rows"] = found.counts.get("differing")
        measures["search_lag_seconds"] = outcome.get("lag_seconds")
    return measures
