"""The job of a stage as any other service can submit it: Databricks, EMR, Dataproc, Livy, Kubernetes, a plain shell."""

from __future__ import annotations

import dataclasses
import uuid
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

from image_features import arguments, run_settings
from spark_apps import contract

PLACE = ("branch", "map_index")
"""Parts of the run's key that whoever asks for a job may choose."""


def spec(
    stage: str,
    context: Mapping[str, Any],
    *,
    applications: str = "",
    code: str = "",
    environment: dict[str, str] | None = None,
    python: str = "",
    **given: Any,
) -> dict[str, Any]:
    """The job of a stage in this run: the fields of `contract.JobSpec`, and `command`, the line for a shell.

    For a task of your own, whose result the task that submits the job and the `StageSensor` after it read. Each call
    names a new `--submission`, by which that sensor knows the job's documents.

    `context`: the task's. `given`: settings of the stage, as its operator takes them, `branch` and `map_index`; what is
    not given comes from where the operator has it: the run's conf, the Dag's params, [image_features]. `applications`,
    `code`, `environment` and `python`: as `contract.job_spec` takes them.

    Raises:
        TypeError: the stage has no such setting.
        BadSetting: a value is missing, out of bounds, or not allowed in this Airflow.
    """
    kind = contract.COMMANDS[stage]
    known = {arguments.argument(name): name for name in arguments.names(kind)}
    arguments.refuse_unknown("jobs.spec", given, {*known, *PLACE})
    values = {known[name]: value for name, value in given.items() if name in known and value is not None}
    values = {name: arguments.converted(kind, name, value) for name, value in values.items()}
    task = context["task"]
    of = SimpleNamespace(
        stage=stage, dag=task.dag, dag_id=task.dag_id, params=task.params, task_id=task.task_id, upstream_list=[]
    )
    place = {name: value for name, value in given.items() if name in PLACE}
    job = run_settings.of(kind, values, of, context)
    job = dataclasses.replace(job, **place, submission=uuid.uuid4().hex[:16])
    where = {"applications": applications} if applications else {}
    made = contract.job_spec(job, code=code, environment=environment, python=python, **where)
    return {**dataclasses.asdict(made), "command": made.shell()}
