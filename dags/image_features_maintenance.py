"""The weekly maintenance: small files merged, files past their retention deleted."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from airflow.sdk import DAG, Param
from image_features import settings
from image_features.compat import CronDataIntervalTimetable
from image_features.operators import MaintainOperator
from image_features.options import OPTIONS

from spark_apps import contract

NUMBERS = [OPTIONS["retention_hours"], OPTIONS["content_days"]]

with DAG(
    dag_id="image_features_maintenance",
    description="Merges small files of the feature tables and deletes files past their retention.",
    schedule=CronDataIntervalTimetable("0 12 * * 0", timezone="UTC"),
    start_date=datetime(2000, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    default_args={**settings.placement(), "retries": 2, "retry_delay": timedelta(minutes=10)},
    params={
        **{
            option.name: Param(
                settings.value(option.name),
                title=option.field,
                description=option.description,
                type="integer",
                minimum=option.minimum,
                maximum=option.maximum,
            )
            for option in NUMBERS
        },
        "dry_run": Param(
            False,
            title="Dry run",
            description=contract.describe(contract.MaintainSettings, "dry_run")["help"],
            type="boolean",
        ),
    },
    tags=["images", "spark"],
    doc_md="""
### Maintenance of the feature tables
Every Sunday at noon UTC, or whenever it is triggered; never twice at once. Merges the small files of published
partitions, removes data that was replaced and runs that died longer ago than the retention, and shortens the logs.

* What is published stays, and so does what a running run may need: it can run beside the daily pipeline.
* **Undo** and time travel reach as far back as the retention.
* **Copies of photos** that were published longer ago than the days in the form are let go of; 0 keeps them.
* **Dry run** changes nothing: the task's log lists the files that would be deleted.
""",
) as dag:
    MaintainOperator(task_id="maintain")
