"""The photos that an int8 model is calibrated on and judged by: a sample of the run's own partition."""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from spark_apps import model, storage
from spark_apps.contract import BadFile, ExtractSettings, Manifest
from spark_apps.media import guard, imaging
from spark_apps.media.fitting import Preprocessing
from spark_apps.model import quantize
from spark_apps.tables import contents, data_files, schemas

SAMPLE = quantize.MAX_PHOTOS + quantize.HELD_OUT


def sample(settings: ExtractSettings, ingested: Manifest) -> model.Calibration:
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
        pixels=partial(_pixels, settings, places, ingested.settings),
    )


def _pixels(
    settings: ExtractSettings,
    places: dict[str, tuple[str, int, int]],
    asked: Mapping[str, Any],
    preprocessing: Preprocessing,
) -> np.ndarray:
    """uint8 [n, crop, crop, 3] of the photos that can be decoded, in the order of their sha256. `asked`: what ingest
    was asked for."""
    filesystem, root = storage.filesystem(schemas.IMAGES.uri(settings.store))
    groups: dict[tuple[str, int], list[int]] = {}
    for path, group, row in places.values():
        groups.setdefault((path, group), []).append(row)
    decoded: dict[str, np.ndarray] = {}
    decoder = partial(imaging.decoder, preprocessing, asked["max_pixels"])
    with storage.reaching("store", settings.store), guard.Guard(decoder) as child:
        for (path, group), rows in groups.items():
            parquet = pq.ParquetFile(f"{root}/{path}", filesystem=filesystem)
            images = parquet.read_row_group(group, columns=contents.COLUMNS).take(rows).to_pylist()
            for image, content in zip(images, contents.of(images, asked.get("within", "")), strict=True):
                pixels = content if isinstance(content, BadFile) else child.decode(content)
                if not isinstance(pixels, BadFile):  # which extract will set aside
                    decoded[image["image_id"]] = pixels
    return np.stack([decoded[image_id] for image_id in sorted(decoded)]) if decoded else np.empty((0,), np.uint8)
