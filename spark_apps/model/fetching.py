"""A file at a path or URI, verified and on this machine; nothing leads out of the places that are allowed."""

from __future__ import annotations

import http.client
import shutil
import socket
import sys
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

from spark_apps.contract import WEIGHTS_HELP, BadSetting, Unreachable
from spark_apps.contract.locations import is_below, is_open_below, local_path
from spark_apps.model import cache

TIMEOUT_S = 10
"""For each connection attempt and each read, so that a machine without a network learns it soon."""
ALTERNATIVES = (
    "Try again later, or use keras-v1 (a pretrained ResNet-50 from the npm registry), a path or URI of a state dict, "
    "or random:0 for tests."
)


def file(uri: str, expected: str = "", within: Sequence[str] = ()) -> tuple[Path, str]:
    """A file at a path or URI and its sha256. What is not on this machine is copied into the cache, named by that.

    `expected`: the sha256 that it should have, which `expect` compares; a copy that has it is not fetched again.
    Neither a redirect nor a link leads out of the places `within`, if there are any.

    Raises:
        BadSetting: there is no such file, or it lies outside the places.
        Unreachable: it cannot be read at the moment.
    """
    kept = cache.folder("weights") / f"{expected}.pth"
    if expected and kept.exists() and cache.sha256(kept) == expected:
        return kept, expected
    return (_http if uri.startswith(("http://", "https://")) else _stored)(uri, within)


def expect(name: str, found: str, expected: str) -> None:
    """Raises BadSetting when weights have another sha256 than the one expected, if there is one."""
    if expected and found != expected.lower():
        raise BadSetting(
            "wrong_sha256",
            f"The weights {name} have sha256 {found}, not {expected.lower()}.",
            "Check which file you mean; take the hash from whoever published it.",
        )


def label(uri: str, sha256: str) -> str:
    """What a file is called in a model's key: the stem of its name and the begin of its sha256."""
    return f"{Path(urlsplit(uri).path if '://' in uri else uri).stem[:40]}_{sha256[:8]}"


def _http(url: str, within: Sequence[str]) -> tuple[Path, str]:
    class Redirects(urllib.request.HTTPRedirectHandler):
        def redirect_request(self, *given: Any) -> urllib.request.Request | None:
            asked = super().redirect_request(*given)
            if asked is not None and within and not is_below(asked.full_url.partition("?")[0], within):
                raise _leads_out(url, f"redirects to {asked.full_url.partition('?')[0]}")
            return asked

    def write(path: Path) -> None:
        with (
            download("The weights", url),
            urllib.request.build_opener(Redirects).open(url, timeout=TIMEOUT_S) as source,
            path.open("wb") as file,
        ):
            _copy_counted(source, file)

    return _keep(write)


def _copy_counted(source: http.client.HTTPResponse, file: IO[bytes]) -> None:
    """Says on a terminal how far it is. Raises OSError when the server ends before all that it announced is there."""
    size, copied = int(source.headers.get("Content-Length") or 0), 0
    while piece := source.read(1 << 20):
        file.write(piece)
        copied += len(piece)
        if sys.stderr.isatty():
            of = f" of {size / 1e6:,.1f}" if size else ""
            print(f"\rWeights: {copied / 1e6:,.1f}{of} MB", end="", file=sys.stderr, flush=True)
    if sys.stderr.isatty():
        print(file=sys.stderr)
    if copied < size:
        raise OSError(f"the download ended after {copied:,} of {size:,} bytes")


def _leads_out(uri: str, how: str) -> BadSetting:
    return BadSetting(
        "weights_not_allowed",
        f"The weights {uri} are not allowed in this Airflow: it {how}.",
        "Let an administrator of Airflow add that place to [image_features] weights_locations.",
    )


def _stored(uri: str, within: Sequence[str]) -> tuple[Path, str]:
    """Through Arrow; a file of this machine is used where it lies, or as a copy of the file that was looked at."""
    import pyarrow as pa
    from pyarrow import fs

    from spark_apps import storage

    try:
        filesystem, path = storage.filesystem(uri)
        info = filesystem.get_file_info(path)
        if info.type != fs.FileType.File:
            what = "do not exist" if info.type == fs.FileType.NotFound else "are not a file"
            raise BadSetting("weights_missing", f"The weights {uri} {what}.", "Check the spelling.")
        if isinstance(filesystem, fs.LocalFileSystem):
            if within:
                return _keep(lambda target: _copy_from_below(path, target, within))
            return Path(path), cache.sha256(Path(path))

        def write(target: Path) -> None:
            with filesystem.open_input_stream(path, compression=None) as source, target.open("wb") as file:
                shutil.copyfileobj(source, file, 1 << 20)

        return _keep(write)
    except (BadSetting, pa.ArrowInvalid) as error:
        if isinstance(error, BadSetting) and error.code != "bad_location":
            raise
        what = error.message if isinstance(error, BadSetting) else f"{error}."
        raise BadSetting(
            "bad_weights", f"{uri!r} is not a valid location of weights: {what}", f"Use {WEIGHTS_HELP}"
        ) from error
    except (OSError, pa.ArrowException) as error:
        raise Unreachable(
            "weights_unreachable",
            f"The weights {uri} cannot be read: {error}.",
            "Check the location, the permissions and the storage's credentials.",
        ) from error


def _copy_from_below(path: str, target: Path, within: Sequence[str]) -> None:
    folders = [folder for folder in map(local_path, within) if folder is not None]
    with open(path, "rb") as source, target.open("wb") as file:
        if not is_open_below(source.fileno(), folders):
            raise _leads_out(path, "is a link that leads elsewhere")
        shutil.copyfileobj(source, file, 1 << 20)


def _keep(write: Callable[[Path], None]) -> tuple[Path, str]:
    """What `write` puts into a file, kept in the cache under its sha256."""
    folder = cache.folder("weights")
    temporary = folder / f".{uuid.uuid4().hex}"
    try:
        write(temporary)
        sha256 = cache.sha256(temporary)
        return temporary.rename(folder / f"{sha256}.pth"), sha256
    finally:
        cache.remove(temporary)


@contextmanager
def download(what: str, url: str) -> Iterator[None]:
    """Bounds the waiting of a download inside, and says what else can be done when it fails."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(TIMEOUT_S)
    try:
        yield
    except urllib.error.HTTPError as error:
        if error.code in (404, 410):
            raise BadSetting("weights_missing", f"{what} are not at {url}: {error}.", "Check the address.") from error
        raise _unreachable(what, url, f"{error}") from error
    except (OSError, http.client.HTTPException) as error:  # URLError and timeouts are OSErrors
        raise _unreachable(what, url, str(getattr(error, "reason", "") or error or type(error).__name__)) from error
    except RuntimeError as error:
        if "invalid hash value" not in str(error):
            raise
        raise _unreachable(what, url, f"the download arrived damaged, {error}") from error
    finally:
        socket.setdefaulttimeout(before)


def _unreachable(what: str, url: str, reason: str) -> Unreachable:
    host = urlsplit(url).hostname
    return Unreachable("weights_unreachable", f"{what} cannot be fetched from {host}: {reason}.", ALTERNATIVES)
