"""The pipeline's Dags, and what their tasks say of their stores: read from the Dags as Airflow keeps them."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import Any

from airflow.models.dag import DagModel
from airflow.models.serialized_dag import SerializedDagModel
from airflow.utils.session import create_session
from sqlalchemy import func, select

from image_features import settings
from image_features.web.caches import Fresh, Sized

log = logging.getLogger(__name__)

FRESH_SECONDS = 10.0
"""How long the list of Dags is believed."""
READ_AT_ONCE = 50
PACKAGE = "image_features"
STAGES = ("IngestOperator", "ExtractOperator", "ValidateOperator", "StageSensor")
"""Tasks that work on a partition. A Dag that only maintains a store, or undoes, has no partitions to show."""
LINKS = {"_link_ReportLink", "_link_SparkLink"}
"""By these links, which no other operator has, a class derived from one of these is known, whatever its name."""
LATER = object()
"""Stands for a value that is only known when the task runs: a template, or the result of another task."""
GIVEN = ("store", "storage_conn_id", "partition")


@dataclass(frozen=True)
class Said:
    """What a task says of one of its jobs: text, None where it says nothing, or `LATER`. A mapped task has several."""

    task_id: str
    store: Any = None
    storage_conn_id: Any = None
    partition: Any = None


@dataclass(frozen=True)
class OurDag:
    """A Dag of the pipeline. `said`: by its tasks, in their order; empty where Airflow does not know the Dag."""

    dag_id: str
    said: tuple[Said, ...] = ()


def ours() -> dict[str, OurDag]:
    """The Dags that hold one of `STAGES`, by id; those of [image_features] dag_ids where that is set.

    A Dag whose file cannot be parsed, or is gone, stays until Airflow forgets it: what it published is still there.
    It comes after the others.
    """
    found = _found.get("", lambda _: _find())
    asked = settings.dag_ids()
    return {dag_id: found.get(dag_id) or OurDag(dag_id) for dag_id in asked} if asked else found


def _find() -> dict[str, OurDag]:
    versions = select(
        SerializedDagModel.dag_id.label("dag_id"), func.max(SerializedDagModel.created_at).label("created_at")
    )
    newest = versions.group_by(SerializedDagModel.dag_id).subquery()
    listed = (
        select(SerializedDagModel.dag_id, SerializedDagModel.id, SerializedDagModel.dag_hash)
        .join(
            newest,
            (SerializedDagModel.dag_id == newest.c.dag_id) & (SerializedDagModel.created_at == newest.c.created_at),
        )
        .join(DagModel, DagModel.dag_id == SerializedDagModel.dag_id)
        .order_by(DagModel.is_stale, SerializedDagModel.dag_id)
    )
    with create_session(scoped=False) as session:
        rows = session.execute(listed).all()
        new = [row for row in rows if (row.dag_id, row.dag_hash) not in _parsed]
        for first in range(0, len(new), READ_AT_ONCE):
            wanted = {row.id: row.dag_hash for row in new[first : first + READ_AT_ONCE]}
            query = select(SerializedDagModel).where(SerializedDagModel.id.in_(list(wanted)))
            for model in session.scalars(query):
                _parsed.get((model.dag_id, wanted[model.id]), partial(parse, model.dag_id, model.data))
                session.expunge(model)  # its data may be large, and there may be thousands
    found = {row.dag_id: _parsed.get((row.dag_id, row.dag_hash), lambda: None) for row in rows}
    return {dag_id: dag for dag_id, dag in found.items() if dag is not None}


_found: Fresh[str, dict[str, OurDag]] = Fresh(FRESH_SECONDS)
_parsed: Sized[tuple[str, str], OurDag | None] = Sized(20_000)
"""By Dag and hash of its content; None for a Dag that is not of the pipeline."""


def parse(dag_id: str, data: Any) -> OurDag | None:
    """What a serialized Dag says; None when it holds none of `STAGES`, or is of a form that is not known."""
    try:
        tasks = [task.get("__var", task) for task in data["dag"]["tasks"]]
        said = tuple(one for task in tasks if _is_stage(task) for one in _said(task))
        return OurDag(dag_id, said) if said else None
    except (AttributeError, KeyError, LookupError, TypeError, ValueError):
        log.warning("Image features: what Airflow keeps of the Dag %s cannot be read.", dag_id, exc_info=True)
        return None


def _is_stage(task: Mapping[str, Any]) -> bool:
    if str(task.get("_task_module", "")).partition(".")[0] == PACKAGE:
        return (task.get("task_type") or task.get("_task_type")) in STAGES
    links = task.get("_operator_extra_links") or {}
    return isinstance(links, dict) and set(links.values()) >= LINKS


def _said(task: Mapping[str, Any]) -> Iterator[Said]:
    for given in _jobs(task):
        if given.get("job"):  # a sensor's: what another task has submitted says where it works
            given = {**given, "store": LATER, "partition": LATER}
        yield Said(str(task["task_id"]), **{name: _told(given.get(name)) for name in GIVEN})


def _jobs(task: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The arguments of each of the task's jobs; of a mapped one as far as its expansion is written in the Dag."""
    if not task.get("_is_mapped"):
        return [dict(task)]
    fixed = {name: _plain(value) for name, value in _plain(task.get("partial_kwargs") or {}).items()}
    expansion = _plain(task.get("expand_input") or {})
    value = expansion.get("value")
    if expansion.get("type") == "list-of-dicts":  # expand_kwargs
        if isinstance(value, list):
            return [{**fixed, **one} if isinstance(one, dict) else dict.fromkeys(GIVEN, LATER) for one in value]
        return [dict.fromkeys(GIVEN, LATER)]
    if not isinstance(value, dict):
        return [dict.fromkeys(GIVEN, LATER)]
    varied = {name: value[name] if isinstance(value[name], list) else [LATER] for name in GIVEN if name in value}
    return [{**fixed, **dict(zip(varied, values, strict=True))} for values in product(*varied.values())]


def _plain(value: Any) -> Any:
    """A serialized value without Airflow's marks; `LATER` for what is no plain data."""
    if isinstance(value, dict):
        if "__type" not in value:
            return {name: _plain(one) for name, one in value.items()}
        if value["__type"] == "dict":
            return {name: _plain(one) for name, one in value["__var"].items()}
        return [_plain(one) for one in value["__var"]] if value["__type"] in ("tuple", "set") else LATER
    return [_plain(one) for one in value] if isinstance(value, list) else value


def _told(value: Any) -> Any:
    if value is None or value == "":
        return None
    return value if isinstance(value, str) and "{{" not in value and "{%" not in value else LATER
