"""The overview: what is published, and every newer run that did not get there."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from image_features.web import airflow_runs, run_documents, search_index, search_state, store_state, stores
from image_features.web.airflow_runs import Attempt
from image_features.web.answers import (
    FollowUp,
    JobErrorInfo,
    Overview,
    OverviewStore,
    PartitionRow,
    Status,
    StoreState,
)
from image_features.web.caches import Sized
from image_features.web.run_documents import Summary
from image_features.web.stores import Place
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

    def row(self, where: Where, attempt: Attempt | None) -> PartitionRow:
        """Its row; made once, because hundreds are asked for every few seconds. `attempt`: that published it, where
        Airflow has its run."""
        key = where, self.item, self.at, self.summary is not None, attempt.key if attempt else None, attempt is not None
        return _standing_rows.get(key, lambda: self._row(where, attempt))

    def _row(self, where: Where, attempt: Attempt | None) -> PartitionRow:
        status: Status = self.summary.standing if self.summary else "unknown"
        item = self.item
        owned = attempt is not None or contract.is_of_dag(item.folder, where.dag_id) is True
        return _row(
            where, item.partition, item.model, status, item.run_id, attempt, item, self.summary, None,
            airflow_runs.iso(self.at), where.dag_id if owned else None,
        )  # fmt: skip


@dataclass(frozen=True)
class Where:
    """One store of one Dag."""

    dag_id: str
    place: Place


_standing_rows: Sized[tuple[Where, catalog.Partition, datetime, bool, str | None, bool], PartitionRow] = Sized(
    run_documents.KEPT
)
_outcomes: Sized[Attempt, RunOutcome] = Sized(5_000)


@dataclass(frozen=True)
class Part:
    """What the overview shows of one store of one Dag."""

    where: Where
    state: StoreState
    models: dict[str, int]
    rows: list[PartitionRow]


def overview(dag_ids: list[str], model: str | None, store: str | None = None) -> Overview:
    """The partitions of `model`, or of all models, newest key first, in all stores of these Dags or the one that the
    key `store` stands for. Raises Refused where it stands for none."""
    parts = [
        part for parts in run_documents.side_by_side(lambda dag_id: _of_dag(dag_id, store), dag_ids) for part in parts
    ]
    if store and not parts:
        raise stores.no_store()
    latest: dict[str, int] = {}
    for part in parts:
        for name, at in part.models.items():
            latest[name] = max(latest.get(name, 0), at)
    found = _stores(parts)
    rows = _sorted(_once(parts), found)
    return Overview(
        store=_together([part.state for part in parts]),
        stores=found,
        models=sorted(latest, key=lambda name: (-latest[name], name)),
        model=model,
        partitions=[row for row in rows if model is None or row.model in (model, None)],
        search=_behind(parts, model),
    )


def _behind(parts: list[Part], model: str | None) -> list[FollowUp]:
    """What is said of the indexes that are behind: of the model, or the newest of each store."""
    wanted = {
        (part.where.place, model if model in part.models else max(part.models, key=lambda name: part.models[name]))
        for part in parts
        if part.models and (model is None or model in part.models)
    }
    found = []
    for place, name in sorted(wanted, key=lambda one: (one[0].store, one[1]))[: search_index.OPEN]:
        try:
            state = search_state.of_model(place, name)
        except store_state.StoreProblem:
            continue
        found += [state] if state is not None and state.tone == "warning" else []
    return found


def _sorted(rows: list[PartitionRow], found: list[OverviewStore]) -> list[PartitionRow]:
    """The newest partition first; of one partition by model, Dag and name of the store."""
    names = {store.key: store.name for store in found}
    rows = sorted(rows, key=lambda row: (row.dag_id or "", names[row.store]))
    order = contract.partitions.order
    return sorted(rows, key=lambda row: (order(row.partition), row.model or ""), reverse=True)


def _once(parts: list[Part]) -> list[PartitionRow]:
    """The rows of all parts. What no Dag is known to have published is in the rows of each Dag of its store."""
    rows = [row for part in parts for row in part.rows]
    seen = {_identity(row) for row in rows if row.dag_id is not None}
    kept = []
    for row in rows:
        if row.dag_id is None:
            if _identity(row) in seen:
                continue
            seen.add(_identity(row))
        kept.append(row)
    return kept


def _identity(row: PartitionRow) -> tuple[str | None, ...]:
    return row.store, row.partition, row.model, row.run_id


def _stores(parts: list[Part]) -> list[OverviewStore]:
    found: dict[str, OverviewStore] = {}
    choices = stores.choices(part.where.place for part in parts)
    for part in parts:
        choice = choices[part.where.place]
        one = found.setdefault(choice.key, OverviewStore(**choice.model_dump(), dag_ids=[], state=part.state))
        one.dag_ids.append(part.where.dag_id)
    return list(found.values())


def _together(states: list[StoreState]) -> StoreState:
    """The state of several stores: well where one of them is, else that of the first that is not just empty."""
    if not states or any(state.code == "ok" for state in states):
        return store_state.OK
    return next((state for state in states if state.code not in ("empty", "missing")), states[0])


def _of_dag(dag_id: str, key: str | None) -> list[Part]:
    attempts = airflow_runs.newest(dag_id)
    places = dict.fromkeys([*stores.of_dag(dag_id), *(attempt.place for attempt in attempts)])
    chosen = [Where(dag_id, place) for place in places if key in (None, "", place.key)]
    return run_documents.side_by_side(
        lambda where: _part(where, [attempt for attempt in attempts if attempt.place == where.place]), chosen
    )


def _part(where: Where, attempts: list[Attempt]) -> Part:
    place, published, state = where.place, store_state.Published(where.place, []), store_state.OK
    ends = [attempt.ended_at for attempt in attempts if not attempt.active and attempt.ended_at]
    try:
        published = store_state.published(place, max(ends, default=None)).of_dag(where.dag_id)
    except store_state.StoreProblem as problem:
        state = problem.state
    rows: list[PartitionRow] = []
    readable = state.code in ("ok", "empty")
    try:
        rows = _rows(where, published, attempts, readable)
    except store_state.StoreProblem as problem:
        state = problem.state
    return Part(where, state, published.latest, rows)


def _rows(
    where: Where, published: store_state.Published, attempts: list[Attempt], readable: bool
) -> list[PartitionRow]:
    """A store that is not `readable` is not read: then there is only what Airflow knows."""
    wanted = [(item.partition, item.folder, item.modified_ms) for item in published.partitions]
    summaries = run_documents.summaries(where.place, wanted)
    by_id: dict[str, list[Attempt]] = defaultdict(list)
    for attempt in attempts:
        by_id[attempt.dag_run_id].append(attempt)
    rows: dict[tuple[str, str], PartitionRow] = {}
    standing: dict[str, list[Standing]] = defaultdict(list)
    for item in published.partitions:
        found = Standing.of(item, summaries[item.partition, item.folder])
        standing[item.partition].append(found)
        by = next((one for one in by_id.get(item.run_id, ()) if found.is_of(one)), None)
        rows[item.partition, item.model] = found.row(where, by)
    news = [attempt for attempt in attempts if _is_news(attempt, standing)]
    news.sort(key=lambda attempt: (attempt.active, _began(attempt)), reverse=True)  # what runs has yet to be judged
    placed = set()
    outcomes = run_documents.side_by_side(lambda one: outcome_of(one, readable), news)
    for attempt, outcome in zip(news, outcomes, strict=True):
        assert attempt.partition is not None
        here = [one for one in standing[attempt.partition] if outcome.model in (None, one.item.model)]
        older = here[0].item if len(here) == 1 else None
        key = attempt.partition, (older.model if older else outcome.model) or ""
        old = any(one.at > _began(attempt) for one in here)
        if key not in placed and not old and (older is None or outcome.status in OVER_PUBLISHED):
            rows[key] = _news_row(where, attempt, outcome, older)
        placed.add(key)  # the newest run speaks for its place; older ones are history
    return list(rows.values())


def _is_news(attempt: Attempt, standing: dict[str, list[Standing]]) -> bool:
    """Whether a run may have something to say beside what is published: then its documents are read."""
    if attempt.partition is None:
        return False
    here = standing.get(attempt.partition, [])
    if not attempt.alone and any(one.is_of(attempt) and one.at > _began(attempt) for one in here):
        return False  # it is published, whatever becomes of the other parts
    if attempt.state == "success":
        shown = any(one.is_of(attempt) for one in here)
        return not shown and not any(one.at > _began(attempt) for one in here)
    return attempt.active or not here or any(one.at <= _began(attempt) for one in here)


def outcome_of(attempt: Attempt, readable: bool = True) -> RunOutcome:
    """What became of a run; kept once the run has ended. Of one whose store cannot be read, what Airflow knows."""
    if attempt.active:
        return RunOutcome("running" if attempt.state == "running" else "queued", attempt.model or None, None, None)
    if readable and attempt.partition is not None:
        try:
            return _outcomes.get(attempt, lambda: judge(attempt, run_documents.folder(attempt)))
        except store_state.StoreProblem:
            pass
    return RunOutcome("failed" if attempt.state == "failed" else "unknown", attempt.model or None, None, None)


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
    model = folder.model_key() or attempt.model or None
    if attempt.state == "failed" and not has_ended_well(attempt, summary, error):
        rejected = summary is not None and summary.verdict == "rejected"
        return RunOutcome("rejected" if rejected else "failed", model, summary if rejected else None, error)
    if summary is None:
        return RunOutcome("unknown" if folder.report is not None else "skipped", model, None, error)
    verdicts: dict[str, Status] = {
        **dict.fromkeys(contract.STANDING, "superseded"),  # it was: readers see another run now
        "superseded": "superseded",
        "checked": "checked",
        "rejected": "rejected",
    }
    return RunOutcome(verdicts.get(summary.verdict, "unknown"), model, summary, None)


def has_ended_well(attempt: Attempt, summary: Summary | None, error: JobErrorInfo | None) -> bool:
    """Whether a part is done in a run of which another part has failed, or a task after the publication."""
    if summary is None or summary.verdict == "rejected":
        return False
    told = run_documents.moment(summary.at)
    if attempt.alone and (summary.verdict == "passed" or (attempt.began and (not told or told < attempt.began - SKEW))):
        return False
    failed = run_documents.moment(error.at) if error else None
    return failed is None or (told is not None and failed < told)


def _news_row(where: Where, attempt: Attempt, outcome: RunOutcome, standing: catalog.Partition | None) -> PartitionRow:
    assert attempt.partition is not None
    model = standing.model if standing else outcome.model
    return _row(
        where, attempt.partition, model, outcome.status, attempt.dag_run_id, attempt, standing, outcome.summary,
        outcome.error, airflow_runs.iso(attempt.ended_at), where.dag_id,
    )  # fmt: skip


def _row(
    where: Where,
    partition: str,
    model: str | None,
    status: Status,
    run_id: str,
    attempt: Attempt | None,
    standing: catalog.Partition | None,
    summary: Summary | None,
    error: JobErrorInfo | None,
    finished_at: str | None,
    dag_id: str | None,
) -> PartitionRow:
    counts = summary.counts if summary else {}
    return PartitionRow(
        partition=partition,
        model=model,
        status=status,
        run_id=run_id,
        dag_id=dag_id,
        store=where.place.key,
        dag_run_id=run_id if attempt else None,
        part=attempt.key if attempt else None,
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
