"""One run a day for three cameras, each with its photos and a store of its own.

Needs `[image_features] sources` and `stores` that hold PHOTOS and STORES. Where one camera fails, the others are
published; clearing its tasks runs that one again.
"""

from __future__ import annotations

from datetime import datetime

from airflow.sdk import DAG, task_group
from image_features import ImageFeaturesTaskGroup
from image_features.compat import CronDataIntervalTimetable

PHOTOS = "s3://photos"
STORES = "s3://features"
CAMERAS = ("gate", "north", "south")


@task_group
def camera(source: str, store: str) -> None:
    """The pipeline of one camera."""
    ImageFeaturesTaskGroup("features", source=source, store=store)


with DAG(
    "three_cameras",
    schedule=CronDataIntervalTimetable("0 0 * * *", timezone="UTC"),
    start_date=datetime(2026, 1, 1),
    catchup=False,
    max_active_tasks=3,
):
    camera.expand_kwargs(
        [{"source": f"{PHOTOS}/{name}/{{partition}}", "store": f"{STORES}/{name}"} for name in CAMERAS]
    )
