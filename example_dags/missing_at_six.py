"""A night that is looked after: narrow limits warn, wide ones reject, a person may overrule them, and at six in the
morning somebody is woken when there are still no features of the day before.

Two Dags. `by_six` makes the features; who is on call is told of warnings and failures, and is asked about a night that
the checks have rejected. `missing_at_six` looks into the store, so it finds whatever is the reason: a run that failed,
one that still waits, for that answer for example, one that was never made.

Needs `[image_features] store` and `source`, Airflow's HTTP provider, and a connection `on_call` of type http: where a
webhook is that takes JSON. For Slack and mails: docs/notify.md.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from airflow.sdk import DAG, task
from image_features import ImageFeaturesTaskGroup, settings
from image_features.compat import CronDataIntervalTimetable
from image_features.notifier import ImageFeaturesNotifier

ZONE = "Europe/Berlin"
MODEL = "resnet50-imagenet1k_v2-fp32"
MIDNIGHT = CronDataIntervalTimetable("0 0 * * *", timezone=ZONE)
BEGIN = datetime(2026, 1, 1)
LIMITS = {"warn_failed_fraction": 0.02, "max_failed_fraction": 0.1, "warn_drift": 0.2, "warn_row_ratio": 0.8}
PARTITION = f"{{{{ data_interval_start.in_timezone('{ZONE}').strftime('%Y-%m-%d') }}}}"

on_call = {
    "on_failure_callback": ImageFeaturesNotifier(http_conn_id="on_call"),
    "on_success_callback": ImageFeaturesNotifier(http_conn_id="on_call", quiet=True),
}

with DAG("by_six", schedule=MIDNIGHT, start_date=BEGIN, catchup=False, default_args=on_call):
    ImageFeaturesTaskGroup(
        "features",
        partition=PARTITION,
        index=True,
        ask_to_publish={"response_timeout": timedelta(hours=12)},
        **LIMITS,
    )

with DAG(
    "missing_at_six",
    schedule=CronDataIntervalTimetable("0 6 * * *", timezone=ZONE),
    start_date=BEGIN,
    catchup=False,
    default_args=on_call,
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
