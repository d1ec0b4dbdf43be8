"""Whether a location lies below one of others, whatever a caller, a link or a redirect has put into it."""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Iterable
from urllib.parse import unquote, unquote_to_bytes

_URI = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://([^/]*)(/.*)?", re.DOTALL)
_FILE = re.compile(r"file:(?://(?:localhost)?)?(?=/)", re.IGNORECASE)
_ALIASES = {"s3a": "s3", "s3n": "s3", "gcs": "gs", "wasb": "abfs", "wasbs": "abfs", "abfss": "abfs"}


def is_below(location: str, allowed: Iterable[str]) -> bool:
    """Whether a location is one of `allowed` or lies below one of them.

    Folders of this machine are compared as they are behind their links, URIs by scheme, host and whole path segments.
    A location that servers and libraries read differently lies nowhere.
    """
    places = list(allowed)
    found = parts(location)
    return location in places or (found is not None and any(_below(found, parts(place)) for place in places))


def is_open_below(file: int, folders: Iterable[str]) -> bool:
    """Whether an open file of this machine lies below one of the folders: no link changes that any more."""
    place = os.readlink(f"/proc/self/fd/{file}")
    return any(os.path.commonpath((place, os.path.realpath(folder))) == os.path.realpath(folder) for folder in folders)


def local_path(location: str) -> str | None:
    """The path on this machine that a location means; None when it is elsewhere."""
    if found := _FILE.match(location):
        return os.fsdecode(unquote_to_bytes(location[found.end() :]))
    return location if location.startswith("/") else None


def parts(location: str) -> tuple[str, ...] | None:
    """Scheme, host and path segments of a location; None for one whose meaning depends on who reads it."""
    path = local_path(location)
    if path is not None:
        if "\0" in path or ".." in path.split("/"):
            return None
        return ("file", "", *_segments(os.path.realpath(path)))
    uri = _URI.fullmatch(location)
    if uri is None or _is_ambiguous(location):
        return None
    scheme = uri[1].lower()
    return (_ALIASES.get(scheme, scheme), uri[2].lower(), *_segments(uri[3] or ""))


def _segments(path: str) -> tuple[str, ...]:
    return tuple(path.strip("/").split("/")) if path.strip("/") else ()


def _is_ambiguous(location: str) -> bool:
    """Whether a URI holds what servers and libraries read differently: user names, queries, steps up, however coded."""
    seen, plain = "", location
    while plain != seen:  # doubly encoded is decoded by a server behind a proxy
        seen, plain = plain, unicodedata.normalize("NFKC", unquote(plain))
    path = plain.partition("://")[2]
    return (
        any(step in (".", "..") for step in path.split("/")[1:])
        or re.search(r"[\\?#\x00-\x20\x7f]", location + plain.partition("://")[0]) is not None
        or re.search(r"[\\?#\x00-\x1f\x7f]", plain) is not None
        or ("@" in path.split("/")[0] and not re.match(r"(?i)(abfss?|wasbs?)://", location))
        or not location.partition("://")[2].split("/")[0].isascii()
    )


def _below(found: tuple[str, ...], place: tuple[str, ...] | None) -> bool:
    return place is not None and found[: len(place)] == place
