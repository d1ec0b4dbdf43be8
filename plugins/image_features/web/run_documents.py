"""The documents of a run's folder, read so that a missing, half-written or newer one is a state and no failure."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, TypeVar

from pydantic import TypeAdapter

from image_features.web.airflow_runs import Attempt
from image_features.web.answers import JobErrorInfo, Status
from image_features.web.caches import Sized
from image_features.web.store_state import log, reading
from image_features.web.stores import Place
from image_features.wording import redacted
from spark_apps import catalog, contract

Item = TypeVar("Item")
Result = TypeVar("Result")

REQUESTS = 16
"""Requests to an object store at a time."""
KEPT = 20_000

AT_LEAST = {"some_features", "recomputation", "row_count"}
"""Checks whose value must not fall below their limit, in a report that does not say so itself; else not rise above."""


class Unreadable(Exception):
    """A document that is half-written or of a newer version."""


@dataclass(frozen=True)
class Summary:
    """What the overview and the charts need of one report; see `answers.PartitionRow` for the units."""

    verdict: str
    at: str
    run_id: str
    dag_id: str | None
    model: str
    counts: dict[str, int]
    bytes: int
    images_per_second: float | None
    seconds: float | None
    drift: float | None
    max_drift: float
    passed: list[str]
    warned: list[str]
    failed: list[str]
    off: list[str]
    norms: dict[str, float] = field(default_factory=dict)
    approval: dict[str, Any] | None = None

    @property
    def standing(self) -> Status:
        """The status of its run, where that is what readers see."""
        return "published_with_warnings" if self.warned else "published"


def summarise(report: Any) -> Summary:
    """Raises Unreadable for what is not a report of this version."""
    try:
        if report["report_version"] > contract.REPORT_VERSION:
            raise Unreadable("newer report")
        extract, computed = report["seconds"].get("extract", {}), report["counts"].get("computed")
        computing = extract.get("compute")
        checks = report["checks"]
        return Summary(
            verdict=str(report["verdict"]),
            at=str(report["at"]),
            run_id=str(report["run_id"]),
            dag_id=None if report.get("dag_id") is None else str(report["dag_id"]),
            model=str(report["model"]["key"]),
            counts={str(name): int(count) for name, count in report["counts"].items()},
            bytes=int(report["bytes"]),
            images_per_second=computed / computing if computed and computing else None,
            seconds=round(sum(total(phases) for phases in report["seconds"].values()), 3),
            drift=None if report["drift"]["value"] is None else float(report["drift"]["value"]),
            max_drift=float(report["drift"]["limit"]),
            passed=[str(check["name"]) for check in checks if check["passed"]],
            warned=contract.warned(checks),
            failed=[
                str(check["name"]) for check in checks if check["passed"] is False and check["severity"] == "error"
            ],
            off=[str(check["name"]) for check in checks if check["severity"] == "off"],
            approval=report.get("approval"),
            norms={str(at): float(value) for at, value in report["norms"]["quantiles"].items()},
        )
    except (KeyError, TypeError, AttributeError, ValueError, OverflowError) as error:
        raise Unreadable(f"{type(error).__name__}: {error}") from None


def total(phases: Mapping[str, float]) -> float:
    """Seconds of a stage: what it says itself, else the sum of its phases."""
    return phases["total"] if "total" in phases else sum(phases.values())


_summaries: Sized[tuple[Place, str, str, int], Summary | None] = Sized(KEPT)


def summaries(place: Place, wanted: Iterable[tuple[str, str, int]]) -> dict[tuple[str, str], Summary | None]:
    """(partition, folder) → summary of the report of each of `wanted`: (partition, folder, when it was published).

    None where there is no readable report. Reads side by side what is not known yet. Raises Unreachable.
    """

    def read(item: tuple[str, str, int]) -> Summary | None:
        partition, folder, _ = item
        with reading(place):  # in a thread of its own
            return _summaries.get((place, *item), lambda: summary(place, partition, folder))

    wanted = list(wanted)
    side_by_side(read, [item for item in wanted if (place, *item) not in _summaries])
    return {item[:2]: read(item) for item in wanted}


def side_by_side(read: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
    """`read` of each of `items`, several at a time."""
    if len(items) < 2:
        return [read(item) for item in items]
    with ThreadPoolExecutor(min(REQUESTS, len(items))) as pool:
        return list(pool.map(read, items))


def summary(place: Place, partition: str, folder: str) -> Summary | None:
    """The summary of one report, read now; None when there is none that can be read. Raises Unreachable."""
    found = document(place, partition, folder, "report.json")
    try:
        return None if found is None else summarise(found)
    except Unreadable as problem:
        log.warning("Image features: the report of partition %s, run %s: %s", partition, folder, problem)
        return None


def document(place: Place, partition: str, folder: str, name: str) -> Any | None:
    """A JSON object of the run's folder; None without a file, `HALF_WRITTEN` when it is none. Raises Unreachable.

    What an answer could not hold (NaN, infinity, half a character, endless nesting) is none either.
    """
    try:
        found = catalog.document_in(place.store, partition, folder, name)
        json.dumps(found, allow_nan=False, ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        return HALF_WRITTEN
    return found if found is None or (isinstance(found, dict) and found) else HALF_WRITTEN


HALF_WRITTEN: dict[str, Any] = {}
"""Stands for a document that is not a JSON object with something in it."""


@dataclass(frozen=True)
class Folder:
    """All documents of one run; None where there is none, `HALF_WRITTEN` where one is damaged."""

    ingest: Any | None
    extract: Any | None
    validate: Any | None
    report: Any | None
    error: Any | None
    progress: Any | None

    def job_error(self) -> JobErrorInfo | None:
        """`error.json`, when there is a readable one."""
        return job_error(self.error)

    def told_dag(self) -> str | None:
        """The Dag that the documents name; "" for the command line, None where they are from before Dags were named."""
        named = [found["dag_id"] for found in vars(self).values() if isinstance(found, dict) and "dag_id" in found]
        return next((str(name) for name in named if name is not None), None)

    def model_key(self) -> str | None:
        """What the run publishes under, as far as a stage has said so."""
        for found in (self.report, self.extract):
            if isinstance(found, dict) and isinstance(found.get("model"), dict) and found["model"].get("key"):
                return str(found["model"]["key"])
        return None


def folder(attempt: Attempt) -> Folder:
    """The documents of a Dag run that has a partition, read side by side. Raises Unreachable.

    Of a run whose tasks have told of no parts, with mapped tasks or several extracts, one of these: the first that
    failed, else the first.
    """
    partition, place = attempt.partition, attempt.place
    assert partition is not None
    found = _folder(place, partition, attempt.run.folder)
    if attempt.told:
        return _with_earlier(place, partition, attempt.run, found)
    if found.extract is None and found.error is None:
        parts = [name for name in catalog.runs(place.store, partition) if attempt.run.owns(name)]
        for part in [_folder(place, partition, name) for name in parts if name != attempt.run.folder]:
            together = Folder(**{name: vars(part)[name] or vars(found)[name] for name in DOCUMENTS})
            if part.error is not None:
                return together
            if found.extract is None and part.extract is not None:
                found = together
    if any(value is not None for value in vars(found).values()) or attempt.shared:
        return found
    old = _folder(place, partition, attempt.old_folder)  # written before Dags were told apart, unless it names a Dag
    if any(isinstance(value, dict) and value.get("dag_id") is not None for value in vars(old).values()):
        return found
    return old


def _with_earlier(place: Place, partition: str, run: contract.RunKey, found: Folder) -> Folder:
    """The documents of a part, and where an earlier stage of it serves several parts, what that has left."""
    kept = dict(vars(found))
    for earlier in run.sources("ingest")[1:]:
        if kept["ingest"] is not None:
            break
        before = _folder(place, partition, earlier.folder)
        names = DOCUMENTS if earlier.branch == run.branch else ("ingest", "error", "progress")
        kept |= {name: vars(before)[name] for name in names if kept[name] is None}
    return Folder(**kept)


DOCUMENTS = ("ingest", "extract", "validate", "report", "error", "progress")


def _folder(place: Place, partition: str, name: str) -> Folder:
    def read(document_name: str) -> Any | None:
        with reading(place):  # in a thread of its own
            return document(place, partition, name, f"{document_name}.json")

    return Folder(**dict(zip(DOCUMENTS, side_by_side(read, DOCUMENTS), strict=True)))


def job_error(record: Any) -> JobErrorInfo | None:
    """What `error.json` says; its words are shown, but for credentials in addresses."""
    if not isinstance(record, dict) or "code" not in record:
        return None
    return JobErrorInfo(
        stage=str(record.get("stage", "")),
        code=str(record["code"]),
        message=redacted(str(record.get("message", ""))),
        hint=redacted(str(record.get("hint", ""))),
        at=str(record["at"]) if record.get("at") else None,
    )


def moment(text: Any) -> datetime | None:
    """A time as the documents have it; None for anything else."""
    try:
        found = datetime.fromisoformat(text)
        return found if found.tzinfo else None
    except (TypeError, ValueError):
        return None


def stages(found: Folder) -> dict[str, contract.Manifest | None]:
    """The manifests that belong together: those of a stage that began after the one before it had ended.

    A cleared run leaves the manifests of later stages until these begin again. None: missing, stale or unreadable.
    """
    kept: dict[str, contract.Manifest | None] = {}
    before: datetime | None = None
    for name in contract.STAGES:
        manifest = manifest_of(getattr(found, name))
        began = moment(manifest.started_at) if manifest else None
        if manifest and (began is None or (before is not None and began < before)):
            manifest = None
        kept[name] = manifest
        if manifest is None:
            break
        before = moment(manifest.finished_at)
    return {name: kept.get(name) for name in contract.STAGES}


def manifest_of(record: Any) -> contract.Manifest | None:
    """The manifest in a document; None when it is missing, half-written or of another version."""
    try:
        return checked(contract.Manifest.from_record(record)) if record else None
    except (TypeError, ValueError, OverflowError):
        return None


def checked(manifest: contract.Manifest | None) -> contract.Manifest | None:
    """The manifest with each value of its declared type. Raises ValueError where one is not."""
    return _MANIFEST.validate_python(dataclasses.asdict(manifest)) if manifest else None


_MANIFEST = TypeAdapter(contract.Manifest)
