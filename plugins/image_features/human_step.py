"""The human step: a person is asked whether a rejected run is published all the same, and `ApproveOperator` does it.

Needs Airflow's standard provider with human-in-the-loop operators (Airflow 3.1).
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowException, AirflowFailException
from airflow.providers.standard.exceptions import HITLRejectException, HITLTimeoutError
from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.providers.standard.operators.hitl import ApprovalOperator
from airflow.sdk import Param, XComArg, chain
from airflow.sdk.definitions.param import ParamsDict

from image_features import facts, links, run_settings, settings, storage_connection, wording
from image_features.operators import ApproveOperator, StageOperator
from spark_apps import contract
from spark_apps.contract import ExitCode, JobError

if TYPE_CHECKING:
    from airflow.sdk import Context


class NothingToDecide(AirflowFailException):
    """A run about which nobody is asked: another task, or the checks, have said why already."""

    is_old_news = True


class LeftRejected(AirflowFailException):
    """What a notice says of a run that nobody has approved."""

    status = "left rejected"

    def __init__(self, message: str, partition: str, model: str) -> None:
        super().__init__(message)
        self.partition, self.model = partition, model


class AskToPublishOperator(ApprovalOperator):
    """Asks a person about a run that the `validate` before it has rejected, and says what is at stake.

    Skipped where all went well. Fails, so that the run fails, where there is nothing to decide (another task failed, or
    a check that nobody can overrule), by the answer *Reject*, and without one in time; it is tried again only where the
    store cannot be reached. *Approve* lets what follows run. Returns what `ApproveOperator` takes, each an XCom of its
    own, too: `checks`, `approved_by` and `reason`.

    :param store: as for `ValidateOperator`; by default [image_features] store.
    :param partition: as for `ValidateOperator`; by default that of the run.
    :param storage_conn_id: as for `ValidateOperator`.

    Takes what Airflow's ApprovalOperator takes, too: `assigned_users`, `notifiers`, `response_timeout`, `defaults`.
    """

    stage = "approve"
    asks_to_publish = True
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
        kwargs.setdefault("subject", "")
        kwargs.setdefault("trigger_rule", "one_failed")
        kwargs.setdefault("fail_on_reject", True)
        kwargs.setdefault("multiple_outputs", True)
        super().__init__(**kwargs)
        of_dag = self.dag.params if self.has_dag() else {}  # type: ignore[no-untyped-call]
        own = {name: self.params.get_param(name) for name in self.params if name not in of_dag}
        reason = Param("", type="string", title="Reason", description="Kept in the report, the commits and the event.")
        self.params = ParamsDict({"reason": reason, **own})  # those of the Dag are no question of ours
        self.store, self.partition, self.storage_conn_id = store, partition, storage_conn_id

    @property
    def given(self) -> dict[str, Any]:
        """The settings that the task was given."""
        return {name: value for name in ("store", "partition") if (value := getattr(self, name)) is not None}

    def execute(self, context: Context) -> Any:
        """Ask, where there is something to decide."""
        job, report = self._report(context)
        facts.tell(self, context, job)
        if fixed := sorted({*_names(report)} - {*contract.OVERRULABLE}):
            raise NothingToDecide(f"Nobody can overrule {wording.words(fixed)}: the vectors themselves may be wrong.")
        subject = self.subject or f"Publish {job.partition} despite {wording.words(_names(report))}?"
        self.subject = f"{subject} {report['model']['key']}"
        page = links.run_page(self.dag_id, str(context["run_id"]))
        self.body = "\n".join([self.body or "", *_at_stake(report, page)]).strip()
        return super().execute(context)

    def execute_complete(self, context: Context, event: dict[str, Any]) -> Any:
        """What `ApproveOperator` takes, of the answer."""
        reason = str((event.get("params_input") or {}).get("reason") or "").strip()
        who = event.get("responded_by_user") or {}
        name = (who.get("name") or who.get("id")) if isinstance(who, Mapping) else getattr(who, "name", None)
        job, report = self._report(context)
        try:
            super().execute_complete(context, event)
        except (HITLTimeoutError, HITLRejectException):
            said = wording.left_rejected(str(name or ""), event.get("responded_at"), reason)
            raise LeftRejected(
                f"{wording.rejected(_names(report))} {said}", job.partition, report["model"]["key"]
            ) from None
        return {
            "checks": ",".join(_names(report)),
            "approved_by": str(name or "the default of the step"),
            "reason": reason or wording.NO_REASON,
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
            again = error.exit_code == ExitCode.UNREACHABLE
            raise (AirflowException if again else AirflowFailException)(str(error)) from None
        by_checks = failure and failure.get("stage") == "validate"  # else the report is that of an attempt before
        if not by_checks or not report or report.get("verdict") != "rejected":
            raise NothingToDecide("The run was not rejected by its checks: there is nothing to decide.")
        return job, report


def after(
    validate: StageOperator,
    ending: str = "",
    *,
    given: Mapping[str, Any] | None = None,
    shared: Mapping[str, Any] | None = None,
    asking: Mapping[str, Any] | None = None,
) -> EmptyOperator:
    """Puts the human step behind a `validate`: `ask >> approve`, and `published`, which is reached just when one of
    both has published. What follows a publication follows that task.

    `ending`: what the tasks' names end in. `given`: the settings that the stages of the chain were given. `shared`:
    arguments of the operators for all of them. `asking`: arguments of `AskToPublishOperator`; by default nobody is
    waited for longer than `[image_features] ask_hours`, and the run is left rejected then.

    Raises:
        BadSetting: that option is no number.
    """
    place = {name: value for name, value in (given or {}).items() if name in ("store", "partition")}
    shared = shared or {}
    usual = {"defaults": AskToPublishOperator.REJECT, "response_timeout": timedelta(hours=settings.ask_hours())}
    conn = {"storage_conn_id": shared["storage_conn_id"]} if "storage_conn_id" in shared else {}
    ask = AskToPublishOperator(task_id=f"ask{ending}", **place, **conn, **{**usual, **(asking or {})})
    answer = {name: XComArg(ask, key=name) for name in ("checks", "approved_by", "reason")}
    approve = ApproveOperator(
        task_id=f"approve{ending}", outlets=validate.outlets, trigger_rule="all_success", **answer, **place, **shared
    )
    published = EmptyOperator(task_id=f"published{ending}", trigger_rule="one_success", on_success_callback=None)
    chain(validate, ask, approve, published)
    chain(validate, published)
    return published


def _names(report: Mapping[str, Any]) -> list[str]:
    return [str(check["name"]) for check in _failed(report)]


def _failed(report: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The checks that held the publication back."""
    return [check for check in report["checks"] if check["passed"] is False and check["severity"] == "error"]


def _at_stake(report: Mapping[str, Any], page: str) -> list[str]:
    """What a person has to know, as Markdown. `page`: address of the run's page."""
    counts = {"listed": 0, "featured": 0, "quarantined": 0, **report["counts"]}
    aside = wording.counts({"quarantined": counts["quarantined"]}, report["quarantined"])
    lines = [f"{counts['featured']:,} vectors of {counts['listed']:,} files wait to be published; {aside}.", ""]
    for check in _failed(report):
        name, limits = str(check["name"]), wording.limits({**check, "warn_limit": None})
        value = wording.value(name, check["value"])
        lines.append(f"* **{wording.words([name])}** {value} ({limits}). {check['message']}")
    return [
        *lines,
        "",
        f"[The report of the run]({page}) says more. If approved, they are published as they are, with your name and "
        "reason; nothing is computed again.",
    ]
