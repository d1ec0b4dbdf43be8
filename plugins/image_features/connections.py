"""Airflow's connections, missing ones told in a sentence; that to Spark, checked before anything starts."""

from __future__ import annotations

import importlib.util
from typing import Any

from airflow.providers.common.compat.sdk import AirflowNotFoundException
from airflow.sdk import BaseHook

from spark_apps.contract import BadSetting

HOW_TO = (
    "Create it under Admin → Connections (type Spark, host local[*] or spark://host:7077), or set "
    'AIRFLOW_CONN_{name} to {{"conn_type": "spark", "host": "local[*]"}}.'
)


NO_YARN_ADDRESS = (
    "The Spark connection {conn_id!r} has no yarn_resourcemanager_webapp_address: when this task is ended, its driver "
    "on YARN is told so by the command yarn, if that is on PATH, and else runs on. Set it in the connection's extra, "
    "for example http://resourcemanager:8088."
)
NOT_ON_CLUSTER = (
    "In deploy mode cluster the driver does not get what storage_conn_id and sink_conn_id stand for ({names}); only "
    "this task does. Give its node or pod a role or secret of its own (docs/clusters.md, Secrets), or set the deploy "
    "mode to client."
)


def yarn_address(conn_id: str) -> str:
    """Where YARN's ResourceManager takes requests, as far as the connection says so."""
    return str(BaseHook.get_connection(conn_id).extra_dejson.get("yarn_resourcemanager_webapp_address") or "")


def get(conn_id: str, what: str, hint: str) -> Any:
    """The connection, `what` in words. Raises BadSetting when it is missing or unreadable; `hint` says what to do."""
    try:
        return BaseHook.get_connection(conn_id)
    except AirflowNotFoundException:
        message = f"The {what} does not exist, or it cannot be parsed."
        raise BadSetting("no_connection", message, hint) from None


def check_exists(conn_id: str) -> None:
    """Raises BadSetting when the Spark connection is missing or cannot be parsed.

    SparkSubmitHook would take a missing one for `yarn` and fail much later for another reason.
    """
    get(conn_id, f"Spark connection {conn_id!r}", HOW_TO.format(name=conn_id.upper()))


def check_kubernetes(conn_id: str, master: str) -> None:
    """Raises BadSetting when the connection leads to Kubernetes, and Airflow's provider for that is missing."""
    if master.startswith("k8s://") and not _has_kubernetes():
        raise BadSetting(
            "no_kubernetes",
            f"The Spark connection {conn_id!r} leads to Kubernetes, but Airflow's provider for it is not installed.",
            "Install apache-airflow-providers-cncf-kubernetes beside Airflow.",
        )


def _has_kubernetes() -> bool:
    try:
        return importlib.util.find_spec("airflow.providers.cncf.kubernetes.kube_client") is not None
    except ModuleNotFoundError:  # of a package on the way to it
        return False
