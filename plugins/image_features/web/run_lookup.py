"""One Dag run with everything the store has of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from image_features.web import airflow_runs, run_documents, store_state
from image_features.web.airflow_runs import Attempt
from image_features.web.answers import JobErrorInfo, Status
from image_features.web.overview import has_ended_well, outcome_of
from image_features.web.refusals import Refused
from image_features.web.run_documents import Folder
from image_features.web.stores import Place
from spark_apps import catalog, contract


@dataclass(frozen=True)
class Run:
    """A Dag run, or the part of it that is asked for. `items`: everything that is published, but by other Dags."""

    attempt: Attempt
    folder: Folder
    manifests: dict[str, contract.Manifest | None]
    items: list[catalog.Partition]

    @property
    def place(self) -> Place:
        return self.attempt.place

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
        return self.folder.model_key() or self.attempt.model or None

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
    def ended_well(self) -> bool:
        """Whether this part of the run is done, in a run with other parts that are not."""
        return has_ended_well(self.attempt, self.summary, self.error)

    @property
    def summary(self) -> run_documents.Summary | None:
        """That of the report, when it can be read."""
        try:
            return run_documents.summarise(self.report) if self.report else None
        except run_documents.Unreadable:
            return None

    @property
    def standing(self) -> Status:
        """Its status, where readers see it."""
        return self.summary.standing if self.summary else "published"

    @property
    def error(self) -> JobErrorInfo | None:
        """`error.json`, unless it belongs to an attempt before the last clearing of the run."""
        found = self.folder.job_error()
        at = run_documents.moment(found.at) if found else None
        stale = at and self.attempt.active and self.attempt.began and at < self.attempt.began
        return None if stale else found


def open_run(attempt: Attempt) -> Run:
    """The run with its documents. Raises StoreProblem, but not for an empty store."""
    assert attempt.partition is not None
    after = None if attempt.active else attempt.ended_at
    with store_state.reading(attempt.place):
        try:
            items = store_state.published(attempt.place, after).of_dag(attempt.dag_id).partitions
        except store_state.StoreProblem as problem:
            if problem.code not in ("empty", "missing"):
                raise
            items = []
        folder = run_documents.folder(attempt)
    return Run(attempt, folder, run_documents.stages(folder), items)


def chosen(attempts: list[Attempt], part: str | None) -> Attempt:
    """The part that a key stands for; without one the first that failed, else the first. Raises Refused."""
    if part:
        for attempt in attempts:
            if attempt.key == part:
                return attempt
        raise Refused(404, "no_such_part", "This run has no such part.", "Pick one of its parts.")
    if len(attempts) > 1 and attempts[0].state == "failed":
        for attempt in attempts:
            if outcome_of(attempt).status in ("failed", "rejected"):
                return attempt
    return attempts[0]


def located(dag_id: str, dag_run_id: str, part: str | None) -> Run:
    """A run that has a place in the store. Raises Refused."""
    attempt = chosen(airflow_runs.find(dag_id, dag_run_id), part)
    if attempt.partition is None:
        raise Refused(404, "no_such_partition", "This run has no partition to work on.")
    return open_run(attempt)
