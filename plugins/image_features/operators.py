"""The tasks of the pipeline and of its maintenance: each submits a job of `spark_apps` and tells what became of it."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.providers.apache.spark.operators.spark_submit import SparkSubmitOperator
from airflow.providers.common.compat.openlineage.utils.spark import (
    inject_parent_job_information_into_spark_properties,
    inject_transport_information_into_spark_properties,
)
from airflow.providers.common.compat.sdk import AirflowException, AirflowFailException

from image_features import (
    JOBS,
    assets,
    connections,
    deployments,
    form,
    job_failures,
    links,
    processes,
    run_key,
    settings,
    spark_hook,
    storage_connection,
    submission,
)
from spark_apps import contract
from spark_apps.contract import JobError

if TYPE_CHECKING:
    from airflow.sdk import BaseOperatorLink, Context


class StageOperator(SparkSubmitOperator):
    """Runs one stage of the pipeline as a Spark job and returns the counts of its manifest.

    Everything that can be refused is refused before a JVM starts, without a retry. A failed job fails the task with
    the words of its `error.json`: at once for a wrong setting or bad data, as skipped when there was nothing to do,
    with a retry for everything else. Takes what SparkSubmitOperator takes, but for `submission.REFUSED`; `conf` adds
    to, and wins over, ours, and `env_vars` to the job's environment, which has none of Airflow's own variables.

    :param conn_id: the Spark connection; by default the setting `conn_id`, else `spark_default`.
    """

    stage: ClassVar[str]
    operator_extra_links: tuple[BaseOperatorLink, ...] = (links.ReportLink(), links.SparkLink())

    def __init__(
        self, *, conn_id: str | None = None, conf: dict[str, Any] | None = None, name: str | None = None, **kwargs: Any
    ) -> None:
        kept = submission.check_arguments(type(self).__name__, kwargs)
        kept["application"] = str(JOBS / f"{self.stage}.py")
        kept["durable"] = False  # the default takes a cleared, once successful task for done and runs nothing
        conn_id = conn_id or settings.conn_id()
        super().__init__(conn_id=conn_id, conf=conf or {}, name=name or f"image_features.{self.stage}", **kept)
        self.conn_id = conn_id
        self._hook: spark_hook.StageHook | None = None
        self._deployment: deployments.Deployment | None = None

    def pre_execute(self, context: Context) -> None:
        """Show the links while the job runs."""
        super().pre_execute(context)
        links.show(self, context)

    def execute(self, context: Context) -> dict[str, int]:  # type: ignore[override]  # the base returns nothing
        """Submit the job, wait for it, and return what it counted.

        Raises:
            AirflowFailException: a setting or connection is wrong, or the data failed a check.
            AirflowSkipException: there was nothing to do.
            AirflowException: anything that a retry may cure.
        """
        with TemporaryDirectory(prefix="image_features-") as folder:
            try:
                job, hook, environment = self._prepare(context, Path(folder))
            except JobError as error:
                raise AirflowFailException(str(error)) from None
            self._submit(job, hook, environment)
        manifest = _manifest(job, self.stage)
        self.on_published(context, manifest)
        return manifest.counts

    def check(self, context: Context) -> None:
        """Refuse, before anything starts, what only this stage can see. Raises BadSetting."""

    def on_published(self, context: Context, manifest: contract.Manifest) -> None:
        """Tell the world about a finished stage."""

    def job_settings(self, context: Context, stage: str) -> contract.JobSettings:
        """The settings of a stage's job in this run. Raises BadSetting."""
        job = form.job_settings(stage, context["params"], run=run_key.key(self, context), context=context)
        return form.confined(job)

    def on_kill(self) -> None:
        """End the whole job: a driver on the cluster, and every process on this machine."""
        if self._hook and self._deployment and (submitted := self._hook.process):
            self._deployment.end(self._hook, submitted)

    def _prepare(
        self, context: Context, folder: Path
    ) -> tuple[contract.JobSettings, spark_hook.StageHook, dict[str, str]]:
        """The job, the hook that submits it, and its environment."""
        self.check(context)
        job = self.job_settings(context, self.stage)
        connections.check_exists(self.conn_id)
        self.application_args = contract.to_args(job)
        self._inject_lineage(context)
        deployment = self._deployment = deployments.of(self.conn_id, spark_hook.StageHook.of(self))
        if warning := deployment.warning():
            self.log.warning(warning)
        env_vars = self.env_vars or {}
        # For reading the store here and for the job, whose environment is never shown: arguments and conf are.
        access = storage_connection.variables(settings.storage_conn_id())
        _read_with(access)
        task = f"{job.folder}/{self.task_id}"  # with the store: another Airflow on this machine may have such a run
        if ended := processes.end_leftovers(task):
            self.log.warning("Ended %d processes that an earlier attempt had left running.", ended)
        # No env_vars: given any, the hook would replace the job's environment by this process's, secrets included.
        hook = self._hook = spark_hook.StageHook.of(
            self,
            conf={**deployment.conf(env_vars), **(self.conf or {})},
            py_files=_joined(self.py_files, deployment.code(folder)),
            archives=_joined(spark_hook.argument(self, "archives"), deployment.archives()),
            env_vars=None,
        )
        return job, hook, submission.environment(deployment, task, env_vars, access)

    def _inject_lineage(self, context: Context) -> None:
        """What the provider's own `execute` does for OpenLineage."""
        if spark_hook.argument(self, "openlineage_inject_parent_job_info"):
            self.conf = inject_parent_job_information_into_spark_properties(self.conf, context)
        if spark_hook.argument(self, "openlineage_inject_transport_info"):
            self.conf = inject_transport_information_into_spark_properties(self.conf, context)

    def _submit(self, job: contract.JobSettings, hook: spark_hook.StageHook, environment: dict[str, str]) -> None:
        old_error = _recorded_error(job)
        try:
            hook.submit(self.application, env=environment)
        except FileNotFoundError as error:
            raise AirflowFailException(f"{error.filename} is not on PATH. Install pyspark beside Airflow.") from None
        except AirflowException:
            record = _recorded_error(job)
            fresh = None if record == old_error else record
            exit_code = hook.process.returncode if hook.process else 1
            raise job_failures.exception(self.stage, exit_code, fresh, hook.last_lines) from None


class IngestOperator(StageOperator):
    """Lists, checks and stages the photos of the partition; first, it refuses whatever is wrong with the run."""

    stage = "ingest"

    def check(self, context: Context) -> None:
        """Refuse unknown settings, and values that a later stage would refuse."""
        form.check_keys(context["dag_run"].conf or {}, known=self.dag.params)
        for stage in contract.STAGES:
            self.job_settings(context, stage)


class ExtractOperator(StageOperator):
    """Computes the features of the staged photos."""

    stage = "extract"


class ValidateOperator(StageOperator):
    """Checks the run and publishes it; the event of each outlet then says what was published."""

    stage = "validate"

    def on_published(self, context: Context, manifest: contract.Manifest) -> None:
        """Describe the published partition on the asset event."""
        for outlet in self.outlets:
            assets.announce(context["outlet_events"][outlet], manifest, context["dag_run"])


class MaintainOperator(StageOperator):
    """Maintains the tables of the store: merges small files, deletes files past their retention."""

    stage = "maintain"
    operator_extra_links = (links.SparkLink(),)

    def check(self, context: Context) -> None:
        """Refuse unknown settings."""
        form.check_keys(context["dag_run"].conf or {}, known=self.dag.params)

    def job_settings(self, context: Context, stage: str) -> contract.MaintainSettings:
        """The settings of the job: the Dag's params are its other settings."""
        given = {"store", "run_id", "dag_id", "map_index"}
        known = {field.name for field in dataclasses.fields(contract.MaintainSettings)} - given
        params = {name: context["params"][name] for name in known & set(self.dag.params)}
        run = run_key.key(self, context)
        return contract.MaintainSettings(
            store=settings.required("store"), run_id=run.run_id, dag_id=run.dag_id, map_index=run.map_index, **params
        )


def _joined(given: str | None, ours: list[str]) -> str | None:
    return ",".join(filter(None, [given, *ours])) or None


def _read_with(access: dict[str, str]) -> None:
    from spark_apps import catalog  # not at the top: pyarrow and deltalake would slow down every parse of the Dag

    catalog.use_storage(access)


def _recorded_error(job: contract.JobSettings) -> dict[str, Any] | None:
    from spark_apps import catalog

    try:
        record: dict[str, Any] | None = catalog.left_by(job, "error.json")
        return record
    except (JobError, ValueError):  # an unreachable store is for the job to report
        return None


def _manifest(job: contract.JobSettings, stage: str) -> contract.Manifest:
    from spark_apps import catalog

    try:
        record = catalog.left_by(job, f"{stage}.json")
    except JobError as error:
        raise AirflowException(str(error)) from None
    if record is None:
        raise AirflowException(f"{stage} ended well but left no manifest in {job.folder}.")
    return contract.Manifest.from_record(record)
