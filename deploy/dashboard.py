"""Draws the dashboard of Grafana from the table of the metrics: deploy/grafana/image_features.json.

    python -m deploy.dashboard

For a data source of type Prometheus, which has the metrics from StatsD's exporter or from OpenTelemetry's collector.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[1]
FILE = REPOSITORY / "deploy" / "grafana" / "image_features.json"

sys.path.append(str(REPOSITORY / "plugins"))

from image_features.metrics import BY_NAME, METRICS, PREFIX, Metric  # noqa: E402

SOURCE = {"type": "prometheus", "uid": "${source}"}
WIDTH, HEIGHT, COLUMNS = 8, 8, 3

Panel = tuple[str, str, list[tuple[str, str]], str, dict[str, Any]]
PANELS: list[Panel] = [
    # Title, type, (metric, further labels of its query), legend, further options of the fields.
    ("Verdict of the last run", "stat", [("verdict", "")], "{{dag_id}} {{model}}: {{verdict}}", {}),
    ("Tasks whose last attempt failed", "stat", [("failed", "")], "{{dag_id}} {{task_id}}", {}),
    ("Failed attempts by code, a day", "timeseries", [("failures", "")], "{{code}}", {}),
    (
        *("Files", "timeseries", [("listed", 'stage="validate"'), ("featured", 'stage="validate"')]),
        *("{{__name__}} {{dag_id}} {{model}}", {}),
    ),
    ("Quarantined, by code", "timeseries", [("quarantined", 'stage="validate"')], "{{code}}", {"stacked": True}),
    (
        *("Share of quarantined files", "timeseries", [("failed_fraction", "")], "{{dag_id}} {{model}}"),
        {"thresholds": [0.05, 0.1]},
    ),
    ("Drift", "timeseries", [("drift", "")], "{{dag_id}} {{model}}", {"thresholds": [0.3, 0.5]}),
    ("Images a second", "timeseries", [("images_per_second", "")], "{{dag_id}} {{model}}", {}),
    ("Seconds by phase", "timeseries", [("seconds", 'phase!="total"')], "{{stage}} {{phase}}", {"stacked": True}),
    (
        *("Where the vectors came from", "timeseries", [("computed", ""), ("reused", ""), ("resumed", "")]),
        *("{{__name__}} {{stage}} {{model}}", {"stacked": True}),
    ),
    ("Bytes of the source", "timeseries", [("bytes", 'stage="ingest"')], "{{dag_id}}", {}),
    ("Copies and duplicates", "timeseries", [("duplicates", ""), ("spare", "")], "{{__name__}} {{dag_id}}", {}),
    ("Search: rows behind", "timeseries", [("search_lag_rows", "")], "{{dag_id}} {{model}}", {}),
    ("Search: behind the publication", "timeseries", [("search_lag_seconds", "")], "{{dag_id}} {{model}}", {}),
]


def dashboard() -> dict[str, Any]:
    """The document that Grafana imports."""
    return {
        "title": "Image Features",
        "uid": "image-features",
        "tags": ["airflow", "image-features"],
        "schemaVersion": 39,
        "editable": True,
        "refresh": "5m",
        "time": {"from": "now-30d", "to": "now"},
        "templating": {"list": [_source(), _prefix(), _variable("dag_id"), _variable("model")]},
        "panels": [_panel(number, *panel) for number, panel in enumerate(PANELS)],
    }


def _panel(
    number: int, title: str, kind: str, metrics: list[tuple[str, str]], legend: str, more: dict[str, Any]
) -> dict[str, Any]:
    first = BY_NAME[metrics[0][0]]
    defaults: dict[str, Any] = {"unit": first.unit, "noValue": "none"}
    if limits := more.get("thresholds"):
        colours = [("green", None), ("orange", limits[0]), ("red", limits[1])]
        steps = [{"color": colour, "value": value} for colour, value in colours]
        defaults |= {"thresholds": {"mode": "absolute", "steps": steps}, "color": {"mode": "thresholds"}}
        defaults["custom"] = {"thresholdsStyle": {"mode": "line"}}
    if more.get("stacked"):
        defaults["custom"] = {"stacking": {"mode": "normal"}, "fillOpacity": 40}
    return {
        "id": number + 1,
        "title": title,
        "type": kind,
        "description": "; ".join(f"{BY_NAME[name].name}: {BY_NAME[name].help}" for name, _ in metrics),
        "datasource": SOURCE,
        "gridPos": {"x": number % COLUMNS * WIDTH, "y": number // COLUMNS * HEIGHT, "w": WIDTH, "h": HEIGHT},
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "options": {"textMode": "name", "colorMode": "none"} if kind == "stat" else {},
        "targets": [
            {"refId": chr(ord("A") + place), "expr": _query(BY_NAME[name], labels), "legendFormat": legend}
            for place, (name, labels) in enumerate(metrics)
        ],
    }


def _query(metric: Metric, labels: str) -> str:
    chosen = [f'{tag}=~"${tag}"' for tag in ("dag_id", "model") if tag in metric.tags]
    name = f"${{prefix}}_{PREFIX}_{metric.name}"
    if metric.kind == "counter":  # OpenTelemetry's collector puts _total behind the name
        selector = ", ".join([f'__name__=~"{name}(_total)?"', *chosen, *filter(None, [labels])])
        return f"sum by (code) (increase({{{selector}}}[1d]))"
    query = f"{name}{{{', '.join([*chosen, *filter(None, [labels])])}}}"
    return f"{query} == 1" if metric.name in ("verdict", "failed") else query


def _source() -> dict[str, Any]:
    return {"name": "source", "label": "Prometheus", "type": "datasource", "query": "prometheus"}


def _prefix() -> dict[str, Any]:
    """What Airflow puts before the names: [metrics] statsd_prefix or otel_prefix."""
    return {"name": "prefix", "label": "Prefix", "type": "textbox", "query": "airflow", "current": {"value": "airflow"}}


def _variable(tag: str) -> dict[str, Any]:
    query = f"label_values(${{prefix}}_{PREFIX}_verdict, {tag})"
    everything = {"includeAll": True, "multi": True, "current": {"text": "All", "value": "$__all"}, "refresh": 2}
    return {"name": tag, "type": "query", "datasource": SOURCE, "query": query, **everything}


def shown() -> set[str]:
    """The metrics that some panel shows."""
    return {name for _, _, metrics, _, _ in PANELS for name, _ in metrics}


if __name__ == "__main__":
    assert shown() == {metric.name for metric in METRICS}
    FILE.write_text(json.dumps(dashboard(), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    print(f"{FILE.relative_to(REPOSITORY)} written.")
