"""The demo's client of Airflow's API: what a busy server refuses for a moment is asked again."""

from __future__ import annotations

from typing import Any

import pytest

from demo import airflow_client
from demo.airflow_client import AirflowClient, ServerError


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What the server says to the next requests, in their order; an exception is raised."""
    prepared: list[Any] = []

    def request(method: str, url: str, body: Any = None, *, token: str = "", timeout: float = 60) -> dict[str, Any]:
        if url.endswith("/auth/token"):
            return {"access_token": "token"}
        answer = prepared.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return dict(answer)

    monkeypatch.setattr(airflow_client, "request", request)
    monkeypatch.setattr(airflow_client, "READ_PAUSE_S", 0.0)
    return prepared


LOCKED = ServerError("database is locked", 500)


def test_a_get_is_asked_again_while_the_server_fails(answers: list[Any]) -> None:
    answers += [LOCKED, ConnectionResetError(), {"state": "running"}]
    assert AirflowClient("http://airflow", "admin", "").api("GET", "/state") == {"state": "running"}
    assert answers == []


def test_a_get_that_always_fails_fails(answers: list[Any]) -> None:
    answers += [LOCKED] * (airflow_client.READ_ATTEMPTS + 1)
    with pytest.raises(ServerError, match="locked"):
        AirflowClient("http://airflow", "admin", "").api("GET", "/state")
    assert len(answers) == 1


@pytest.mark.parametrize(
    ("method", "error"), [("POST", LOCKED), ("POST", ConnectionResetError()), ("GET", ServerError("no such run", 404))]
)
def test_a_change_and_a_refusal_are_asked_once(answers: list[Any], method: str, error: Exception) -> None:
    answers += [error, {}]
    with pytest.raises(type(error)):
        AirflowClient("http://airflow", "admin", "").api(method, "/state")
    assert len(answers) == 1


def test_a_server_that_has_ended_is_not_asked_again(answers: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    client = AirflowClient("http://airflow", "admin", "")

    def ended() -> None:
        raise ServerError("Airflow ended")

    monkeypatch.setattr(client, "check_alive", ended)
    answers += [LOCKED, {}]
    with pytest.raises(ServerError, match="ended"):
        client.api("GET", "/state")
