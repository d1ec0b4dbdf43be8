"""Tells whoever is on call of a night that failed or was rejected, and of one that was published with warnings.

Needs `[image_features] store` and `source`, Airflow's HTTP provider, and a connection `on_call` of type http: where a
webhook is that takes JSON. For Slack give `slack_webhook_conn_id`, for mails `to` (docs/notify.md).
"""

from __future__ import annotations

from datetime import datetime, timedelta

from airflow.sdk import DAG
from image_features import ImageFeaturesTaskGroup
from image_features.compat import CronDataIntervalTimetable
from image_features.notifier import ImageFeaturesNotifier

with DAG(
    "wake_somebody",
    schedule=CronDataIntervalTimetable("0 1 * * *", timezone="UTC"),
    start_date=datetime(2026, 1, 1),
    catchup=False,
    default_args={
        "retries": 1,
        "retry_delay": timedelta(minutes=10),
        "on_failure_callback": ImageFeaturesNotifier(http_conn_id="on_call"),
        "on_success_callback": ImageFeaturesNotifier(http_conn_id="on_call", quiet=True),
    },
):
    ImageFeaturesTaskGroup("image_features")
