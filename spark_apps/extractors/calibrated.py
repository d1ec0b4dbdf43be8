"""The model of a run. An int8 model is calibrated once in the life of a store and then taken from there.

Calibrating every day anew would give every day vectors of its own. So the first partition that asks for int8 lends its
photos, the model is kept in the store, and whoever asks for the same model finds it there.
"""

from __future__ import annotations

import hashlib
import heapq
from functools import partial
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from pyarrow import fs

from spark_apps import contract, model, storage
from spark_apps.contract import PRECISIONS, BadFile, ExtractSettings, Manifest, ModelSettings
from spark_apps.media import guard, imaging
from spark_apps.media.imaging import Preprocessing
from spark_apps.model import quantize
from spark_apps.tables import data_files, schemas

SAMPLE = quantize.MAX_PHOTOS + quantize.HELD_OUT


def prepare(settings: ExtractSettings, ingested: Manifest, here: bool) -> model.ModelArtifact:
    """The model that the settings ask for, kept in the store with its `model.json`.

    Raises:
        BadSetting, Unreachable: as `model.prepare`.
    """
    spec = ModelSettings.of(settings)
    if not PRECISIONS[spec.precision].calibrated:
        artifact = model.prepare(spec, here=here)
        keep(settings.store, artifact)
        return artifact
    kin = model.uncalibrated(spec)
    kept = _first(settings.store, kin)
    if kept is None:
        calibration = _calibration(settings, ingested)
        artifact = model.prepare(spec, here=here, calibration=calibration)
        artifact.info["calibration"].update(uncalibrated=kin, partition=settings.partition, at=contract.now())
        keep(settings.store, artifact)
        kept = _first(settings.store, kin)  # another run may have been first
        assert kept is not None
    folder = contract.join(settings.store, "models", kept["fingerprint"])
    with storage.reaching("store", settings.store):
        return model.adopt(kept, lambda name: storage.read_bytes(contract.join(folder, name)), here=here)


def _first(store_uri: str, kin: str) -> dict[str, Any] | None:
    """The `info` of the model that was calibrated first, among those of one kin in the store."""
    filesystem, root = storage.filesystem(contract.join(store_uri, "models"))
    with storage.reaching("store", store_uri):
        folders = filesystem.get_file_info(fs.FileSelector(root, allow_not_found=True))
        found = [
            storage.read_json(contract.join(store_uri, "models", item.base_name, "model.json")) for item in folders
        ]
    calibrated = [info for info in found if info and (info.get("calibration") or {}).get("uncalibrated") == kin]
    return min(calibrated, key=lambda info: (info["calibration"]["at"], info["fingerprint"]), default=None)


def keep(store_uri: str, artifact: model.ModelArtifact) -> None:
    """Keeps the engine artefact and `model.json` in the store, where features of this fingerprint can be explained."""
    folder = contract.join(store_uri, "models", artifact.fingerprint)
    with storage.reaching("store", store_uri):
        described = contract.join(folder, "model.json")
        if storage.read_json(described) is not None:
            return
        for file in artifact.files:
            storage.write_bytes(contract.join(folder, file.name), file.read_bytes())
        storage.write_json(described, artifact.info)  # last: it says that the rest is whole


def _calibration(settings: ExtractSettings, ingested: Manifest) -> model.Calibration:
    """Photos of the run's partition, those with the smallest sha256: a fair sample, and the same in every retry."""
    places: dict[str, tuple[str, int, int]] = {}
    with storage.reaching("store", settings.store):
        for file, parquet in data_files.opened(settings.store, schemas.IMAGES, ingested.staged["images"]):
            for group in range(parquet.num_row_groups):
                ids = parquet.read_row_group(group, columns=["image_id"])["image_id"].to_pylist()
                places.update((image_id, (file.path, group, row)) for row, image_id in enumerate(ids))
            # Only the smallest are kept while reading, so memory does not grow with the day.
            places = {image_id: places[image_id] for image_id in heapq.nsmallest(SAMPLE, places)}
    return model.Calibration(
        photos=hashlib.sha256("".join(sorted(places)).encode()).hexdigest(),
        pixels=partial(_pixels, settings, places, ingested.settings["max_pixels"]),
    )


def _pixels(
    settings: ExtractSettings,
    places: dict[str, tuple[str, int, int]],
    max_pixels: int,
    preprocessing: Preprocessing,
) -> np.ndarray:
    """uint8 [n, crop, crop, 3] of the photos that can be decoded, in the order of their sha256."""
    filesystem, root = storage.filesystem(schemas.IMAGES.uri(settings.store))
    groups: dict[tuple[str, int], list[tuple[int, str]]] = {}
    for image_id, (path, group, row) in places.items():
        groups.setdefault((path, group), []).append((row, image_id))
    decoded: dict[str, np.ndarray] = {}
    decoder = partial(imaging.decoder, preprocessing, max_pixels)
    with storage.reaching("store", settings.store), guard.Guard(decoder) as child:
        for (path, group), rows in groups.items():
            parquet = pq.ParquetFile(f"{root}/{path}", filesystem=filesystem)
            contents = parquet.read_row_group(group, columns=["content"])["content"]
            for row, image_id in rows:
                try:
                    decoded[image_id] = child.decode(contents[row].as_py())
                except BadFile:
                    continue  # extract will set it aside
    return np.stack([decoded[image_id] for image_id in sorted(decoded)]) if decoded else np.empty((0,), np.uint8)
