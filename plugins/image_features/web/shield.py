"""What every answer goes through: security headers, and words in the place of errors."""

from __future__ import annotations

import json
import logging
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException as StarletteHTTPException

from image_features.web.refusals import Refused, by_status, unexpected

log = logging.getLogger(__name__)

CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; "
    "font-src 'self'; frame-ancestors 'self'; base-uri 'none'; form-action 'none'"
)
HEADERS = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "SAMEORIGIN",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}


def protect(app: FastAPI) -> None:
    """Puts the shield around every route of `app`, and around what no route answers."""
    app.add_exception_handler(Refused, _refused)
    app.add_exception_handler(StarletteHTTPException, _http_exception)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_middleware(Shield)


class Shield:
    """Puts the security headers on every answer, and words in the place of an error that nobody expected."""

    def __init__(self, app: Any) -> None:
        self._app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = False

        async def shielded(message: Any) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                present = {name.lower() for name, _ in message["headers"]}
                own = {name.lower().encode(): value.encode() for name, value in HEADERS.items()}
                own[b"cache-control"] = b"no-store"
                extra = [(name, value) for name, value in own.items() if name not in present]
                message = {**message, "headers": [*message["headers"], *extra]}
            await send(message)

        try:
            await self._app(scope, receive, shielded)
        except Exception:
            log.exception("Image features: a page failed.")
            if not started:
                await _problem(unexpected())(scope, receive, shielded)


def _problem(refused: Refused) -> Response:
    headers = {"Retry-After": "5"} if refused.code == "busy" else None
    return JSONResponse(refused.to_json(), status_code=refused.status, headers=headers)


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, Refused)
    return _problem(error)


async def _http_exception(request: Request, error: Exception) -> Response:
    assert isinstance(error, StarletteHTTPException)
    return _problem(by_status(error.status_code))


async def _invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    names = ", ".join(sorted({str(item["loc"][-1]) for item in error.errors()}))
    return _problem(Refused(400, "bad_request", f"Not a value that can be used: {json.dumps(names)[1:-1]}.", ""))
