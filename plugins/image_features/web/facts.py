"""What the tasks of the pipeline have told of themselves: the XComs `links.FACTS`, one for each job of a run.

Any task of the Dag could have written them, so a store that is named here is opened only where `stores` allows it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from airflow.models.xcom import XComModel
from airflow.utils.session import create_session
from sqlalchemy import select

from image_features.links import FACTS
from spark_apps import contract
from spark_apps.contract import BadSetting

AT_ONCE = 500
"""Runs of one query: databases have a limit for its parameters."""
NEWEST = 2000
"""Jobs of a Dag that are looked through for its stores."""


@dataclass(frozen=True)
class Fact:
    """Where a job works, as its task `task_id` says. `model`: what an extract publishes under, else empty."""

    task_id: str
    store: str
    partition: str
    branch: str
    map_index: int
    model: str = ""


def of_runs(dag_id: str, run_ids: Iterable[str]) -> dict[str, list[Fact]]:
    """Run id → what its tasks have told so far, in no order; without the runs of which none has."""
    wanted, found = list(run_ids), defaultdict(list)
    with create_session(scoped=False) as session:
        for first in range(0, len(wanted), AT_ONCE):
            query = _QUERY.where(XComModel.dag_id == dag_id, XComModel.run_id.in_(wanted[first : first + AT_ONCE]))
            for row in session.execute(query):
                if fact := _fact(row):
                    found[row.run_id].append(fact)
    return dict(found)


def newest(dag_id: str) -> list[Fact]:
    """What the newest jobs of the Dag have told, the newest first."""
    with create_session(scoped=False) as session:
        query = _QUERY.where(XComModel.dag_id == dag_id).order_by(XComModel.timestamp.desc()).limit(NEWEST)
        return [fact for fact in map(_fact, session.execute(query)) if fact]


_QUERY = select(XComModel.run_id, XComModel.task_id, XComModel.map_index, XComModel.value).where(XComModel.key == FACTS)


def _fact(row: Any) -> Fact | None:
    """None for what is not what our tasks write."""
    told = XComModel.deserialize_value(row)
    if not isinstance(told, dict) or told.get("stage") not in contract.STAGES:
        return None
    try:
        return Fact(
            task_id=row.task_id,
            store=contract.check_store(str(told["store"])),
            partition=contract.check_partition(str(told["partition"])),
            branch=str(told.get("branch") or ""),
            map_index=row.map_index,
            model=str(told.get("model") or ""),
        )
    except (KeyError, BadSetting):
        return None
