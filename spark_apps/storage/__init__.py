"""Files anywhere Arrow can reach: read and written whole, and I/O failures in plain words."""

from __future__ import annotations

import json
import os
import re
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import deltalake.exceptions
import pyarrow as pa
from pyarrow import fs

from spark_apps.contract import Unreachable, plain_scheme
from spark_apps.storage import filesystems
from spark_apps.storage.filesystems import delta_options as delta_options


def filesystem(uri: str) -> tuple[fs.FileSystem, str]:
    """The Arrow filesystem of `uri` (plain path, file, s3, gs, abfs, abfss, az, hdfs) and the path within it."""
    found = filesystems.locate(uri)
    return found.filesystem, found.path


def is_local(uri: str) -> bool:
    """Whether `uri` is a folder or file of this machine."""
    return "://" not in uri or plain_scheme(uri).startswith("file:")


@contextmanager
def reaching(what: str, uri: str) -> Iterator[None]:
    """Turns any I/O failure inside into `Unreachable`, which names `what` (source, store) and `uri`."""
    try:
        yield
    except FileNotFoundError as error:
        message = f"Something is missing in the {what} {uri}: {plain(error)}."
        raise Unreachable(
            f"{what}_missing", message, "Check that it exists and that its name is spelled right."
        ) from error
    except PermissionError as error:
        hint = "Check the permissions and credentials of the user who runs the job."
        raise Unreachable(f"{what}_denied", f"Access to the {what} {uri} is denied: {plain(error)}.", hint) from error
    except (OSError, pa.ArrowException, deltalake.exceptions.DeltaError) as error:
        hint = "Check that it is mounted or reachable, that it has free space, and that the credentials are right."
        message = f"The {what} {uri} cannot be used: {plain(error)}."
        if proxy := filesystems.proxy(uri):
            message = f"The {what} {uri} cannot be used through the proxy {proxy}: {plain(error)}."
            hint = f"Check that the proxy lets it through, or name its host in NO_PROXY. {hint}"
        raise Unreachable(f"{what}_unreachable", message, hint) from error


def plain(error: Exception) -> str:
    """One line without colours or a full stop: delta-rs draws its errors for a terminal."""
    return " ".join(re.sub("\x1b\\[[0-9;]*m", "", str(error)).split()).rstrip(".")


def read_bytes(uri: str) -> bytes:
    """The whole content of a file. Raises OSError."""
    filesystem_, path = filesystem(uri)
    with filesystem_.open_input_stream(path, compression=None) as stream:
        content: bytes = stream.read()
    return content


def write_bytes(uri: str, content: bytes) -> None:
    """Writes a file so that readers see all of it or the one before: renamed on a disk, one put on an object store."""
    filesystem_, path = filesystem(uri)
    if not is_local(uri):
        with filesystem_.open_output_stream(path, compression=None) as stream:
            stream.write(content)
        return
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def read_json(uri: str) -> Any | None:
    """The parsed content of a JSON file, None when there is no such file. Raises ValueError when it is half-written."""
    try:
        return json.loads(read_bytes(uri))
    except FileNotFoundError:
        return None


def write_json(uri: str, value: Any) -> None:
    """Writes `value` as JSON, whole or not at all."""
    write_bytes(uri, json.dumps(value, indent=1, allow_nan=False).encode())


def delete(uri: str) -> None:
    """Removes a file; a missing one is not an error."""
    filesystem_, path = filesystem(uri)
    with _whether_or_not_there(filesystem_, path):
        filesystem_.delete_file(path)


def delete_folder(uri: str) -> None:
    """Removes a folder and what is in it; a missing one is not an error."""
    filesystem_, path = filesystem(uri)
    with _whether_or_not_there(filesystem_, path):
        filesystem_.delete_dir(path)


@contextmanager
def _whether_or_not_there(filesystem_: fs.FileSystem, path: str) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        pass
    except OSError:  # Google's filesystem says so of a missing folder, and of everything else
        if filesystem_.get_file_info(path).type is not fs.FileType.NotFound:
            raise


def ensure_folder(uri: str) -> None:
    """Creates a folder on a disk; object stores need none."""
    if is_local(uri):
        Path(filesystem(uri)[1]).mkdir(parents=True, exist_ok=True)
