"""Approve: publishes what a rejected run has staged all the same, because a person says so. Nothing is computed again.

Only checks that compare with a limit or with other days can be overruled. Who did it, when and why stands in report,
commits and event, and on the run's page.
"""

from __future__ import annotations

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from dataclasses import replace
from datetime import datetime
from typing import Any

from spark_apps import catalog, contract, storage
from spark_apps.contract import ApproveSettings, BadSetting, Manifest, NothingToDo
from spark_apps.erasure.heeding import heeding
from spark_apps.pipeline.publishing import StagedRun
from spark_apps.spark import jobs
from spark_apps.tables import commits, schemas


def approve(settings: ApproveSettings, timings: jobs.Timings) -> Manifest:
    """Publishes the run that `settings` name, whose `validate` has rejected it. Of an attempt that was killed it
    finishes what is left to do; the same again gives the same.

    Raises:
        NothingToDo: it is published already.
        BadSetting: it was not rejected; other checks failed, or one that cannot be overruled; or what was checked is no
            longer what is staged.
        JobError: another run publishes the day at this moment, or so many write to the tables that none got through.
        Unreachable: the store cannot be used.
    """
    run = StagedRun.of(settings.of_run)
    if again := _done_before(settings, run):
        return again
    report = _rejected(settings)
    overruled = _overruled(settings, report["checks"])
    with storage.reaching("store", settings.store):
        since = commits.ticket(settings.store, settings.partition)
    replaced = _published_before(run, report)
    if not replaced:
        _refuse_changed(run, report)
    for check in overruled:
        check["severity"] = "warning"
    approval = {
        "by": settings.approved_by,
        "reason": settings.reason,
        "at": contract.now(),
        "checks": sorted(settings.named),
    }
    warned = contract.warned(report["checks"])
    with timings.phase("publish"):
        versions = replaced or run.publish(
            report["counts"],
            warned,
            since,
            approved_by=settings.approved_by,
            approved_reason=settings.reason,
            approved_checks=",".join(approval["checks"]),
        )
    verdict, changed = run.verdict(warned), None
    if verdict in contract.STANDING:
        with timings.phase("changes"):
            changed = catalog.changes_of(
                settings.store, settings.partition, run.model.key, versions[schemas.FEATURES.name]
            )
    folder = settings.of_run.folder
    place = contract.join(folder, "report.json")
    done = timings.manifest(
        "approve",
        settings,
        counts=report["counts"],
        quarantined=report["quarantined"],
        model=run.model,
        outcome={
            "verdict": verdict,
            "table_versions": versions,
            "report": place,
            "warnings": warned,
            "off": [check["name"] for check in report["checks"] if check["severity"] == "off"],
            "drift": report["drift"]["value"],
            "approval": approval,
            **({"changes": changed.to_record()} if changed else {}),
        },
    )
    jobs.write_manifest(settings.of_run, replace(done, stage="validate"))  # the run has passed that stage now
    said = {"verdict": verdict, "at": approval["at"], "table_versions": versions, "approval": approval}
    with storage.reaching("store", settings.store):
        storage.delete(contract.join(folder, "error.json"))
        storage.write_json(place, {**report, **said})  # last: as long as it says rejected, all this is done again
    return done


def _done_before(settings: ApproveSettings, run: StagedRun) -> Manifest | None:
    """What the same approval has left that was over, but for its own manifest."""
    report = catalog.report(settings.store, settings.partition, settings.run) or {}
    approval = report.get("approval") or {}
    asked = (settings.approved_by, settings.reason, sorted(settings.named))
    if (approval.get("by"), approval.get("reason"), approval.get("checks")) != asked:
        return None
    done = catalog.manifest(settings.store, settings.partition, settings.run, "validate")
    if done is None:
        return None
    return replace(done, stage="approve", outcome={**done.outcome, "verdict": run.verdict(done.outcome["warnings"])})


def _published_before(run: StagedRun, report: dict[str, Any]) -> dict[str, int]:
    """The versions of the tables in which an attempt that was killed after its commit has published the run, if another
    publication has come since; else empty."""
    settings, checked = run.settings, datetime.fromisoformat(report["at"])
    by_table: dict[str, int] = {}
    if run.standing() == settings.run.folder:
        return {}
    for name in schemas.TABLES:
        for item in catalog.publications(settings.store, settings.partition, run.model.key, name):
            by_approval = item.restored is None and "approved_by" in item.facts and item.at >= checked
            if by_approval and (item.run_id, item.facts.get("dag_id", "")) == (settings.run_id, settings.dag_id):
                by_table.setdefault(name, item.version)
    return by_table if schemas.FEATURES.name in by_table else {}


def _rejected(settings: ApproveSettings) -> dict[str, Any]:
    """The report of the run."""
    report = catalog.report(settings.store, settings.partition, settings.run)
    verdict = report["verdict"] if report else ""
    if verdict in contract.STANDING:
        raise NothingToDo("published_already", f"Run {settings.run_id} of {settings.partition} is published.")
    if report is None or verdict != "rejected":
        raise BadSetting(
            "not_rejected",
            f"Run {settings.run_id} of {settings.partition} was not rejected{f': it is {verdict}' if verdict else ''}.",
            "Only a run that validate has rejected can be approved.",
        )
    if "staged" not in report:
        raise BadSetting(
            "not_rejected",
            "An earlier version has checked this run, and kept no mark of what it checked.",
            "Run validate again.",
        )
    return report


def _overruled(settings: ApproveSettings, checks: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The checks that held the publication back."""
    failed = {check["name"]: check for check in checks if check["passed"] is False and check["severity"] == "error"}
    if fixed := sorted({*failed} - {*contract.OVERRULABLE}):
        raise BadSetting(
            "not_overrulable",
            f"{', '.join(fixed)} failed, too, which nobody can overrule: the vectors themselves may be wrong.",
            "Find out why, and run the partition again.",
        )
    if {*failed} != settings.named:
        raise BadSetting(
            "other_checks",
            f"The checks that failed are {', '.join(failed)}, not {', '.join(sorted(settings.named))}.",
            "Name just those: whoever approves has to know what.",
        )
    return [*failed.values()]


def _refuse_changed(run: StagedRun, report: dict[str, Any]) -> None:
    if run.contents != report["staged"]:
        raise BadSetting(
            "staged_changed",
            "What the run has staged is no longer what was checked: it was run again, or photos were erased.",
            "Run validate again, and decide by what it says.",
        )
    standing = run.standing()
    if standing not in (report["standing"], run.settings.run.folder):  # the last is this one, killed after its commit
        raise BadSetting(
            "published_meanwhile",
            f"What is published of {run.settings.partition} has changed since this run was checked.",
            "Run validate again, and decide by what it says.",
        )


def main() -> int:
    return jobs.run("approve", ApproveSettings, heeding(approve), __doc__)


if __name__ == "__main__":
    from spark_apps.approve import main as entry

    sys.exit(entry())
