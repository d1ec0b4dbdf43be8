"""The extractor `image`: photos by a model of `contract.MODEL_SOURCES`, in one of the model room's engines."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from spark_apps import model
from spark_apps.contract import ExtractSettings, Manifest, ModelInfo
from spark_apps.extractors import Extractor, Facts, Labelled, kept_models
from spark_apps.media import imaging
from spark_apps.media.fitting import Preprocessing
from spark_apps.model import worker

if TYPE_CHECKING:
    from numpy.typing import NDArray


def prepare(settings: ExtractSettings, ingested: Manifest, here: bool) -> model.ModelArtifact:
    """See `extractors.prepare`."""
    return kept_models.prepare(settings, ingested, here)


class Photos(Extractor):
    """Photos to the features of a backbone; the engine is opened at the first batch and shared by all of this process.

    Prepared items are uint8 [height, width, 3].
    """

    def __init__(
        self,
        info: ModelInfo,
        max_pixels: int,
        folder: Path | None = None,
        cores: int = 1,
        device: str | None = None,
        weights_within: str = "",
    ) -> None:
        self.name, self.dim, self.fingerprint = info.key, info.dim, info.fingerprint
        self._info, self._max_pixels, self._weights_within = info, max_pixels, weights_within
        self._folder, self._cores, self._device = folder, cores, device if info.device == "cuda" else None
        self._preprocessing = Preprocessing.of(info.preprocessing)
        if self._preprocessing.fast:
            import cykooz_resizer  # noqa: F401  # where it is missing a task fails at once, and not each photo

    def prepare(self, content: bytes) -> NDArray[np.uint8]:
        return imaging.decode(content, self._preprocessing, self._max_pixels)

    def prepare_with_facts(self, content: bytes) -> tuple[NDArray[np.uint8], Facts]:
        pixels, found = imaging.decode_and_measure(content, self._preprocessing, self._max_pixels)
        return pixels, vars(found)

    def extract(self, items: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        return self._run(items).features

    def label(self, items: Sequence[NDArray[np.uint8]]) -> Labelled:
        outputs = self._run(items)
        assert outputs.logits is not None
        return list(outputs.features), model.labels(self._info.categories, outputs.logits)

    def reference(self, content: bytes) -> NDArray[np.float32]:
        """By the model's own library in fp32, with its own transforms."""
        seen = self._preprocessing
        return self._library(imaging.upright_rgb(content, self._max_pixels, colors=seen.color, of_raw=seen.of_raw))

    def _run(self, items: Sequence[NDArray[np.uint8]]) -> model.Outputs:
        assert self._folder is not None
        engine = worker.engine(self._info, self._folder, self._cores, self._device, streams=self._cores)
        return engine.run(np.stack(items))

    @cached_property
    def _library(self) -> Callable[[Any], NDArray[np.float32]]:
        from spark_apps.model.reference import reference

        return reference(self._info.settings(self._weights_within))


opened = Photos
"""See `extractors.opened`."""
