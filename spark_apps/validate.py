"""Validate: reconciles every file, checks the features, writes the report, and publishes, or says why not.

Publishing is one Delta commit per table that replaces the partition; a failed check leaves what is published alone.
"""

from __future__ import annotations

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

import hashlib
from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from spark_apps import catalog, contract, extractors, storage
from spark_apps.contract import BadFile, Manifest, ModelInfo, QualityFailed, Staged, StagedFile, ValidateSettings
from spark_apps.pipeline import drift, quality, twins
from spark_apps.spark import jobs
from spark_apps.tables import commits, contents, data_files, schemas, staging

HISTOGRAM_BINS = 32


def validate(settings: ValidateSettings, timings: jobs.Timings) -> Manifest:
    """Checks the staged data of a run and publishes it.

    Raises:
        QualityFailed: an error-level check failed; the report says which and why, and nothing was published.
        BadSetting: an earlier stage has not finished.
        Unreachable: the store cannot be used.
    """
    jobs.read_manifest(settings, "ingest")  # only refused here, so that the first missing stage is named
    extracted = jobs.read_manifest(settings, "extract")
    ingested = catalog.ingest_of(settings, extracted)
    assert ingested is not None, "its attempt is named by what came after it"
    assert extracted.model is not None
    with storage.reaching("store", settings.store):
        with timings.phase("read"):
            staged = {
                "images": ingested.staged["images"],
                "quarantine": ingested.staged["quarantine"] + extracted.staged["quarantine"],
                "features": extracted.staged["features"],
            }
            measured = quality.measure(settings.store, staged["features"], extracted.model.dim)
            quarantine = _read(settings.store, schemas.QUARANTINE, staged["quarantine"], ["uri", "error_code"])
            listed = [uri for part in ingested.outcome["listing"] for uri in _uris(part)]
        with timings.phase("history"):
            history = _history(settings, extracted.model.key)
            compared = history if settings.levels["drift"] != quality.OFF else []
            sketches = _sketches(settings, compared, extracted.model.fingerprint)
            fingerprints = catalog.fingerprints(
                settings.store, extracted.model.key, settings.partition, settings.history
            )
        with timings.phase("recheck"):
            cosines, not_read = recheck(settings, extracted.model, staged, ingested.settings)
        with timings.phase("twins"):
            looked = _twins(settings, extracted.model, staged, measured, ingested.settings)
    today = drift.sketch(measured.slices) if len(measured.slices) else None
    evidence = quality.Evidence(
        settings=settings,
        listed=listed,
        quarantined=quarantine["uri"].to_pylist(),
        quarantine_codes=dict(Counter(quarantine["error_code"].to_pylist())),
        measured=measured,
        model=extracted.model,
        history=history,
        neighbour_fingerprints=fingerprints,
        cosines=cosines,
        not_read=not_read,
        drift=drift.drift(today, list(sketches.values())) if today and sketches else None,
        twins=looked,
    )
    with timings.phase("check"):
        checks = quality.checks(evidence)
    counts = {
        **extracted.counts,
        "listed": len(listed),
        "quarantined": len(evidence.quarantined),
        "featured": len(measured.uris),
    }
    report = {
        "report_version": contract.REPORT_VERSION,
        "run_id": settings.run_id,
        "dag_id": settings.dag_id,
        "map_index": settings.map_index,
        "branch": settings.branch,
        "partition": settings.partition,
        "verdict": "passed",
        "table_versions": {},
        "counts": counts,
        "quarantined": evidence.quarantine_codes,
        "checks": [check.to_json() for check in checks],
        "model": {name: value for name, value in extracted.model.to_record().items() if name != "categories"},
        "norms": _norms(measured.norms),
        "drift": {
            "value": evidence.drift,
            "limit": settings.max_drift,
            "sketch": today,
            "by_partition": {key: drift.drift(today, [sketch]) for key, sketch in sketches.items()} if today else {},
        },
        "recomputed": [{"uri": uri, "cosine": cosine} for uri, cosine in cosines],
        "rows_before": {partition.partition: partition.rows for partition in history},
        "seconds": {"ingest": ingested.seconds, "extract": extracted.seconds},
        "bytes": ingested.outcome["bytes"],
    }
    failed = [check for check in checks if check.failed(quality.ERROR)]
    if failed:
        _write_report(settings, timings, report, "rejected")
        raise QualityFailed(
            "quality_failed", _say(failed), "Nothing was published. See report.json in the run's folder."
        )
    versions: dict[str, int] = {}
    if not settings.no_publish:
        _write_report(settings, timings, report, "passed")
        with timings.phase("publish"), storage.reaching("store", settings.store):
            for done in (ingested, extracted):  # one that was killed at its very end may have left it
                staging.settle(_folder(settings, done), done.stage)
            versions = commits.Replacement(
                store=settings.store,
                partition=settings.partition,
                model=extracted.model.key,
                run_id=settings.run_id,
                staged=staged,
                metadata={
                    **({"dag_id": settings.dag_id} if settings.dag_id else {}),
                    "partition": settings.partition,
                    "model": extracted.model.key,
                    "model_fingerprint": extracted.model.fingerprint,
                    **{name: str(count) for name, count in counts.items()},
                },
            ).commit()
    report["table_versions"] = versions
    verdict = "checked" if settings.no_publish else _shown(settings, extracted.model.key)
    changed = None
    if verdict == "published":
        with timings.phase("changes"):
            changed = catalog.changes_of(
                settings.store, settings.partition, extracted.model.key, versions[schemas.FEATURES.name]
            )
    location = _write_report(settings, timings, report, verdict)
    return timings.manifest(
        "validate",
        settings,
        counts=counts,
        quarantined=evidence.quarantine_codes,
        model=extracted.model,
        outcome={
            "verdict": verdict,
            "table_versions": versions,
            "report": location,
            "warnings": [check.name for check in checks if check.failed(quality.WARNING)],
            "off": [check.name for check in checks if check.severity == quality.OFF],
            "drift": evidence.drift,
            **({"changes": changed.to_record()} if changed else {}),
        },
    )


def _folder(settings: ValidateSettings, done: Manifest) -> str:
    """The folder of the run that left a manifest: an ingest may serve several branches."""
    run = contract.RunKey(done.run_id, done.dag_id or "", done.map_index, done.branch)
    return contract.run_folder(settings.store, settings.partition, run)


def _shown(settings: ValidateSettings, model: str) -> str:
    """What became of a publication: a run that drew its ticket later may have replaced it at once."""
    current = [
        item.folder for item in catalog.partitions(settings.store, model) if item.partition == settings.partition
    ]
    return "published" if current == [settings.run.folder] else "superseded"


def recheck(
    settings: ValidateSettings, info: ModelInfo, staged: Staged, asked: Mapping[str, Any]
) -> tuple[list[tuple[str, float]], int]:
    """(uri, cosine) of a random sample of files, computed again by the extractor's slow and independent way.

    And how many of the sample cannot be, as their source no longer has what ingest read: their vectors were made of
    what was there. The sample is drawn by a hash of run and image, so a retry draws the same. Reads only the row groups
    it needs. `asked`: the settings of ingest.
    """
    if not settings.recheck or settings.levels["recomputation"] == quality.OFF:
        return [], 0
    stored = _read(settings.store, schemas.FEATURES, staged["features"], ["uri", "image_id"])
    by_lot = sorted(
        zip(stored["image_id"].to_pylist(), stored["uri"].to_pylist(), strict=True),
        key=lambda row: hashlib.sha256(f"{settings.run_id} {row[0]}".encode()).digest(),
    )
    sample = settings.recheck * (quality.LOSSY_SAMPLE if quality.lossy(info) else 1)
    chosen = {uri: image_id for image_id, uri in by_lot[:sample]}
    images = _read(settings.store, schemas.IMAGES, staged["images"], contents.COLUMNS, chosen).to_pylist()
    vectors = _read(settings.store, schemas.FEATURES, staged["features"], ["uri", "features"], chosen)
    if not chosen:
        return [], 0
    extractor = extractors.opened(info, asked["max_pixels"], weights_within=settings.weights_within)
    by_uri = dict(zip(vectors["uri"].to_pylist(), vectors["features"].to_pylist(), strict=True))
    cosines = [
        (image["uri"], _cosine(extractor.reference(content), np.array(by_uri[image["uri"]], np.float64)))
        for image, content in zip(images, contents.of(images, asked.get("within", "")), strict=True)
        if not isinstance(content, BadFile)
    ]
    return cosines, len(images) - len(cosines)


def _twins(
    settings: ValidateSettings,
    info: ModelInfo,
    staged: Staged,
    measured: quality.Measured,
    asked: Mapping[str, Any],
) -> twins.Twins | None:
    """A look at the pixels of photos that share a vector, where there are too many to be accepted without one."""
    if settings.levels["identical_vectors"] == quality.OFF or not quality.too_many_share(
        measured, settings.max_identical_fraction
    ):
        return None
    sharing, within = quality.sharing(measured), asked.get("within", "")
    return twins.look(settings.store, staged["images"], sharing, info, asked["max_pixels"], settings.run_id, within)


def _cosine(one: Any, other: Any) -> float:
    """0 where a vector is zero or not finite, so that it can never pass for a match."""
    one, scale = np.asarray(one, np.float64), np.linalg.norm(one) * np.linalg.norm(other)
    return float(one @ other / scale) if len(one) == len(other) and np.isfinite(scale) and scale > 0 else 0.0


def _read(
    store_uri: str,
    table: schemas.Table,
    files: list[StagedFile],
    columns: list[str],
    uris: dict[str, str] | None = None,
) -> pa.Table:
    """Columns of staged files; with `uris` only those rows, and only the row groups that hold one are read in full."""
    schema = pa.schema([table.columns.field(name) for name in columns])
    wanted = pa.array(list(uris or ()), pa.string())
    parts = []
    for _, parquet in data_files.opened(store_uri, table, files):
        for group in range(parquet.num_row_groups):
            if uris is None:
                parts.append(parquet.read_row_group(group, columns=columns))
                continue
            matching = pc.is_in(parquet.read_row_group(group, columns=["uri"])["uri"], wanted)
            if pc.any(matching).as_py():
                parts.append(parquet.read_row_group(group, columns=columns).filter(matching))
    return pa.concat_tables([part.select(columns) for part in parts]) if parts else schema.empty_table()


def _uris(listing: str) -> list[str]:
    filesystem, path = storage.filesystem(listing)
    uris: list[str] = pq.read_table(path, filesystem=filesystem, columns=["uri"])["uri"].to_pylist()
    return uris


def _history(settings: ValidateSettings, model: str) -> list[catalog.Partition]:
    """The published partitions that this one is compared with, the nearest first."""
    published = {item.partition: item for item in catalog.partitions(settings.store, model)}
    return [published[key] for key in contract.partitions.earlier(settings.partition, published)[: settings.history]]


def _sketches(
    settings: ValidateSettings, history: list[catalog.Partition], fingerprint: str
) -> dict[str, drift.Sketch]:
    """The sketches of the history by partition, from the reports of the runs that published it."""
    found = {}
    for item in history:
        report = catalog.document_in(settings.store, item.partition, item.folder, "report.json")
        if not report or report["report_version"] > contract.REPORT_VERSION:
            continue  # a newer version's: not compared with
        if report["model"]["fingerprint"] == fingerprint and report["drift"]["sketch"]:
            found[item.partition] = report["drift"]["sketch"]
    return found


def _norms(norms: Any) -> dict[str, Any]:
    """Euclidean norms of the vectors: quantiles and a histogram."""
    if not len(norms):
        return {"quantiles": {}, "histogram": {"edges": [], "counts": []}}
    norms = np.asarray(norms, np.float64)
    low, high = norms.min(), norms.max()
    least = 1e-6 * max(high, 1.0)  # vectors of one length differ by rounding alone: too little for so many bins
    counts, edges = np.histogram(norms, HISTOGRAM_BINS, (low, max(high, low + least)))
    at = (0, 0.05, 0.25, 0.5, 0.75, 0.95, 1)
    return {
        "quantiles": {str(p): float(value) for p, value in zip(at, np.quantile(norms, at), strict=True)},
        "histogram": {"edges": [float(edge) for edge in edges], "counts": [int(count) for count in counts]},
    }


def _write_report(settings: ValidateSettings, timings: jobs.Timings, report: dict[str, Any], verdict: str) -> str:
    report["verdict"], report["at"] = verdict, contract.now()
    report["seconds"]["validate"] = timings.seconds
    location = contract.join(settings.folder, "report.json")
    with storage.reaching("store", settings.store):
        storage.write_json(location, report)
    return location


def _say(failed: list[quality.Check]) -> str:
    """Which checks failed, by how much, and the first offenders of each."""
    lines = []
    for check in failed:
        value = "" if check.value is None else f" {check.value:.4g} (limit {check.limit:g})"
        names = "".join(f"\n  {uri}" for uri in check.offenders)
        lines.append(f"Check {check.name} failed:{value}. {check.message}{names}")
    return "\n".join(lines)


def main() -> int:
    return jobs.run("validate", ValidateSettings, validate, __doc__)


if __name__ == "__main__":
    from spark_apps.validate import main as entry

    sys.exit(entry())
