"""What became of one stage of a run, by the documents that its job has left in the store.

Logs, notifications, metrics and lineage all tell of this one thing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Literal

from image_features import wording
from spark_apps import contract
from spark_apps.contract import ExitCode

Tone = Literal["good", "warning", "bad", "neutral"]
TONES: Mapping[str, Tone] = {
    "published": "good",
    "published_with_warnings": "warning",
    "checked": "good",
    "done": "good",
    "superseded": "neutral",
    "skipped": "neutral",
    "rejected": "bad",
    "failed": "bad",
}
"""What may have become of a stage → how good that is: the verdict of validate and undo; else done, skipped, failed."""
JUDGED = ("validate", "approve")
"""Stages that leave a report, and publish by it."""
NO_WORD = (
    "The job left neither a manifest nor an error: it was killed, or it died.",
    "The task's log has its last lines; exit code 137 and signal 9 are often a lack of memory.",
)


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """`folder`: where the job leaves its documents. `manifest`: None of a stage that failed. `error`: why it did, None
    where it left no word. `report`: that of validate, else empty. `asked`: the settings, where a job was begun."""

    stage: str
    store: str
    folder: str
    partition: str = ""
    manifest: contract.Manifest | None = None
    error: contract.JobError | None = None
    report: Mapping[str, Any] = field(default_factory=dict)
    asked: Mapping[str, Any] = field(default_factory=dict)

    @property
    def settings(self) -> Mapping[str, Any]:
        """Those of the job: as its manifest has them, else as it was asked; empty where neither is known."""
        return self.manifest.settings if self.manifest else self.asked

    @property
    def verdict(self) -> str:
        """One of `TONES`."""
        if self.manifest is not None:
            return str(self.manifest.outcome.get("verdict", "done"))
        known = {ExitCode.QUALITY_FAILED: "rejected", ExitCode.NOTHING_TO_DO: "skipped"}
        return known.get(self.error.exit_code, "failed") if self.error else "failed"

    @property
    def tone(self) -> Tone:
        return TONES.get(self.verdict, "neutral")

    @property
    def status(self) -> str:
        """The verdict in words."""
        return "checked, not published" if self.verdict == "checked" else self.verdict.replace("_", " ")

    @property
    def model(self) -> str:
        """What it publishes under; empty where that is not known."""
        if self.manifest is None:
            return str(self.report.get("model", {}).get("key", ""))
        if self.manifest.model:
            return self.manifest.model.key
        if self.stage in contract.STAGES:  # where the setting model is a backbone
            return ""
        return str(self.manifest.outcome.get("model") or self.manifest.settings.get("model") or "")

    @property
    def counts(self) -> Mapping[str, int]:
        counted: Mapping[str, int] = self.manifest.counts if self.manifest else self.report.get("counts", {})
        return counted

    @property
    def quarantined(self) -> Mapping[str, int]:
        """Files by code."""
        counted: Mapping[str, int] = self.manifest.quarantined if self.manifest else self.report.get("quarantined", {})
        return counted

    @property
    def seconds(self) -> Mapping[str, float]:
        """By phase, and their `total`."""
        if self.manifest:
            return self.manifest.seconds
        told: Mapping[str, float] = self.report.get("seconds", {}).get(self.stage, {})
        return told

    @property
    def checks(self) -> list[Mapping[str, Any]]:
        """Those of the report that did not pass, errors first."""
        failed = [check for check in self.report.get("checks", []) if check["passed"] is False]
        return sorted(failed, key=lambda check: check["severity"] != "error")

    def said(self) -> tuple[str, str]:
        """A sentence, and what to do, which may be empty."""
        if self.verdict == "rejected" and self.checks:
            failed = [check["name"] for check in self.checks if check["severity"] == "error"]
            return wording.rejected(failed), wording.STANDS
        if self.verdict in contract.STANDING and self.stage in JUDGED and self.manifest:
            told = self.manifest.outcome
            featured, approval = self.counts.get("featured", 0), told.get("approval")
            return wording.published(featured, told.get("warnings", []), told.get("off", []), approval)
        if self.verdict == "skipped" and self.error:
            return wording.redacted(self.error.message), ""
        if self.verdict in wording.SAID:
            return wording.SAID[self.verdict], ""
        if self.manifest:
            return f"{wording.counts(self.counts, self.quarantined)}.", wording.advice(self.quarantined)
        if self.error:
            return wording.redacted(self.error.message), wording.redacted(self.error.hint)
        return NO_WORD


def done(job: contract.JobSettings, stage: str, manifest: contract.Manifest) -> Outcome:
    """Of a job that has ended well, with its report. Raises JobError, ValueError: the store cannot be read."""
    return _outcome(stage, job.store, job.folder, getattr(job, "partition", ""), manifest, None)


def failed(job: contract.JobSettings, stage: str, record: Mapping[str, Any] | None) -> Outcome:
    """Of one that has failed, by its `error.json`, None without one. Raises as `done`."""
    error = contract.error_from_record(dict(record)) if record else None
    found = _outcome(stage, job.store, job.folder, getattr(job, "partition", ""), None, error)
    return replace(found, asked=vars(job))


def refused(stage: str, job: contract.JobSettings | None, error: contract.JobError) -> Outcome:
    """Of one that was never begun; `job`: None where its settings are what is wrong."""
    store, folder = (job.store, job.folder) if job else ("", "")
    return Outcome(stage=stage, store=store, folder=folder, partition=getattr(job, "partition", ""), error=error)


def read(stage: str, store: str, folder: str, partition: str = "", since: datetime | None = None) -> Outcome:
    """Of one whose documents are in the store; those from before `since` are not its own. Raises as `done`."""
    from spark_apps import catalog  # not at the top: the Dag processor needs no pyarrow

    found = [catalog.left_in(store, folder, name) for name in (f"{stage}.json", "error.json")]
    record, problem = (one if one and contract.is_left_by(one, "", since) else None for one in found)
    manifest = contract.Manifest.from_record(record) if record else None
    error = contract.error_from_record(problem) if problem and not manifest and problem.get("stage") == stage else None
    return _outcome(stage, store, folder, partition, manifest, error)


def _outcome(
    stage: str,
    store: str,
    folder: str,
    partition: str,
    manifest: contract.Manifest | None,
    error: contract.JobError | None,
) -> Outcome:
    """With the report, where the stage has written one in this attempt."""
    found = Outcome(stage=stage, store=store, folder=folder, partition=partition, manifest=manifest, error=error)
    if stage not in JUDGED or not (manifest or found.verdict == "rejected"):
        return found
    from spark_apps import catalog

    if manifest and stage == "approve":
        run = contract.RunKey(manifest.run_id, manifest.dag_id or "", manifest.map_index, manifest.branch)
        folder = contract.run_folder(store, manifest.partition, run)
    return replace(found, report=catalog.left_in(store, folder, "report.json") or {})
