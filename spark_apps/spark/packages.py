"""What a cluster is sent: this package as a zip, and an environment for its Python workers as a tar.gz.

The environment holds the packages of the Python that packs it, so driver and workers have the same versions. It holds
no interpreter: a node needs Python of the same minor version. Standard library only, but for `environment`.
"""

from __future__ import annotations

import hashlib
import io
import sys
import tarfile
import zipfile
from collections.abc import Iterable, Iterator
from functools import lru_cache
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

from spark_apps.contract import DECODER_PACKAGES, BadSetting

WORKER = ("numpy", "pyarrow", "pillow", "puremagic", "deltalake", "openvino")
"""What tasks of ingest and extract import, with engine openvino."""


def worker() -> list[str]:
    """`WORKER`, and those packages that are installed here which decode what Pillow does not (HEIC and others) or
    resample for `--decode fast`."""
    return [*WORKER, *filter(_installed, (*DECODER_PACKAGES, "cykooz-resizer"))]


def _installed(package: str) -> bool:
    try:
        return bool(distribution(package))
    except PackageNotFoundError:
        return False


_RUN = """#!/bin/sh
# The node's own {python}, with the packages beside this file.
here=$(cd "$(dirname "$0")/.." && pwd)
PYTHONPATH="$here/packages${{PYTHONPATH:+:$PYTHONPATH}}" exec {python} "$@"
"""


# --- the code ---------------------------------------------------------------------------------------------------------


@lru_cache(maxsize=1)
def _sources() -> list[tuple[str, bytes]]:
    """Name and content of each module; they lie in a folder, or in the zip that a driver on the cluster was sent."""
    package = Path(__file__).parents[1]
    if package.parent.is_file():
        with zipfile.ZipFile(package.parent) as archive:
            return [(name, archive.read(name)) for name in sorted(archive.namelist())]
    return sorted((path.relative_to(package.parent).as_posix(), path.read_bytes()) for path in package.rglob("*.py"))


@lru_cache(maxsize=1)
def code_hash() -> str:
    """16 hex digits that change with any source of this package."""
    return hashlib.sha256(repr(_sources()).encode()).hexdigest()[:16]


def code_name() -> str:
    """The name of the zip: the same sources have the same name everywhere."""
    return f"spark_apps-{code_hash()}.zip"


def code(folder: Path) -> Path:
    """Writes this package as a zip into `folder`, for Pythons that do not know it; same sources, same bytes."""
    target = folder / code_name()
    with zipfile.ZipFile(target, "w") as archive:
        for name, content in _sources():
            archive.writestr(zipfile.ZipInfo(name), content)  # a fixed date
    return target


# --- the environment --------------------------------------------------------------------------------------------------


def environment(target: Path, packages: Iterable[str]) -> None:
    """Writes `packages`, with all they require, and a `bin/python` that sees them, as .tar.gz or .tgz.

    Raises:
        BadSetting: another kind of file is asked for, or one of the packages is not installed here.
    """
    if not target.name.endswith((".tar.gz", ".tgz")):  # unpacking others, Spark 4.2 forgets that a file is a program
        raise BadSetting(
            "bad_environment", f"{target} is not a .tar.gz file.", "Name it environment.tar.gz, for example."
        )
    files = list(environment_files(packages))
    part = target.with_name(target.name + ".part")
    try:
        with tarfile.open(part, "w:gz", compresslevel=1) as archive:  # a higher level gains little on libraries
            for name, content in files:
                if isinstance(content, Path):
                    archive.add(content, name, recursive=False, filter=_anonymous)
                    continue
                member = tarfile.TarInfo(name)
                member.size, member.mode = len(content), 0o755
                archive.addfile(member, io.BytesIO(content))
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)


def environment_files(packages: Iterable[str]) -> Iterator[tuple[str, Path | bytes]]:
    """Name in the environment and content of each file: a file of this machine, or bytes of a program.

    Raises:
        BadSetting: one of the packages is not installed here.
    """
    python = f"python{sys.version_info.major}.{sys.version_info.minor}"
    yield "bin/python", _RUN.format(python=python).encode()
    for package in _closure(packages):
        for file in package.files or ():
            if ".." not in file.parts and "__pycache__" not in file.parts:  # scripts of the environment's bin, caches
                yield f"packages/{file.as_posix()}", Path(str(package.locate_file(file)))


def _closure(packages: Iterable[str]) -> list[Distribution]:
    """The installed distributions that `packages` are and require, extras left out."""
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    found: dict[str, Distribution] = {}
    waiting = list(packages)
    while waiting:
        name = canonicalize_name(waiting.pop())
        if name in found:
            continue
        try:
            found[name] = distribution(name)
        except PackageNotFoundError:
            raise BadSetting(
                "not_installed", f"{name} is not installed in {sys.prefix}.", "Install it first."
            ) from None
        required = [Requirement(text) for text in found[name].requires or ()]
        waiting += [need.name for need in required if need.marker is None or need.marker.evaluate({"extra": ""})]
    return [found[name] for name in sorted(found)]


def _anonymous(member: tarfile.TarInfo) -> tarfile.TarInfo:
    """Without the owner, who does not exist on the nodes."""
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    return member
