"""Which run a task works for: Dag, run id, map index and, where a Dag has several chains of stages, the branch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from spark_apps import contract

if TYPE_CHECKING:
    from airflow.sdk import Context


CHAIN = (*contract.STAGES, "approve", "index", "duplicates", "sync")
"""The stages that continue one another in a run."""
ALONE = ("duplicates", "sync")
"""Those of them that are of no run where they are told a model: they may follow several, or none."""


def before(name: str) -> tuple[str, ...]:
    """The stages that come before one of the `CHAIN`."""
    return CHAIN[: CHAIN.index(name)]


def continues(task: Any) -> bool:
    """Whether a task continues what a run's stages before it have left."""
    return task.stage in CHAIN and not (task.stage in ALONE and task.given.get("model"))


def key(task: Any, context: Context) -> contract.RunKey:
    """The run of the task `task` of this project, as jobs and store know it. Raises BadSetting."""
    map_index = getattr(context.get("ti"), "map_index", -1)
    return contract.RunKey(
        run_id=str(context["run_id"]),
        dag_id=str(task.dag_id),
        map_index=map_index if isinstance(map_index, int) else -1,
        branch=branch(task) if continues(task) else "",
    )


def branch(task: Any) -> str:
    """The branch of a stage's task: the ids of the ingest and the extract that it belongs to, where there are several.

    Empty in a Dag with one of each, so that a task that is renamed still continues its run.

    Raises:
        BadSetting: it follows several ingests or extracts, and it cannot be told which of them it is to read.
    """
    parts = []
    for name in (*before(task.stage), task.stage)[:2]:
        if len([one for one in task.dag.tasks if stage(one) == name]) < 2:
            continue
        parts += [task.task_id] if name == task.stage else [one.task_id for one in nearest(task, name)]
    return "/".join(parts)


def stage(task: Any) -> str | None:
    """The stage of a task, a mapped one too; None for a task of somebody else's."""
    kind = getattr(task, "operator_class", type(task))
    return getattr(kind, "stage", None)


def nearest(task: Any, name: str) -> list[Any]:
    """The task of stage `name` that `task` follows with no other of that stage in between; none where there is none.

    Raises:
        BadSetting: there are several.
    """
    found: dict[str, Any] = {}
    seen, at = set(), list(task.upstream_list)
    while at:
        one = at.pop()
        if one.task_id in seen:
            continue
        seen.add(one.task_id)
        if stage(one) == name:
            found[one.task_id] = one
        else:
            at += one.upstream_list
    if len(found) > 1:
        raise contract.BadSetting(
            "ambiguous_branch",
            f"{task.task_id} follows several tasks of the stage {name}: {', '.join(sorted(found))}.",
            f"Let it follow the one that it belongs to, and give each of the others a {task.stage} of its own.",
        )
    return list(found.values())
