"""The report of one Dag run: how far it came, what it found, what it refused, and whether it can be trusted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from image_features.web import (
    airflow_runs,
    overview,
    photos,
    poor_photos,
    run_documents,
    search_state,
    store_state,
    stores,
)
from image_features.web.airflow_runs import Attempt
from image_features.web.answers import (
    CheckRow,
    Counts,
    Day,
    Drift,
    JobErrorInfo,
    ModelInfo,
    MovedPhoto,
    Norms,
    PoorPhotos,
    Progress,
    QuarantineCode,
    RunPart,
    RunReport,
    Sample,
    SecondOpinion,
    Stage,
    Status,
    StoreChoice,
    Verdict,
)
from image_features.web.quarantine import NO_HINT
from image_features.web.run_lookup import Run, chosen, located, open_run
from image_features.web.stores import Place
from image_features.web.verdict import verdict
from image_features.wording import name_of, redacted
from spark_apps import contract

DAYS = 30
"""Days before the run that the charts show."""


PARTS = 200
"""Of a run, whose models are looked up; further ones are listed without."""


def report(dag_id: str, dag_run_id: str, part: str | None = None) -> RunReport:
    """Everything about one run, or the part of it that a key stands for. Raises Refused when there is none."""
    attempts = airflow_runs.find(dag_id, dag_run_id)
    attempt = chosen(attempts, part)
    choices = stores.choices([*stores.of_dag(dag_id), *(one.place for one in attempts)])
    place = choices[attempt.place]
    parts = _parts(attempts, choices) if attempts[0].told else []
    if attempt.partition is None:
        return _without_folder(attempt, place, parts, store_state.OK)
    try:
        with store_state.reading(attempt.place):
            return _report(open_run(attempt), place, parts)
    except store_state.StoreProblem as problem:
        return _without_folder(attempt, place, parts, problem.state)


def _parts(attempts: list[Attempt], choices: Mapping[Place, StoreChoice]) -> list[RunPart]:
    """What the run works on, without the parts that only lead to others."""
    leaves = [attempt for attempt in attempts if attempt.leaf]
    looked_up = run_documents.side_by_side(_look_up, leaves[:PARTS])
    models = [*looked_up, *[(None, None)] * (len(leaves) - len(looked_up))]
    return [
        RunPart(
            key=attempt.key or "",
            partition=attempt.partition or "",
            store=choices[attempt.place],
            branch=attempt.branch,
            map_index=attempt.map_index if attempt.map_index >= 0 else None,
            model=model,
            status=status,
        )
        for attempt, (model, status) in zip(leaves, models, strict=True)
    ]


def _look_up(attempt: Attempt) -> tuple[str | None, Status | None]:
    """Model and status of a part."""
    try:
        if not attempt.active:
            outcome = overview.outcome_of(attempt)
            run = open_run(attempt) if outcome.status == "superseded" else None
            return outcome.model, run.standing if run and run.shown else outcome.status
        run = open_run(attempt)
    except store_state.StoreProblem:
        return attempt.model or None, "unknown"
    done = run.ended_well
    if done and run.shown:
        return run.model, run.standing
    return run.model, "running" if attempt.state == "running" else "queued"


def _report(run: Run, place: StoreChoice, parts: list[RunPart]) -> RunReport:
    readable, summary = True, None
    found: Mapping[str, Any] = run.report or {}
    try:
        told = None if run.folder.report is None else run_documents.summarise(run.folder.report)
        summary = told if found else None
    except run_documents.Unreadable:
        found, readable = {}, False
    error = run.error
    live = run.attempt.active
    looked = search_state.documents(run.attempt, "duplicates")
    progress = _progress(run.folder.progress) if live else None
    validate = run.manifests["validate"] or run.manifests["extract"] or run.manifests["ingest"]
    return RunReport(
        store=store_state.OK,
        dag_run=run.attempt.info(),
        chosen_store=place,
        parts=parts,
        part=run.attempt.key,
        partition=run.partition,
        verdict=verdict(run, summary, error, readable),
        live=live,
        published=run.shown,
        published_run_id=run.published.get(run.model) if run.model else next(iter(run.published.values()), None),
        source=redacted(run.source) if run.source else None,
        stages=[*_stages(run, error, found), *_following(run, "index"), *_following(run, "duplicates")],
        checks=[_check(check, run.source) for check in (*found.get("checks", []), *_later_checks(looked[0]))],
        counts=_counts(run, found),
        quarantine=_codes(run, found),
        norms=_norms(found),
        drift=_drift(run, found, summary),
        model=_model(run),
        versions=dict(validate.versions) if validate else {},
        table_versions=dict(found.get("table_versions", {})),
        progress=progress,
        error=error,
        search=search_state.of_run(run.attempt, run.model) if run.published else None,
        duplicates=search_state.of_duplicates(*looked),
    )


def _without_folder(attempt: Attempt, place: StoreChoice, parts: list[RunPart], state: Any) -> RunReport:
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
        chosen_store=place,
        parts=parts,
        part=attempt.key,
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


def _stages(run: Run, error: JobErrorInfo | None, report: Mapping[str, Any]) -> list[Stage]:
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
        elif document is run_documents.HALF_WRITTEN or (document and run_documents.manifest_of(document) is None):
            state = "unreadable"
        else:
            state = "missing"
        next_one = False
        found.append(_stage(name, state, None, report.get("seconds", {}).get(name)))
    return found


def _following(run: Run, name: str) -> list[Stage]:
    """A stage after the publication, once the run's task of that name has left something."""
    manifest, error = search_state.documents(run.attempt, name)
    if manifest is None and error is None:
        return []
    return [_stage(name, "failed" if manifest is None else "done", manifest)]


def _later_checks(manifest: contract.Manifest | None) -> list[dict[str, Any]]:
    """The checks of a stage after the publication, in the form of a report's; none of a newer version."""
    known = {"name", "severity", "passed", "value", "limit", "message", "offenders"}
    return [check for check in (manifest.outcome.get("checks", []) if manifest else []) if known <= set(check)]


def _stage(name: str, state: str, manifest: contract.Manifest | None, told: Mapping[str, float] | None = None) -> Stage:
    """`told`: its seconds as far as the report tells them, where the stage refused and left no manifest."""
    seconds = dict(manifest.seconds if manifest else told or {})
    return Stage(
        name=name,  # type: ignore[arg-type]
        state=state,  # type: ignore[arg-type]
        started_at=manifest.started_at if manifest else None,
        finished_at=manifest.finished_at if manifest else None,
        total_seconds=run_documents.total(seconds) if seconds else None,
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
        warn_limit=check.get("warn_limit"),
        relation=_relation(check),
        message=redacted(check["message"]),
        offenders=[name_of(uri, source) for uri in check["offenders"]],
    )


def _relation(check: Mapping[str, Any]) -> Any:
    """What the report says, None for a relation of a newer version; reports of 0.1 do not say it."""
    if "relation" not in check:
        return "at_least" if check["name"] in run_documents.AT_LEAST else "at_most"
    return check["relation"] if check["relation"] in contract.RELATIONS else None


def _counts(run: Run, found: Mapping[str, Any]) -> Counts:
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


def _codes(run: Run, found: Mapping[str, Any]) -> list[QuarantineCode]:
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


def _drift(run: Run, found: Mapping[str, Any], summary: run_documents.Summary | None) -> Drift:
    """This run among the published days of its model that come before it."""
    if summary is None:
        return Drift(value=None, limit=None, days=[])
    distances = found["drift"].get("by_partition", {})
    published = {item.partition: item for item in run.items if item.model == summary.model}
    before = [published[key] for key in contract.partitions.earlier(run.partition, published)[:DAYS]]
    known = run_documents.summaries(run.place, [(item.partition, item.folder, item.modified_ms) for item in before])
    days = [_day(run.partition, summary, current=True, rows=summary.counts.get("featured"), distance=None)]
    for item in before:
        distance = distances.get(item.partition)
        then = known[item.partition, item.folder]
        days.append(_day(item.partition, then, current=False, rows=item.rows, distance=distance))
    return Drift(
        value=summary.drift,
        limit=summary.max_drift,
        days=days[::-1],
        moved=_moved(found["drift"].get("moved", []), run.source),
        second_opinion=SecondOpinion(**told) if (told := found["drift"].get("second_opinion")) else None,
    )


def _moved(told: list[dict[str, Any]], source: str | None) -> list[MovedPhoto]:
    """Without those that were erased since, which have a word in the place of their ids."""
    return [
        MovedPhoto(image_id=one["image_id"], name=name_of(one["uri"], source), moved=one["moved"])
        for one in told
        if contract.is_image_id(one["image_id"])
    ]


def _day(
    partition: str, summary: run_documents.Summary | None, *, current: bool, rows: int | None, distance: float | None
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


def _model(run: Run) -> ModelInfo | None:
    manifest = run.manifests["extract"]
    info = manifest.model if manifest else None
    if not info:
        return None
    return ModelInfo.model_validate({name: getattr(info, name) for name in ModelInfo.model_fields})


def _progress(found: Any) -> Progress | None:
    try:
        return Progress(**found) if found else None
    except (TypeError, ValueError):
        return None


def sample(dag_id: str, dag_run_id: str, part: str | None, count: int) -> Sample:
    """`count` photos of the run, the same each time; none when readers do not see this run. Raises Refused."""
    run = located(dag_id, dag_run_id, part)
    model = next(iter(run.shown_models), None)
    if model is None:
        return Sample(partition=run.partition, model=run.model, photos=[])
    drawn = photos.sample(run.place, run.partition, model, dag_run_id, count)
    return Sample(partition=run.partition, model=model, photos=drawn)


def poor(dag_id: str, dag_run_id: str, part: str | None) -> PoorPhotos:
    """The poorest photos of the run; none when readers do not see this run. Raises Refused."""
    run = located(dag_id, dag_run_id, part)
    model = next(iter(run.shown_models), None)
    if model is None:
        return PoorPhotos(partition=run.partition, model=run.model, measured=0, kinds=[])
    return poor_photos.of(run.place, run.partition, model)
