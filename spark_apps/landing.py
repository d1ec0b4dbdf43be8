"""The source: lists the photos of a partition and reads them, on a disk or on any filesystem Arrow knows."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from itertools import islice
from pathlib import Path

import pyarrow as pa
from pyarrow import fs

from spark_apps.contract import BadFile, Unreachable
from spark_apps.storage import filesystem, is_local, reaching

LISTING = pa.schema([("uri", pa.string()), ("size_bytes", pa.int64()), ("modified_at", pa.timestamp("us", "UTC"))])
"""One row per source file, sorted by uri. A size of -1: the name is there, but no regular file behind it."""

NOT_A_FILE = -1
READ_AHEAD = 8
"""Files of an object store that one task reads at a time, because each costs a round trip."""


def list_files(source: str, pattern: str) -> pa.Table:
    """Every file below `source` whose name matches `pattern`, as a table of `LISTING`.

    Hidden files and folders (a leading dot, as `.DS_Store`, `._IMG_1.jpg`) and the marker `_SUCCESS` are not listed.
    uris are `file://` with percent-encoding (RFC 8089) on a disk, and the store's own `scheme://bucket/key` elsewhere.

    Raises:
        Unreachable: the source is missing, no folder, or cannot be read.
    """
    with reaching("source", source):
        rows = sorted(_walk_disk(source, pattern) if is_local(source) else _walk_store(source, pattern))
    columns = [pa.array(column, field.type) for column, field in zip(zip(*rows, strict=True), LISTING, strict=False)]
    return pa.table(columns, schema=LISTING) if rows else LISTING.empty_table()


def read_files(files: Iterable[tuple[str, int]], max_bytes: int) -> Iterator[bytes | BadFile]:
    """The content of each (uri, listed size in bytes), in order; a `BadFile` for a file that cannot be taken.

    Object stores are read ahead by a few files; memory stays bounded by `READ_AHEAD` files.

    Raises:
        Unreachable: the source itself fails, as a disk or a network does.
    """
    pending = iter(files)
    with ThreadPoolExecutor(READ_AHEAD) as pool:
        while window := list(islice(pending, READ_AHEAD)):
            if is_local(window[0][0]):
                yield from (_read(uri, size, max_bytes) for uri, size in window)
            else:
                yield from pool.map(lambda file: _read(file[0], file[1], max_bytes), window)


def _read(uri: str, size: int, max_bytes: int) -> bytes | BadFile:
    if size == NOT_A_FILE:
        return BadFile("unreadable", "It is no regular file: a dangling link, a pipe or a device.")
    if size == 0:
        return BadFile("empty", "The file has no bytes.")
    if size > max_bytes:
        return BadFile("too_large", f"{size:,} bytes are more than the limit of {max_bytes:,}.")
    try:
        filesystem_, path = filesystem(uri)
        name = os.fsencode(path) if is_local(uri) else path  # a name on a disk need not be UTF-8
        with filesystem_.open_input_stream(name, compression=None, buffer_size=0) as stream:
            content: bytes = stream.read(size + 1)
    except (FileNotFoundError, PermissionError, IsADirectoryError) as error:
        return BadFile("unreadable", f"{type(error).__name__}: {error}"[:300])
    except OSError as error:
        if is_local(uri) and not os.path.isfile(os.fsencode(filesystem(uri)[1])):
            return BadFile("unreadable", f"It is no regular file any more: {error}"[:300])
        with reaching("source", uri):  # not this one file: the disk or the network is failing, so a retry may help
            raise
    if len(content) != size:
        return BadFile("changed", f"It had {size:,} bytes when it was listed and has others now.")
    return content


def _matches(name: str, pattern: str) -> bool:
    return not name.startswith(".") and name != "_SUCCESS" and fnmatchcase(name, pattern)


def _walk_disk(source: str, pattern: str) -> Iterator[tuple[str, int, datetime]]:
    root = Path(filesystem(source)[1])
    if not root.is_dir():
        raise Unreachable(
            "source_missing",
            f"The source {source} is no folder.",
            "Check its spelling, and that the day's photos are in.",
        )

    def fail(error: OSError) -> None:
        raise error

    visited = {os.path.realpath(root)}  # linked folders count like others, but a circle of links must end
    for folder, subfolders, names in os.walk(root, onerror=fail, followlinks=True):
        found = {name: os.path.realpath(Path(folder, name)) for name in sorted(subfolders) if not name.startswith(".")}
        subfolders[:] = [name for name, place in found.items() if place not in visited]
        visited.update(found.values())
        for name in filter(lambda name: _matches(name, pattern), names):
            path = Path(folder, name)
            try:
                status = path.stat()
            except OSError:
                yield path.as_uri(), NOT_A_FILE, datetime.now(UTC)
                continue
            size = status.st_size if stat.S_ISREG(status.st_mode) else NOT_A_FILE
            yield path.as_uri(), size, datetime.fromtimestamp(status.st_mtime, UTC)


def _walk_store(source: str, pattern: str) -> Iterator[tuple[str, int, datetime]]:
    filesystem_, path = filesystem(source)
    scheme = source.partition("://")[0]
    for info in filesystem_.get_file_info(fs.FileSelector(path, recursive=True)):
        *folders, name = info.path.removeprefix(path).strip("/").split("/")
        hidden = any(folder.startswith(".") for folder in folders)
        if info.type == fs.FileType.File and not hidden and _matches(name, pattern):
            yield f"{scheme}://{info.path}", info.size, info.mtime or datetime.now(UTC)
