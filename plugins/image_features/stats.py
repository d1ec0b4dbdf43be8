"""Hands metrics to Airflow's Stats: to StatsD, Datadog or OpenTelemetry, as Airflow is set up."""

from __future__ import annotations

import logging
import re

from airflow.providers.common.compat.sdk import conf

from image_features.compat import Stats
from image_features.metrics import PREFIX, samples
from image_features.outcomes import Outcome

log = logging.getLogger(__name__)


def send(found: Outcome, dag_id: str, task_id: str) -> None:
    """Sends the metrics of a stage that has ended. What cannot be sent does not fail the task."""
    try:
        named = _tags_in_names()
        for sample in samples(found, dag_id, task_id):
            parts = [_part(value) for value in sample.tags.values()] if named else []
            name = ".".join([PREFIX, sample.metric.name, *parts])
            if sample.metric.kind == "counter":
                Stats.incr(name, int(sample.value), tags=dict(sample.tags))
            else:
                Stats.gauge(name, sample.value, tags=dict(sample.tags))
    except Exception:
        log.warning("Image Features: the metrics could not be sent.", exc_info=True)


def _tags_in_names() -> bool:
    """Whether the values of tags must stand in the names: plain StatsD has no tags, and Airflow drops them there."""
    plain = conf.getboolean("metrics", "statsd_on", fallback=False)
    tagged = ("statsd_datadog_enabled", "statsd_influxdb_enabled")
    return plain and not any(conf.getboolean("metrics", name, fallback=False) for name in tagged)


def _part(value: str) -> str:
    """A tag's value as a part of a name, in which a dot would begin the next part."""
    return re.sub(r"[^A-Za-z0-9_-]", "_", value)
