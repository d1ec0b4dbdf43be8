"""The bytes of images: from the table, or, where it keeps none, from the source again, if they are still the same."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from spark_apps.contract import BadFile
from spark_apps.storage import reading

COLUMNS = ["uri", "image_id", "size_bytes", "content"]
"""Of the table images, that `of` needs."""


def of(rows: Sequence[Mapping[str, Any]], within: str = "") -> Iterator[bytes | BadFile]:
    """The content of each of `rows`, in order; a `BadFile` where the source has to give it and no longer can.

    `within`: as in `reading.read_files`, of the files that are read again.

    Raises:
        Unreachable: the source itself fails, as a disk or a network does.
    """
    again = ((row["uri"], row["size_bytes"] or 0) for row in rows if row["content"] is None)
    read = reading.read_files(again, sys.maxsize, within)
    for row in rows:
        yield _same(row["image_id"], next(read)) if row["content"] is None else row["content"]


def _same(image_id: str, content: bytes | BadFile) -> bytes | BadFile:
    if isinstance(content, bytes) and hashlib.sha256(content).hexdigest() != image_id:
        return BadFile("changed", "Its bytes are no longer those that ingest has read.")
    return content
