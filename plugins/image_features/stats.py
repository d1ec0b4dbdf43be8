"""Hands metrics to Airflow's Stats: to StatsD, Datadog or OpenTelemetry, as Airflow is set up."""

from __future__ import annotations

import logging
import re

from image_features import settings
from image_features.compat import Stats
from image_features.metrics import PREFIX, samples
from image_features.outcomes import Outcome

log = logging.getLogger(__name__)


def send(found: Outcome, dag_id: str, task_id: str) -> None:
    """Sends the metrics of a stage that has ended. What cannot be sent does not fail the task."""
    try:
        named = settings.metrics_have_no_tags()
        for sample in samples(found, dag_id, task_id):
            parts = [_part(value) for value in sample.tags.values()] if named else []
            name = ".".join([PREFIX, sample.metric.name, *parts])
            if sample.metric.kind == "counter":
                Stats.incr(name, int(sample.value), tags=dict(sample.tags))
            else:
                Stats.gauge(name, sample.value, tags=dict(sample.tags))
    except Exception:
        log.warning("Image Features: the metrics could not be sent.", exc_info=True)


def _part(value: str) -> str:
    """A tag's value as a part of a name, in which a dot would begin the next part."""
    return re.sub(r"[^A-Za-z0-9_-]", "_", value)
