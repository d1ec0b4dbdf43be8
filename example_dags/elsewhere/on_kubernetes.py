"""The three jobs as SparkApplications of the Spark operator on Kubernetes.

The image has the package installed, by the extra `spark`; so the code is in it, and nothing is sent.

Written with the provider's documentation; not run: no such service was at hand. It is parsed with the provider in the
versions that docs/dags.md names.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.providers.cncf.kubernetes.operators.spark_kubernetes import SparkKubernetesOperator
from airflow.sdk import DAG, task
from image_features import jobs
from image_features.sensors import StageSensor

CODE = "local:///opt/image-features/spark_apps"
"""Where `ingest.py`, `extract.py` and `validate.py` lie in the image."""
SETTINGS: dict[str, dict[str, Any]] = {"ingest": {}, "extract": {"model": "resnet50"}, "validate": {}}

with DAG("features_on_kubernetes", schedule=None, tags=["images", "spark"]) as dag:

    @task
    def spec(stage: str, **context: Any) -> dict[str, Any]:
        return jobs.spec(stage, context, applications=CODE, **SETTINGS[stage])

    before = None
    for stage in SETTINGS:
        job: Any = spec.override(task_id=f"{stage}_job")(stage)
        submit = SparkKubernetesOperator(
            task_id=f"{stage}_submit",
            namespace="spark",
            template_spec={
                "spark": {
                    "apiVersion": "sparkoperator.k8s.io/v1beta2",
                    "kind": "SparkApplication",
                    "spec": {
                        "type": "Python",
                        "pythonVersion": "3",
                        "mode": "cluster",
                        "sparkVersion": "4.0.0",
                        "image": "registry.internal/image-features:1",
                        "mainApplicationFile": job["application"],
                        "arguments": job["arguments"],
                        "restartPolicy": {"type": "Never"},
                        "driver": {"cores": 1, "memory": "4g", "serviceAccount": "spark"},
                        "executor": {"cores": 1, "memory": "3g", "instances": 4},
                    },
                }
            },
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
