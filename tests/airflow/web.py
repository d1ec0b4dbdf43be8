"""The pages inside a real Airflow api-server, called without a network; and runs whose documents tests write."""

from __future__ import annotations

import itertools
import json
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from spark_apps import contract
from tests.shelf import MODEL, Shelf, image_id

PREFIX = "/image-features"
API = f"{PREFIX}/api/image_features"
BEGAN = datetime(2026, 11, 22, 8, tzinfo=UTC)
"""When the runs of a test began; what they publish is later."""

_numbers = itertools.count()


@dataclass
class Run:
    """A Dag run in Airflow's database, and the documents it left in the store."""

    store: str
    partition: str
    run_id: str = field(default_factory=lambda: f"manual__{next(_numbers)}:+x")
    state: str = "success"
    began: datetime = BEGAN
    ended: datetime | None = None
    dag_id: str = "image_features"
    branch: str = ""
    map_index: int = -1
    old: bool = False
    """Whether its documents are from before runs were told apart by their Dag."""

    @property
    def key(self) -> contract.RunKey:
        return contract.RunKey(self.run_id, "" if self.old else self.dag_id, self.map_index, self.branch)

    @property
    def folder(self) -> Path:
        return Path(contract.run_folder(self.store, self.partition, self.key))

    def enter(self, conf: dict[str, Any] | None = None, **facts: Any) -> Run:
        """Adds the Dag run to Airflow's database; `facts` are further columns of it."""
        from airflow.models.dagrun import DagRun
        from airflow.utils.session import create_session
        from airflow.utils.types import DagRunTriggeredByType, DagRunType

        with create_session() as session:
            run = DagRun(
                dag_id=self.dag_id,
                run_id=self.run_id,
                run_type=DagRunType.MANUAL,
                run_after=self.began,
                start_date=self.began,
                state=self.state,  # type: ignore[arg-type]
                conf={"partition": self.partition} if conf is None else conf,
                triggered_by=DagRunTriggeredByType.TEST,
                **facts,
            )
            run.end_date = self.ended
            session.add(run)
        return self

    def tells(self, task_id: str, stage: str, **facts: Any) -> Run:
        """Adds what a task of the run says of itself before its job starts: the XCom of our operators."""
        from airflow.models.dagrun import DagRun
        from airflow.models.taskinstance import TaskInstance
        from airflow.models.xcom import XComModel
        from airflow.utils.session import create_session
        from image_features.links import FACTS
        from sqlalchemy import insert, select

        told = {"store": self.store, "partition": self.partition, "stage": stage, "branch": self.branch, **facts}
        task = {"dag_id": self.dag_id, "run_id": self.run_id, "task_id": task_id, "map_index": self.map_index}
        with create_session() as session:
            number = session.scalar(select(DagRun.id).where(DagRun.dag_id == self.dag_id, DagRun.run_id == self.run_id))
            session.execute(insert(TaskInstance).values(**task, pool="default_pool", state="success"))
            session.execute(insert(XComModel).values(**task, dag_run_id=number, key=FACTS, value=told))
        return self

    def asks(self, task_id: str, **answer: Any) -> Run:
        """Adds a task that asks a person whether the run is published all the same; `answer`: columns of it."""
        from airflow.models.hitl import HITLDetail
        from airflow.models.taskinstance import TaskInstance
        from airflow.utils.session import create_session
        from sqlalchemy import select, update

        self.tells(task_id, "approve", folder=str(self.folder))
        key = {"run_id": self.run_id, "task_id": task_id, "map_index": self.map_index}
        of_task = [getattr(TaskInstance, name) == value for name, value in key.items()]
        with create_session() as session:
            session.execute(update(TaskInstance).where(*of_task).values(operator="AskToPublishOperator"))
            ti_id = session.scalar(select(TaskInstance.id).where(*of_task))
            session.add(HITLDetail(ti_id=ti_id, options=["Approve", "Reject"], subject="Publish?", **answer))
        return self

    def leaves(self, name: str, content: Any) -> Run:
        """Writes a document; text as it is, everything else as JSON."""
        self.folder.mkdir(parents=True, exist_ok=True)
        if isinstance(content, dict) and content and not self.old:
            content = {"dag_id": self.dag_id, **content}
        (self.folder / name).write_text(content if isinstance(content, str) else json.dumps(content, default=vars))
        return self

    def finishes(self, *stages: str, **facts: Any) -> Run:
        """Leaves the manifests of `stages`, each a minute after the other."""
        for stage in stages:
            minute = contract.STAGES.index(stage)
            self.leaves(
                f"{stage}.json",
                {
                    **{"stage": stage, "run_id": self.run_id, "partition": self.partition, "code_hash": "c"},
                    "started_at": self.at(minute),
                    "finished_at": self.at(minute + 0.5),
                    "counts": {"listed": 3, "accepted": 2, "quarantined": 1 if stage == "ingest" else 0},
                    **{"seconds": {"startup": 1.0, "total": 2.5}, "versions": {"python": "3.11"}},
                    "settings": {"source": "/photos/day"},
                    "model": None if stage == "ingest" else {**INFO, "categories": ["tabby"]},
                    "quarantined": {"empty": 1} if stage == "ingest" else {},
                    **facts,
                },
            )
        return self

    def reports(self, verdict: str = "published", **facts: Any) -> Run:
        """Leaves all manifests and a report."""
        self.finishes("ingest", "extract", "validate")
        return self.leaves("report.json", {**report(self, verdict), **facts})

    def fails(self, stage: str, error: contract.JobError, minute: float = 1) -> Run:
        """Leaves the record of a failed stage."""
        return self.leaves("error.json", {**contract.error_record(stage, error), "at": self.at(minute)})

    def at(self, minute: float) -> str:
        return (self.began + timedelta(minutes=minute)).isoformat(timespec="seconds")


def enter_dag(dag: Any) -> None:
    """Keeps a Dag in Airflow's database, as the Dag processor does once it has parsed its file."""
    from airflow.models.dag import DagModel
    from airflow.models.dagbundle import DagBundleModel
    from airflow.models.serialized_dag import SerializedDagModel
    from airflow.serialization.serialized_objects import LazyDeserializedDAG
    from airflow.utils.session import create_session

    with create_session() as session:
        session.merge(DagBundleModel(name="tests"))
        session.flush()
        session.merge(DagModel(dag_id=dag.dag_id, bundle_name="tests", is_stale=False, fileloc="dags.py"))
        session.flush()
        SerializedDagModel.write_dag(LazyDeserializedDAG.from_dag(dag), bundle_name="tests", session=session)
    forget_dags()


def forget_dags() -> None:
    """Has the pages look at Airflow's Dags again."""
    from image_features.web import our_dags

    our_dags._found.forget()


def pipeline(dag_id: str) -> Any:
    """A Dag with the tasks of the pipeline."""
    from airflow.sdk import DAG
    from image_features.operators import ExtractOperator, IngestOperator, ValidateOperator

    with DAG(dag_id) as dag:
        stages = zip((IngestOperator, ExtractOperator, ValidateOperator), contract.STAGES, strict=True)
        ingest, extract, validate = (kind(task_id=stage) for kind, stage in stages)
        ingest >> extract >> validate
    return dag


INFO = {
    **{"key": MODEL, "fingerprint": "fingerprint-1", "backbone": "resnet18", "weights": "random:0", "device": "cpu"},
    **{"weights_sha256": "ab", "precision": "fp32", "engine": "openvino", "dim": 4},
}


def report(run: Run, verdict: str) -> dict[str, Any]:
    """A report of three files, two photos with vectors and one without."""
    good = {"severity": "error", "passed": True, "value": 0.1, "limit": 0.5, "message": "Fine.", "offenders": []}
    bad = {**good, "passed": False, "value": 0.9, "offenders": ["file:///photos/day/a%20b.jpg"]}
    return {
        **{"report_version": 1, "run_id": run.run_id, "partition": run.partition, "verdict": verdict},
        **{"at": run.at(5), "table_versions": {"features": 3}, "bytes": 99, "model": INFO, "recomputed": []},
        "counts": {**{"listed": 3, "accepted": 2, "featured": 2, "quarantined": 1}, "computed": 2, "reused": 0},
        "quarantined": {"empty": 1},
        "checks": [
            {"name": "drift", **(bad if verdict == "rejected" else good)},
            {"name": "row_count", **good, "severity": "warning"},
        ],
        "norms": {"quantiles": {"0.05": 1.0, "0.5": 2.0, "0.95": 3.0}, "histogram": {"edges": [0, 1], "counts": [2]}},
        "drift": {
            **{"value": 0.1, "limit": 0.5, "sketch": None, "by_partition": {}},
            "moved": [{"image_id": image_id("A"), "uri": "file:///photos/day/a%20b.jpg", "moved": 0.25}],
            "second_opinion": {"today": 20, "before": 30, "mmd2": 0.01, "p": 0.04, "auc": 0.75},
        },
        "rows_before": {},
        "seconds": {"ingest": {"total": 3.0}, "extract": {"compute": 0.5, "total": 4.0}, "validate": {"read": 1.0}},
    }


def published(shelf: Shelf, partition: str = "2026-11-20", *, files: dict[str, str] | None = None) -> Run:
    """A run that published two photos and a copy of one of them, with all its documents."""
    run = Run(shelf.store, partition, began=datetime.now(UTC) - timedelta(minutes=10))
    names = files or {f"file:///photos/day/{name}.jpg": image for name, image in (("a", "A"), ("b", "B"), ("c", "A"))}
    shelf.publish(partition, run.key, names)
    run.ended = datetime.now(UTC)
    return run.reports().enter()
