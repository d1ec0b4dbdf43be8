"""Files anywhere Arrow can reach: one place that turns a URI into a filesystem, and I/O failures into plain words."""

from __future__ import annotations

import json
import os
import re
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import unquote_to_bytes

import deltalake.exceptions
import pyarrow as pa
from pyarrow import fs

from spark_apps.contract import BadSetting, Unreachable, plain_scheme

CONNECT_TIMEOUT_S, REQUEST_TIMEOUT_S = 10, 60


def filesystem(uri: str) -> tuple[fs.FileSystem, str]:
    """The Arrow filesystem of `uri` (plain path, file://, s3://, gs://, abfs://, hdfs://) and the path within it.

    S3 credentials, region and endpoint come from the standard `AWS_*` environment variables.

    Raises:
        BadSetting: it begins with `file:` and is no file of this machine.
    """
    uri = plain_scheme(uri)
    if uri.startswith("file:") and not uri.startswith("file:///"):
        raise BadSetting("bad_location", f"{uri!r} is no file of this machine.", "Write file:///folder/file.")
    scheme, separator, rest = uri.partition("://")
    if not separator:
        return _local(), uri
    if scheme == "file":
        return _local(), os.fsdecode(unquote_to_bytes(rest))
    if scheme in ("s3", "s3a"):
        return _s3(os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")), rest
    found: tuple[fs.FileSystem, str] = fs.FileSystem.from_uri(uri)
    return found


def is_local(uri: str) -> bool:
    """Whether `uri` is a folder or file of this machine."""
    return "://" not in uri or plain_scheme(uri).startswith("file:")


@lru_cache(maxsize=1)
def _local() -> fs.LocalFileSystem:
    return fs.LocalFileSystem()


@lru_cache(maxsize=4)
def _s3(endpoint: str | None) -> fs.S3FileSystem:
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    return fs.S3FileSystem(
        endpoint_override=endpoint,
        region=region or ("us-east-1" if endpoint else None),
        connect_timeout=CONNECT_TIMEOUT_S,
        request_timeout=REQUEST_TIMEOUT_S,
    )


def delta_options(uri: str) -> dict[str, str]:
    """What delta-rs needs beside the environment, which it reads for itself, to open a table at `uri`."""
    if not uri.startswith("s3"):
        return {}
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or ""
    options = {"timeout": f"{REQUEST_TIMEOUT_S}s", "connect_timeout": f"{CONNECT_TIMEOUT_S}s"}
    if endpoint:
        options["endpoint_url"] = endpoint
    if endpoint.startswith("http://"):
        options["allow_http"] = "true"
    return options


@contextmanager
def reaching(what: str, uri: str) -> Iterator[None]:
    """Turns any I/O failure inside into `Unreachable`, which names `what` (source, store) and `uri`."""
    try:
        yield
    except FileNotFoundError as error:
        message = f"Something is missing in the {what} {uri}: {_plain(error)}."
        raise Unreachable(
            f"{what}_missing", message, "Check that it exists and that its name is spelled right."
        ) from error
    except PermissionError as error:
        hint = "Check the permissions and credentials of the user who runs the job."
        raise Unreachable(f"{what}_denied", f"Access to the {what} {uri} is denied: {_plain(error)}.", hint) from error
    except (OSError, pa.ArrowException, deltalake.exceptions.DeltaError) as error:
        hint = "Check that it is mounted or reachable, that it has free space, and that the credentials are right."
        raise Unreachable(f"{what}_unreachable", f"The {what} {uri} cannot be used: {_plain(error)}.", hint) from error


def _plain(error: Exception) -> str:
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
    """Removes a file; one that is not there is no error."""
    filesystem_, path = filesystem(uri)
    with suppress(FileNotFoundError):
        filesystem_.delete_file(path)


def delete_folder(uri: str) -> None:
    """Removes a folder and what is in it; one that is not there is no error."""
    filesystem_, path = filesystem(uri)
    with suppress(FileNotFoundError):
        filesystem_.delete_dir(path)


def ensure_folder(uri: str) -> None:
    """Creates a folder on a disk; object stores need none."""
    if is_local(uri):
        Path(filesystem(uri)[1]).mkdir(parents=True, exist_ok=True)
