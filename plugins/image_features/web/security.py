"""Who may ask: the guards that every route of the pages has.

A plugin's FastAPI app has no authentication of its own, so each route goes through Airflow's: signed in with the right
to see plugins, and for whatever belongs to a Dag, with the right to read that Dag's runs. Should Airflow's own checks
not be there any more, everybody is refused.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from fastapi import HTTPException, Request

from image_features.web import our_dags
from image_features.web.refusals import Refused

log = logging.getLogger(__name__)

HEADER = "X-Image-Features"
"""A form of another site cannot send a header of its own, and a script of another site is asked for leave first."""


def our_dag(dag_id: str) -> None:
    """Refuses Dags that do not fill the store: a right to read those is none to read the store."""
    if dag_id not in our_dags.ours():
        raise Refused(
            404,
            "not_our_dag",
            "This Dag computes no image features.",
            "The pages show Dags that hold tasks of this project; [image_features] dag_ids may leave some of them out.",
        )


def same_origin(request: Request) -> None:
    """Refuses a request that a page of another site may have caused."""
    cross = request.headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none")
    if cross or request.headers.get(HEADER) != "1":
        raise Refused(403, "not_same_origin", "This request did not come from the pages.", f"Send {HEADER}: 1.")


def _deny() -> None:
    raise HTTPException(403)


def _no_dags(request: Request) -> list[str]:
    return []


signed_in: Callable[..., Any] = _deny
"""Dependency of the app: 401 for anonymous callers, 403 for those who may not see plugins."""
may_read_dag: Callable[..., Any] = _deny
"""Dependency of every route with a {dag_id}: 403 for those who may not read its runs."""
readable_dags: Callable[..., list[str]] = _no_dags
"""Dependency: those of the pipeline's Dags that the caller may read."""

try:
    from airflow.api_fastapi.app import get_auth_manager
    from airflow.api_fastapi.auth.managers.models.resource_details import AccessView, DagAccessEntity, DagDetails
    from airflow.api_fastapi.core_api.security import GetUserDep, requires_access_dag, requires_access_view
    from airflow.models.dag import DagModel

    def _readable_dags(user: GetUserDep) -> list[str]:
        manager = get_auth_manager()
        return [
            dag_id
            for dag_id in our_dags.ours()
            if manager.is_authorized_dag(
                method="GET",
                access_entity=DagAccessEntity.RUN,
                details=DagDetails(id=dag_id, team_name=DagModel.get_team_name(dag_id)),
                user=user,
            )
        ]

    guards = requires_access_view(AccessView.PLUGINS), requires_access_dag("GET", DagAccessEntity.RUN)
    (signed_in, may_read_dag), readable_dags = guards, _readable_dags
except Exception:
    log.exception("Image features: Airflow's access checks cannot be imported; the pages refuse everybody.")
