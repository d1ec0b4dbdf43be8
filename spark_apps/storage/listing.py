"""Which files lie below a folder, on a disk or any filesystem Arrow knows: what a run lists and a sensor waits for."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from pathlib import Path

from pyarrow import fs

from spark_apps.contract import Unreachable
from spark_apps.storage import filesystem, folders, is_local
from spark_apps.storage.filesystems import locate
from spark_apps.storage.ignored import Ignored

NOT_A_FILE = -1
"""The size of a name that has no regular file behind it, and of a folder that may not be read."""
FOLDERS = 100
"""Folders of a source that are listed one by one: a request for each is little beside one for a thousand objects."""
LOG = "_delta_log"
"""The folder that makes a Delta table of the one that it lies in."""
ELSEWHERE = {
    *(errno.ENOTCONN, errno.ESTALE, errno.ETIMEDOUT, errno.EHOSTDOWN, errno.EHOSTUNREACH, errno.ENETDOWN),
    *(errno.ENETUNREACH, errno.ECONNRESET, errno.EMFILE, errno.ENFILE, errno.ENOMEM),
}
"""Errors of the disk, the network or this process, whichever file is read."""

Row = tuple[str, int, datetime | None]
"""uri, size in bytes, time of the last change."""


def files(
    source: str, pattern: str = "*", exclude: str = "", store: str = "", within: str = "", *, lean: bool = False
) -> Iterator[Row]:
    """Each file below `source` whose name matches `pattern`, in no order; as `pipeline.landing.list_files` says.

    Of an object store the listing of one folder of the source is held at a time, some 300 bytes an object; of Google's,
    and where the source has more than `FOLDERS` of them, that of the whole source, unless it is to be `lean`, for a
    request a folder.

    Raises:
        Unreachable: the source is missing (`source_missing`, `bucket_missing`) or no folder.
        OSError, ArrowException: it cannot be read.
    """
    ignored = Ignored(exclude)
    if is_local(source):
        return _walk_disk(source, pattern, ignored, store, within)
    return _walk_store(source, pattern, ignored, store, lean)


def _moment(seconds: float) -> datetime | None:
    """A time of a disk; None for one that no calendar has."""
    try:
        return datetime.fromtimestamp(seconds, UTC)
    except (ValueError, OverflowError, OSError):
        return None


def _walk_disk(source: str, pattern: str, ignored: Ignored, store: str, within: str) -> Iterator[Row]:
    root = filesystem(source)[1]
    if os.path.isfile(root):
        raise no_folder(source)
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
            entries = os.scandir(folder)
        except OSError as error:
            if not names or error.errno in ELSEWHERE:
                raise
            if not isinstance(error, FileNotFoundError | NotADirectoryError):  # one that vanished holds nothing
                yield folder.as_uri(), NOT_A_FILE, None
            continue
        below: list[tuple[bool, tuple[str, ...]]] = []
        for entry in entries:
            path = (*names, entry.name)
            if _is_folder(entry):
                if not ignored.folder(path):
                    below.append((entry.is_symlink(), path))
            elif fnmatchcase(entry.name, pattern) and not ignored.file(path, folders=False):
                file = Path(folder, entry.name)
                out = entry.is_symlink() and _leads_out(os.path.realpath(file), within)
                yield (file.as_uri(), NOT_A_FILE, None) if out else _row(file)
        for is_link, path in sorted(below, reverse=True):  # which of two names of one folder counts is by their order
            (links if is_link else folders).append(path)


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


def _walk_store(source: str, pattern: str, ignored: Ignored, store: str, lean: bool) -> Iterator[Row]:
    place = locate(source)
    filesystem_, root = place.filesystem, place.path
    ours = filesystem(store)[1].rstrip("/") + "/" if store and not is_local(store) else None
    here = f"{root.rstrip('/')}/"
    anything = False
    # A table or store below the source lies in one of its folders as a whole: each can be looked at by itself.
    for found, nameless in _by_folder(filesystem_, root, lean):
        anything = anything or bool(found or nameless)
        for path in nameless:
            yield place.uri(path), NOT_A_FILE, None
        known = {info.path for info in found if info.type == fs.FileType.Directory}
        tables = [path.removesuffix(LOG) for path in known if path.endswith(f"/{LOG}")]
        stores = [path.removesuffix("images/") for path in tables if path.endswith("/images/")]
        # One that holds the source, as a store at the root of its bucket does, closes nothing.
        closed = tuple(path for path in (*tables, *stores, ours) if path and not here.startswith(path))
        for info in found:
            if info.type != fs.FileType.File or info.path.startswith(closed):
                continue
            if not info.size and info.path in known:
                continue  # an object without bytes that stands for a folder
            names = info.path.removeprefix(root).strip("/").split("/")
            if fnmatchcase(names[-1], pattern) and not ignored.file(names):
                yield place.uri(info.path), info.size, info.mtime
    if not anything:
        check_bucket(source, filesystem_, root)
        kind = filesystem_.get_file_info(root).type
        if kind == fs.FileType.File:
            raise no_folder(source)
        if kind == fs.FileType.NotFound:
            raise FileNotFoundError(f"no object's name begins with {root}/")


def check_bucket(source: str, filesystem_: fs.FileSystem, path: str) -> None:
    """Raises Unreachable when an object store says that the bucket of a path is not there; some may not be asked."""
    kind = None
    with suppress(OSError):  # whoever may list a folder alone
        kind = filesystem_.get_file_info(path.split("/")[0] or "/").type
    if kind == fs.FileType.NotFound:
        raise Unreachable("bucket_missing", f"{source} is in no bucket that is there.", "Check the bucket's name.")


def no_folder(source: str) -> Unreachable:
    """The error for a source that is a file."""
    return Unreachable("source_no_folder", f"The source {source} is a file.", "Give the folder around it.")


Found = tuple[list[fs.FileInfo], list[str]]
"""What lies below a folder, and the folders without a name, as in `x//photo.jpg`, whose content cannot be listed."""


def _by_folder(filesystem_: fs.FileSystem, root: str, lean: bool) -> Iterator[Found]:
    """The same as `_everything`, in pieces: what lies in `root` itself, then what lies below each of its folders."""
    if filesystem_.type_name == "gcs":  # to know its folders it has to list everything
        yield _everything(filesystem_, root)
        return
    top, nameless = _folder(filesystem_, root)
    within = [info.path for info in top if info.type == fs.FileType.Directory]
    odd = nameless or any(folder.endswith(("/.", "/..")) for folder in within)  # they cannot be asked for by name
    if not lean and (odd or len(within) > FOLDERS):
        yield _everything(filesystem_, root)
        return
    yield top, nameless
    del top
    for folder in within:
        yield _everything(filesystem_, folder)


def _everything(filesystem_: fs.FileSystem, root: str) -> Found:
    """What lies below `root`. Of folders without a name Azure's listing says that they are the folder around them, and
    Arrow follows it without an end."""
    if filesystem_.type_name != "abfs":
        return folders.below(filesystem_, root), []
    found, nameless, waiting = [], [], [root]
    while waiting:
        inside, without = _folder(filesystem_, waiting.pop())
        found += inside
        nameless += without
        waiting += [info.path for info in inside if info.type == fs.FileType.Directory]
    return found, nameless


def _folder(filesystem_: fs.FileSystem, folder: str) -> Found:
    """What lies in one folder."""
    found, nameless = [], []
    for info in folders.inside(filesystem_, folder):
        if info.type == fs.FileType.Directory and info.path.rstrip("/") == folder.rstrip("/"):
            nameless.append(f"{folder.rstrip('/')}//")
        else:
            found.append(info)
    return found, nameless
