"""The tasks of the pipeline and of its maintenance: each submits a job of `spark_apps` and tells what became of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.providers.apache.spark.operators.spark_submit import SparkSubmitOperator
from airflow.providers.common.compat.openlineage.utils.spark import (
    inject_parent_job_information_into_spark_properties,
    inject_transport_information_into_spark_properties,
)
from airflow.providers.common.compat.sdk import AirflowException, AirflowFailException, mask_secret

from image_features import (
    JOBS,
    arguments,
    assets,
    connections,
    deployments,
    endings,
    facts,
    form,
    job_failures,
    lineage,
    links,
    models,
    outcomes,
    processes,
    renewal,
    run_key,
    run_settings,
    settings,
    sink_connection,
    spark_hook,
    storage_connection,
    submission,
)
from spark_apps import contract
from spark_apps.contract import JobError

if TYPE_CHECKING:
    from airflow.sdk import BaseOperatorLink, Context


class StageOperator(lineage.Reports, SparkSubmitOperator):
    """Runs one stage as a Spark job and returns the counts of its manifest.

    Everything that can be refused is refused before a JVM starts, without a retry; what stands in the Dag as it is,
    when the Dag is parsed. A failed job fails the task with the words of its `error.json`: at once for a wrong setting
    or bad data, as skipped when there was nothing to do, with a retry for everything else.

    Takes every setting of its stage as a keyword argument, and each may be a template. The conf of a run, where the Dag
    has a param of that name, wins over the argument, that over the Dag's param, that over [image_features], that over
    the default. Takes what SparkSubmitOperator takes, too, but for `submission.REFUSED`; `conf` adds to, and wins over,
    ours, and `env_vars` to the job's environment, which has none of Airflow's own variables.

    :param conn_id: the Spark connection; by default the setting `conn_id`, else `spark_default`.
    :param storage_conn_id: (templated) the connection (aws, wasb, adls, google_cloud_platform) that the store is
        reached with; by default the setting `storage_conn_id`, else the environment's credentials.
    """

    stage: ClassVar[str]
    template_fields: Sequence[str] = (*SparkSubmitOperator.template_fields, "storage_conn_id")
    operator_extra_links: tuple[BaseOperatorLink, ...] = (links.ReportLink(), links.SparkLink())

    def __init__(
        self,
        *,
        conn_id: str | None = None,
        conf: dict[str, Any] | None = None,
        name: str | None = None,
        storage_conn_id: str | None = None,
        **kwargs: Any,
    ) -> None:
        empty = {name for name in arguments.names(self.kind()) if kwargs.get(arguments.argument(name), "") is None}
        given = arguments.take(self.kind(), kwargs)
        arguments.refuse_unknown(type(self).__name__, kwargs, arguments.accepted(type(self)))
        kept = submission.check_arguments(type(self).__name__, kwargs)
        kept["application"] = str(JOBS / f"{self.stage}.py")
        kept["durable"] = False  # the default takes a cleared, once successful task for done and runs nothing
        conn_id = conn_id or settings.conn_id()
        super().__init__(conn_id=conn_id, conf=conf or {}, name=name or f"image_features.{self.stage}", **kept)
        self.conn_id = conn_id
        self.storage_conn_id = storage_conn_id
        for setting, value in given.items():
            setattr(self, arguments.attribute(setting), value)
        self.templated = {name for name, value in self.given.items() if not arguments.is_literal(value)}
        self.reads_conf = any(map(arguments.may_read_conf, map(self.given.get, self.templated)))
        self._hook: spark_hook.StageHook | None = None
        self._deployment: deployments.Deployment | None = None
        self._mark = ""
        if self.is_mapped:
            written = getattr(self.dag.task_dict[self.task_id], "partial_kwargs", {})
            self.templated |= {name for name in empty if arguments.argument(name) not in written}
        else:
            _check_in_dag(self.task_id, self.kind(), given)

    @classmethod
    def partial(cls, *, task_id: str, **kwargs: Any) -> Any:  # what `.expand()` makes a mapped task of
        """As that of every operator, and refuses what stands in the Dag as it is."""
        submission.check_arguments(cls.__name__, kwargs)
        given = {name: kwargs.get(arguments.argument(name)) for name in arguments.names(cls.kind())}
        _check_in_dag(task_id, cls.kind(), given, mapped=True)
        return super().partial(task_id=task_id, **kwargs)

    @property
    def is_mapped(self) -> bool:
        """Whether this is one task that a run has made of a mapped one: what it was given is checked in the run."""
        dag = self.dag if self.has_dag() else None  # type: ignore[no-untyped-call]
        return dag is not None and dag.task_dict.get(self.task_id) is not self

    @classmethod
    def kind(cls) -> type[contract.JobSettings]:
        """The settings of the stage."""
        return contract.COMMANDS[cls.stage]

    @property
    def given(self) -> dict[str, Any]:
        """The settings that the task was given, as they are now: rendered in a run, else as the Dag has them."""
        return arguments.given(self._settings())

    def resolve_template_files(self) -> None:
        """Refuses what is wrong with the chain that the task is in: Airflow calls this once the Dag is complete.

        Raises:
            BadSetting: the task cannot find what the stages before it leave.
        """
        super().resolve_template_files()
        if run_key.continues(self):
            run_settings.check_chain(self)

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
            job: contract.JobSettings | None = None
            try:
                with endings.group(self.log, "Settings and connections"):
                    job = self.job_settings(context)
                    access, hook, environment = self._prepare(job, context, Path(folder))
            except JobError as error:
                endings.ended(self, partial(outcomes.refused, self.stage, job, error))
                raise AirflowFailException(str(error)) from None
            with renewal.renewing(access, Path(folder), _read_with) as newest:
                own = {**newest, **environment} if _is_of(access, environment) else environment
                self._submit(job, hook, own)
        manifest = _manifest(job, self.stage)
        endings.ended(self, partial(outcomes.done, job, self.stage, manifest))
        self.on_done(context, manifest)
        return manifest.counts

    def check(self, job: contract.JobSettings, context: Context) -> None:
        """Refuse, before anything starts, what only this stage can see. Raises BadSetting."""

    def on_done(self, context: Context, manifest: contract.Manifest) -> None:
        """Tell the world about a finished stage."""

    def secrets(self) -> dict[str, str]:
        """Variables that only this stage's job needs to reach something else. Raises BadSetting."""
        return {}

    def job_settings(self, context: Context) -> contract.JobSettings:
        """The settings of the job in this run. Raises BadSetting."""
        given = arguments.rendered(self.kind(), self._settings(), self.templated)
        return run_settings.of(self.kind(), given, self, context)

    def _settings(self) -> dict[str, Any]:
        return {name: getattr(self, arguments.attribute(name)) for name in arguments.names(self.kind())}

    def on_kill(self) -> None:
        """End the whole job: a driver on the cluster, and every process on this machine."""
        try:
            if self._hook and self._deployment and (submitted := self._hook.process):
                self._deployment.end(self._hook, submitted)
        finally:
            if self._mark:
                processes.end_all(self._mark)

    def _prepare(
        self, job: contract.JobSettings, context: Context, folder: Path
    ) -> tuple[storage_connection.Access, spark_hook.StageHook, dict[str, str]]:
        """How the store is reached, the hook that submits the job, and the job's environment."""
        facts.tell(self, context, job)
        self.check(job, context)
        connections.check_exists(self.conn_id)
        self.application_args = contract.to_args(job)
        self._inject_lineage(context)
        deployment = self._deployment = deployments.of(self.conn_id, spark_hook.StageHook.of(self))
        env_vars = self.env_vars or {}
        # For reading the store here and for the job, whose environment is never shown: arguments and conf are.
        access = storage_connection.access(self.storage_conn_id or settings.storage_conn_id())
        _read_with(access.variables)
        secrets = {**access.variables, **self.secrets()}
        for warning in deployment.warnings(secrets):
            self.log.warning(warning)
        # with the store: another Airflow on this machine may have such a run
        self._mark = f"{job.folder}/{self.task_id}"
        if ended := processes.end_all(self._mark):
            self.log.warning("Ended %d processes that an earlier attempt had left running.", ended)
        # No env_vars: given any, the hook would replace the job's environment by this process's, secrets included.
        hook = self._hook = spark_hook.StageHook.of(
            self,
            conf={**deployment.conf(env_vars), **(self.conf or {})},
            py_files=_joined(self.py_files, deployment.code(folder)),
            archives=_joined(spark_hook.argument(self, "archives"), deployment.archives()),
            env_vars=None,
        )
        return access, hook, submission.environment(deployment, self._mark, env_vars, secrets)

    def _inject_lineage(self, context: Context) -> None:
        """What the provider's own `execute` does for OpenLineage."""
        if spark_hook.argument(self, "openlineage_inject_parent_job_info"):
            self.conf = inject_parent_job_information_into_spark_properties(self.conf or {}, context)
        if spark_hook.argument(self, "openlineage_inject_transport_info"):
            self.conf = inject_transport_information_into_spark_properties(self.conf or {}, context)

    def _submit(self, job: contract.JobSettings, hook: spark_hook.StageHook, environment: dict[str, str]) -> None:
        old_error = _recorded_error(job)
        try:
            with endings.group(self.log, f"The Spark job {self.stage}"):
                hook.submit(self.application, env=environment)
        except FileNotFoundError as error:
            raise AirflowFailException(f"{error.filename} is not on PATH. Install pyspark beside Airflow.") from None
        except AirflowException:
            record = _recorded_error(job)
            fresh = None if record == old_error else record
            exit_code = hook.process.returncode if hook.process else 1
            endings.ended(self, partial(outcomes.failed, job, self.stage, fresh))
            raise job_failures.exception(self.stage, exit_code, fresh, hook.last_lines) from None


class IngestOperator(StageOperator):
    """Lists, checks and stages the photos of the partition; first, it refuses whatever is wrong with the run."""

    stage = "ingest"
    template_fields = (*StageOperator.template_fields, *arguments.fields(contract.IngestSettings))

    @arguments.declared(contract.IngestSettings)
    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)

    def check(self, job: contract.JobSettings, context: Context) -> None:
        """Refuse unknown settings, and values that a later stage would refuse."""
        assert isinstance(job, contract.IngestSettings)
        form.check_conf(self, context, job)
        place = {"store": job.store, "partition": job.partition}
        tasks = [task for task in self.get_flat_relatives() if isinstance(task, StageOperator)]
        for stage, kind in list(contract.SETTINGS.items())[1:]:
            later = [task for task in tasks if task.stage == stage]
            for given in [task.given for task in later if not task.templated] if later else [{}]:
                found = run_settings.of(kind, {**given, **place}, self, context)
                if isinstance(found, contract.ExtractSettings) and found.extractor == contract.PHOTOS:
                    models.check(found.model)


class ExtractOperator(StageOperator):
    """Computes the features of the staged photos."""

    stage = "extract"
    template_fields = (*StageOperator.template_fields, *arguments.fields(contract.ExtractSettings))

    @arguments.declared(contract.ExtractSettings)
    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if not self.is_mapped:
            facts.check_in_dag(self)

    def check(self, job: contract.JobSettings, context: Context) -> None:
        """Refuse what another task of the run publishes, too."""
        assert isinstance(job, contract.ExtractSettings)
        facts.check_in_run(self, context, job)


class ValidateOperator(StageOperator):
    """Checks the run and publishes it; the events of its assets then say what was published."""

    stage = "validate"
    template_fields = (*StageOperator.template_fields, *arguments.fields(contract.ValidateSettings))

    @arguments.declared(contract.ValidateSettings)
    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)

    def on_done(self, context: Context, manifest: contract.Manifest) -> None:
        """Tell the Dags that wait for the assets."""
        assets.announce_all(self, context, manifest)


class ApproveOperator(StageOperator):
    """Publishes a run that `validate` has rejected, because a person says so; the events of its assets tell who."""

    stage = "approve"
    template_fields = (*StageOperator.template_fields, *arguments.fields(contract.ApproveSettings))

    @arguments.declared(contract.ApproveSettings)
    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)

    def on_done(self, context: Context, manifest: contract.Manifest) -> None:
        """Tell the Dags that wait for the assets."""
        assets.announce_all(self, context, manifest)


class IndexOperator(StageOperator):
    """Brings what is published of a model into its search index. When it fails, what was published stays published, and
    the next run brings in what is missing.

    After an extract it takes that one's model; by itself, or after an undo, `model` says which.
    """

    stage = "index"
    template_fields = (*StageOperator.template_fields, *arguments.fields(contract.IndexSettings))

    @arguments.declared(contract.IndexSettings)
    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)


class MaintainOperator(StageOperator):
    """Maintains the tables of a store: merges small files, deletes files past their retention."""

    stage = "maintain"
    template_fields = (*StageOperator.template_fields, *arguments.fields(contract.MaintainSettings))
    operator_extra_links = (links.SparkLink(),)

    @arguments.declared(contract.MaintainSettings)
    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)

    def check(self, job: contract.JobSettings, context: Context) -> None:
        """Refuse unknown settings."""
        form.check_conf(self, context, job)


class UndoOperator(StageOperator):
    """Puts back what was published of a partition and model before; the events of its assets say what it is."""

    stage = "undo"
    template_fields = (*StageOperator.template_fields, *arguments.fields(contract.UndoSettings))
    operator_extra_links = (links.SparkLink(),)

    @arguments.declared(contract.UndoSettings)
    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)

    def check(self, job: contract.JobSettings, context: Context) -> None:
        """Refuse unknown settings."""
        form.check_conf(self, context, job)

    def on_done(self, context: Context, manifest: contract.Manifest) -> None:
        """Tell the Dags that wait for the assets."""
        assets.announce_all(self, context, manifest)


class EraseOperator(StageOperator):
    """Forgets photos: removes them from every table, day and version of a store, and keeps them away. With `verify` it
    looks through the store for them instead, and fails where it finds one.

    What says which photos is kept by Airflow as every argument is, and is part of the job's command line; a `list` is
    not. In the task's own log it is masked.
    """

    stage = "erase"
    template_fields = (*StageOperator.template_fields, *arguments.fields(contract.EraseSettings))
    operator_extra_links = (links.SparkLink(),)

    @arguments.declared(contract.EraseSettings)
    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)

    def check(self, job: contract.JobSettings, context: Context) -> None:
        """Refuse unknown settings, and keep names out of the log."""
        assert isinstance(job, contract.EraseSettings)
        form.check_conf(self, context, job)
        for name in filter(None, (job.image_id, job.uri, job.uri_prefix)):
            mask_secret(name)


class DuplicatesOperator(StageOperator):
    """Says which published files of a model show the same picture. What is published stays as it is, also when it
    fails.

    After an extract it takes that one's model; by itself, or after several, `model` says which.
    """

    stage = "duplicates"
    template_fields = (*StageOperator.template_fields, *arguments.fields(contract.DuplicatesSettings))
    operator_extra_links = (links.SparkLink(),)

    @arguments.declared(contract.DuplicatesSettings)
    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)


class SyncOperator(StageOperator):
    """Keeps another vector store equal to what is published of a model.

    After an extract it takes that one's model; by itself, or after several, `model` says which.

    :param sink_conn_id: (templated) the connection to that store, which user and password, or key, are taken from;
        host, port and database too, where `to` does not say them.
    """

    stage = "sync"
    template_fields = (*StageOperator.template_fields, "sink_conn_id", *arguments.fields(contract.SyncSettings))
    operator_extra_links = (links.SparkLink(),)

    @arguments.declared(contract.SyncSettings)
    def __init__(self, *, sink_conn_id: str | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.sink_conn_id = sink_conn_id

    def secrets(self) -> dict[str, str]:
        """What the connection says, as the variables that clients of Postgres and Qdrant read."""
        return sink_connection.variables(self.sink_conn_id or "")


def _check_in_dag(task_id: str, kind: type[contract.JobSettings], given: dict[str, Any], mapped: bool = False) -> None:
    try:
        run_settings.check_in_dag(kind, given, mapped)
    except contract.BadSetting as error:
        raise contract.BadSetting(error.code, f"Task {task_id}: {error.message}", error.hint) from None


def _joined(given: str | None, ours: list[str]) -> str | None:
    return ",".join(filter(None, [given, *ours])) or None


def _is_of(access: storage_connection.Access, environment: Mapping[str, str]) -> bool:
    """Whether a job reaches stores with the connection's keys, and not with some of `env_vars`."""
    name = "AWS_ACCESS_KEY_ID"
    return access.variables.get(name) == environment.get(name)


def _read_with(access: Mapping[str, str]) -> None:
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
