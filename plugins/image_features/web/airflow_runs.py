"""What Airflow knows of the pipeline's runs: the one place that reads its database, from within the api-server."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from airflow.models.dagrun import DagRun
from airflow.utils.session import create_session
from sqlalchemy import literal, select

from image_features import partition
from image_features.web import our_dags
from image_features.web.answers import DagRunInfo
from image_features.web.refusals import Refused
from spark_apps import contract
from spark_apps.contract import BadSetting

NEWEST = 1000
"""Runs of a Dag that the overview looks through."""
ACTIVE = ("queued", "running")


@dataclass(frozen=True)
class Attempt:
    """One Dag run. `partition`: the key it works on, None when it has none. `began`: when it was last started.

    `shared`: another of the pipeline's Dags has a run of that id.
    """

    dag_id: str
    dag_run_id: str
    state: str
    partition: str | None
    began: datetime | None
    started_at: datetime | None
    ended_at: datetime | None
    shared: bool = False

    @property
    def run(self) -> contract.RunKey:
        return contract.RunKey(self.dag_run_id, self.dag_id)

    def owns(self, folder: str, *, dag_id: str | None = None) -> bool:
        """Whether a run's folder in the store is of this run.

        One that was written before Dags were told apart is by its run id alone, unless another of our Dags has a run
        of that id. `dag_id`: what its documents say, None when they do not.
        """
        if self.run.owns(folder):
            return True
        return folder == self.old_folder and dag_id is None and not self.shared

    @property
    def old_folder(self) -> str:
        """What its folder was called before Dags were told apart."""
        return contract.RunKey(self.dag_run_id).folder

    @property
    def active(self) -> bool:
        return self.state in ACTIVE

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


def find(dag_id: str, dag_run_id: str) -> Attempt:
    """The Dag run. Raises Refused when there is none."""
    with create_session(scoped=False) as session:
        row = session.execute(
            select(*_COLUMNS).where(DagRun.dag_id == dag_id, DagRun.run_id == dag_run_id)
        ).one_or_none()
    if row is None:
        raise Refused(404, "no_such_run", "Airflow knows no such run of this Dag.", "It may have been deleted.")
    return _attempt(row, _shared(dag_id, [dag_run_id]))


def newest(dag_id: str) -> list[Attempt]:
    """The Dag's runs, the newest first, at most `NEWEST`."""
    with create_session(scoped=False) as session:
        rows = session.execute(
            select(*_COLUMNS).where(DagRun.dag_id == dag_id).order_by(DagRun.id.desc()).limit(NEWEST)
        ).all()
    shared = _shared(dag_id, [row.run_id for row in rows])
    return [_attempt(row, shared) for row in rows]


def _shared(dag_id: str, run_ids: list[str]) -> set[str]:
    """Those of `run_ids` that another of the pipeline's Dags has, too."""
    others = [other for other in our_dags.ours() if other != dag_id]
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


def iso(moment: datetime | None) -> str | None:
    """ISO 8601 in UTC with seconds."""
    return None if moment is None else moment.astimezone(UTC).isoformat(timespec="seconds")


def _attempt(row: Any, shared: set[str]) -> Attempt:
    return Attempt(
        dag_id=row.dag_id,
        dag_run_id=row.run_id,
        state=str(getattr(row.state, "value", row.state)),
        partition=partition_of(row),
        began=row.start_date or row.queued_at,
        started_at=row.start_date,
        ended_at=row.end_date,
        shared=row.run_id in shared,
    )
