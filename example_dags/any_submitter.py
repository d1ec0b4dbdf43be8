"""The three jobs started by a plain shell, as any other service would start them, and waited for in the store.

`jobs.spec` says what to run, anything may submit it, and `StageSensor` ends as our own operator of the stage would:
with the same counts, errors, skip, links and events.

What a retry may cure fails the task that submits, which then submits again. What no retry cures (a wrong setting, a
failed check, nothing to do: exit codes 2, 3 and 5) is left to the sensor to tell.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.providers.standard.operators.bash import BashOperator
from airflow.sdk import DAG, Param, task
from image_features import jobs
from image_features.sensors import StageSensor

SETTINGS: dict[str, dict[str, Any]] = {
    "ingest": {},
    "extract": {"model": "resnet18", "weights": "random:0"},
    "validate": {"recheck": 0, "max_failed_fraction": 0.3},
}

LEFT_TO_THE_SENSOR = "|| case $? in 2|3|5) ;; *) exit 1 ;; esac"

with DAG(
    "any_submitter",
    schedule=None,
    params={"partition": Param(None, type=["null", "string"]), "on_empty": Param("fail", enum=["fail", "skip"])},
    tags=["images", "spark"],
) as dag:

    @task
    def spec(stage: str, **context: Any) -> dict[str, Any]:
        return jobs.spec(stage, context, **SETTINGS[stage])

    before = None
    for stage in SETTINGS:
        job: Any = spec.override(task_id=f"{stage}_job")(stage)
        submit = BashOperator(
            task_id=f"{stage}_submit",
            bash_command="{{ ti.xcom_pull('" + f"{stage}_job" + "')['command'] }} " + LEFT_TO_THE_SENSOR,
        )
        waits = StageSensor(task_id=stage, stage=stage, job=job, poke_interval=2, timeout=timedelta(hours=2))
        job >> submit >> waits
        if before:
            before >> job
        before = waits
