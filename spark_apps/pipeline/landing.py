"""The source: lists the photos of a partition and reads them, on a disk or on any filesystem Arrow knows."""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from pathlib import Path

import pyarrow as pa
from pyarrow import fs

from spark_apps.contract import BadFile, Unreachable
from spark_apps.contract.locations import is_open_below
from spark_apps.pipeline.ignored import Ignored
from spark_apps.storage import filesystem, is_local, reaching
from spark_apps.storage.filesystems import locate

LISTING = pa.schema([("uri", pa.string()), ("size_bytes", pa.int64()), ("modified_at", pa.timestamp("us", "UTC"))])
"""One row per source file, sorted by uri. A size of -1: the name is there, but no regular file behind it,
or it is a folder that may not be read."""

NOT_A_FILE = -1
LOG = "_delta_log"
"""The folder that makes a Delta table of the one that it lies in."""
READ_AHEAD, READ_AHEAD_BYTES = 8, 64 * 2**20
"""Files of an object store that one task reads at a time, because each costs a round trip, and their bytes."""
ELSEWHERE = {
    *(errno.ENOTCONN, errno.ESTALE, errno.ETIMEDOUT, errno.EHOSTDOWN, errno.EHOSTUNREACH, errno.ENETDOWN),
    *(errno.ENETUNREACH, errno.ECONNRESET, errno.EMFILE, errno.ENFILE, errno.ENOMEM),
}
"""Errors of the disk, the network or this process, whichever file is read."""
THE_STORES = re.compile(
    "SLOW_DOWN|THROTTLING|SERVICE_UNAVAILABLE|status (429|503)|BANDWIDTH_LIMIT|"  # Arrow's names for the errors of S3
    "INVALID_ACCESS_KEY|SIGNATURE|SECURITY_TOKEN|CLIENT_TOKEN|CREDENTIAL|SKEWED|ExpiredToken|InvalidToken|NO_SUCH_BUCKET|"
    "UNAVAILABLE|RESOURCE_EXHAUSTED|UNAUTHENTICATED|"  # Google's
    "ServerBusy|AuthenticationFailed"  # Azure's
)
"""In the text of an error: failures and refusals of an object store that hold for every object."""


def list_files(source: str, pattern: str, exclude: str = "", store: str = "", within: str = "") -> pa.Table:
    """Every file below `source` whose name matches `pattern`, as a table of `LISTING`.

    What `ignored.Ignored` names is not listed, nor is `store`, the folder of our own tables, where it lies below the
    source. uris are `file://` with percent-encoding (RFC 8089) on a disk, and the store's own `scheme://bucket/key`
    elsewhere. A link on a disk that leads out of the folders `within` (one a line, if any) is listed as no file.

    Raises:
        Unreachable: the source cannot be read, or it is missing: code `source_missing`, and `bucket_missing` for the
            whole bucket of an object store.
    """
    ignored = Ignored(exclude)
    with reaching("source", source):
        if is_local(source):
            rows = sorted(_walk_disk(source, pattern, ignored, store, within))
        else:
            rows = sorted(_walk_store(source, pattern, ignored, store))
    columns = [pa.array(column, field.type) for column, field in zip(zip(*rows, strict=True), LISTING, strict=False)]
    return pa.table(columns, schema=LISTING) if rows else LISTING.empty_table()


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
                yield from pool.map(lambda file: _read(file[0], file[1], max_bytes, within), window)


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


def _moment(seconds: float) -> datetime | None:
    """A time of a disk; None for one that no calendar has."""
    try:
        return datetime.fromtimestamp(seconds, UTC)
    except (ValueError, OverflowError, OSError):
        return None


Row = tuple[str, int, datetime | None]


def _walk_disk(source: str, pattern: str, ignored: Ignored, store: str, within: str) -> Iterator[Row]:
    root = filesystem(source)[1]
    if not os.path.isdir(root):
        raise Unreachable(
            "source_missing",
            f"The source {source} {'is not a folder' if os.path.lexists(root) else 'does not exist'}.",
            "Check its spelling, and that the partition's folder is there where the job runs.",
        )
    ours = os.path.realpath(filesystem(store)[1]) if store and is_local(store) else None
    if ours and Path(os.path.realpath(root)).is_relative_to(ours):
        ours = None  # the source lies in the store's folder
    # Linked folders count like others, but each folder once, under its own name where it has one below the source;
    # so a circle of links ends.
    visited: set[str] = set()
    folders: list[tuple[str, ...]] = [()]
    links: list[tuple[str, ...]] = []
    while folders or links:
        names = folders.pop() if folders else links.pop(0)
        folder = Path(root, *names)
        place = os.path.realpath(folder)
        if place in visited or (ours and Path(place).is_relative_to(ours)) or (names and _holds_tables(folder)):
            continue
        if _leads_out(place, within):
            yield folder.as_uri(), NOT_A_FILE, None
            continue
        visited.add(place)
        try:
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name, reverse=True)
        except OSError as error:
            if not names or error.errno in ELSEWHERE:
                raise
            if not isinstance(error, FileNotFoundError | NotADirectoryError):  # one that vanished holds nothing
                yield folder.as_uri(), NOT_A_FILE, None
            continue
        for entry in entries:
            path = (*names, entry.name)
            if _is_folder(entry):
                if not ignored.folder(path):
                    (links if entry.is_symlink() else folders).append(path)
            elif fnmatchcase(entry.name, pattern) and not ignored.file(path, folders=False):
                file = Path(folder, entry.name)
                out = entry.is_symlink() and _leads_out(os.path.realpath(file), within)
                yield (file.as_uri(), NOT_A_FILE, None) if out else _row(file)


def _leads_out(place: str, within: str) -> bool:
    allowed = within.splitlines()
    return bool(allowed) and not any(Path(place).is_relative_to(os.path.realpath(folder)) for folder in allowed)


def _holds_tables(folder: Path) -> bool:
    """Whether it is a Delta table, or a store of ours: another Dag's, or one of earlier."""
    return any(os.path.isdir(folder.joinpath(*table, LOG)) for table in ((), ("images",)))


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a circle of links
        return False


def _row(path: Path) -> Row:
    try:
        status = path.stat()
    except OSError:
        return path.as_uri(), NOT_A_FILE, None
    return path.as_uri(), status.st_size if stat.S_ISREG(status.st_mode) else NOT_A_FILE, _moment(status.st_mtime)


def _walk_store(source: str, pattern: str, ignored: Ignored, store: str) -> Iterator[Row]:
    place = locate(source)
    filesystem_, root = place.filesystem, place.path
    ours = filesystem(store)[1].rstrip("/") + "/" if store and not is_local(store) else None
    found, nameless = _everything(filesystem_, root)
    for path in nameless:
        yield place.uri(path), NOT_A_FILE, None
    if not found and not nameless:
        bucket = root.split("/")[0] or "/"
        if filesystem_.get_file_info(bucket).type == fs.FileType.NotFound:
            raise Unreachable("bucket_missing", f"{source} is in no bucket that is there.", "Check the bucket's name.")
        kind = filesystem_.get_file_info(root).type
        if kind == fs.FileType.File:
            raise Unreachable("source_no_folder", f"The source {source} is one object.", "Give the folder around it.")
        if kind == fs.FileType.NotFound:
            raise FileNotFoundError(f"no object's name begins with {root}/")
    folders = {info.path for info in found if info.type == fs.FileType.Directory}
    tables = [path.removesuffix(LOG) for path in folders if path.endswith(f"/{LOG}")]
    stores = [path.removesuffix("images/") for path in tables if path.endswith("/images/")]
    # One that holds the source, as a store at the root of its bucket does, closes nothing.
    here = f"{root.rstrip('/')}/"
    closed = tuple(path for path in (*tables, *stores, ours) if path and not here.startswith(path))
    for info in found:
        if info.type != fs.FileType.File or info.path.startswith(closed):
            continue
        if not info.size and info.path in folders:
            continue  # an object without bytes that stands for a folder
        names = info.path.removeprefix(root).strip("/").split("/")
        if fnmatchcase(names[-1], pattern) and not ignored.file(names):
            yield place.uri(info.path), info.size, info.mtime


def _everything(filesystem_: fs.FileSystem, root: str) -> tuple[list[fs.FileInfo], list[str]]:
    """What lies below `root`, and the folders without a name, as in `x//photo.jpg`, whose content cannot be listed.

    Of those Azure's listing says that they are the folder around them, and Arrow follows it without an end.
    """
    if filesystem_.type_name != "abfs":
        return filesystem_.get_file_info(fs.FileSelector(root, recursive=True, allow_not_found=True)), []
    found, nameless, folders = [], [], [root]
    while folders:
        folder = folders.pop()
        for info in filesystem_.get_file_info(fs.FileSelector(folder, allow_not_found=True)):
            if info.type == fs.FileType.Directory and info.path.rstrip("/") == folder.rstrip("/"):
                nameless.append(f"{folder.rstrip('/')}//")
                continue
            found.append(info)
            if info.type == fs.FileType.Directory:
                folders.append(info.path)
    return found, nameless
