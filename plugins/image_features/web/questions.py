"""What a person was asked about a rejected run (`human_step`), and the answer: read from Airflow's database."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from urllib.parse import quote

from airflow.models.hitl import HITLDetail
from airflow.models.taskinstance import TaskInstance
from airflow.models.xcom import XComModel
from airflow.utils.session import create_session
from sqlalchemy import and_, select

from image_features.links import FACTS
from image_features.web.airflow_runs import Attempt
from spark_apps import contract

OPERATOR = "AskToPublishOperator"
APPROVE = "Approve"


@dataclass(frozen=True)
class Question:
    """`path`: of the page where it is answered, below Airflow's address. `answered_at`: None as long as nobody has.
    `by`: empty where the time was over."""

    path: str
    answered_at: datetime | None = None
    by: str = ""
    approved: bool = False
    reason: str = ""


def of_part(attempt: Attempt) -> Question | None:
    """What was asked about a part of a run; None where nobody was."""
    query = (
        select(TaskInstance, HITLDetail, XComModel.value)
        .join(HITLDetail, HITLDetail.ti_id == TaskInstance.id)
        .outerjoin(
            XComModel,
            and_(
                XComModel.dag_id == TaskInstance.dag_id,
                XComModel.run_id == TaskInstance.run_id,
                XComModel.task_id == TaskInstance.task_id,
                XComModel.map_index == TaskInstance.map_index,
                XComModel.key == FACTS,
            ),
        )
        .where(TaskInstance.dag_id == attempt.dag_id, TaskInstance.run_id == attempt.dag_run_id)
        .where(TaskInstance.operator == OPERATOR)
    )
    assert attempt.partition is not None
    folder = contract.run_folder(attempt.place.store, attempt.partition, attempt.run)
    with create_session(scoped=False) as session:
        for asked in session.execute(query):
            told = XComModel.deserialize_value(asked)
            if attempt.alone or (isinstance(told, dict) and told.get("folder") == folder):
                return _question(asked.TaskInstance, asked.HITLDetail)
    return None


def _question(task: TaskInstance, asked: HITLDetail) -> Question:
    who = asked.responded_by or {}
    mapped = f"/mapped/{task.map_index}" if task.map_index >= 0 else ""
    names = [quote(name, safe="") for name in (task.dag_id, task.run_id, task.task_id)]
    return Question(
        path="dags/{}/runs/{}/tasks/{}".format(*names) + f"{mapped}/required_actions",
        answered_at=asked.responded_at,
        by=str(who.get("name") or who.get("id") or ""),
        approved=APPROVE in (asked.chosen_options or []),
        reason=str((asked.params_input or {}).get("reason") or "").strip(),
    )
