"""Tasks that wait: for the photos of a partition to be there, and for a job that somebody else has submitted.

They wait in Airflow's triggerer and hold no worker slot.
"""

from __future__ import annotations

import dataclasses
import re
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import (
    AirflowException,
    AirflowFailException,
    AirflowSensorTimeout,
    AirflowSkipException,
    BaseSensorOperator,
)

from image_features import (
    allowed_places,
    assets,
    endings,
    facts,
    job_failures,
    lineage,
    links,
    outcomes,
    partition,
    run_settings,
    settings,
    storage_connection,
)
from image_features.triggers import Landing, LandingTrigger, StageTrigger, Trigger
from spark_apps import contract
from spark_apps.contract import BadSetting, JobError

if TYPE_CHECKING:
    from airflow.sdk import BaseOperatorLink, Context

UNITS = {
    "s": 1,
    "second": 1,
    "sec": 1,
    "m": 60,
    "minute": 60,
    "min": 60,
    "h": 3600,
    "hour": 3600,
    "d": 86400,
    "day": 86400,
}
GRACE_SECONDS = 300
"""A trigger that has not fired so long after its deadline never will: no triggerer runs, or none can import it."""


class _Waiting(BaseSensorOperator):
    """A task that defers at once, to a trigger of ours, whatever its `mode`."""

    storage_conn_id: str | None
    ui_color = "#e6f1f2"

    def execute(self, context: Context) -> Any:
        """Refuses what is wrong with the run, and defers, unless what is waited for is known to be there.

        Raises:
            AirflowFailException: a setting is wrong, or a place is not allowed.
            TaskDeferred: it is not there yet.
        """
        try:
            trigger = self.prepare(context)
        except JobError as error:
            if self.soft_fail or self.never_fail:
                raise AirflowSkipException(str(error)) from None
            raise AirflowFailException(str(error)) from None
        if event := self.at_once(trigger):
            return self.resume_execution("execute_complete", {"event": event}, context)
        grace = timedelta(seconds=self.timeout + GRACE_SECONDS)
        return self.defer(trigger=trigger, method_name="execute_complete", timeout=grace)

    def prepare(self, context: Context) -> Trigger:
        """The trigger for this run. Raises JobError."""
        raise NotImplementedError

    def at_once(self, trigger: Any) -> dict[str, Any] | None:
        """The trigger's event, where one look tells it; None without a look."""
        return None

    def check_event(self, event: dict[str, Any], what: str, advice: str) -> None:
        """Raises AirflowFailException when it was refused, AirflowSensorTimeout when it was too late."""
        if event["outcome"] == "refused":
            raise AirflowFailException(f"{what} failed: {contract.error_from_record(event['error'])}")
        if event["outcome"] == "late":
            late = f"{what} was not complete after {timedelta(seconds=self.timeout)}."
            raise AirflowSensorTimeout(f"{late} {event['message']} {advice}")

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        """As Airflow does, and says why a trigger can have been late, and a task skipped."""
        try:
            return super().resume_execution(next_method, next_kwargs, context)
        except AirflowSensorTimeout as error:
            if next_method == "execute_complete":
                raise
            raise AirflowSensorTimeout(
                f"The trigger of this task did not answer for {timedelta(seconds=self.timeout + GRACE_SECONDS)}. Check "
                "that a triggerer runs (airflow triggerer), and in its log that it can import image_features.triggers."
            ) from error
        except AirflowSkipException as skipped:
            if isinstance(skipped.__cause__, AirflowException):
                raise AirflowSkipException(f"{skipped} {skipped.__cause__}") from skipped.__cause__
            raise

    def _waiting(self) -> dict[str, Any]:
        """The arguments that every trigger has."""
        return {
            "deadline": time.time() + self.timeout,
            "poll_interval": self.poke_interval,
            "storage_conn_id": self.storage_conn_id or settings.storage_conn_id(),
        }


class LandingSensor(_Waiting):
    """Waits until the photos of a partition have landed, and returns what is there.

    Complete is a folder with a `marker` in it, also where there is nothing else; without a marker one that has files,
    the same for `settle`: as many, of as many bytes, the last one changed at the same time. It sees the files that
    ingest would list. A folder that is not there yet, or cannot be reached, is looked for again until `timeout`; a
    store that refuses, or a bucket that does not exist, fails at once.

    The task defers, whatever its `mode`, unless the marker is there when it starts; so it needs a triggerer. A
    triggerer that is started again keeps to the timeout; `settle` then begins anew. Returns `partition`, `source`, and
    either `marker`, or `files`, `bytes` and `newest` (the time of the last change, ISO 8601).

    :param source: (templated) folder or URI; {partition} in it is replaced. Default: that of [image_features], within
        whose allowed places it must lie, as for ingest.
    :param partition: (templated) the partition; by default that of the run, as for ingest.
    :param marker: (templated) name or glob of a file that says that all are there, `_SUCCESS` or `done/*.ok`; with
        {partition} in it as in `source`. None: no file says so.
    :param settle: (templated) how long nothing may have changed, where there is no marker: a timedelta, seconds, or a
        text such as "10 minutes".
    :param pattern: (templated) glob of the files that count, as for ingest.
    :param exclude: (templated) globs of files and folders that do not count, as for ingest.
    :param storage_conn_id: (templated) the Airflow connection that S3 is reached by; by default the setting of that
        name.
    :param poke_interval: seconds, or a timedelta, between two looks.
    """

    template_fields: Sequence[str] = (
        "source",
        "partition",
        "marker",
        "settle",
        "pattern",
        "exclude",
        "storage_conn_id",
    )

    def __init__(
        self,
        *,
        source: str | None = None,
        partition: str | None = None,
        marker: str | None = None,
        settle: timedelta | float | str = "10 minutes",
        pattern: str | None = None,
        exclude: str | None = None,
        storage_conn_id: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.source, self.partition, self.marker, self.settle = source, partition, marker, settle
        self.pattern, self.exclude, self.storage_conn_id = pattern, exclude, storage_conn_id
        if isinstance(settle, timedelta | int | float) or (isinstance(settle, str) and "{" not in settle):
            self._settle_seconds()
        if isinstance(marker, str):
            check_marker(marker)

    def prepare(self, context: Context) -> Trigger:
        """The trigger of this run. Raises BadSetting."""
        given = {name: getattr(self, name) for name in ("source", "partition", "pattern", "exclude")}
        values = run_settings.chosen_for(contract.IngestSettings, given, self, context)
        key = self.partition = partition.of(values.get("partition"), context)
        source = str(values.get("source") or settings.required("source")).replace("{partition}", key)
        source = contract.check_location("source", source)
        run_settings.check_places(contract.IngestSettings, {"source": source, "partition": key})
        landing = Landing(
            source=source,
            marker=check_marker(str(self.marker or "").replace("{partition}", key)),
            settle=self._settle_seconds(),
            pattern=values.get("pattern") or "*",
            exclude=values.get("exclude") or "",
            store=settings.store(),
            within=allowed_places.folders(run_settings.sources(key)),
        )
        until = f"a file {landing.marker}" if landing.marker else f"no change for {timedelta(seconds=landing.settle)}"
        self.log.info("Waiting for %s, until there is %s.", source, until)
        return LandingTrigger(**self._waiting(), **vars(landing), about={"partition": key, "source": source})

    def at_once(self, trigger: LandingTrigger) -> dict[str, Any] | None:
        """The event, where the marker is there already; see `StageSensor.at_once`."""
        if not trigger.landing.marker:
            return None
        from spark_apps import catalog  # not at the top: the Dag processor needs no pyarrow

        try:
            with catalog.reached_with(storage_connection.variables(trigger.storage_conn_id)):
                marker = trigger.landing.found_marker()
        except JobError:  # for the trigger to tell, and to try again
            return None
        return {"about": trigger.about, "outcome": "landed", "marker": marker} if marker else None

    def execute_complete(self, context: Context, event: dict[str, Any]) -> dict[str, Any]:
        """What has landed.

        Raises:
            AirflowFailException: the source or a setting was refused.
            AirflowSensorTimeout: it was not complete in time.
        """
        self.check_event(event, "The landing of the photos", self._advice())
        return {**event["about"], **{name: value for name, value in event.items() if name not in ("about", "outcome")}}

    def _settle_seconds(self) -> float:
        """Raises BadSetting."""
        seconds = _seconds(self.settle)
        if not self.marker and seconds >= self.timeout:
            spans = f"settle, {timedelta(seconds=seconds)}, is not shorter than timeout"
            raise BadSetting("contradiction", f"{spans}, {timedelta(seconds=self.timeout)}.", "Make timeout longer.")
        return seconds

    def _advice(self) -> str:
        if self.marker:
            return "Look whether the upload still runs or did not write its marker; then clear this task."
        return "Look whether the upload still runs; then clear this task, or give it a longer timeout."


class StageSensor(lineage.Reports, _Waiting):
    """Waits for a stage's job, wherever and by whom it was submitted, and ends as our own operator of the stage would.

    The job has ended when its manifest or its error is in the store. Then the task returns the manifest's counts, fails
    or is skipped with the words of the error, and, for validate, announces the publication. Documents that an earlier
    try has left do not count: known by the `submission` that the job was given, else by its begin.

    A job that dies without a word, as one that is killed does, leaves neither: the task then ends at its `timeout`, so
    let the task that submits the job fail by itself.

    :param job: (templated) what `image_features.jobs.spec` has returned: it says all of the following.
    :param stage: ingest, extract or validate.
    :param store: (templated) by default the configured one.
    :param partition: (templated) by default that of the run.
    :param run_id: (templated) what the job was given as --run-id; by default this Dag run's.
    :param dag_id: (templated) --dag-id; by default this Dag's. Empty: a run from the command line.
    :param map_index: --map-index; by default this task's, if it is mapped.
    :param branch: (templated) --branch.
    :param submission: (templated) --submission.
    :param since: (templated) without a submission, a job that began before does not count: ISO 8601, or a datetime; by
        default the start of this Dag run, which is new when the run is cleared.
    :param storage_conn_id: (templated) the connection that the store is read with; by default the setting of that name.
    :param poke_interval: seconds, or a timedelta, between two looks.
    """

    template_fields: Sequence[str] = (
        "job",
        "store",
        "partition",
        "job_run_id",
        "job_dag_id",
        "branch",
        "submission",
        "since",
        "storage_conn_id",
    )
    operator_extra_links: tuple[BaseOperatorLink, ...] = (links.ReportLink(), links.SparkLink())

    def __init__(
        self,
        *,
        stage: str | None = None,
        job: Any = None,
        store: str | None = None,
        partition: str | None = None,
        run_id: str | None = None,
        dag_id: str | None = None,
        map_index: int | None = None,
        branch: str | None = None,
        submission: str | None = None,
        since: datetime | str | None = None,
        storage_conn_id: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if stage not in contract.STAGES and job is None:
            raise BadSetting(
                "bad_stage", f"{stage!r} is not a valid stage.", f"Give one of {', '.join(contract.STAGES)}, or a job."
            )
        self.stage = stage or ""
        self.of_a_job = job is not None
        self.job, self.store, self.partition, self.branch = job, store, partition, branch
        # Not by their plain names: operators have a dag_id that says whose they are.
        self.job_run_id, self.job_dag_id, self.job_map_index = run_id, dag_id, map_index
        self.submission, self.since, self.storage_conn_id = submission, since, storage_conn_id

    def pre_execute(self, context: Context) -> None:
        """Show the links while the job runs."""
        super().pre_execute(context)
        links.show(self, context)

    def prepare(self, context: Context) -> Trigger:
        """The trigger of this run. Raises BadSetting."""
        job = self._job(context)
        facts.tell(self, context, job)
        since = "" if job.submission else _moment(self.since or context["dag_run"].start_date)
        self.log.info("Waiting for %s to leave its manifest or its error in %s.", self.stage, job.folder)
        known: dict[str, Any] = {
            "stage": self.stage,
            "store": job.store,
            "folder": job.folder,
            "submission": job.submission,
        }
        about = {**known, "partition": getattr(job, "partition", "")}
        return StageTrigger(**self._waiting(), **known, since=since, about=about)

    def at_once(self, trigger: StageTrigger) -> dict[str, Any] | None:
        """The event, where the job has already ended, as it has after a task that waited for it. A task that is
        resumed within moments, Airflow may take for one that was killed: its scheduler then hears only late that the
        task had deferred.
        """
        from spark_apps import catalog  # not at the top: the Dag processor needs no pyarrow

        try:
            with catalog.reached_with(storage_connection.variables(trigger.storage_conn_id)):
                event = trigger.outcome(*trigger.documents())
        except JobError:  # for the trigger to tell, and to try again
            return None
        return event and {"about": trigger.about, **event}

    def execute_complete(self, context: Context, event: dict[str, Any]) -> dict[str, int]:
        """What the job counted.

        Raises:
            AirflowFailException, AirflowSkipException, AirflowException: as the operator of the stage.
            AirflowSensorTimeout: the job left nothing in time.
        """
        known = event["about"]
        stage = self.stage = known["stage"]
        self.check_event(event, stage, "Look in the log of whoever runs the job.")
        ended = partial(outcomes.read, stage, known["store"], known["folder"], known.get("partition", ""))
        if event["outcome"] == "failed":
            endings.ended(self, ended, self._reached)
            raise job_failures.exception(stage, int(event["error"].get("exit_code", 1)), event["error"], "")
        manifest = self._manifest(known)
        endings.ended(self, ended, self._reached)
        if stage in (*outcomes.JUDGED, "undo"):
            assets.announce_all(self, context, manifest)
        return manifest.counts

    def _job(self, context: Context) -> contract.JobSettings:
        """What is waited for, as far as its folder goes. Raises BadSetting."""
        if self.of_a_job:
            if not self.job:
                raise BadSetting("no_job", "The task that makes the job has returned none.", "See how it has ended.")
            self.stage = self.job["stage"]
            return contract.parse(contract.COMMANDS[self.stage], self.job["arguments"], self.stage, "")
        given = {"store": self.store, "partition": self.partition}
        job = run_settings.of(contract.Settings, given, self, context)
        own: dict[str, Any] = {
            "run_id": self.job_run_id,
            "dag_id": self.job_dag_id,
            "map_index": self.job_map_index,
            "branch": self.branch,
            "submission": self.submission,
        }
        return dataclasses.replace(job, **{name: value for name, value in own.items() if value is not None})

    def _reached(self) -> AbstractContextManager[None]:
        """Inside, this thread reads the store with the task's connection. Raises BadSetting."""
        from spark_apps import catalog  # not at the top: the Dag processor needs no pyarrow

        return catalog.reached_with(storage_connection.variables(self.storage_conn_id or settings.storage_conn_id()))

    def _manifest(self, known: dict[str, Any]) -> contract.Manifest:
        from spark_apps import catalog

        try:
            with self._reached():
                record = catalog.left_in(known["store"], known["folder"], f"{known['stage']}.json")
        except JobError as error:
            raise AirflowException(str(error)) from None
        if record is None or not contract.is_left_by(record, known["submission"], None):
            raise AirflowException(f"The manifest of {known['stage']} is gone: the job was started again.")
        return contract.Manifest.from_record(record)


def check_marker(marker: str) -> str:
    """The marker, when it is the name of a file below a folder. Raises BadSetting."""
    if marker.startswith("/") or "://" in marker or ".." in marker.split("/") or marker.endswith("/"):
        raise BadSetting(
            "bad_marker", f"{marker!r} is not a valid marker.", "Write a name below the source: _SUCCESS or done/*.ok."
        )
    return marker


def _seconds(given: timedelta | float | str) -> float:
    """Raises BadSetting."""
    if isinstance(given, timedelta):
        return given.total_seconds()
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([a-z]*?)s?\s*", str(given).lower())
    unit = UNITS.get(found[2] or "s") if found else None
    if found is None or unit is None:
        raise BadSetting("bad_settle", f"settle {given!r} is not a valid time.", 'Write "10 minutes", or seconds.')
    return float(found[1]) * unit


def _moment(given: datetime | str | None) -> str:
    """Raises BadSetting."""
    try:
        found = given if isinstance(given, datetime | None) else datetime.fromisoformat(given.strip())
    except ValueError:
        raise BadSetting("bad_since", f"since {given!r} is not a valid time.", "Write ISO 8601.") from None
    if found is None:
        return ""
    return (found if found.tzinfo else found.replace(tzinfo=UTC)).isoformat()
