"""The log of a Delta table, read file by file: who committed what, and when each file was replaced.

delta-rs tells neither the time a file was replaced nor, beyond a week, that it was. Reads are many small requests, so
they are made side by side.
"""

from __future__ import annotations

import json
import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any
from urllib.parse import unquote

from pyarrow import fs

from spark_apps import contract, storage

REQUESTS = 16
"""Requests to an object store at a time."""


@dataclass(frozen=True)
class Commit:
    """One version of a table. `info`: what the commit says of itself; `removed`: path of a file → when it went."""

    version: int
    at: datetime
    info: dict[str, Any]
    removed: dict[str, datetime]


def commits(table_uri: str) -> list[Commit]:
    """The commits that the log still holds without a gap, oldest first; none for a table that is not there.

    Raises:
        OSError: the log cannot be read.
        ValueError: a commit is not JSON.
    """
    versions = sorted(version(name) for name in files(table_uri) if re.fullmatch(r"\d{20}\.json", name))
    for older, newer in reversed(list(pairwise(versions))):
        if newer != older + 1:
            versions = versions[versions.index(newer) :]
            break
    with ThreadPoolExecutor(REQUESTS) as pool:
        return list(pool.map(lambda version: commit(table_uri, version), versions))


def commit(table_uri: str, number: int) -> Commit:
    """One version of a table. Raises OSError when the log has it no longer, ValueError when it is not JSON."""
    content = storage.read_bytes(contract.join(table_uri, "_delta_log", f"{number:020}.json"))
    entries = [json.loads(line) for line in content.splitlines()]
    info: dict[str, Any] = next((entry["commitInfo"] for entry in entries if "commitInfo" in entry), {})
    removed = [entry["remove"] for entry in entries if "remove" in entry]
    return Commit(
        version=number,
        at=_moment(info.get("timestamp", 0)),
        info=info,
        removed={unquote(remove["path"]): _moment(remove["deletionTimestamp"]) for remove in removed},
    )


def files(table_uri: str) -> dict[str, fs.FileInfo]:
    """The files of the log that belong to a version, by name: commits and checkpoints."""
    filesystem, path = storage.filesystem(contract.join(table_uri, "_delta_log"))
    found = filesystem.get_file_info(fs.FileSelector(path, allow_not_found=True))
    return {
        info.base_name: info
        for info in found
        if info.type == fs.FileType.File and re.match(r"\d{20}\.", info.base_name)
    }


def version(name: str) -> int:
    """The version that a file of the log belongs to."""
    return int(name.split(".")[0])


def _moment(milliseconds: int) -> datetime:
    return datetime.fromtimestamp(milliseconds / 1000, UTC)
