"""What can go wrong: with a job, and with a file."""

from __future__ import annotations

from enum import IntEnum
from typing import Any


class ExitCode(IntEnum):
    """What a job's exit status tells its caller. `RETRY` covers everything without a code of its own."""

    DONE = 0
    RETRY = 1
    BAD_SETTING = 2
    QUALITY_FAILED = 3
    UNREACHABLE = 4
    NOTHING_TO_DO = 5


class JobError(Exception):
    """A failure a person can act on: what happened, and what to do about it.

    `code` is stable and machine-readable; `hint` is one sentence of advice and may be empty.
    """

    exit_code = ExitCode.RETRY

    def __init__(self, code: str, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.code, self.message, self.hint = code, message, hint

    def __str__(self) -> str:
        return f"{self.message} {self.hint}".strip()

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.code, self.message, self.hint)

    @classmethod
    def kinds(cls) -> dict[str, type[JobError]]:
        """Every kind of failure by the name of its class, this one included."""
        found = {cls.__name__: cls}
        for kind in cls.__subclasses__():
            found |= kind.kinds()
        return found


class BadSetting(JobError):
    """A setting that no retry can make right."""

    exit_code = ExitCode.BAD_SETTING


class QualityFailed(JobError):
    """The data did not pass an error-level check; nothing was published."""

    exit_code = ExitCode.QUALITY_FAILED


class Unreachable(JobError):
    """A source, store or model that cannot be reached at the moment."""

    exit_code = ExitCode.UNREACHABLE


class NothingToDo(JobError):
    """The partition has no files and the caller asked to skip such days."""

    exit_code = ExitCode.NOTHING_TO_DO
