"""What Airflow is told of the pages: the app, the entry in the navigation, the tabs. Imports next to nothing.

Every process of Airflow loads the plugins, only the api-server serves pages; so the app is made at its first request.
"""

from __future__ import annotations

import asyncio
import json
import logging
import threading
from collections.abc import Awaitable, Callable
from typing import Any

log = logging.getLogger(__name__)

PREFIX = "/image-features"
_RUN = "image-features/runs?dag_id={DAG_ID}&run_id={RUN_ID}"
_ICONS = {"icon": "image-features/static/icon.svg", "icon_dark_mode": "image-features/static/icon-dark.svg"}

EXTERNAL_VIEWS: list[dict[str, Any]] = [
    {
        "name": "Image features",
        "href": "image-features/",
        "destination": "nav",
        "url_route": "image-features",
        "nav_top_level": True,
        **_ICONS,
    },
    {
        "name": "Image features",
        "href": _RUN,
        "destination": "dag_run",
        "url_route": "image-features-run",
        **_ICONS,
    },
    {
        "name": "Image features",
        "href": f"{_RUN}&task_id={{TASK_ID}}",
        "destination": "task_instance",
        "url_route": "image-features-task",
        **_ICONS,
    },
]
"""Addresses are relative to Airflow's own base, so a sub-path in `[api] base_url` is kept."""

Asgi = Callable[[Any, Any, Any], Awaitable[None]]
"""An app as servers call it."""


class Pages:
    """The app, made when it is first asked. When that fails the pages say so, and nothing else is touched."""

    def __init__(self) -> None:
        self._app: Asgi | None = None
        self._lock = threading.Lock()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if self._app is None:
            await asyncio.to_thread(self._make)
        assert self._app is not None
        await self._app(scope, receive, send)

    def _make(self) -> None:
        with self._lock:
            if self._app is None:
                self._app = _app()


def _app() -> Asgi:
    try:
        from image_features.web.app import create_app

        return create_app()
    except Exception:
        log.exception("Image features: the pages cannot be served. Airflow itself is not affected.")
        return _broken


def fastapi_apps() -> list[dict[str, Any]]:
    """The app under its prefix, as a plugin lists it."""
    return [{"app": Pages(), "url_prefix": PREFIX, "name": "Image features"}]


async def _broken(scope: Any, receive: Any, send: Any) -> None:
    """Answers in the place of an app that could not be made."""
    if scope["type"] != "http":
        return
    problem = {
        "code": "unexpected",
        "message": "The pages of Image features cannot be served.",
        "hint": "The log of Airflow's api-server says why.",
    }
    headers = [(b"content-type", b"application/json"), (b"cache-control", b"no-store")]
    await send({"type": "http.response.start", "status": 503, "headers": headers})
    await send({"type": "http.response.body", "body": json.dumps(problem).encode()})
