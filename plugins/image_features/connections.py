"""The Airflow connection to Spark, checked before anything starts."""

from __future__ import annotations

import importlib.util
import inspect
import re
from typing import Any

from airflow.providers.apache.spark.hooks.spark_submit import SparkSubmitHook
from airflow.providers.apache.spark.operators.spark_submit import SparkSubmitOperator
from airflow.providers.common.compat.sdk import AirflowNotFoundException
from airflow.sdk import BaseHook

from spark_apps.contract import BadSetting

MASTER = r"local(\[[^\]]+\])?|yarn|(spark|k8s)://.+"
HOW_TO = (
    "Create it under Admin → Connections (type Spark, host local[*] or spark://host:7077), or set "
    'AIRFLOW_CONN_{name} to {{"conn_type": "spark", "host": "local[*]"}}.'
)


NO_YARN_ADDRESS = (
    "The Spark connection %r has no yarn_resourcemanager_webapp_address: when this task is ended, its driver on YARN "
    "is told so by the command yarn, if that is on PATH, and else runs on. Set it in the connection's extra, for "
    "example http://resourcemanager:8088."
)


def yarn_address(conn_id: str) -> str:
    """Where YARN's ResourceManager takes requests, as far as the connection says so."""
    return str(BaseHook.get_connection(conn_id).extra_dejson.get("yarn_resourcemanager_webapp_address") or "")


def check_exists(conn_id: str) -> None:
    """Raises BadSetting when the Spark connection is missing or cannot be parsed.

    SparkSubmitHook would take a missing one for `yarn` and fail much later for another reason.
    """
    try:
        BaseHook.get_connection(conn_id)
    except AirflowNotFoundException:
        raise BadSetting(
            "no_connection",
            f"The Spark connection {conn_id!r} does not exist, or it cannot be parsed.",
            HOW_TO.format(name=conn_id.upper()),
        ) from None


class SubmitHook(SparkSubmitHook):
    """The provider's hook, for which the scheme of the master says where it leads.

    The provider looks for the words `k8s` and `yarn` anywhere in the master, so for it spark://k8s-node:7077 leads to
    Kubernetes.
    """

    @classmethod
    def of(cls, operator: SparkSubmitOperator) -> SubmitHook:
        """The hook of an operator. Raises BadSetting: it leads to Kubernetes, whose provider is missing."""
        held = vars(operator)  # by the name of the hook's argument, with or without an underscore
        names = inspect.signature(SparkSubmitHook).parameters
        return cls(**{name: held[key] for name in names for key in (name, f"_{name}") if key in held})

    def _resolve_connection(self) -> dict[str, Any]:
        found: dict[str, Any] = super()._resolve_connection()
        if found["master"].startswith("k8s://") and not _has_kubernetes():
            raise BadSetting(
                "no_kubernetes",
                f"The Spark connection {self._conn_id!r} leads to Kubernetes, but Airflow's provider for it is not "
                "installed.",
                "Install apache-airflow-providers-cncf-kubernetes beside Airflow.",
            )
        return found

    @property
    def _is_kubernetes(self) -> bool:
        return bool(self._connection["master"].startswith("k8s://"))

    @_is_kubernetes.setter
    def _is_kubernetes(self, value: bool) -> None:
        """What the provider makes of it is not kept."""

    @property
    def _is_yarn(self) -> bool:
        return bool(self._connection["master"] == "yarn")

    @_is_yarn.setter
    def _is_yarn(self, value: bool) -> None:
        """What the provider makes of it is not kept."""


def _has_kubernetes() -> bool:
    try:
        return importlib.util.find_spec("airflow.providers.cncf.kubernetes.kube_client") is not None
    except ModuleNotFoundError:  # of a package on the way to it
        return False


def check_master(conn_id: str, hook: SparkSubmitHook) -> str:
    """The Spark master that the connection leads to.

    Raises:
        BadSetting: Spark has no such master, or it has a deploy mode that takes no Python application.
    """
    master = str(hook._connection["master"])
    if not re.fullmatch(MASTER, master):
        raise BadSetting(
            "bad_connection",
            f"The Spark connection {conn_id!r} leads to {master!r}, which is not a valid Spark master.",
            "Its host must be local[*], spark://host:7077, yarn or k8s://https://host:443.",
        )
    if master.startswith("spark://") and hook._connection["deploy_mode"] == "cluster":
        # https://spark.apache.org/docs/latest/submitting-applications.html: no cluster mode for Python applications
        raise BadSetting(
            "bad_connection",
            f"The Spark connection {conn_id!r} asks for deploy mode cluster.",
            "A standalone Spark runs Python applications in client mode only: set its deploy-mode to client.",
        )
    return master
