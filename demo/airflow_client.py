"""Talks to Airflow's REST API about the Dag `image_features`: trigger, backfill, wait, read logs."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable
from http import HTTPStatus
from typing import Any
from urllib.parse import quote, urlencode

DAG_ID = "image_features"
FINISHED = ("success", "failed")
POLL_SECONDS = 1.5
READ_ATTEMPTS = 10
READ_PAUSE_S = 2.0

Run = dict[str, Any]
"""One run: {"state": …, "tasks": {task id: state}}."""
Progress = Callable[[dict[str, Run]], None]
"""Called with {run id: Run} each time something has changed."""


class ServerError(Exception):
    """Airflow cannot start, ended on its own, or refused a request; the message says which and why.

    `status` is the HTTP status of a refused request, else 0.
    """

    def __init__(self, message: str, status: int = 0) -> None:
        super().__init__(message)
        self.status = status


class AirflowClient:
    """Requests to the Airflow at `url`, signed in as `username`; every method raises ServerError when refused."""

    def __init__(self, url: str, username: str, password: str) -> None:
        self.url, self.username, self.password = url, username, password
        self._token = ""

    def api(self, method: str, path: str, json: dict[str, Any] | None = None) -> dict[str, Any]:
        """One authenticated request; the decoded answer, {} when it has no body.

        A GET is asked again when nobody answers or the server fails: SQLite answers so while it is locked.
        """
        attempts = READ_ATTEMPTS if method == "GET" else 1
        while True:
            attempts -= 1
            try:
                return self._request(method, path, json)
            except (ServerError, OSError) as error:
                refused = isinstance(error, ServerError) and error.status < HTTPStatus.INTERNAL_SERVER_ERROR
                if refused or attempts == 0:
                    raise
            self.check_alive()
            time.sleep(READ_PAUSE_S)

    def _request(self, method: str, path: str, json: dict[str, Any] | None) -> dict[str, Any]:
        if not self._token:
            credentials = {"username": self.username, "password": self.password}
            self._token = request("POST", f"{self.url}/auth/token", credentials)["access_token"]
        return request(method, self.url + path, json, token=self._token)

    def trigger(
        self, conf: dict[str, Any] | None = None, *, logical_date: str | None = None, run_id: str | None = None
    ) -> str:
        """Trigger the Dag as its form does; returns the run id."""
        body = {"conf": conf or {}, "logical_date": logical_date, "dag_run_id": run_id}
        return str(self.api("POST", f"/api/v2/dags/{DAG_ID}/dagRuns", body)["dag_run_id"])

    def backfill(
        self, first: str, last: str, conf: dict[str, Any] | None = None, *, reprocess: str = "none", at_once: int = 1
    ) -> list[str]:
        """Create a backfill over the days `first` to `last`, inclusive; returns its run ids, earliest first.

        `reprocess`: none, failed or completed, as in `airflow backfill create --reprocess-behavior`.
        """
        body = {
            "dag_id": DAG_ID,
            "from_date": f"{first}T00:00:00Z",
            "to_date": f"{last}T00:00:00Z",
            "dag_run_conf": conf or {},
            "reprocess_behavior": reprocess,
            "max_active_runs": at_once,
        }
        self.api("POST", "/api/v2/backfills", body)
        days = {"logical_date_gte": body["from_date"], "logical_date_lte": f"{last}T23:59:59Z"}
        query = urlencode({**days, "order_by": "logical_date", "limit": 100})
        runs = self.api("GET", f"/api/v2/dags/{DAG_ID}/dagRuns?{query}")["dag_runs"]
        return [run["dag_run_id"] for run in runs if run["run_type"] == "backfill"]

    def run(self, run_id: str) -> Run:
        """State of one run and of its tasks."""
        path = f"/api/v2/dags/{DAG_ID}/dagRuns/{quote(run_id)}"
        tasks = self.api("GET", f"{path}/taskInstances")["task_instances"]
        return {"state": self.api("GET", path)["state"], "tasks": {task["task_id"]: task["state"] for task in tasks}}

    def wait(self, run_ids: Iterable[str], timeout: float, progress: Progress | None = None) -> dict[str, Run]:
        """Wait until every run has ended, at most `timeout` seconds; {run id: Run}."""
        deadline = time.monotonic() + timeout
        run_ids = list(run_ids)
        runs: dict[str, Run] = {}
        while True:
            self.check_alive()
            before = dict(runs)
            for run_id in run_ids:
                if run_id not in runs or runs[run_id]["state"] not in FINISHED:
                    runs[run_id] = self.run(run_id)
            if progress and runs != before:
                progress(dict(runs))
            if all(run["state"] in FINISHED for run in runs.values()):
                return runs
            if time.monotonic() > deadline:
                raise ServerError(f"Not finished after {timeout:.0f} s: {runs}")
            time.sleep(POLL_SECONDS)

    def check_alive(self) -> None:
        """Raises ServerError when the server is known to have ended; a mere client cannot know."""

    def task_log(self, run_id: str, task_id: str, attempt: int = 1) -> str:
        """The text of one attempt's log, one event a line."""
        path = f"/api/v2/dags/{DAG_ID}/dagRuns/{quote(run_id)}/taskInstances/{task_id}/logs/{attempt}"
        events = self.api("GET", f"{path}?full_content=true")["content"]
        return "\n".join(_log_line(event) for event in events)


def request(
    method: str, url: str, body: dict[str, Any] | None = None, *, token: str = "", timeout: float = 60
) -> dict[str, Any]:
    """One JSON request; the decoded answer, {} when it has no body.

    Raises:
        ServerError: a status of 400 or above, with the server's own explanation.
        OSError: nobody answers.
    """
    headers = {"Content-Type": "application/json", "Accept": "application/json"}
    if token:
        headers["Authorization"] = f"Bearer {token}"
    data = None if body is None else json.dumps(body).encode()
    message = urllib.request.Request(url, data=data, headers=headers, method=method)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # loopback: never through a proxy
    try:
        with opener.open(message, timeout=timeout) as response:
            text = response.read()
    except urllib.error.HTTPError as error:
        explanation = error.read().decode(errors="replace")[:2000]
        raise ServerError(f"{method} {url} was refused ({error.code}): {explanation}", error.code) from None
    answer: dict[str, Any] = json.loads(text) if text else {}
    return answer


def _log_line(event: Any) -> str:
    if not isinstance(event, dict):
        return str(event)
    causes = (f"{item['exc_type']}: {item['exc_value']}" for item in event.get("error_detail") or [])
    return " ".join([str(event.get("event", "")), *causes])
