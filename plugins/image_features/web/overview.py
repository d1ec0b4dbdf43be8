"""The overview: what is published, and every newer run that did not get there."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from image_features.web import airflow_runs, run_documents, store_state
from image_features.web.airflow_runs import Attempt
from image_features.web.answers import JobErrorInfo, Overview, PartitionRow, Status
from image_features.web.caches import Sized
from image_features.web.run_documents import Summary
from spark_apps import catalog, contract

SKEW = timedelta(seconds=5)
"""By how much the clocks of Airflow and of the jobs may differ."""


@dataclass(frozen=True)
class RunOutcome:
    """What a run that readers do not see left behind: its status, model, report and error as far as there are any."""

    status: Status
    model: str | None
    summary: Summary | None
    error: JobErrorInfo | None


OVER_PUBLISHED = ("failed", "rejected", "running", "queued")
"""What the newest run of a partition has to say even where an older one is published."""


@dataclass(frozen=True)
class Standing:
    """A published partition. `summary`: of its report. `at`: when it was published."""

    item: catalog.Partition
    summary: Summary | None
    at: datetime

    @classmethod
    def of(cls, item: catalog.Partition, summary: Summary | None) -> Standing:
        if summary and summary.verdict not in ("rejected", "checked"):  # else the run was tried again since
            told = run_documents.moment(summary.at)
            if told:
                return cls(item, summary, told)
        return cls(item, None, datetime.fromtimestamp(item.modified_ms / 1000, UTC))

    def is_of(self, attempt: Attempt) -> bool:
        """Whether the run published it."""
        return attempt.owns(self.item.folder, dag_id=self.summary.dag_id if self.summary else None)

    def row(self, known: bool) -> PartitionRow:
        """Its row; made once, because hundreds are asked for every few seconds. `known`: Airflow has its run."""
        key = self.item, self.at, self.summary is not None, known
        return _standing_rows.get(key, lambda: self._row(known))

    def _row(self, known: bool) -> PartitionRow:
        status: Status = "published" if self.summary else "unknown"
        item = self.item
        at = airflow_runs.iso(self.at)
        return _row(item.partition, item.model, status, item.run_id, known, item, self.summary, None, at)


_standing_rows: Sized[tuple[catalog.Partition, datetime, bool, bool], PartitionRow] = Sized(run_documents.KEPT)
_outcomes: Sized[tuple[str, str, Attempt], RunOutcome] = Sized(5_000)


def overview(dag_id: str, model: str | None) -> Overview:
    """The partitions of `model`, or of all models, newest key first."""
    store, published, state = "", store_state.Published("", []), store_state.OK
    attempts = airflow_runs.newest(dag_id)
    ends = [attempt.ended_at for attempt in attempts if not attempt.active and attempt.ended_at]
    try:
        store = store_state.location()
        published = store_state.published(max(ends, default=None)).of_dag(dag_id)
    except store_state.StoreProblem as problem:
        state = problem.state
    rows: list[PartitionRow] = []
    try:
        with store_state.reading():
            rows = _rows(store if state.code in ("ok", "empty") else "", published, attempts)
    except store_state.StoreProblem as problem:
        state = problem.state
    return Overview(
        store=state,
        models=published.models,
        model=model,
        partitions=[row for row in rows if model is None or row.model in (model, None)],
    )


def _rows(store: str, published: store_state.Published, attempts: list[Attempt]) -> list[PartitionRow]:
    """`store` is empty when it cannot be read: then there is only what Airflow knows."""
    wanted = [(item.partition, item.folder, item.modified_ms) for item in published.partitions]
    summaries = run_documents.summaries(store, wanted)
    by_id = {attempt.dag_run_id: attempt for attempt in attempts}
    rows: dict[tuple[str, str], PartitionRow] = {}
    standing: dict[str, list[Standing]] = defaultdict(list)
    for item in published.partitions:
        found = Standing.of(item, summaries[item.partition, item.folder])
        standing[item.partition].append(found)
        rows[item.partition, item.model] = found.row(item.run_id in by_id and found.is_of(by_id[item.run_id]))
    news = [attempt for attempt in attempts if _is_news(attempt, standing)]
    news.sort(key=lambda attempt: (attempt.active, _began(attempt)), reverse=True)  # what runs has yet to be judged
    placed = set()
    for attempt, outcome in zip(news, run_documents.side_by_side(lambda one: _outcome(store, one), news), strict=True):
        assert attempt.partition is not None
        here = [one for one in standing[attempt.partition] if outcome.model in (None, one.item.model)]
        older = here[0].item if len(here) == 1 else None
        key = attempt.partition, (older.model if older else outcome.model) or ""
        old = any(one.at > _began(attempt) for one in here)
        if key not in placed and not old and (older is None or outcome.status in OVER_PUBLISHED):
            rows[key] = _news_row(attempt, outcome, older)
        placed.add(key)  # the newest run speaks for its place; older ones are history
    order = contract.partitions.order
    return sorted(rows.values(), key=lambda row: (order(row.partition), row.model or ""), reverse=True)


def _is_news(attempt: Attempt, standing: dict[str, list[Standing]]) -> bool:
    """Whether a run may have something to say beside what is published: then its documents are read."""
    if attempt.partition is None:
        return False
    here = standing.get(attempt.partition, [])
    if attempt.state == "success":
        shown = any(one.is_of(attempt) for one in here)
        return not shown and not any(one.at > _began(attempt) for one in here)
    return attempt.active or not here or any(one.at <= _began(attempt) for one in here)


def _outcome(store: str, attempt: Attempt) -> RunOutcome:
    """What became of a run; kept once the run has ended."""
    if attempt.active:
        return RunOutcome("running" if attempt.state == "running" else "queued", None, None, None)
    if not store:
        return RunOutcome("failed" if attempt.state == "failed" else "unknown", None, None, None)
    assert attempt.partition is not None
    key = store, attempt.partition, attempt
    return _outcomes.get(key, lambda: judge(attempt, run_documents.folder(store, attempt)))


def judge(attempt: Attempt, folder: run_documents.Folder) -> RunOutcome:
    """The outcome of a run that has ended, from its documents; those of an earlier attempt at it do not count."""

    def fresh(at: str | None) -> bool:
        then = run_documents.moment(at)
        return then is not None and (attempt.began is None or then >= attempt.began - SKEW)

    try:
        summary = run_documents.summarise(folder.report) if folder.report else None
    except run_documents.Unreadable:
        summary = None
    if summary and not fresh(summary.at):
        summary = None
    error = folder.job_error()
    if error and not fresh(error.at):
        error = None
    model = folder.model_key()
    if attempt.state == "failed":
        rejected = summary is not None and summary.verdict == "rejected"
        return RunOutcome("rejected" if rejected else "failed", model, summary if rejected else None, error)
    if summary is None:
        return RunOutcome("unknown" if folder.report is not None else "skipped", model, None, error)
    verdicts: dict[str, Status] = {
        "published": "superseded",  # it was: readers see another run now
        "superseded": "superseded",
        "checked": "checked",
        "rejected": "rejected",
    }
    return RunOutcome(verdicts.get(summary.verdict, "unknown"), model, summary, None)


def _news_row(attempt: Attempt, outcome: RunOutcome, standing: catalog.Partition | None) -> PartitionRow:
    assert attempt.partition is not None
    model = standing.model if standing else outcome.model
    known, at = True, airflow_runs.iso(attempt.ended_at)
    return _row(
        attempt.partition,
        model,
        outcome.status,
        attempt.dag_run_id,
        known,
        standing,
        outcome.summary,
        outcome.error,
        at,
    )


def _row(
    partition: str,
    model: str | None,
    status: Status,
    run_id: str,
    known: bool,
    standing: catalog.Partition | None,
    summary: Summary | None,
    error: JobErrorInfo | None,
    finished_at: str | None,
) -> PartitionRow:
    counts = summary.counts if summary else {}
    return PartitionRow(
        partition=partition,
        model=model,
        status=status,
        run_id=run_id,
        dag_run_id=run_id if known else None,
        published_run_id=standing.run_id if standing else None,
        rows=standing.rows if standing else None,
        finished_at=summary.at if summary else finished_at,
        listed=counts.get("listed"),
        featured=counts.get("featured"),
        quarantined=counts.get("quarantined"),
        computed=counts.get("computed"),
        reused=counts.get("reused"),
        images_per_second=summary.images_per_second if summary else None,
        seconds=summary.seconds if summary else None,
        bytes=summary.bytes if summary else None,
        drift=summary.drift if summary else None,
        max_drift=summary.max_drift if summary else None,
        checks_passed=summary.passed if summary else [],
        checks_warned=summary.warned if summary else [],
        checks_failed=summary.failed if summary else [],
        checks_off=summary.off if summary else [],
        error=error,
    )


def _began(attempt: Attempt) -> datetime:
    return attempt.began or datetime.now(UTC)
