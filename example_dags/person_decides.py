"""Asks a person about a night that the checks have rejected; approved, it is published with a name and a reason.

The question is under *Required Actions* in Airflow, for half a day; then the run is left rejected. Needs
`[image_features] store` and `source`. In most Dags `ask_to_publish=True` of the group does the same, and lets what
follows a publication follow (missing_at_six.py). docs/operations.md, *A person decides*.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from airflow.sdk import DAG
from image_features import ImageFeaturesTaskGroup
from image_features.compat import CronDataIntervalTimetable
from image_features.human_step import AskToPublishOperator
from image_features.operators import ApproveOperator

with DAG(
    "person_decides",
    schedule=CronDataIntervalTimetable("0 1 * * *", timezone="UTC"),
    start_date=datetime(2026, 1, 1),
    catchup=False,
    default_args={"retries": 1, "retry_delay": timedelta(minutes=10)},
):
    ask = AskToPublishOperator(task_id="ask", defaults="Reject", response_timeout=timedelta(hours=12), retries=0)
    approve = ApproveOperator(
        task_id="approve",
        checks="{{ ti.xcom_pull(task_ids='ask')['checks'] }}",
        approved_by="{{ ti.xcom_pull(task_ids='ask')['approved_by'] }}",
        reason="{{ ti.xcom_pull(task_ids='ask')['reason'] }}",
    )
    ImageFeaturesTaskGroup("image_features") >> ask >> approve
