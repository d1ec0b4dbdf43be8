"""Days from midnight to midnight in a time zone of the Dag's own, whatever the zone of this Airflow.

Needs `[image_features] source` and `store`. The days on which the clock is set have 23 and 25 hours, and are published
once each. Where all Dags share one zone, `[image_features] timezone` says so and `partition` can be left out.
"""

from __future__ import annotations

from datetime import datetime

from airflow.sdk import DAG
from image_features import ImageFeaturesTaskGroup
from image_features.compat import CronDataIntervalTimetable

ZONE = "Europe/Berlin"

with DAG(
    "days_in_berlin",
    schedule=CronDataIntervalTimetable("0 0 * * *", timezone=ZONE),
    start_date=datetime(2026, 1, 1),
    catchup=False,
):
    ImageFeaturesTaskGroup(partition=f"{{{{ data_interval_start.in_timezone('{ZONE}').strftime('%Y-%m-%d') }}}}")
