"""The vector of a file that is not in the store, by the model that the store keeps, as the pipeline computes it."""

from __future__ import annotations

import json
import tempfile
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from spark_apps import catalog, extractors
from spark_apps.contract import EXTRACTORS, BadFile, BadSetting, ModelInfo
from spark_apps.contract.settings import PHOTO_PIXELS
from spark_apps.host import cores

_folders: list[tempfile.TemporaryDirectory[str]] = []
"""Of models that were copied from stores elsewhere; they go with the process."""


def vector(store: str, model: str, content: bytes) -> NDArray[np.float32]:
    """The vector of a file's bytes, float32 [dim].

    Raises:
        BadSetting: the store keeps no such model, or it cannot run here.
        contract.BadFile: the bytes give no vector; `code` is one of `contract.QUARANTINE_CODES`.
        Unreachable: the store cannot be read.
    """
    extractor = _extractor(store, model)
    (found,) = extractor.extract([extractor.prepare(content)])
    if isinstance(found, BadFile):
        raise found
    return np.asarray(found, np.float32)


@lru_cache(maxsize=4)
def _extractor(store: str, model: str) -> extractors.Extractor:
    newest = next(iter(catalog.partitions(store, model)), None)
    if newest is None:
        raise BadSetting("no_model", f"The store {store} has nothing published under {model}.")
    keys = {"partition": newest.partition, "model": model}
    batches = catalog.stream(store, "features", keys, ["model_fingerprint"], rows=1)
    fingerprint = next(batch["model_fingerprint"][0].as_py() for batch in batches if batch.num_rows)
    _folders.append(tempfile.TemporaryDirectory(prefix="image-features-model-"))
    folder = catalog.model_folder(store, fingerprint, Path(_folders[-1].name))
    if folder is None:
        raise BadSetting(
            "no_model_artifact",
            f"The store {store} does not keep the model {model}.",
            "It is kept by extract; run a partition again with this model, or search by a vector.",
        )
    info = ModelInfo.from_record(json.loads((folder / "model.json").read_text()))
    if info.extractor not in EXTRACTORS:
        raise BadSetting(
            "own_extractor", f"The extractor {info.extractor} is not run here.", "Search by a vector that it has made."
        )
    return extractors.opened(info, PHOTO_PIXELS, folder, cores.available(), "cpu")
