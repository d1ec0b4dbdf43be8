"""One Dag run with everything the store has of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from image_features.web import airflow_runs, run_documents, store_state
from image_features.web.airflow_runs import Attempt
from image_features.web.answers import JobErrorInfo
from image_features.web.refusals import Refused
from image_features.web.run_documents import Folder
from spark_apps import catalog, contract


@dataclass(frozen=True)
class Run:
    """A Dag run with its place in the store. `items`: everything that is published, but by other Dags."""

    attempt: Attempt
    store: str
    folder: Folder
    manifests: dict[str, contract.Manifest | None]
    items: list[catalog.Partition]

    @property
    def published(self) -> dict[str, str]:
        """Model → the run id that readers see of the run's partition."""
        return {item.model: item.run_id for item in self.items if item.partition == self.partition}

    @property
    def partition(self) -> str:
        assert self.attempt.partition is not None
        return self.attempt.partition

    @property
    def model(self) -> str | None:
        return self.folder.model_key()

    @property
    def shown(self) -> bool:
        """Whether readers see this run."""
        return bool(self.shown_models)

    @property
    def shown_models(self) -> list[str]:
        """The models under which readers see this run."""
        told = self.folder.told_dag()
        return [
            item.model
            for item in self.items
            if item.partition == self.partition and self.attempt.owns(item.folder, dag_id=told)
        ]

    @property
    def source(self) -> str | None:
        ingest = self.manifests["ingest"]
        return str(ingest.settings["source"]) if ingest and "source" in ingest.settings else None

    @property
    def report(self) -> dict[str, Any] | None:
        """The report, when it can be read and belongs to this attempt at the run."""
        found, extract = self.folder.report, self.manifests["extract"]
        at = run_documents.moment(found.get("at")) if found else None
        done = run_documents.moment(extract.finished_at) if extract else None
        if not found or at is None or done is None or at < done:
            return None
        stale = self.attempt.active and self.attempt.began and at < self.attempt.began
        return None if stale else found

    @property
    def error(self) -> JobErrorInfo | None:
        """`error.json`, unless it belongs to an attempt before the last clearing of the run."""
        found = self.folder.job_error()
        at = run_documents.moment(found.at) if found else None
        stale = at and self.attempt.active and self.attempt.began and at < self.attempt.began
        return None if stale else found


def open_run(attempt: Attempt) -> Run:
    """The run with its documents. Raises Unreachable or StoreProblem, but not for an empty store."""
    assert attempt.partition is not None
    store = store_state.location()
    try:
        items = store_state.published(None if attempt.active else attempt.ended_at).of_dag(attempt.dag_id).partitions
    except store_state.StoreProblem as problem:
        if problem.code not in ("empty", "missing"):
            raise
        items = []
    folder = run_documents.folder(store, attempt)
    return Run(attempt, store, folder, run_documents.stages(folder), items)


def located(dag_id: str, dag_run_id: str) -> Run:
    """A run that has a place in the store. Raises Refused."""
    attempt = airflow_runs.find(dag_id, dag_run_id)
    if attempt.partition is None:
        raise Refused(404, "no_such_partition", "This run has no partition to work on.")
    with store_state.reading():
        return open_run(attempt)
