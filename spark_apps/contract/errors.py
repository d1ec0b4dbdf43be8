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


QUARANTINE_CODES: dict[str, str] = {
    "empty": "The file has no bytes; the upload was probably interrupted. Send it again.",
    "not_an_image": "The content is not an image, whatever the name says. Remove it or narrow --pattern.",
    "not_text": "The content is not UTF-8 text, or has no words. Convert it to UTF-8, or narrow --pattern.",
    "not_audio": "The content is not a sound file that can be read. Convert it to WAV or FLAC, or narrow --pattern.",
    "unsupported_format": "An image format that is not decoded here. Convert it to JPEG, PNG or WebP.",
    "truncated": "The image ends too early; the copy was probably cut short. Send it again.",
    "corrupt": "The content is damaged. Export or send it again.",
    "too_many_pixels": "More pixels than --max-pixels allows. Scale it down, or raise the limit if it is genuine.",
    "too_large": "More bytes than --max-bytes allows. Compress it, or raise the limit if it is genuine.",
    "unreadable": "The file was listed but could not be read: it vanished, or permission is missing. Run again.",
    "changed": "The file changed between listing and reading. Run again once the upload is complete.",
    "decode_error": "The decoder failed for a reason of its own. Open the file in a viewer and export it again.",
    "timeout": "Decoding took longer than the limit: broken, hostile or too large. Scale it down.",
    "out_of_memory": "Decoding needed more memory than the limit: broken, hostile or too large. Scale it down.",
    "decoder_crash": "Decoding killed its process; the file is broken or hostile.",
    "extractor_failed": "The extractor raised the error in the message. Fix the extractor or the file.",
}
"""Every reason a file can be quarantined for, with what a person can do about it."""


class BadFile(Exception):
    """A file that gives no vector. `code` is one of `QUARANTINE_CODES`."""

    def __init__(self, code: str, message: str) -> None:
        assert code in QUARANTINE_CODES, code
        super().__init__(message)
        self.code, self.message = code, message

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.code, self.message)
