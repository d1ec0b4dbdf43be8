"""What reaches a StatsD socket, and OpenTelemetry's SDK, when a stage has ended in Airflow."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from airflow.sdk.observability import stats
from airflow.sdk.observability.metrics import stats_utils
from image_features import metrics
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from spark_apps import contract
from tests.airflow import loopback
from tests.airflow.test_notifier import MODEL, publishes, rejects
from tests.airflow.test_operators import FakeSpark, context, operator, spark  # noqa: F401  # the fixture


@pytest.fixture
def begin() -> Iterator[Callable[..., None]]:
    """Has Airflow send metrics as it is configured, as the process of a task does when it begins."""

    def initialize(factory: Callable[[], Any] | None = None) -> None:
        stats.initialize(factory=factory or stats_utils.get_stats_factory(), export_legacy_names=True)

    yield initialize
    stats.initialize(factory=stats_utils.NoStatsLogger, export_legacy_names=True)


def run(stage: str = "validate") -> None:
    try:
        operator(stage).execute({**context(), "outlet_events": AnyEvent()})
    except Exception as error:
        print(error)


class AnyEvent(dict[Any, Any]):
    def __missing__(self, key: Any) -> Any:
        return type("Event", (), {"extra": {}, "add_partitions": lambda self, *_: None, "partition_keys": set()})()


def received(got: list[str]) -> list[str]:
    """What was sent until the last line has come."""
    deadline = time.monotonic() + 60
    while not any(".verdict" in line and "rejected" in line for line in got) and time.monotonic() < deadline:
        time.sleep(0.05)
    return [line for line in got if ".image_features." in line]


@pytest.mark.parametrize("tagged", [False, True])
def test_statsd_is_sent_every_metric_of_a_rejected_run(
    spark: FakeSpark,  # noqa: F811
    begin: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
    tagged: bool,
) -> None:
    rejects(spark)
    with loopback.datagrams() as (port, got):
        settings = {"STATSD_ON": "True", "STATSD_HOST": "127.0.0.1", "STATSD_PORT": str(port)}
        for name, value in {**settings, "STATSD_INFLUXDB_ENABLED": str(tagged)}.items():
            monkeypatch.setenv(f"AIRFLOW__METRICS__{name}", value)
        begin()
        run()
        lines = received(got)

    def named(metric: str, **tags: str) -> str:
        tags = {"dag_id": "image_features", "stage": "validate", **tags}
        parts = [f",{tag}={value}" for tag, value in tags.items()] if tagged else [f".{part}" for part in tags.values()]
        return f"airflow.image_features.{metric}{''.join(parts)}"

    assert f"{named('featured', model=MODEL)}:1|g" in lines
    assert f"{named('quarantined', model=MODEL, code='truncated')}:0|g" in lines
    assert f"{named('verdict', model=MODEL, verdict='rejected')}:1|g" in lines
    assert f"{named('failed', task_id='validate')}:1|g" in lines
    assert f"{named('failures', task_id='validate', code='quality_failed')}:1|c" in lines


def test_opentelemetry_has_the_tags_as_attributes(spark: FakeSpark, begin: Callable[..., None]) -> None:  # noqa: F811
    from airflow.sdk._shared.observability.metrics.otel_logger import SafeOtelLogger

    publishes(spark, ["drift"])
    reader = InMemoryMetricReader()
    begin(lambda: SafeOtelLogger(MeterProvider(metric_readers=[reader])))
    run()
    data = reader.get_metrics_data()
    assert data is not None
    found = {
        (metric.name, point.attributes.get("verdict")): (point.attributes, point.value)  # type: ignore[union-attr]
        for resource in data.resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
        for point in metric.data.data_points
    }
    attributes, value = found["airflow.image_features.verdict", contract.WITH_WARNINGS]
    assert (dict(attributes or {}), value) == (
        {"dag_id": "image_features", "stage": "validate", "model": "none", "verdict": contract.WITH_WARNINGS},
        1,
    )
    assert {name for name, _ in found} <= {f"airflow.{metrics.PREFIX}.{metric.name}" for metric in metrics.METRICS}


def test_a_collector_that_is_away_fails_no_task(
    spark: FakeSpark,  # noqa: F811
    begin: Callable[..., None],
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Away:
        def gauge(self, *_: Any, **__: Any) -> None:
            raise OSError("the collector is away")

    publishes(spark, [])
    begin(Away)
    assert operator("validate").execute({**context(), "outlet_events": AnyEvent()})["featured"] == 38
    assert "the metrics could not be sent" in caplog.text
