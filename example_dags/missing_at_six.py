"""Raises the alarm at six in the morning when the features of the day before are not there.

Needs `[image_features] store`. It looks into the store, so it finds whatever is the reason: a run that failed, one that
still waits, one that was never made. Replace `alarm` by how your people are called: ImageFeaturesNotifier is one way.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from airflow.sdk import DAG, task
from image_features import settings
from image_features.compat import CronDataIntervalTimetable

ZONE = "Europe/Berlin"
MODEL = "resnet50-imagenet1k_v2-fp32"


def alarm(context: Any) -> None:
    """Called when a task has failed."""
    print("ALARM:", context["exception"])


with DAG(
    "missing_at_six",
    schedule=CronDataIntervalTimetable("0 6 * * *", timezone=ZONE),
    start_date=datetime(2026, 1, 1),
    catchup=False,
    default_args={"on_failure_callback": alarm},
):

    @task
    def look(data_interval_start: Any = None) -> int:
        """How many vectors there are of the day on which the interval begins."""
        from spark_apps import catalog  # here, as it imports pyarrow

        day = data_interval_start.in_timezone(ZONE).strftime("%Y-%m-%d")
        found = [one.rows for one in catalog.partitions(settings.store(), MODEL) if one.partition == day]
        if not found:
            raise RuntimeError(f"There are no features of {day} yet.")
        return found[0]

    look()
