"""The human step: a person is asked whether a rejected run is published all the same, and `ApproveOperator` does it.

Needs Airflow's standard provider with human-in-the-loop operators (Airflow 3.1).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowFailException
from airflow.providers.standard.operators.hitl import ApprovalOperator
from airflow.sdk import Param

from image_features import links, run_settings, settings, storage_connection, wording
from spark_apps import contract
from spark_apps.contract import JobError

if TYPE_CHECKING:
    from airflow.sdk import Context


class AskToPublishOperator(ApprovalOperator):
    """Asks a person about a run that the `validate` before it has rejected, and says what is at stake.

    Skipped where all went well. Fails, so that the run fails, where there is nothing to decide (another task failed, or
    a check that nobody can overrule), and by the answer *Reject*. *Approve* lets what follows run. Returns what
    `ApproveOperator` takes: `checks`, `approved_by` and `reason`.

    :param store: as for `ValidateOperator`; by default [image_features] store.
    :param partition: as for `ValidateOperator`; by default that of the run.
    :param storage_conn_id: as for `ValidateOperator`.

    Takes what Airflow's ApprovalOperator takes, too: `assigned_users`, `notifiers`, `response_timeout`, `defaults`.
    """

    stage = "approve"
    template_fields = (*ApprovalOperator.template_fields, "store", "partition", "storage_conn_id")
    operator_extra_links = (links.ReportLink(),)

    def __init__(
        self,
        *,
        store: str | None = None,
        partition: str | None = None,
        storage_conn_id: str | None = None,
        **kwargs: Any,
    ) -> None:
        kwargs.setdefault("subject", "Publish a rejected run of image features all the same?")
        kwargs.setdefault("trigger_rule", "one_failed")
        kwargs.setdefault("fail_on_reject", True)
        reason = Param("", type="string", title="Reason", description="Kept in the report, the commits and the event.")
        kwargs["params"] = {"reason": reason, **(kwargs.get("params") or {})}
        super().__init__(**kwargs)
        self.store, self.partition, self.storage_conn_id = store, partition, storage_conn_id

    @property
    def given(self) -> dict[str, Any]:
        """The settings that the task was given."""
        return {name: value for name in ("store", "partition") if (value := getattr(self, name)) is not None}

    def execute(self, context: Context) -> Any:
        """Ask, where there is something to decide."""
        job, report = self._report(context)
        failed = [check for check in report["checks"] if check["passed"] is False and check["severity"] == "error"]
        names = [str(check["name"]) for check in failed]
        if fixed := sorted({*names} - {*contract.OVERRULABLE}):
            raise AirflowFailException(
                f"Nobody can overrule {wording.words(fixed)}: the vectors themselves may be wrong."
            )
        self.subject = f"{self.subject} {job.partition} of {report['model']['key']}"
        self.body = "\n".join([self.body or "", *_at_stake(report, failed)]).strip()
        return super().execute(context)

    def execute_complete(self, context: Context, event: dict[str, Any]) -> Any:
        """What `ApproveOperator` takes, of the answer."""
        answer = super().execute_complete(context, event)
        _, report = self._report(context)
        failed = [check for check in report["checks"] if check["passed"] is False and check["severity"] == "error"]
        who = answer.get("responded_by_user") or {}
        name = (who.get("name") or who.get("id")) if isinstance(who, Mapping) else getattr(who, "name", None)
        return {
            "checks": ",".join(str(check["name"]) for check in failed),
            "approved_by": str(name or "the default of the step"),
            "reason": str((answer.get("params_input") or {}).get("reason") or "none given"),
        }

    def _report(self, context: Context) -> tuple[contract.Settings, dict[str, Any]]:
        from spark_apps import catalog  # not at the top: the Dag processor needs no pyarrow

        try:
            job = run_settings.of(contract.Settings, self.given, self, context)
            with catalog.reached_with(storage_connection.variables(self.storage_conn_id or settings.storage_conn_id())):
                failure, report = (
                    catalog.left_in(job.store, job.folder, f"{name}.json") for name in ("error", "report")
                )
        except JobError as error:
            raise AirflowFailException(str(error)) from None
        by_checks = failure and failure.get("stage") == "validate"  # else the report is that of an attempt before
        if not by_checks or not report or report.get("verdict") != "rejected":
            raise AirflowFailException("The run was not rejected by its checks: there is nothing to decide.")
        return job, report


def _at_stake(report: Mapping[str, Any], failed: list[Mapping[str, Any]]) -> list[str]:
    """What a person has to know, as Markdown."""
    counts = wording.counts(report["counts"], report["quarantined"])
    lines = [f"{report['counts'].get('featured', 0):,} vectors wait to be published. {counts}.", ""]
    for check in failed:
        name = str(check["name"])
        lines.append(
            f"* **{wording.words([name])}** {wording.value(name, check['value'])} ({wording.limits(check)}). "
            f"{check['message']}"
        )
    return [*lines, "", "Published as they are, with your name and reason. Nothing is computed again."]
