"""Runs any `Extractor` class: those registered here, and those that a user names by module or by file.

An exception in such a class quarantines the file that caused it; vectors of the wrong shape or type end the job.
"""

from __future__ import annotations

import atexit
import hashlib
import importlib
import importlib.util
import inspect
import re
import shutil
import sys
import sysconfig
import tempfile
import zipfile
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from spark_apps.contract import EXTRACTORS, BadFile, BadSetting, ExtractSettings, JobError, Manifest, ModelInfo
from spark_apps.extractors import Extractor, Labelled, kept_models
from spark_apps.model import ModelArtifact, worker

if TYPE_CHECKING:
    from numpy.typing import NDArray

NAME = r"[A-Za-z0-9][A-Za-z0-9._]{0,63}"


def prepare(settings: ExtractSettings, ingested: Manifest, here: bool) -> ModelArtifact:
    """See `extractors.prepare`. Raises BadSetting: the extractor cannot be loaded, or its name or dim is not valid."""
    where = _importable(settings.extractor)
    extractor = load(where)
    _check_declared(settings.extractor, extractor)
    source = Path(inspect.getfile(type(extractor)))
    identity = extractor.fingerprint or hashlib.sha256(source.read_bytes()).hexdigest()
    fingerprint = hashlib.sha256(f"{extractor.name} {extractor.dim} {identity}".encode()).hexdigest()[:16]
    info = ModelInfo(
        key=extractor.name.lower(),
        fingerprint=fingerprint,
        extractor=settings.extractor,
        import_=where,
        backbone=extractor.name,
        weights=settings.extractor,
        engine="extractor",
        dim=extractor.dim,
        min_cosine=extractor.min_cosine,
    )
    artifact = ModelArtifact(info, sources=tuple(_sources(where)))
    kept_models.keep(settings.store, artifact)
    return artifact


def opened(info: ModelInfo, *_: Any) -> Extractor:
    """See `extractors.opened`; the other arguments are for photos. One per process, kept by the worker's cache."""

    def make() -> Tolerant:
        # What is built in comes from the registry, never from a document in the store that others may write to.
        where = EXTRACTORS.get(info.extractor) or info.import_
        shipped = importlib.util.find_spec(where.partition(":")[0].partition(".")[0])
        return Tolerant(load(where if shipped else _importable(info.extractor)))

    made: Tolerant = worker.kept(("extractor", info.fingerprint), make)
    return made


class Tolerant(Extractor):
    """An extractor whose exceptions quarantine the file that caused them, and whose vectors are checked."""

    def __init__(self, extractor: Extractor) -> None:
        self._extractor = extractor
        self.name, self.dim = extractor.name, extractor.dim

    def prepare(self, content: bytes) -> Any:
        try:
            return self._extractor.prepare(content)
        except (BadFile, JobError, MemoryError):
            raise
        except Exception as error:
            raise _failed(error) from error

    def extract(self, items: Sequence[Any]) -> NDArray[np.float32]:
        return self._checked(self._extractor.extract(items), len(items))

    def label(self, items: Sequence[Any]) -> Labelled:
        """When a batch fails, its files are tried one by one."""
        try:
            vectors, labels = self._extractor.label(items)
            return list(self._checked(vectors, len(items))), labels
        except JobError:
            raise
        except Exception as error:
            if len(items) == 1:
                return [error if isinstance(error, BadFile) else _failed(error)], [(None, None)]
            each = [self.label([item]) for item in items]
            return [vectors[0] for vectors, _ in each], [labels[0] for _, labels in each]

    def reference(self, content: bytes) -> NDArray[np.float32]:
        found: NDArray[np.float32] = self._checked([self._extractor.reference(content)], 1)[0]
        return found

    def _checked(self, vectors: Any, count: int) -> NDArray[np.float32]:
        found = np.asarray(vectors, np.float32)
        if found.shape != (count, self.dim):
            raise BadSetting(
                "bad_extractor",
                f"The extractor {self.name} gave an array of shape {found.shape} for {count} files.",
                f"It declares dim {self.dim}: extract must return [n, {self.dim}].",
            )
        return found


def load(where: str) -> Extractor:
    """An instance of the class, or what the function gives, at `module:name`.

    Raises:
        BadSetting: it cannot be imported or made, or is not an extractor.
    """
    module, _, name = where.partition(":")
    try:
        made = getattr(importlib.import_module(module), name)()
    except JobError:
        raise
    except Exception as error:
        raise BadSetting(
            "bad_extractor",
            f"The extractor {where} cannot be loaded: {type(error).__name__}: {error}.",
            "Try it by itself: python -c 'from <module> import <name>; <name>()'. Its packages must be installed where "
            "the driver and the workers run.",
        ) from error
    if not isinstance(made, Extractor):
        raise BadSetting(
            "bad_extractor",
            f"{where} gives a {type(made).__name__}, which is not an Extractor.",
            "Derive the class from spark_apps.extractors.Extractor.",
        )
    return made


def _sources(where: str) -> list[Path]:
    """The source that workers may lack, ready for `addPyFile`: a module, or a package as a zip.

    What is installed (site-packages, the standard library, this package) is not shipped.
    """
    top = where.partition(":")[0].partition(".")[0]
    if top == __name__.partition(".")[0]:
        return []
    module = importlib.import_module(top)
    origin = Path(module.__file__ or next(iter(module.__path__))).resolve()  # a namespace package has no file
    installed = [Path(sysconfig.get_path(name)).resolve() for name in ("stdlib", "platstdlib", "purelib", "platlib")]
    if any(origin.is_relative_to(place) for place in installed):
        return []
    if origin.is_dir() or origin.name == "__init__.py":
        return [_zipped(origin if origin.is_dir() else origin.parent)]
    return [origin]


def _zipped(package: Path) -> Path:
    target = _folder() / f"{package.name}.zip"
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(package.rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts:
                archive.write(path, path.relative_to(package.parent))
    return target


def _importable(name: str) -> str:
    """`module:name` for any of the three forms. A file is copied to a place of its own, which is put on the path, so
    that nothing beside it can be imported by accident: workers will not have it."""
    if name in EXTRACTORS:
        return EXTRACTORS[name]
    path, _, attribute = name.rpartition(":")
    if not path.endswith(".py"):
        return name
    if not re.fullmatch(r"[A-Za-z_]\w*", Path(path).stem):
        raise BadSetting(
            "bad_extractor", f"{Path(path).name} is not a valid module name.", "Use letters, digits and _."
        )
    try:
        copy = Path(shutil.copy(path, _folder()))
    except OSError as error:
        raise BadSetting(
            "bad_extractor", f"The extractor {path} cannot be read: {error}.", "It must lie on the driver's machine."
        ) from error
    if str(copy.parent) not in sys.path:
        sys.path.insert(0, str(copy.parent))
    return f"{copy.stem}:{attribute}"


@lru_cache(maxsize=1)
def _folder() -> Path:
    folder = tempfile.mkdtemp(prefix="image-features-extractor-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)


def _check_declared(spec: str, extractor: Extractor) -> None:
    name, dim = getattr(extractor, "name", None), getattr(extractor, "dim", None)
    if not (isinstance(name, str) and re.fullmatch(NAME, name)):
        raise BadSetting(
            "bad_extractor", f"The extractor {spec} has the name {name!r}.", "Give it letters, digits, dots or _."
        )
    if not (isinstance(dim, int) and dim > 0):
        raise BadSetting("bad_extractor", f"The extractor {spec} has the dim {dim!r}.", "Give it a whole number.")


def _failed(error: Exception) -> BadFile:
    return BadFile("extractor_failed", f"{type(error).__name__}: {error}"[:300])
