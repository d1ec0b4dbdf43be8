"""The three jobs on EMR Serverless.

The application has an image with the packages that docs/install.md names under "Spark: Amazon EMR".

Written with the provider's documentation; not run: no such service was at hand. It is parsed with the provider in the
versions that docs/dags.md names.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.providers.amazon.aws.operators.emr import EmrServerlessStartJobOperator
from airflow.sdk import DAG, task
from image_features import jobs
from image_features.sensors import StageSensor

CODE = "s3://code/image-features"
"""Where `ingest.py`, `extract.py` and `validate.py` lie, and the archive of `python -m spark_apps.pack --code`."""
SETTINGS: dict[str, dict[str, Any]] = {"ingest": {}, "extract": {"model": "resnet50"}, "validate": {}}

with DAG("features_on_emr_serverless", schedule=None, tags=["images", "spark"]) as dag:

    @task
    def spec(stage: str, **context: Any) -> dict[str, Any]:
        return jobs.spec(stage, context, applications=CODE, code=f"{CODE}/spark_apps.zip", **SETTINGS[stage])

    before = None
    for stage in SETTINGS:
        job: Any = spec.override(task_id=f"{stage}_job")(stage)
        submit = EmrServerlessStartJobOperator(
            task_id=f"{stage}_submit",
            application_id="{{ var.value.photo_application }}",
            execution_role_arn="{{ var.value.photo_role }}",
            job_driver={
                "sparkSubmit": {
                    "entryPoint": job["application"],
                    "entryPointArguments": job["arguments"],
                    "sparkSubmitParameters": f"--py-files {CODE}/spark_apps.zip",
                }
            },
            deferrable=True,
        )
        # The task before has waited for the job, so its documents are there, also where it failed.
        ended = StageSensor(
            task_id=stage,
            stage=stage,
            job=job,
            trigger_rule="all_done",
            timeout=timedelta(minutes=10),
            poke_interval=10,
        )
        submit >> ended
        if before:
            before >> job
        before = ended
