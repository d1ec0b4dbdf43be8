"""Reading files of a source whole, on a disk or in an object store, and telling a file's fault from the source's."""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context

import pyarrow as pa
from pyarrow import fs

from spark_apps.contract import BadFile
from spark_apps.contract.locations import is_open_below
from spark_apps.storage import filesystem, is_local, reaching
from spark_apps.storage.listing import ELSEWHERE, NOT_A_FILE

READ_AHEAD, READ_AHEAD_BYTES = 8, 64 * 2**20
"""Files of an object store that one task reads at a time, because each costs a round trip, and their bytes."""
THE_STORES = re.compile(
    "SLOW_DOWN|THROTTLING|SERVICE_UNAVAILABLE|status (429|503)|BANDWIDTH_LIMIT|"  # Arrow's names for the errors of S3
    "INVALID_ACCESS_KEY|SIGNATURE|SECURITY_TOKEN|CLIENT_TOKEN|CREDENTIAL|SKEWED|ExpiredToken|InvalidToken|NO_SUCH_BUCKET|"
    "UNAVAILABLE|RESOURCE_EXHAUSTED|UNAUTHENTICATED|"  # Google's
    "ServerBusy|AuthenticationFailed"  # Azure's
)
"""In the text of an error: failures and refusals of an object store that hold for every object."""


def read_files(files: Iterable[tuple[str, int]], max_bytes: int, within: str = "") -> Iterator[bytes | BadFile]:
    """The content of each (uri, listed size in bytes), in order; a `BadFile` for a file that cannot be taken.

    Object stores are read ahead, by `READ_AHEAD` files and `READ_AHEAD_BYTES` bytes at most, or by one file.
    A file of a disk is read only where it lies in one of the folders `within` (one a line, if any) as it is opened,
    whatever a link led to when it was listed.

    Raises:
        Unreachable: the source itself fails, as a disk or a network does.
    """
    with ThreadPoolExecutor(READ_AHEAD) as pool:
        for window in _windows(files, max_bytes):
            if is_local(window[0][0]):
                yield from (_read(uri, size, max_bytes, within) for uri, size in window)
            else:
                here = [copy_context() for _ in window]  # that of `filesystems.reached_with`, which is a thread's own
                yield from pool.map(lambda own, file: own.run(_read, *file, max_bytes, within), here, window)


def _windows(files: Iterable[tuple[str, int]], max_bytes: int) -> Iterator[list[tuple[str, int]]]:
    window: list[tuple[str, int]] = []
    used = 0
    for uri, size in files:
        needed = size if 0 < size <= max_bytes else 0  # others are not read
        if window and (len(window) == READ_AHEAD or used + needed > READ_AHEAD_BYTES):
            yield window
            window, used = [], 0
        window.append((uri, size))
        used += needed
    if window:
        yield window


def _read(uri: str, size: int, max_bytes: int, within: str) -> bytes | BadFile:
    if size == NOT_A_FILE:
        return BadFile(
            "unreadable",
            "It is not a regular file (a broken or forbidden link, a pipe, a device), or a folder without permission "
            "or without a name.",
        )
    if size == 0:
        return BadFile("empty", "The file has no bytes.")
    if size > max_bytes:
        return BadFile("too_large", f"{size:,} bytes are more than the limit of {max_bytes:,}.")
    if not is_local(uri) and not {".", ".."}.isdisjoint(uri.split("/")):
        return BadFile("unreadable", "Clients resolve the . or .. in its key, and would read another object.")
    try:
        content = _content(uri, size, within)
    except (OSError, pa.ArrowException) as error:
        try:
            content = _content_at_second_try(uri, size, within, error)
        except (OSError, pa.ArrowException) as again:
            return BadFile("unreadable", f"{type(again).__name__}: {again}"[:300])
    if len(content) != size:
        return BadFile("changed", f"It had {size:,} bytes when it was listed and has others now.")
    return content


def _content(uri: str, size: int, within: str) -> bytes:
    """At most one byte more than `size`. Raises OSError or ArrowException."""
    filesystem_, path = filesystem(uri)
    if is_local(uri):
        return _content_of_a_disk(path, size, within.splitlines())
    with filesystem_.open_input_stream(path, compression=None, buffer_size=0) as stream:
        content: bytes = stream.read(size + 1)
    return content


def _content_of_a_disk(path: str, size: int, folders: Sequence[str]) -> bytes:
    # What is looked at is the file that is open, and no longer a name, behind which another may be put at any time.
    file = os.open(
        os.fsencode(path), os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY
    )  # a pipe does not wait for its other end
    with os.fdopen(file, "rb") as stream:
        if not stat.S_ISREG(os.fstat(file).st_mode):
            raise IsADirectoryError(errno.EISDIR, "It is no regular file any more", path)
        if folders and not is_open_below(file, folders):
            raise PermissionError(errno.EACCES, "A link leads out of the folders that may be read", path)
        return stream.read(size + 1)


def _content_at_second_try(uri: str, size: int, within: str, error: Exception) -> bytes:
    """What a store reports of an object tells little of whose the fault is: Arrow says `INTERNAL_FAILURE` of a small
    one that is archived. So the bucket, or the file's folder, is asked for. When it answers and the file still cannot
    be read, for none of the reasons in `THE_STORES`, the fault is the file's.

    Raises:
        OSError, ArrowException: the file cannot be read.
        Unreachable: the disk, the network or the store fails; a retry may help.
    """
    if isinstance(error, FileNotFoundError | PermissionError | IsADirectoryError | pa.ArrowInvalid):
        raise error
    with reaching("source", uri):
        if getattr(error, "errno", None) in ELSEWHERE:
            raise error
        filesystem_, path = filesystem(uri)
        if is_local(uri):
            os.scandir(os.path.dirname(os.fsencode(path))).close()
        elif filesystem_.get_file_info(path.split("/")[0] or "/").type == fs.FileType.NotFound:
            raise error
    try:
        return _content(uri, size, within)
    except OSError as again:
        if not is_local(uri) and THE_STORES.search(f"{error} {again}"):  # either may lack its reason
            with reaching("source", uri):
                raise
        raise
