"""Waits until the upload of the day has written its marker, then computes.

Needs `[image_features] source` and `store`, and a triggerer (`airflow triggerer`): while it waits, no worker slot is
taken. Without a marker, `settle="10 minutes"` waits until nothing has changed for so long.
"""

from __future__ import annotations

from datetime import datetime

from airflow.sdk import DAG
from image_features import ImageFeaturesTaskGroup
from image_features.compat import CronDataIntervalTimetable
from image_features.sensors import LandingSensor

with DAG(
    "wait_for_photos",
    schedule=CronDataIntervalTimetable("0 0 * * *", timezone="UTC"),
    start_date=datetime(2026, 1, 1),
    catchup=False,
):
    landed = LandingSensor(task_id="landed", marker="_SUCCESS", timeout=6 * 3600)
    landed >> ImageFeaturesTaskGroup()
