"""What Airflow knows of the pipeline's runs, from its database: their states, and the parts that tasks tell of."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

from airflow.models.dagrun import DagRun
from airflow.utils.session import create_session
from sqlalchemy import literal, select

from image_features import partition
from image_features.web import facts, our_dags, stores
from image_features.web.answers import DagRunInfo
from image_features.web.caches import Sized
from image_features.web.facts import Fact
from image_features.web.our_dags import LATER, OurDag
from image_features.web.refusals import Refused
from image_features.web.stores import Place
from spark_apps import contract
from spark_apps.contract import BadSetting

NEWEST = 1000
"""Runs of a Dag that the overview looks through."""
ACTIVE = ("queued", "running")
NOWHERE = Place("", problem="not_configured")


@dataclass(frozen=True)
class Attempt:
    """One Dag run, or one part of it where its tasks work on several partitions, stores, branches or map indexes.

    `partition`: the key it works on, None when it has none. `began`: when the run was last started. `shared`: another
    of the pipeline's Dags that may have a store in common has a run of that id. `told`: its tasks have said which part
    it is, else it is worked out from the run. `alone`: the run has no other part. Not a `leaf`: its ingest serves other
    parts, and nothing else belongs to it. `model`: what its extract has said it publishes under, empty where none has.
    """

    dag_id: str
    dag_run_id: str
    state: str
    partition: str | None
    began: datetime | None
    started_at: datetime | None
    ended_at: datetime | None
    shared: bool = False
    place: Place = NOWHERE
    map_index: int = -1
    branch: str = ""
    told: bool = False
    alone: bool = True
    leaf: bool = True
    model: str = ""

    @property
    def run(self) -> contract.RunKey:
        return contract.RunKey(self.dag_run_id, self.dag_id, self.map_index, self.branch)

    def owns(self, folder: str, *, dag_id: str | None = None) -> bool:
        """Whether a run's folder in the store is of this part of the run.

        One that was written before Dags were told apart is by its run id alone, unless another of our Dags has a run
        of that id. `dag_id`: what its documents say, None when they do not.
        """
        if self.told:
            return folder in self._own_folders
        if self.run.owns(folder):
            return True
        return folder == self.old_folder and dag_id is None and not self.shared

    @cached_property
    def _own_folders(self) -> set[str]:
        return {run.folder for run in self.run.sources("ingest")}

    @property
    def old_folder(self) -> str:
        """What its folder was called before Dags were told apart."""
        return contract.RunKey(self.dag_run_id).folder

    @property
    def active(self) -> bool:
        return self.state in ACTIVE

    @cached_property
    def key(self) -> str | None:
        """What stands for the part in addresses; None for a run that is not told in parts."""
        if not self.told:
            return None
        parts = (self.place.key, self.partition or "", str(self.map_index), self.branch)
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]

    def info(self) -> DagRunInfo:
        return DagRunInfo(
            dag_run_id=self.dag_run_id,
            state=self.state,
            started_at=iso(self.started_at),
            ended_at=iso(self.ended_at),
        )


_COLUMNS = (
    DagRun.dag_id,
    DagRun.run_id,
    DagRun.state,
    DagRun.conf,
    DagRun.data_interval_start,
    DagRun.data_interval_end,
    getattr(DagRun, "partition_key", literal(None).label("partition_key")),  # since Airflow 3.2
    DagRun.queued_at,
    DagRun.start_date,
    DagRun.end_date,
)


def find(dag_id: str, dag_run_id: str) -> list[Attempt]:
    """The parts of the Dag run, the leaves first. Raises Refused when there is no such run."""
    with create_session(scoped=False) as session:
        row = session.execute(
            select(*_COLUMNS).where(DagRun.dag_id == dag_id, DagRun.run_id == dag_run_id)
        ).one_or_none()
    if row is None:
        raise Refused(404, "no_such_run", "Airflow knows no such run of this Dag.", "It may have been deleted.")
    told = facts.of_runs(dag_id, [dag_run_id])
    return _attempts(row, told.get(dag_run_id, []), _shared(dag_id, [dag_run_id]), _Dag(dag_id))


def newest(dag_id: str) -> list[Attempt]:
    """The parts of the Dag's runs, those of the newest run first; of at most `NEWEST` runs."""
    with create_session(scoped=False) as session:
        rows = session.execute(
            select(*_COLUMNS).where(DagRun.dag_id == dag_id).order_by(DagRun.id.desc()).limit(NEWEST)
        ).all()
    shared = _shared(dag_id, [row.run_id for row in rows])
    told, dag = _told(dag_id, rows), _Dag(dag_id)
    found = (attempt for row in rows for attempt in _attempts(row, told[row.run_id], shared, dag))
    return [attempt for attempt in found if attempt.leaf]


def _told(dag_id: str, rows: Iterable[Any]) -> dict[str, list[Fact]]:
    """Run id → what its tasks have told; kept once the run has ended."""
    keys = {row.run_id: (dag_id, row.run_id, row.start_date, row.end_date) for row in rows}
    active = {row.run_id for row in rows if _state(row) in ACTIVE}
    asked = [run_id for run_id, key in keys.items() if run_id in active or key not in _facts]
    found = facts.of_runs(dag_id, asked)
    kept: dict[str, list[Fact]] = {}
    for run_id, key in keys.items():
        if run_id in active:
            kept[run_id] = found.get(run_id, [])
        else:
            kept[run_id] = _facts.get(key, lambda run_id=run_id: found.get(run_id, []))  # type: ignore[misc]
    return kept


_facts: Sized[tuple[str, str, datetime | None, datetime | None], list[Fact]] = Sized(20_000)


class _Dag:
    """What a Dag says, looked up once for many of its runs."""

    def __init__(self, dag_id: str) -> None:
        self._dag_id = dag_id
        self._places: dict[tuple[str, str], Place] = {}

    @cached_property
    def said(self) -> OurDag:
        return our_dags.ours().get(self._dag_id) or OurDag(self._dag_id)

    @cached_property
    def first(self) -> Place:
        """The store of a run whose tasks have told nothing."""
        return stores.of_dag(self._dag_id)[0]

    def place(self, fact: Fact) -> Place:
        """The store that a task has told."""
        key = fact.store, fact.task_id
        if key not in self._places:
            self._places[key] = stores.of_fact(self._dag_id, fact)
        return self._places[key]


def _shared(dag_id: str, run_ids: list[str]) -> set[str]:
    """Those of `run_ids` that another of the pipeline's Dags has, too, which may have a store in common."""
    others = [other for other in our_dags.ours() if other != dag_id and stores.overlap(dag_id, other)]
    if not others or not run_ids:
        return set()
    with create_session(scoped=False) as session:
        return set(
            session.scalars(select(DagRun.run_id).where(DagRun.dag_id.in_(others), DagRun.run_id.in_(run_ids))).all()
        )


def partition_of(run: Any) -> str | None:
    """The partition that the run's tasks resolve; None where they refuse the run.

    `run`: a Dag run of Airflow's, or a row with its conf, data interval and partition key.
    """
    explicit = (run.conf or {}).get("partition")
    known = {"data_interval_start": run.data_interval_start, "data_interval_end": run.data_interval_end, "dag_run": run}
    try:
        return partition.of(explicit if isinstance(explicit, str) else None, known)
    except BadSetting as error:
        if error.code in partition.ONCE_TAKEN and run.state == "success":  # by a version that took the day in UTC
            return partition.Calendar().key(run.data_interval_start)
        return None


def _derived(run: Any, dag: OurDag) -> str | None:
    """The partition of a run whose tasks have told nothing yet; None where only they can say."""
    said = {one.partition for one in dag.said} or {None}
    if said == {None} or (run.conf or {}).get("partition"):
        return partition_of(run)
    (only,) = said if len(said) == 1 else (LATER,)
    return None if only is LATER else str(only)


def iso(moment: datetime | None) -> str | None:
    """ISO 8601 in UTC with seconds."""
    return None if moment is None else moment.astimezone(UTC).isoformat(timespec="seconds")


def _state(row: Any) -> str:
    return str(getattr(row.state, "value", row.state))


def _attempts(row: Any, told: list[Fact], shared: set[str], dag: _Dag) -> list[Attempt]:
    """The parts of a run, the leaves first."""
    run = {
        "dag_id": row.dag_id,
        "dag_run_id": row.run_id,
        "state": _state(row),
        "began": row.start_date or row.queued_at,
        "started_at": row.start_date,
        "ended_at": row.end_date,
        "shared": row.run_id in shared,
    }
    if not told:
        return [Attempt(**run, partition=_derived(row, dag.said), place=dag.first)]
    parts = sorted(
        {(dag.place(fact), fact.partition, fact.branch, fact.map_index) for fact in told},
        key=lambda part: (part[1], part[2], part[3], part[0].store),
    )
    models = {(dag.place(fact), fact.partition, fact.branch, fact.map_index): fact.model for fact in told if fact.model}
    led = {
        (place, key, before.branch, before.map_index)
        for place, key, branch, index in parts
        for before in contract.RunKey("", "", index, branch).sources("ingest")[1:]
    }
    alone = len(parts) - len(led & set(parts)) < 2
    found = [
        Attempt(
            **run,
            partition=key,
            place=place,
            branch=branch,
            map_index=index,
            told=True,
            alone=alone,
            leaf=(place, key, branch, index) not in led,
            model=models.get((place, key, branch, index), ""),
        )
        for place, key, branch, index in parts
    ]
    return sorted(found, key=lambda attempt: not attempt.leaf)
