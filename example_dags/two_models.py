"""Two models of the same photos, which are listed, checked and packed once.

Needs `[image_features] source` and `store`. Each model is published by itself: where one is rejected, the other stands.
"""

from __future__ import annotations

from datetime import datetime

from airflow.sdk import DAG
from image_features import ImageFeaturesTaskGroup
from image_features.compat import CronDataIntervalTimetable

with DAG(
    "two_models",
    schedule=CronDataIntervalTimetable("0 0 * * *", timezone="UTC"),
    start_date=datetime(2026, 1, 1),
    catchup=False,
):
    ImageFeaturesTaskGroup(models=[{"model": "resnet18"}, {"model": "resnet50", "batch_size": 16}])
