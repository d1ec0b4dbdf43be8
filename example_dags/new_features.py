"""Starts whenever features of MODEL have been published, or taken back, and reads them.

Needs `[image_features] store`. Airflow may start one run for several publications that come close together, and name
only the first to it: `new_partitions` misses none.
"""

from __future__ import annotations

from typing import Any

from airflow.sdk import DAG, task
from image_features import assets

MODEL = "resnet50-imagenet1k_v2-fp32"

with DAG("new_features", schedule=[assets.features(MODEL)], catchup=False):

    @task
    def read(triggering_asset_events: Any = None) -> dict[str, int]:
        """Partition → how many vectors there are."""
        from spark_apps import catalog  # here, as it imports pyarrow

        told = [event.extra for events in triggering_asset_events.values() for event in events]
        tables = {one["partition"]: catalog.vectors(one["store"], one["partition"], one["model"]) for one in told}
        return {partition: table.num_rows for partition, table in tables.items()}

    read()
