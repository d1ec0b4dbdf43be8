"""Finding the names and ids of erased photos in texts that were written for people: messages, reports, documents."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from spark_apps.contract import StagedFile
from spark_apps.tables.tombstones import Tombstones

WORD = "(erased)"
"""What stands in the place of an erased name."""
SCHEMES = ("s3", "gs", "abfss", "abfs", "az", "hdfs")
"""Of names whose scheme Arrow leaves out in its messages: bucket/key."""

_ID = re.compile(r"(?<![0-9A-Za-z])[0-9a-f]{64}(?![0-9A-Za-z])")
_BEGIN = re.compile(r"(?<![^\s'\"`(\[{=,;:<>])[^\s'\"`(\[{=,;<>]*/")
_END = re.compile(r"[\s'\"`)\]}=,;:<>\\]|[.?!](?=\s|$)|$")


def redacted(text: str, stones: Tombstones) -> str:
    """The text with `WORD` in the place of each id, URI and path of an erased photo.

    A name may hold blanks and most signs, so each end that a name could have is tried, the longest first.
    """
    if len(text) < 64 and "/" not in text:
        return text
    text = _ID.sub(lambda found: WORD if stones.has_image(found[0]) else found[0], text)
    if "/" not in text:
        return text
    if stones.has_uri(text):
        return WORD
    return "\n".join(_line(line, stones) for line in text.split("\n"))


def _line(line: str, stones: Tombstones) -> str:
    parts, at = [], 0
    for found in _BEGIN.finditer(line):
        begin = found.start()
        if begin < at:
            continue
        ends = [match.start() for match in _END.finditer(line, found.end())]
        for end in reversed(ends):
            if any(stones.has_uri(uri) for uri in uris(line[begin:end])):
                parts += [line[at:begin], WORD]
                at = end
                break
    return "".join([*parts, line[at:]])


def uris(name: str) -> Iterator[str]:
    """The uris that a name may stand for: itself, the file at this path, the object with this bucket and key."""
    yield name
    if name.startswith("/"):
        yield Path(name).as_uri()
    elif "://" not in name:
        yield from (f"{scheme}://{name}" for scheme in SCHEMES)


def redacted_document(value: Any, stones: Tombstones, files: Mapping[str, StagedFile]) -> Any:
    """A JSON value with its texts redacted, and each staged file as an erasure has left it: `files` by former path."""
    if isinstance(value, str):
        return redacted(value, stones)
    if isinstance(value, list):
        return [redacted_document(item, stones, files) for item in value]
    if not isinstance(value, dict):
        return value
    if (file := files.get(value["path"]) if isinstance(value.get("path"), str) else None) is not None:
        now = {**vars(file), "row_groups": list(file.row_groups)}
        return {name: now.get(name, kept) for name, kept in value.items()}
    return {redacted(name, stones): redacted_document(item, stones, files) for name, item in value.items()}
