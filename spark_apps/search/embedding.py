"""The vector of a file that is not in the store, or of words, by the model that the store keeps."""

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
from spark_apps.model import words

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


def of_words(store: str, model: str, text: str, template: str = words.AS_THEY_ARE) -> NDArray[np.float32]:
    """The vector of words, float32 [dim]: by the text side of a model with two towers, which the store keeps beside it;
    by a model of texts, as that of a file with these words. `template`: see `words.Words.vector`.

    Raises:
        BadSetting: the store keeps no such model, it knows no words, or a package is missing here.
        Unreachable: the store cannot be read.
    """
    info, folder = _kept(store, model, True)
    if info.extractor == "text":
        return vector(store, model, text.encode())
    return words.opened(info, folder, cores.available()).vector(text, template)


@lru_cache(maxsize=4)
def _extractor(store: str, model: str) -> extractors.Extractor:
    info, folder = _kept(store, model, False)
    return extractors.opened(info, PHOTO_PIXELS, folder, cores.available(), "cpu")


def _kept(store: str, model: str, text: bool) -> tuple[ModelInfo, Path]:
    """The model that made the newest vectors, and a folder with its files, or with `text` those of its text side."""
    newest = next(iter(catalog.partitions(store, model)), None)
    if newest is None:
        raise BadSetting("no_model", f"The store {store} has nothing published under {model}.")
    keys = {"partition": newest.partition, "model": model}
    batches = catalog.stream(store, "features", keys, ["model_fingerprint"], rows=1)
    fingerprint = next(batch["model_fingerprint"][0].as_py() for batch in batches if batch.num_rows)
    _folders.append(tempfile.TemporaryDirectory(prefix="image-features-model-"))
    folder = catalog.model_folder(store, fingerprint, Path(_folders[-1].name), text)
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
    return info, folder
