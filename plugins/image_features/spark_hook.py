"""The Spark provider's hook, with what it has no public way for: nothing else of ours touches its private parts."""

from __future__ import annotations

import inspect
import subprocess
from collections.abc import Iterable
from typing import Any

from airflow.providers.apache.spark import __version__ as provider_version
from airflow.providers.apache.spark.hooks.spark_submit import SparkSubmitHook
from airflow.providers.apache.spark.operators.spark_submit import SparkSubmitOperator

from image_features import connections
from spark_apps.contract import BadSetting

SUPPORTED = ">=6.3,<7"
"""Versions of the provider, as in pyproject.toml."""
HINT = "Install one of those versions beside Airflow."
ARGUMENTS = ("application", "application_args", "conf", "conn_id", "durable", "env_vars", "name", "py_files")
"""Arguments of the provider's operator that `operators` gives or reads."""
OF_THE_CLASS = ("_resolve_connection", "_submit_log_tail", "on_kill", "submit")
OF_AN_INSTANCE = (
    "_conn_id",
    "_connection",
    "_is_kubernetes",
    "_is_yarn",
    "_kubernetes_application_id",
    "_submit_sp",
    "_yarn_application_id",
    "_yarn_track_via_rm_api",
)
"""Parts of the provider's hook that are used here; most of them are private, and could go with any version."""


def unsupported(missing: Iterable[str]) -> str:
    """That this version of the provider cannot be used, as one sentence."""
    return (
        f"Image Features works with apache-airflow-providers-apache-spark{SUPPORTED}, and {provider_version}, which is "
        f"installed here, lacks {', '.join(sorted(missing))}."
    )


def check_provider() -> None:
    """Raises ImportError, so that the Dag says it, where an argument or a method of the provider's is missing."""
    inits = [vars(kind)["__init__"] for kind in SparkSubmitOperator.__mro__ if "__init__" in vars(kind)]
    missing = set(ARGUMENTS).difference(*(inspect.signature(init).parameters for init in inits))
    missing |= {name for name in OF_THE_CLASS if not hasattr(SparkSubmitHook, name)}
    if missing:
        raise ImportError(f"{unsupported(missing)} {HINT}")


check_provider()


OF_EACH_START = "WARNING: Using incubator modules: "
"""What Java says when Spark uses its module for vectors."""


class StageHook(SparkSubmitHook):
    """Runs one spark-submit; the scheme of the master says where it leads.

    The provider looks for the words `k8s` and `yarn` anywhere in the master, so for it spark://k8s-node:7077 leads to
    Kubernetes.

    Raises:
        BadSetting: Kubernetes without Airflow's provider for it, or another version of Spark's provider, where a
            private part that is used here is no longer there.
    """

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        if missing := [name for name in OF_AN_INSTANCE if name not in vars(self)]:
            raise BadSetting("bad_provider", unsupported(missing), HINT)

    def _resolve_connection(self) -> dict[str, Any]:
        found: dict[str, Any] = super()._resolve_connection()
        connections.check_kubernetes(self._conn_id, found["master"])
        return found

    @property
    def _is_kubernetes(self) -> bool:
        return self.master.startswith("k8s://")

    @_is_kubernetes.setter
    def _is_kubernetes(self, value: bool) -> None:
        vars(self)["_is_kubernetes"] = value  # to see that the provider has it; the property wins

    @property
    def _is_yarn(self) -> bool:
        return self.master == "yarn"

    @_is_yarn.setter
    def _is_yarn(self, value: bool) -> None:
        vars(self)["_is_yarn"] = value

    @classmethod
    def of(cls, operator: SparkSubmitOperator, **others: Any) -> StageHook:
        """With the arguments that the operator was given, as they are now, and `others` in the place of some."""
        names = [name for name in inspect.signature(SparkSubmitHook).parameters if name not in others]
        return cls(**{name: argument(operator, name) for name in names}, **others)

    @property
    def master(self) -> str:
        """The Spark master that the connection leads to."""
        return str(self._connection["master"])

    @property
    def deploy_mode(self) -> str:
        """`client` or `cluster`: where the driver runs."""
        return str(self._connection["deploy_mode"] or "client")

    @property
    def process(self) -> subprocess.Popen[str] | None:
        """The spark-submit, once it has been started."""
        process: subprocess.Popen[str] | None = self._submit_sp
        return process

    @property
    def last_lines(self) -> str:
        """What spark-submit wrote last, under a line that says so; without what Java says of each start."""
        kept = [line for line in str(self._submit_log_tail).split("\n") if not line.startswith(OF_EACH_START)]
        return "\n".join(kept) if len(list(filter(None, kept))) > 1 else ""

    def end_on_cluster(self, *, by_request: bool) -> None:
        """Tell the cluster to end the driver, then kill spark-submit.

        `by_request`: YARN is told by its ResourceManager's address in the connection, else by the command `yarn`. Given
        as an argument, `yarn_track_via_rm_api` would also have spark-submit not wait for the job.

        Raises:
            FileNotFoundError: there is no command `yarn` on PATH.
        """
        self._yarn_track_via_rm_api = by_request
        self.on_kill()


def argument(operator: SparkSubmitOperator, name: str) -> Any:
    """An argument that the provider's operator was given; it keeps those that are not templated under a private name.

    Raises:
        BadSetting: it keeps it under neither name.
    """
    for kept in (name, f"_{name}"):
        if hasattr(operator, kept):
            return getattr(operator, kept)
    raise BadSetting("bad_provider", unsupported([name]), HINT)


def application_id(hook: Any) -> str | None:
    """The id that YARN or Kubernetes gave the job, once spark-submit has told it."""
    return getattr(hook, "_yarn_application_id", None) or getattr(hook, "_kubernetes_application_id", None)
