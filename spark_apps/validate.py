"""Validate: reconciles every file, checks the features, writes the report, and publishes, or says why not.

Publishing is one Delta commit per table that replaces the partition; a failed check leaves what is published alone.
"""

from __future__ import annotations

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from contextlib import nullcontext
from typing import Any

import numpy as np

from spark_apps import catalog, contract, storage
from spark_apps.contract import REPORT_VERSION, Manifest, QualityFailed, ValidateSettings, photo_quality
from spark_apps.erasure.heeding import heeding
from spark_apps.erasure.sweep import sweep
from spark_apps.pipeline import drift, drift_explained, measure, quality, twins
from spark_apps.pipeline.publishing import StagedRun
from spark_apps.pipeline.recheck import recheck
from spark_apps.pipeline.reconcile import reconcile
from spark_apps.spark import jobs, progress, spreading
from spark_apps.tables import schemas, tombstones

HISTOGRAM_BINS = 32


def validate(settings: ValidateSettings, timings: jobs.Timings) -> Manifest:
    """Checks the staged data of a run and publishes it.

    Raises:
        QualityFailed: an error-level check failed; the report says which and why, and nothing was published.
        BadSetting: an earlier stage has not finished.
        Unreachable: the store cannot be used.
    """
    run = StagedRun.of(settings)
    with storage.reaching("store", settings.store):
        if tombstones.editions(settings.store) - set(run.ingested.outcome.get("erasures", ())):
            sweep(settings.store, tombstones.read(settings.store), partitions=[settings.partition])
            run = StagedRun.of(settings)
    ingested, extracted, info, staged = run.ingested, run.extracted, run.model, run.files
    max_pixels, within = ingested.settings["max_pixels"], ingested.settings.get("within", "")
    with timings.phase("session"):
        spread = spreading.of("image-features validate", sum(file.size_bytes for file in staged["features"]))
    with storage.reaching("store", settings.store):
        with timings.phase("read"):
            files = measure.units(staged, ingested.outcome["listing"])
            measured = _measured(settings, spread, files, extracted)
        with timings.phase("history"):
            history = _history(settings, info.key)
            reports = _reports(settings, history)
            sketches = _sketches(reports, info.fingerprint) if settings.levels["drift"] != quality.OFF else {}
            fingerprints = catalog.fingerprints(settings.store, info.key, settings.partition, settings.history)
        with timings.phase("recheck"):
            cosines, not_read = recheck(
                spread, settings.store, staged, measured.drawn, info, max_pixels, settings.weights_within, within
            )
        with timings.phase("twins"):
            off = settings.levels["identical_vectors"] == quality.OFF
            sharing = twins.NOTHING if off else twins.sharing(measured.images, measured.vectors)
            looked = (  # few enough are accepted without a look
                twins.look(spread, settings.store, staged["images"], sharing, info, max_pixels, settings.run_id, within)
                if sharing.fraction > settings.max_identical_fraction
                else None
            )
        with timings.phase("reconcile"):
            alike = sharing.suspects if looked is None else looked.differing
            reconciled = reconcile(spread, settings.store, files, measured, alike)
        with timings.phase("drift"):
            drifted = drift_explained.explained(spread, settings.store, staged["features"], measured, info, sketches)
    evidence = quality.Evidence(
        settings=settings,
        measured=measured,
        reconciled=reconciled,
        sharing=sharing,
        model=info,
        history=history,
        neighbour_fingerprints=fingerprints,
        cosines=cosines,
        not_read=not_read,
        drift=drifted.value,
        twins=looked,
        looks_before=[report["looks"] for report in reports.values() if "looks" in report],
    )
    with timings.phase("check"):
        checks = quality.checks(evidence)
    counts = {
        **extracted.counts,
        "listed": len(measured.listed),
        "quarantined": measured.refused.count,
        "featured": len(measured.featured),
    }
    report = {
        "report_version": REPORT_VERSION,
        "run_id": settings.run_id,
        "dag_id": settings.dag_id,
        "map_index": settings.map_index,
        "branch": settings.branch,
        "partition": settings.partition,
        "verdict": "passed",
        "table_versions": {},
        "staged": run.contents,
        "standing": run.standing(),
        "counts": counts,
        "quarantined": dict(measured.codes),
        "checks": [check.to_json() for check in checks],
        "model": {name: value for name, value in info.to_record().items() if name != "categories"},
        "looks": {name: measured.looks[name] for name in ("measured", *photo_quality.POOR)},
        "norms": _norms(measured.norms),
        "drift": drifted.to_record(settings.max_drift),
        "recomputed": [{"uri": uri, "cosine": cosine} for uri, cosine in cosines],
        "rows_before": {partition.partition: partition.rows for partition in history},
        "seconds": {"ingest": ingested.seconds, "extract": extracted.seconds},
        "bytes": ingested.outcome["bytes"],
    }
    failed = [check for check in checks if check.failed(quality.ERROR)]
    warned = [check.name for check in checks if check.failed(quality.WARNING)]
    if failed:
        _write_report(settings, timings, report, "rejected")
        raise QualityFailed(
            "quality_failed", _say(failed), "Nothing was published. See report.json in the run's folder."
        )
    versions: dict[str, int] = {}
    if not settings.no_publish:
        _write_report(settings, timings, report, "passed")
        with timings.phase("publish"):
            versions = run.publish(counts, warned)
    report["table_versions"] = versions
    verdict = "checked" if settings.no_publish else run.verdict(warned)
    changed = None
    if verdict in contract.STANDING:
        with timings.phase("changes"):
            changed = catalog.changes_of(settings.store, settings.partition, info.key, versions[schemas.FEATURES.name])
    location = _write_report(settings, timings, report, verdict)
    return timings.manifest(
        "validate",
        settings,
        counts=counts,
        quarantined=dict(measured.codes),
        model=info,
        outcome={
            "verdict": verdict,
            "table_versions": versions,
            "report": location,
            "warnings": warned,
            "off": [check.name for check in checks if check.severity == quality.OFF],
            "drift": evidence.drift,
            **({"changes": changed.to_record()} if changed else {}),
        },
    )


def _measured(
    settings: ValidateSettings, spread: spreading.Spread, files: list[measure.Unit], extracted: Manifest
) -> measure.Measured:
    assert extracted.model is not None
    rows = sum(unit.rows for unit in files if unit.kind == measure.FEATURES)
    off = settings.levels["recomputation"] == quality.OFF
    with nullcontext("") if spread is spreading.here else progress.watching(settings, "validate", rows) as notes:
        asked = measure.Asked(
            settings.store,
            extracted.model.dim,
            settings.run_id,
            recheck=0 if off else settings.recheck * (quality.LOSSY_SAMPLE if quality.lossy(extracted.model) else 1),
            images=rows - extracted.counts.get("duplicates", 0),
            notes=notes,
            partition=settings.partition,
        )
        return measure.measure(spread, files, asked)


def _history(settings: ValidateSettings, model: str) -> list[catalog.Partition]:
    """The published partitions that this one is compared with, the nearest first."""
    published = {item.partition: item for item in catalog.partitions(settings.store, model)}
    return [published[key] for key in contract.partitions.earlier(settings.partition, published)[: settings.history]]


def _reports(settings: ValidateSettings, history: list[catalog.Partition]) -> dict[str, dict[str, Any]]:
    """The reports of the history by partition, of the runs that published it."""
    found = {
        item.partition: catalog.document_in(settings.store, item.partition, item.folder, "report.json")
        for item in history
    }  # a newer version's is not compared with
    return {key: report for key, report in found.items() if report and report["report_version"] <= REPORT_VERSION}


def _sketches(reports: dict[str, dict[str, Any]], fingerprint: str) -> dict[str, drift.Sketch]:
    """The sketches by partition, where the model was the same."""
    return {
        key: report["drift"]["sketch"]
        for key, report in reports.items()
        if report["model"]["fingerprint"] == fingerprint and report["drift"]["sketch"]
    }


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
    return jobs.run("validate", ValidateSettings, heeding(validate), __doc__)


if __name__ == "__main__":
    from spark_apps.validate import main as entry

    sys.exit(entry())
