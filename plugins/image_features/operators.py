"""The tasks of the pipeline and of its maintenance: each submits a job of `spark_apps` and tells what became of it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.providers.apache.spark.operators.spark_submit import SparkSubmitOperator
from airflow.providers.common.compat.sdk import AirflowException, AirflowFailException

from image_features import JOBS, assets, connections, errors, form, links, processes, settings
from spark_apps import contract
from spark_apps.contract import JobError

if TYPE_CHECKING:
    from airflow.providers.apache.spark.hooks.spark_submit import SparkSubmitHook
    from airflow.sdk import BaseOperatorLink, Context

LOG4J = Path(__file__).with_name("log4j2.properties")


class StageOperator(SparkSubmitOperator):
    """Runs one stage of the pipeline as a Spark job and returns the counts of its manifest.

    Everything that can be refused is refused before a JVM starts, without a retry. A failed job fails the task with
    the words of its `error.json`: at once for a wrong setting or bad data, as skipped when there was nothing to do,
    with a retry for everything else. Takes what SparkSubmitOperator takes; `conf` adds to, and wins over, ours.

    :param conn_id: the Spark connection; by default the setting `conn_id`, else `spark_default`.
    """

    stage: ClassVar[str]
    operator_extra_links: tuple[BaseOperatorLink, ...] = (links.ReportLink(), links.SparkLink())

    def __init__(self, *, conn_id: str | None = None, conf: dict[str, Any] | None = None, **kwargs: Any) -> None:
        super().__init__(
            application=str(JOBS / f"{self.stage}.py"),
            conn_id=conn_id or settings.conn_id(),
            conf=conf or {},
            name=f"image_features.{self.stage}",
            durable=False,  # the default takes a cleared, once successful task for done and runs nothing
            **kwargs,
        )

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
        interval_start = context.get("data_interval_start")
        return form.job_settings(stage, context["params"], run_id=context["run_id"], interval_start=interval_start)

    def on_kill(self) -> None:
        """End the whole job, not only its JVM."""
        if self._hook is not None and self._hook._submit_sp is not None:
            processes.end_tree(self._hook._submit_sp)
            super().on_kill()

    def _prepare(self, context: Context, folder: Path) -> tuple[contract.JobSettings, SparkSubmitHook, dict[str, str]]:
        self.check(context)
        job = self.job_settings(context, self.stage)
        connections.check_exists(self._conn_id)
        self.application_args = contract.to_args(job)
        hook = self._hook = self._get_hook()
        master = connections.check_master(self._conn_id, hook)
        driver_here = hook._connection["deploy_mode"] != "cluster"
        if driver_here:
            hook._conf = {"spark.driver.extraJavaOptions": _java_options(master), **hook._conf}
        if not _is_local(master):
            _send_along(hook, folder, driver_here)
        # For reading the store here and for the job: the environment is never shown, arguments and conf are.
        os.environ.update(connections.storage_environment(settings.storage_conn_id()))
        task = (
            f"{job.folder}/{self.task_id}"  # with the store: another Airflow on this machine may have a run of that id
        )
        if ended := processes.end_leftovers(task):
            self.log.warning("Ended %d processes that an earlier attempt had left running.", ended)
        return job, hook, _environment(master, task, driver_here)

    def _submit(self, job: contract.JobSettings, hook: SparkSubmitHook, environment: dict[str, str]) -> None:
        old_error = _recorded_error(job)
        try:
            hook.submit(self.application, env=environment)
        except FileNotFoundError as error:
            raise AirflowFailException(f"{error.filename} is not on PATH. Install pyspark beside Airflow.") from None
        except AirflowException:
            record = _recorded_error(job)
            fresh = None if record == old_error else record
            exit_code = hook._submit_sp.returncode if hook._submit_sp else 1
            raise errors.exception(self.stage, exit_code, fresh, hook._submit_log_tail) from None


class IngestOperator(StageOperator):
    """Lists, checks and stages the photos of the partition; first, it refuses whatever is wrong with the run."""

    stage = "ingest"

    def check(self, context: Context) -> None:
        """Refuse unknown settings, and values that only a later stage would stumble over."""
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
            event = context["outlet_events"][outlet]
            event.extra.update(assets.event(manifest))
            if hasattr(event, "add_partitions"):  # since Airflow 3.3
                event.add_partitions(manifest.partition)


class MaintainOperator(StageOperator):
    """Maintains the tables of the store: merges small files, removes what nobody needs any more."""

    stage = "maintain"
    operator_extra_links = (links.SparkLink(),)

    def check(self, context: Context) -> None:
        """Refuse unknown settings."""
        form.check_keys(context["dag_run"].conf or {}, known=self.dag.params)

    def job_settings(self, context: Context, stage: str) -> contract.MaintainSettings:
        """The settings of the job: the Dag's params are its other settings."""
        params = {name: context["params"][name] for name in self.dag.params}
        return contract.MaintainSettings(store=settings.store(), run_id=context["run_id"], **params)


def _is_local(master: str) -> bool:
    """Whether driver and tasks are one process on this machine, and no cluster has to be told anything."""
    return master.startswith("local")


def _send_along(hook: SparkSubmitHook, folder: Path, driver_here: bool) -> None:
    """Gives the cluster what its nodes do not have: this project's code and, where configured, an environment."""
    # By a process: of spark_apps this side knows the contract and the catalog, and nothing else.
    command = [sys.executable, "-m", "spark_apps.pack", "--code", str(folder)]
    code = subprocess.run(command, cwd=JOBS.parent, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()
    hook._py_files = ",".join(filter(None, [hook._py_files, code]))
    environment = settings.environment()
    if not environment:
        return
    hook._archives = ",".join(filter(None, [hook._archives, f"{environment}#{contract.ENVIRONMENT}"]))
    pythons = {"spark.pyspark.python": contract.ENVIRONMENT_PYTHON}
    if driver_here:
        pythons["spark.pyspark.driver.python"] = sys.executable  # the other setting would win over the environment's
    hook._conf = {**pythons, **hook._conf}


def _java_options(master: str) -> str:
    """Options for the driver's JVM: few words and, for Spark within one process, a quick start."""
    options = f"-Dlog4j2.configurationFile='{LOG4J.as_uri()}'"
    if _is_local(master):
        # The JVM only hands out references: its optimising compiler costs more than it brings. Without it a day of four
        # photos takes 14 instead of 22 seconds of CPU time.
        options += " -XX:TieredStopAtLevel=1"
    return options


def _environment(master: str, task: str, driver_here: bool) -> dict[str, str]:
    """The job's environment: this process's, without Airflow's own variables, which hold its secrets.

    A driver elsewhere chooses its own Python: YARN would look there for the one that this variable names.
    """
    env = {name: value for name, value in os.environ.items() if not name.lstrip("_").startswith("AIRFLOW")}
    beside_python = str(Path(sys.executable).parent)
    env["PATH"] = os.pathsep.join([env.get("PATH", os.defpath), beside_python])
    env[processes.MARK] = task
    if driver_here:
        env["PYSPARK_DRIVER_PYTHON"] = sys.executable
    if _is_local(master):
        env["PYSPARK_PYTHON"] = sys.executable
    return env


def _recorded_error(job: contract.JobSettings) -> dict[str, Any] | None:
    from spark_apps import catalog  # not at the top: pyarrow and deltalake would slow down every parse of the Dag

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
    return contract.Manifest(**record)
