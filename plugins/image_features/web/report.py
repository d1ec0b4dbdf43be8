"""The report of one Dag run: how far it came, what it found, what it refused, and whether it can be trusted."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from image_features.web import dagruns, photos, reports, stores
from image_features.web.caches import Sized
from image_features.web.dagruns import Attempt
from image_features.web.errors import Refused
from image_features.web.overview import judge
from image_features.web.reports import Folder, name_of
from image_features.web.schemas import (
    CheckRow,
    Counts,
    Day,
    Drift,
    JobErrorInfo,
    ModelInfo,
    Norms,
    Progress,
    QuarantineCode,
    QuarantinedFile,
    QuarantinePage,
    RunReport,
    Sample,
    Stage,
    Status,
    Verdict,
)
from spark_apps import catalog, contract

FILES_PER_PAGE = 25
DAYS = 30
"""Days before the run that the charts show."""
NO_HINT = "No advice for this code; a newer version may have some."


@dataclass(frozen=True)
class _Run:
    """A Dag run with its place in the store. `items`: everything that is published."""

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
        return self.attempt.dag_run_id in self.published.values()

    @property
    def source(self) -> str | None:
        ingest = self.manifests["ingest"]
        return str(ingest.settings["source"]) if ingest and "source" in ingest.settings else None

    @property
    def report(self) -> dict[str, Any] | None:
        """The report, when it can be read and belongs to this attempt at the run."""
        found, extract = self.folder.report, self.manifests["extract"]
        at = reports.moment(found.get("at")) if found else None
        done = reports.moment(extract.finished_at) if extract else None
        if not found or at is None or done is None or at < done:
            return None
        stale = self.attempt.active and self.attempt.began and at < self.attempt.began
        return None if stale else found


def report(dag_id: str, dag_run_id: str) -> RunReport:
    """Everything about one run. Raises Refused when Airflow does not know it."""
    attempt = dagruns.find(dag_id, dag_run_id)
    if attempt.partition is None:
        return _without_folder(attempt, stores.OK)
    try:
        with stores.reading():
            return _report(_open(attempt))
    except stores.StoreProblem as problem:
        return _without_folder(attempt, problem.state)
    except (KeyError, TypeError, AttributeError):  # a document of the right form with something else in it
        stores.log.exception("Image features: the documents of run %s cannot be read.", dag_run_id)
        return _without_folder(attempt, stores.StoreProblem("damaged").state)


def _open(attempt: Attempt) -> _Run:
    """Raises Unreachable or StoreProblem when the store cannot be read; an empty one can."""
    assert attempt.partition is not None
    store = stores.location()
    try:
        items = stores.published().partitions
    except stores.StoreProblem as problem:
        if problem.code not in ("empty", "missing"):
            raise
        items = []
    folder = reports.folder(store, attempt.partition, attempt.dag_run_id)
    return _Run(attempt, store, folder, reports.stages(folder), items)


def _report(run: _Run) -> RunReport:
    readable, summary = True, None
    found: Mapping[str, Any] = run.report or {}
    try:
        told = None if run.folder.report is None else reports.summarise(run.folder.report)
        summary = told if found else None
    except reports.Unreadable:
        found, readable = {}, False
    error = _error(run)
    live = run.attempt.active
    progress = _progress(run.folder.progress) if live else None
    validate = run.manifests["validate"] or run.manifests["extract"] or run.manifests["ingest"]
    return RunReport(
        store=stores.OK,
        dag_run=run.attempt.info(),
        partition=run.partition,
        verdict=_verdict(run, summary, error, readable),
        live=live,
        published=run.shown,
        published_run_id=run.published.get(run.model) if run.model else next(iter(run.published.values()), None),
        source=reports.redacted(run.source) if run.source else None,
        stages=_stages(run, error),
        checks=[_check(check, run.source) for check in found.get("checks", [])],
        counts=_counts(run, found),
        quarantine=_codes(run, found),
        norms=_norms(found),
        drift=_drift(run, found, summary),
        model=_model(run),
        versions=dict(validate.versions) if validate else {},
        table_versions=dict(found.get("table_versions", {})),
        progress=progress,
        error=error,
    )


def _without_folder(attempt: Attempt, state: Any) -> RunReport:
    """The report of a run of which the store says nothing, because it cannot or because there was no partition."""
    status: Status = "unknown"
    if attempt.active:
        status = "running" if attempt.state == "running" else "queued"
    elif attempt.partition is None:
        status = "failed" if attempt.state == "failed" else "skipped"
    if state.code != "ok":
        message, hint = state.message, state.hint
    else:
        message = "The run has no partition to work on."
        hint = "Give the partition in the trigger form, or trigger with a logical date."
    tone = "neutral" if attempt.active and state.code == "ok" else "bad"
    return RunReport(
        store=state,
        dag_run=attempt.info(),
        partition=attempt.partition,
        verdict=Verdict(status=status, tone=tone, message=message, hint=hint),  # type: ignore[arg-type]
        live=attempt.active,
        published=False,
        published_run_id=None,
        source=None,
        stages=[_stage(name, "missing", None) for name in contract.STAGES],
        checks=[],
        counts=_no_counts(),
        quarantine=[],
        norms=Norms(edges=[], counts=[], quantiles={}),
        drift=Drift(value=None, limit=None, days=[]),
        model=None,
        versions={},
        table_versions={},
        progress=None,
        error=None,
    )


# --- the verdict ------------------------------------------------------------------------------------------------------


def _verdict(run: _Run, summary: reports.Summary | None, error: JobErrorInfo | None, readable: bool) -> Verdict:
    attempt = run.attempt
    if attempt.active:
        status: Status = "running" if attempt.state == "running" else "queued"
        message = "The run is in progress." if attempt.state == "running" else "The run waits for its turn."
        if error:
            message += f" Its {error.stage} failed and is tried again: {error.message}"
        return Verdict(status=status, tone="warning" if error else "neutral", message=message, hint="")
    stands = "What was published before still stands." if run.published and not run.shown else ""
    status = "published" if run.shown and attempt.state == "success" else judge(attempt, run.folder).status
    if not readable:
        return Verdict(
            status="unknown",
            tone="bad",
            message="The report of this run cannot be read: it is half-written or of a newer version.",
            hint="Clear the task validate to write it again, or update this plugin.",
        )
    if status == "published" and summary is not None:
        featured = f"{summary.counts.get('featured', 0):,} vectors are published"
        if summary.warned:
            return Verdict(
                status=status,
                tone="warning",
                message=f"{featured}. Worth a look: {_words(summary.warned)}.",
                hint="A warning does not hold a publication back.",
            )
        return Verdict(status=status, tone="good", message=f"{featured}, and every check has passed.", hint="")
    if status == "published":
        return Verdict(status=status, tone="good", message="The vectors of this run are published.", hint="")
    if status == "rejected" and summary is not None:
        message = f"Not published, because of {_words(summary.failed)}. {stands}".strip()
        return Verdict(
            status=status, tone="bad", message=message, hint="The checks below say by how much, and which files."
        )
    if status == "failed":
        message = f"{error.stage} failed: {error.message}" if error else "The run failed before it could say why here."
        hint = error.hint if error else "The log of the failed task has the reason."
        return Verdict(status=status, tone="bad", message=f"{message} {stands}".strip(), hint=hint)
    words: dict[Status, tuple[str, str, str]] = {
        "superseded": ("neutral", "Another run of this partition is published now.", ""),
        "checked": ("neutral", "Every check has passed; the run was asked not to publish.", ""),
        "skipped": ("neutral", "There was nothing to do.", ""),
    }
    tone, message, hint = words.get(status, ("bad", "There is no report of this run.", "It may have been removed."))
    return Verdict(status=status, tone=tone, message=message, hint=hint)  # type: ignore[arg-type]


def _words(names: list[str]) -> str:
    return ", ".join(name.replace("_", " ") for name in names)


def _error(run: _Run) -> JobErrorInfo | None:
    """`error.json`, unless it belongs to an attempt before the last clearing of the run."""
    error = run.folder.job_error()
    at = reports.moment(error.at) if error else None
    if error and at and run.attempt.active and run.attempt.began and at < run.attempt.began:
        return None
    return error


# --- its parts --------------------------------------------------------------------------------------------------------


def _stages(run: _Run, error: JobErrorInfo | None) -> list[Stage]:
    found, next_one = [], run.attempt.active
    for name in contract.STAGES:
        manifest = run.manifests[name]
        if manifest is not None:
            found.append(_stage(name, "done", manifest))
            continue
        document = getattr(run.folder, name)
        if error and error.stage == name:
            state = "failed"
        elif next_one:
            state = "running"
        elif document is reports.HALF_WRITTEN or (document and reports.manifest_of(document) is None):
            state = "unreadable"
        else:
            state = "missing"
        next_one = False
        found.append(_stage(name, state, None))
    return found


def _stage(name: str, state: str, manifest: contract.Manifest | None) -> Stage:
    seconds = dict(manifest.seconds) if manifest else {}
    return Stage(
        name=name,  # type: ignore[arg-type]
        state=state,  # type: ignore[arg-type]
        started_at=manifest.started_at if manifest else None,
        finished_at=manifest.finished_at if manifest else None,
        total_seconds=reports.total(seconds) if manifest else None,
        seconds={phase: value for phase, value in seconds.items() if phase != "total"},
        counts=dict(manifest.counts) if manifest else {},
    )


def _check(check: Mapping[str, Any], source: str | None) -> CheckRow:
    return CheckRow(
        name=check["name"],
        severity=check["severity"],
        passed=check["passed"],
        value=check["value"],
        limit=check["limit"],
        relation="at_least" if check["name"] in reports.AT_LEAST else "at_most",
        message=reports.redacted(check["message"]),
        offenders=[name_of(uri, source) for uri in check["offenders"]],
    )


def _counts(run: _Run, found: Mapping[str, Any]) -> Counts:
    counts: dict[str, int] = {}
    for name in ("ingest", "extract"):
        manifest = run.manifests[name]
        counts |= {key: value for key, value in (manifest.counts if manifest else {}).items() if key != "quarantined"}
    set_aside = [manifest.counts.get("quarantined", 0) for manifest in run.manifests.values() if manifest]
    if run.manifests["ingest"]:
        counts["quarantined"] = sum(set_aside[:2])  # validate repeats what the two before it have counted
    counts |= found.get("counts", {})
    ingest = run.manifests["ingest"]
    size = found.get("bytes", ingest.outcome.get("bytes") if ingest else None)
    return Counts(**{name: counts.get(name) for name in Counts.model_fields if name != "bytes"}, bytes=size)


def _no_counts() -> Counts:
    return Counts(**dict.fromkeys(Counts.model_fields))


def _codes(run: _Run, found: Mapping[str, Any]) -> list[QuarantineCode]:
    counts: dict[str, int] = dict(found.get("quarantined", {}))
    if not counts:
        for name in ("ingest", "extract"):
            manifest = run.manifests[name]
            for code, count in (manifest.quarantined if manifest else {}).items():
                counts[code] = counts.get(code, 0) + count
    return [
        QuarantineCode(code=code, count=count, hint=contract.QUARANTINE_CODES.get(code, NO_HINT))
        for code, count in sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    ]


def _norms(found: Mapping[str, Any]) -> Norms:
    norms = found.get("norms") or {"quantiles": {}, "histogram": {"edges": [], "counts": []}}
    return Norms(edges=norms["histogram"]["edges"], counts=norms["histogram"]["counts"], quantiles=norms["quantiles"])


def _drift(run: _Run, found: Mapping[str, Any], summary: reports.Summary | None) -> Drift:
    """This run among the published days of its model that come before it."""
    if summary is None:
        return Drift(value=None, limit=None, days=[])
    distances = found["drift"].get("by_partition", {})
    before = [item for item in run.items if item.model == summary.model and item.partition < run.partition][:DAYS]
    known = reports.summaries(run.store, [(item.partition, item.run_id, item.modified_ms) for item in before])
    days = [_day(run.partition, summary, current=True, rows=summary.counts.get("featured"), distance=None)]
    for item in before:
        distance = distances.get(item.partition)
        then = known[item.partition, item.run_id]
        days.append(_day(item.partition, then, current=False, rows=item.rows, distance=distance))
    return Drift(value=summary.drift, limit=summary.max_drift, days=days[::-1])


def _day(
    partition: str, summary: reports.Summary | None, *, current: bool, rows: int | None, distance: float | None
) -> Day:
    norms = summary.norms if summary else {}
    return Day(
        partition=partition,
        current=current,
        rows=rows,
        norm_low=norms.get("0.05"),
        norm_median=norms.get("0.5"),
        norm_high=norms.get("0.95"),
        drift=summary.drift if summary else None,
        distance=distance,
    )


def _model(run: _Run) -> ModelInfo | None:
    manifest = run.manifests["extract"]
    info = manifest.model if manifest else None
    if not info:
        return None
    names = [name for name in ModelInfo.model_fields if name != "has_labels"]
    return ModelInfo.model_validate(
        {**{name: info.get(name) for name in names}, "has_labels": bool(info.get("categories"))}
    )


def _progress(found: Any) -> Progress | None:
    try:
        return Progress(**found) if found else None
    except (TypeError, ValueError):
        return None


# --- quarantined files and the sample ---------------------------------------------------------------------------------

_quarantines: Sized[tuple[str, str, str], pa.Table] = Sized(64 * 2**20, lambda table: table.nbytes)


def quarantine(dag_id: str, dag_run_id: str, page: int) -> QuarantinePage:
    """A page of what the run set aside. Raises Refused."""
    run = _located(dag_id, dag_run_id)
    staged = [
        file["path"] for manifest in _quarantining(run) if manifest for file in manifest.staged.get("quarantine", [])
    ]
    key = run.store, run.partition, hashlib.sha256("\n".join(sorted(staged)).encode()).hexdigest()
    with stores.reading():
        rows = _quarantines.get(key, lambda: _set_aside(run, staged))
    pages = max(1, -(-rows.num_rows // FILES_PER_PAGE))
    chosen = rows.slice((min(page, pages) - 1) * FILES_PER_PAGE, FILES_PER_PAGE).to_pylist()
    return QuarantinePage(
        partition=run.partition,
        page=min(page, pages),
        pages=pages,
        total=rows.num_rows,
        files=[_file(row, run.source) for row in chosen],
    )


def _quarantining(run: _Run) -> list[contract.Manifest | None]:
    """The manifests that name the files with this run's quarantine. Extract keeps the one of ingest that it read."""
    extract = run.manifests["extract"]
    kept = reports.manifest_of(extract.outcome.get("ingested")) if extract else None
    return [kept or run.manifests["ingest"], extract]


def _set_aside(run: _Run, staged: list[str]) -> pa.Table:
    """The rows of the staged files; of the table where maintenance has merged those of a published run."""
    if not staged:
        return pa.table({name: pa.array([], pa.string()) for name in ("error_code", "uri")})
    rows = catalog.staged_rows(run.store, "quarantine", staged)
    if rows is None:
        rows = catalog.quarantine(run.store, run.partition)
        rows = rows.filter(pc.equal(rows["run_id"], run.attempt.dag_run_id))
    return rows.sort_by([("error_code", "ascending"), ("uri", "ascending")])


def _file(row: Mapping[str, Any], source: str | None) -> QuarantinedFile:
    code = row["error_code"]
    return QuarantinedFile(
        name=name_of(row["uri"], source),
        image_id=row["image_id"],
        stage=row["stage"],
        code=code,
        message=reports.redacted(row["error_message"] or ""),
        hint=contract.QUARANTINE_CODES.get(code, NO_HINT),
        size_bytes=row["size_bytes"],
        thumbnail=row["stage"] == "extract" and row["image_id"] is not None,
    )


def sample(dag_id: str, dag_run_id: str, count: int) -> Sample:
    """`count` photos of the run, the same each time; none when readers do not see this run. Raises Refused."""
    run = _located(dag_id, dag_run_id)
    model = next((model for model, run_id in run.published.items() if run_id == dag_run_id), None)
    if model is None:
        return Sample(partition=run.partition, model=run.model, photos=[])
    return Sample(partition=run.partition, model=model, photos=photos.sample(run.partition, model, dag_run_id, count))


def _located(dag_id: str, dag_run_id: str) -> _Run:
    attempt = dagruns.find(dag_id, dag_run_id)
    if attempt.partition is None:
        raise Refused(404, "no_such_partition", "This run has no partition to work on.")
    with stores.reading():
        return _open(attempt)
