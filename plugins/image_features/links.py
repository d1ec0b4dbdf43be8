"""Links on the tasks: the run's report in Airflow's own pages, and Spark's history server where there is one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

import attrs
from airflow.sdk import BaseOperatorLink

from image_features import settings

if TYPE_CHECKING:
    from airflow.sdk.types import TaskInstanceKey

FACTS = "image_features"
"""Key of the XCom in which a task says, before its job starts, what it works on: store, partition, stage, branch."""


@attrs.define()
class ReportLink(BaseOperatorLink):
    """To the tab of the Dag run with its report."""

    name: str = "Report"

    def get_link(self, operator: Any, *, ti_key: TaskInstanceKey) -> str:
        """Relative to the host, so that it leads to wherever the reader came from."""
        return urlsplit(settings.base_url()).path.rstrip("/") + _run_page(ti_key.dag_id, str(ti_key.run_id))


@attrs.define()
class SparkLink(BaseOperatorLink):
    """To the job in Spark's history server; no link where none is configured."""

    name: str = "Spark"

    def get_link(self, operator: Any, *, ti_key: TaskInstanceKey) -> str:
        """To the job itself where spark-submit has told its id (YARN, Kubernetes), else to the list of jobs."""
        # Not at the top: the api-server only reads the links that tasks have shown.
        from image_features import spark_hook

        server = settings.history_server()
        application = spark_hook.application_id(getattr(operator, "_hook", None))
        return f"{server}/history/{quote(application, safe='')}/" if server and application else server


def run_page(dag_id: str, run_id: str) -> str:
    """The whole address of the tab of a Dag run with its report, for readers who are not in Airflow."""
    return _address(_run_page(dag_id, run_id))


def question_page(dag_id: str, run_id: str, task_id: str) -> str:
    """The whole address of what a task of a run asks a person."""
    return _address(f"{_run(dag_id, run_id)}/tasks/{quote(task_id, safe='')}/required_actions")


def _address(path: str) -> str:
    return (settings.base_url() or "http://localhost:8080").rstrip("/") + path


def _run_page(dag_id: str, run_id: str) -> str:
    return f"{_run(dag_id, run_id)}/plugin/image-features-run"


def _run(dag_id: str, run_id: str) -> str:
    return f"/dags/{quote(dag_id, safe='')}/runs/{quote(run_id, safe='')}"


def show(operator: Any, context: Any) -> None:
    """Makes the links appear now; by itself Airflow does so when the task has ended."""
    task_instance = context["ti"]
    for link in operator.operator_extra_links:
        task_instance.xcom_push(key=link.xcom_key, value=link.get_link(operator, ti_key=task_instance))
