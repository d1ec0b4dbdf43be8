"""A refused request in plain words, and how it leaves the server."""

from __future__ import annotations

from typing import Any

from spark_apps import contract


class Refused(Exception):
    """A request that gets an `answers.Problem` as its answer. The words reach the caller: no path, no secret."""

    def __init__(self, status: int, code: str, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.status, self.code, self.message, self.hint = status, code, message, hint

    def to_json(self) -> dict[str, Any]:
        return {"code": self.code, "message": self.message, "hint": self.hint}


BY_STATUS = {
    401: ("not_signed_in", "You are not signed in.", "Sign in to Airflow and come back."),
    403: ("not_allowed", "You may not see this.", "Ask an administrator for the right to read this Dag."),
    404: ("not_found", "There is no such page.", ""),
    405: ("bad_request", "This address cannot be used in this way.", ""),
}
"""Words for what Airflow's guards and the router say with a number."""


def by_status(status: int) -> Refused:
    """The refusal for a bare HTTP status."""
    code, message, hint = BY_STATUS.get(status, ("bad_request", "This request cannot be answered.", ""))
    return Refused(status, code, message, hint)


def busy() -> Refused:
    """The refusal while others' photos are being looked at."""
    return Refused(503, "busy", "Too many photos are being looked at.", "Try again in a few seconds.")


def unexpected() -> Refused:
    """The refusal for what nobody thought of."""
    return Refused(500, "unexpected", "This page failed.", "The log of Airflow's api-server says why.")


def checked_partition(partition: str) -> str:
    """`partition` when it may name one; it comes from a request and leads to a folder. Raises Refused."""
    try:
        return contract.check_partition(partition)
    except contract.BadSetting as error:
        raise Refused(400, error.code, "This is not a valid partition key.", error.hint) from None
