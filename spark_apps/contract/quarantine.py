"""Why a file is set aside instead of getting a vector, and what a person can do about it."""

from __future__ import annotations

from typing import Any

QUARANTINE_CODES: dict[str, str] = {
    "empty": "The file has no bytes; the upload was probably interrupted. Send it again.",
    "not_an_image": "The content is not an image, whatever the name says. Remove it or narrow --pattern.",
    "not_text": "The content is not UTF-8 text, or has no words. Convert it to UTF-8, or narrow --pattern.",
    "not_audio": "The content is not a sound file that can be read. Convert it to WAV or FLAC, or narrow --pattern.",
    "unsupported_format": "An image format that is not decoded here. Convert it to JPEG, PNG or WebP.",
    "decoder_missing": "The package that decodes this format is not installed where the photo was read. Install it on "
    "every machine that decodes (docs/formats.md), and run again.",
    "truncated": "The image ends too early; the copy was probably cut short. Send it again.",
    "corrupt": "The content is damaged. Export or send it again.",
    "too_many_pixels": "More pixels than --max-pixels allows. Scale it down, or raise the limit if it is genuine.",
    "too_large": "More bytes than --max-bytes allows. Compress it, or raise the limit if it is genuine.",
    "unreadable": "The file was listed but could not be read: it vanished, or permission is missing. Run again.",
    "changed": "The file changed between listing and reading, or between two readings. Run again once it is complete.",
    "decode_error": "The decoder failed for a reason of its own. Open the file in a viewer and export it again.",
    "timeout": "Decoding took longer than the limit: broken, hostile or too large. Scale it down.",
    "out_of_memory": "Decoding needed more memory than the limit: broken, hostile or too large. Scale it down.",
    "decoder_crash": "Decoding killed its process; the file is broken or hostile.",
    "erased": "The photo was erased from the store and is not taken again. Remove it at the source, too.",
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
