"""Extractors: what makes a vector of a file, loaded once per worker. `image` runs torchvision's backbones.

Another is a class with a name, a dimension and a method: in a module of your own, or in one beside this and a line in
`contract.EXTRACTORS`. docs/extractors.md has a complete example.
"""

from __future__ import annotations

import importlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from spark_apps.contract import PHOTOS, BadFile, ExtractSettings, Manifest, ModelInfo

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from spark_apps.model import ModelArtifact

__all__ = ["BadFile", "Extractor", "Facts", "Label", "Labelled", "opened", "prepare"]

Label = tuple[str | None, float | None]
"""What a file is taken for, and a score from 0 to 1; (None, None) where there is no such thing."""
Facts = dict[str, Any]
"""Columns of the table features that an extractor knows of a file beside its vector."""
Labelled = tuple["Sequence[NDArray[np.float32] | BadFile]", Sequence[Label]]


class Extractor(ABC):
    """One technique that turns a file into a vector. A subclass loads what it needs in `__init__`, which takes nothing.

    It is made once in each Python worker and kept for all tasks and jobs of that worker, and once on the driver, to
    learn `name`, `dim` and `fingerprint`. It is never pickled.
    """

    name: str
    """What its features are published under: letters, digits, dots, underscores. With another name, other features."""
    dim: int
    """Length of every vector."""
    fingerprint: str = ""
    """Must differ whenever the vector of a file may differ: the version of a model, say. Empty: the sha256 of the
    module's source, so that after any edit vectors are computed anew."""
    min_cosine: float = 0.9999
    """Smallest cosine between a vector and the `reference` of its file that the check `recomputation` lets pass."""

    def prepare(self, content: bytes) -> Any:
        """A file's bytes as `extract` takes them. May be called in several threads at a time.

        Raises:
            BadFile: the file gives no vector, and becomes a quarantine row with this code and message. So does any
                other exception, with the code `extractor_failed`.
        """
        return content

    def prepare_with_facts(self, content: bytes) -> tuple[Any, Facts]:
        """The same, and what the table features keeps of the file beside its vector. Called as `prepare`."""
        return self.prepare(content), {}

    @abstractmethod
    def extract(self, items: Sequence[Any]) -> NDArray[np.float32]:
        """Vectors, float32 [n, dim], of n prepared files. At most `--batch-size` files, and one call at a time."""

    def reference(self, content: bytes) -> NDArray[np.float32]:
        """The vector of one file, float32 [dim], by a slow and independent way; `validate` compares a sample with it.

        As it stands it is the same code with a batch of one, which finds what depends on batch or worker.
        """
        found: NDArray[np.float32] = self.extract([self.prepare(content)])[0]
        return found

    def label(self, items: Sequence[Any]) -> Labelled:
        """Vectors of n prepared files as `extract` gives them, and a label for each."""
        return self.extract(items), [(None, None)] * len(items)  # type: ignore[return-value]  # an array has rows


def prepare(settings: ExtractSettings, ingested: Manifest, here: bool) -> ModelArtifact:
    """The model that the settings ask for, described and verified, on the driver.

    `here`: tasks run on this machine.

    Raises:
        BadSetting, Unreachable: it cannot be had.
    """
    artifact: ModelArtifact = _kind(settings.extractor).prepare(settings, ingested, here)
    return artifact


def opened(
    info: ModelInfo,
    max_pixels: int,
    folder: Path | None = None,
    cores: int = 1,
    device: str | None = None,
    weights_within: str = "",
) -> Extractor:
    """The extractor of an artefact's `info`, in a worker. `folder`: of the artefact's files; without it nothing but
    `prepare` and `reference` can be called. `device`: the GPU that Spark gave the task. `weights_within`: as in
    `ModelSettings`, for the weights that `reference` resolves again.

    Raises:
        BadSetting: it cannot be loaded here.
    """
    extractor: Extractor = _kind(info.extractor).opened(info, max_pixels, folder, cores, device, weights_within)
    return extractor


def _kind(name: str) -> ModuleType:
    return importlib.import_module(f"spark_apps.extractors.{'image' if name == PHOTOS else 'custom'}")
