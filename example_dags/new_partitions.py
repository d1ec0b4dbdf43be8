"""Runs once for each partition of MODEL that has been published, or taken back, and reads it. Airflow 3.3 or newer.

Needs `[image_features] store`. The run has the partition's key, so tasks of this project in it work on that partition.
"""

from __future__ import annotations

from typing import Any

from airflow.sdk import DAG, PartitionedAssetTimetable, task
from image_features import assets, settings

MODEL = "resnet50-imagenet1k_v2-fp32"

with DAG("new_partitions", schedule=PartitionedAssetTimetable(assets=assets.features(MODEL)), catchup=False):

    @task
    def read(dag_run: Any = None) -> int:
        """How many vectors there are."""
        from spark_apps import catalog  # here, as it imports pyarrow

        return int(catalog.vectors(settings.store(), dag_run.partition_key, MODEL).num_rows)

    read()
