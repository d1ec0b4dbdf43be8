"""What a task says it works on, in an XCom, before its job starts; and that no two tasks of a run publish the same
partition and model in one store, where the last would replace the others."""

from __future__ import annotations

from typing import Any

from image_features import run_key, run_settings
from image_features.links import FACTS
from spark_apps import contract

PLACE = ("store", "partition", "extractor", "model", "weights", "precision", "decode", "color", "raw", "layer")
"""The arguments that say where and under what an extract's vectors are published."""
HINT = "Give them different models, partitions or stores, or remove one of them."


def tell(task: Any, context: Any, job: contract.JobSettings) -> None:
    """Says in an XCom what the task works on: the pages and other tasks of the run read it there."""
    told = {
        "store": job.store,
        "partition": getattr(job, "partition", ""),
        "stage": task.stage,
        "branch": job.run.branch,
        "model": _model(job),
        "task": _name(task, job),
        "folder": job.folder,
    }
    context["ti"].xcom_push(key=FACTS, value=told)


def check_in_dag(task: Any) -> None:
    """Refuses an extract that has the same place as one before it in the Dag.

    Raises:
        BadSetting: it names both.
    """
    place = _place(task)
    for other in task.dag.tasks if task.has_dag() else []:
        if other is task or run_key.stage(other) != task.stage or not hasattr(other, "given"):
            continue
        if all(run_settings.is_same(name, value, _place(other)[name]) for name, value in place.items()):
            raise _twice(other.task_id, task.task_id)


def _place(task: Any) -> dict[str, Any]:
    """Where and under what an extract publishes, as it can be seen in the Dag. What a param of the Dag may give is not
    known there."""
    params = task.dag.params if task.has_dag() else {}
    usual = {name: None if name in params else run_settings.usual(task.kind(), name) for name in PLACE}
    return {**usual, **{name: value for name, value in task.given.items() if name in PLACE}}


def check_in_run(task: Any, context: Any, job: contract.ExtractSettings) -> None:
    """Refuses an extract where another of the run has said that it works on the same place: mapped, or by templates.

    Raises:
        BadSetting: it names both.
    """
    extracts = [one for one in task.dag.tasks if run_key.stage(one) == task.stage]
    if len(extracts) == 1 and job.map_index < 0:
        return
    for told in context["ti"].xcom_pull(task_ids=[one.task_id for one in extracts], key=FACTS):
        same = told and (told["partition"], told["model"]) == (job.partition, _model(job))
        if same and told["task"] != _name(task, job) and run_settings.is_same("store", told["store"], job.store):
            raise _twice(told["task"], _name(task, job))


def _name(task: Any, job: contract.JobSettings) -> str:
    return f"{task.task_id}[{job.map_index}]" if job.map_index >= 0 else str(task.task_id)


def _model(job: contract.JobSettings) -> str:
    """What an extract's vectors are published under, as far as its settings tell; empty for another stage."""
    if not isinstance(job, contract.ExtractSettings):
        return ""
    if job.extractor != "image":
        return job.extractor
    return contract.model_key(job.model, job.weights, job.precision, job.decode, job.layer, job.color, job.raw)


def _twice(one: str, other: str) -> contract.BadSetting:
    return contract.BadSetting(
        "published_twice", f"{one} and {other} would publish the same partition and model in the same store.", HINT
    )
