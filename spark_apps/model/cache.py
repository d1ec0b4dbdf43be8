"""The cache folder on the driver, its atomic writes, and the hash that proves a file is the one that was written."""

from __future__ import annotations

import hashlib
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from spark_apps.contract import BadSetting
from spark_apps.host import account


def folder(*parts: str) -> Path:
    """A folder of the cache, created: below $IMAGE_FEATURES_CACHE, else the user's cache folder.

    Raises:
        BadSetting: it cannot be created or written.
    """
    root = os.environ.get("IMAGE_FEATURES_CACHE")
    if not root:
        user = os.environ.get("XDG_CACHE_HOME") or os.path.join(account.home(), ".cache")
        root = os.path.join(user, "image-features")
    path = Path(root, *parts)
    try:
        path.mkdir(parents=True, exist_ok=True)
        writable = os.access(path, os.W_OK | os.X_OK)
    except OSError:
        writable = False
    if not writable:
        raise BadSetting(
            "cache_unwritable",
            f"The model cache {path} cannot be written.",
            "Set IMAGE_FEATURES_CACHE to a folder with about 1 GB of space that the job may write.",
        )
    return path


@contextmanager
def staged(target: Path) -> Iterator[Path]:
    """A temporary path beside `target`, a file or a folder; renamed to `target` if the body succeeds, else removed.

    Readers see the whole result or nothing. A folder that another process published meanwhile stays and wins.
    """
    temporary = target.with_name(f".{target.name}.{uuid.uuid4().hex}")
    try:
        yield temporary
        if temporary.is_dir() and target.is_dir():
            return
        try:
            temporary.rename(target)
        except OSError:
            if not target.is_dir():
                raise
    finally:
        remove(temporary)


def remove(path: Path) -> None:
    """Deletes a file or a folder; a missing one is not an error."""
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def sha256(path: Path) -> str:
    """The sha256 of a file's bytes, as 64 hex digits. Raises OSError."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
