"""Where a run may read: whoever triggers a Dag chooses among the places that Airflow's administrator allows."""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Sequence
from urllib.parse import unquote, unquote_to_bytes

from spark_apps.contract import BadSetting

NAMED_WEIGHTS = r"\w+|keras-v1|random:.*"
"""Weights that are named, not at a location: the hub's, the registry's, random ones."""
_URI = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://([^/]*)(/.*)?", re.DOTALL)
_FILE = re.compile(r"file:(?://(?:localhost)?)?(?=/)", re.IGNORECASE)
_ALIASES = {"s3a": "s3", "s3n": "s3", "gcs": "gs", "wasb": "abfs", "wasbs": "abfs", "abfss": "abfs"}


def check(name: str, location: str, allowed: Sequence[str]) -> None:
    """Refuses a location that is none of `allowed` and lies below none of them.

    Folders of this machine are compared as they are behind their links, URIs by scheme, host and whole path segments.

    Raises:
        BadSetting: it says which option allows it.
    """
    if location in allowed:
        return
    found = _parts(location)
    if found is None or not any(_below(found, _parts(place)) for place in allowed):
        option = {"source": "sources"}.get(name, "weights_locations")
        raise BadSetting(
            f"{name}_not_allowed",
            f"The {name} {location!r} is not allowed in this Airflow.",
            f"Use {' or '.join(allowed) if allowed else 'a named one'}, or let an administrator of Airflow add its "
            f"folder to [image_features] {option}.",
        )


def above_partition(source: str, partition: str) -> str:
    """The folder that holds all partitions of a source with {partition} in it; where that is a whole machine or scheme,
    the place of this one partition."""
    above, placeholder, _ = source.partition("{partition}")
    above = above.rpartition("/")[0] if placeholder else source
    parts = _parts(above)
    if parts is None or parts in (("file", ""), (parts[0], "")):
        return source.replace("{partition}", partition)
    return above


def is_named(weights: str) -> bool:
    """Whether `weights` are known by name, so that nothing is read at a place of the caller's choice."""
    return re.fullmatch(NAMED_WEIGHTS, weights, re.IGNORECASE) is not None


def folders(allowed: Sequence[str]) -> str:
    """Those of `allowed` that are folders of this machine, as the setting `within` of ingest takes them."""
    return "\n".join(path for path in map(local_path, allowed) if path is not None)


def local_path(location: str) -> str | None:
    """The path on this machine that a location means; None when it is elsewhere."""
    if found := _FILE.match(location):
        return os.fsdecode(unquote_to_bytes(location[found.end() :]))
    return location if location.startswith("/") else None


def _parts(location: str) -> tuple[str, ...] | None:
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
