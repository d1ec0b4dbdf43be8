"""What lies in a folder of photos so far: for whoever waits until all of them are there."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from fnmatch import fnmatchcase

import pyarrow as pa
from pyarrow import fs

from spark_apps.contract import BadSetting, Unreachable
from spark_apps.storage import filesystem, filesystems, folders, is_local, listing, reaching

DENIED = re.compile(
    "ACCESS_DENIED|INVALID_ACCESS_KEY|SIGNATURE_DOES_NOT_MATCH|InvalidToken|status 403|Forbidden|"  # of S3
    "PERMISSION_DENIED|UNAUTHENTICATED|AuthenticationFailed|AuthorizationFailure|AuthorizationPermission",  # and others
    re.IGNORECASE,
)
"""In the text of an error: an object store that answers and refuses."""


@dataclass(frozen=True)
class Landed:
    """The files below a folder that ingest would list: how many, their bytes, and when the last one was changed."""

    files: int = 0
    bytes: int = 0
    newest: datetime | None = None


@contextmanager
def reached_with(variables: Mapping[str, str]) -> Iterator[None]:
    """Inside, this thread reaches stores with these variables (`AWS_…`), whatever `use_storage` was given: as many
    threads, as many connections."""
    with filesystems.reached_with(variables):
        yield


def landed(source: str, pattern: str = "*", exclude: str = "", store: str = "", within: str = "") -> Landed | None:
    """What lies below `source`, by the rules of ingest; None as long as there is no such folder.

    In memory is the listing of one folder of the source at a time.

    Raises:
        BadSetting: no store can be at `source`.
        Unreachable: it cannot be read: `source_denied` when the store refuses, `bucket_missing`, `source_no_folder`
            when `source` is a file, else `source_unreachable`.
    """
    files = size = 0
    newest = None
    try:
        with _looking(source):
            for _, size_bytes, modified_at in listing.files(source, pattern, exclude, store, within, lean=True):
                files += 1
                size += max(size_bytes, 0)
                newest = max(filter(None, (newest, modified_at)), default=None)
    except Unreachable as error:
        if error.code == "source_missing":
            return None
        raise
    return Landed(files, size, newest)


def marker(source: str, name: str) -> str | None:
    """The name of the first file of `source` that `name` means, below it; None as long as there is none.

    `name`: a file's name, or a glob; folders before it stand for themselves: `done/*.ok`. Raises as `landed`.
    """
    above, _, last = name.strip("/").rpartition("/")
    with _looking(source):
        filesystem_, root = filesystem(source)
        folder = "/".join([root.rstrip("/"), *([above] if above else [])])
        if not re.search(r"[*?\[]", last):
            if filesystem_.get_file_info(f"{folder}/{last}").type != fs.FileType.NotFound:
                return name.strip("/")
        elif found := min((one for one in _names(source, filesystem_, folder) if fnmatchcase(one, last)), default=None):
            return f"{above}/{found}" if above else found
        if not is_local(source):
            listing.check_bucket(source, filesystem_, root)
        elif os.path.isfile(root):
            raise listing.no_folder(source)
    return None


def _names(source: str, filesystem_: fs.FileSystem, folder: str) -> Iterator[str]:
    """The names in a folder; none where there is no such folder."""
    if is_local(source):
        with suppress(FileNotFoundError, NotADirectoryError), os.scandir(folder) as entries:
            yield from (entry.name for entry in entries)
        return
    for info in folders.inside(filesystem_, folder):
        yield info.base_name


@contextmanager
def _looking(source: str) -> Iterator[None]:
    try:
        with reaching("source", source):
            yield
    except BadSetting as error:
        if error.code != "bad_location":
            raise
        raise BadSetting("bad_source", error.message, error.hint) from None
    except Unreachable as error:
        cause = error.__cause__
        if isinstance(cause, pa.ArrowInvalid | pa.ArrowNotImplementedError):
            raise BadSetting(
                "bad_source", error.message, "Write /folder, file:///folder or s3://bucket/folder."
            ) from None
        if error.code == "source_unreachable" and DENIED.search(str(cause)):
            hint = "Check the credentials, and that they may list this folder."
            raise Unreachable("source_denied", f"Access to the source {source} is denied: {cause}", hint) from cause
        raise
