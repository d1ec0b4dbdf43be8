"""Tasks that wait: for the photos of a partition to be there. They wait in the triggerer and hold no worker slot."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import (
    AirflowException,
    AirflowFailException,
    AirflowSensorTimeout,
    AirflowSkipException,
    BaseSensorOperator,
)

from image_features import allowed_places, partition, settings
from image_features.triggers import LandingTrigger
from spark_apps import contract
from spark_apps.contract import BadSetting, JobError

if TYPE_CHECKING:
    from airflow.sdk import Context

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


class LandingSensor(BaseSensorOperator):
    """Waits until the photos of a partition have landed, and returns what is there.

    Complete is a folder with a `marker` in it, also where there is nothing else; without a marker one that has files,
    the same for `settle`: as many, of as many bytes, the last one changed at the same time. It sees the files that
    ingest would list. A folder that is not there yet, or cannot be reached, is looked for again until `timeout`; a
    store that refuses, or a bucket that does not exist, fails at once.

    The task defers as soon as it starts, whatever its `mode`, so it needs a triggerer. A triggerer that is started
    again keeps to the timeout; `settle` then begins anew. Returns `partition`, `source`, and either `marker`, or
    `files`, `bytes` and `newest` (the time of the last change, ISO 8601).

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
    ui_color = "#e6f1f2"

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

    def execute(self, context: Context) -> None:
        """Refuses what is wrong with the run, and defers.

        Raises:
            AirflowFailException: a setting is wrong, or the source is not allowed.
            TaskDeferred: always, else.
        """
        try:
            trigger = self._trigger(context)
        except JobError as error:
            if self.soft_fail or self.never_fail:
                raise AirflowSkipException(str(error)) from None
            raise AirflowFailException(str(error)) from None
        landing = trigger.landing
        until = f"a file {landing.marker}" if landing.marker else f"no change for {timedelta(seconds=landing.settle)}"
        self.log.info("Waiting for %s, until there is %s.", landing.source, until)
        self.defer(
            trigger=trigger,
            method_name="execute_complete",
            kwargs={"waited_for": {"partition": self.partition, "source": landing.source}},
            timeout=timedelta(seconds=self.timeout + GRACE_SECONDS),
        )

    def execute_complete(
        self, context: Context, event: dict[str, Any], waited_for: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        """What has landed.

        Raises:
            AirflowFailException: the source or a setting was refused.
            AirflowSensorTimeout: it was not complete in time.
        """
        if event["outcome"] == "refused":
            raise AirflowFailException(f"landing failed: {contract.error_from_record(event['error'])}")
        if event["outcome"] == "late":
            late = f"The photos were not complete after {timedelta(seconds=self.timeout)}."
            raise AirflowSensorTimeout(f"{late} {event['message']} {self._advice()}")
        return {**(waited_for or {}), **{name: value for name, value in event.items() if name != "outcome"}}

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        """As Airflow does, and says why a trigger can have been late, or skipped."""
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

    def _trigger(self, context: Context) -> LandingTrigger:
        """The trigger for this run. Raises BadSetting."""
        key = self.partition = partition.of(self._chosen(context, "partition"), context)
        source = self._chosen(context, "source") or settings.required("source")
        source = contract.check_location("source", str(source).replace("{partition}", key))
        allowed = [allowed_places.above_partition(place, key) for place in settings.sources()]
        allowed_places.check("source", source, allowed)
        return LandingTrigger(
            source=source,
            marker=check_marker(str(self.marker or "").replace("{partition}", key)),
            settle=self._settle_seconds(),
            pattern=self._chosen(context, "pattern") or settings.value("pattern") or "*",
            exclude=self._chosen(context, "exclude") or settings.value("exclude") or "",
            store=settings.store(),
            within=allowed_places.folders(allowed),
            deadline=time.time() + self.timeout,
            poll_interval=self.poke_interval,
            storage_conn_id=self.storage_conn_id or settings.storage_conn_id(),
        )

    def _chosen(self, context: Context, name: str) -> Any:
        """What the run's conf says, where the Dag has such a param; else the argument, else the Dag's param."""
        params, conf = context["params"], getattr(context["dag_run"], "conf", None) or {}
        if name in params and conf.get(name) is not None:
            return params[name]
        given = getattr(self, name)
        return params.get(name) if given is None else given

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
