"""What killed writers leave under no name of its own: files that were to be given theirs when they are whole, and parts
of a search index that no version names."""

from __future__ import annotations

import re
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any

from pyarrow import fs

from spark_apps import storage
from spark_apps.upkeep.vacuum import QUIET

_OURS = re.compile(r"\..+\.[0-9a-f]{8}")
_OTHERS = re.compile(r"\.tmp\w+|.+#\d+")
"""Of Lance and of delta-rs."""
_AT_ONCE = timedelta(minutes=10)
"""What `storage.write_bytes` writes is in memory before: it takes moments."""


def files(store: str) -> dict[str, fs.FileInfo]:
    """Files without a name, by path relative to the store. Object stores have none: what is put there is whole. Raises
    OSError."""
    if not storage.is_local(store):
        return {}
    filesystem, root = storage.filesystem(store)
    return {
        info.path[len(root) + 1 :]: info
        for info in filesystem.get_file_info(fs.FileSelector(root, recursive=True, allow_not_found=True))
        if info.type == fs.FileType.File and (_OURS.fullmatch(info.base_name) or _OTHERS.fullmatch(info.base_name))
    }


def is_dead(file: fs.FileInfo, now: datetime) -> bool:
    """Whether nobody can be writing a file without a name any more."""
    written_at: datetime = file.mtime
    return written_at < now - (_AT_ONCE if _OURS.fullmatch(file.base_name) else QUIET)


def index_parts(dataset: Any, place: str) -> dict[str, datetime]:
    """Folders of the indexes of a Lance dataset, None where there is none, that no version names → when they were last
    written. `place`: its uri. Raises OSError."""
    filesystem, root = storage.filesystem(place)
    found: dict[str, datetime] = {}
    for info in filesystem.get_file_info(fs.FileSelector(f"{root}/_indices", recursive=True, allow_not_found=True)):
        if info.type == fs.FileType.File:
            part = info.path[len(root) + 1 :].split("/")[1]
            found[part] = max(info.mtime, found.get(part, info.mtime))
    for version in dataset.versions() if dataset is not None and found else []:
        with suppress(OSError, ValueError):  # removed meanwhile, with its parts
            for index in dataset.checkout_version(version["version"]).describe_indices():
                for segment in index.segments:
                    found.pop(segment.uuid, None)
    return found
