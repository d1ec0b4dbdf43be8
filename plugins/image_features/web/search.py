"""Exact search for the nearest vectors by cosine, in bounded memory.

The unit vectors of a partition lie in a temporary file without a name, mapped into memory: the system keeps of it what
it has room for, and it is gone with the process. All such files together stay below `[image_features] web_cache_mb`;
what is larger is read from the store for every search, which takes longer and needs no more memory.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

SCAN_SECONDS = 60.0
"""A search through the store itself stops then, and says how far it came."""

Vector = NDArray[np.float32]


@dataclass(frozen=True)
class Matrix:
    """The unit vectors of distinct photos, float32 [n, dim], and the photo of each: rows of the index, int64 [n]."""

    units: Vector
    photos: NDArray[np.int64]

    def nearest(self, query: Vector, count: int) -> list[tuple[int, float]]:
        """(photo, cosine) of the `count` nearest, nearest first. `query`: of any length, [dim]."""
        cosines = self.units @ unit(query)
        count = min(count, len(cosines))
        best = np.argpartition(-cosines, count - 1)[:count] if count else np.empty(0, np.int64)
        best = best[np.argsort(-cosines[best], kind="stable")]
        return [(int(self.photos[row]), float(cosines[row])) for row in best]

    def vector(self, photo: int) -> Vector | None:
        """The unit vector of a photo."""
        (rows,) = np.nonzero(self.photos == photo)
        return None if not len(rows) else np.array(self.units[rows[0]])


def matrix(batches: Iterable[pa.RecordBatch], photo_of: Mapping[str, int], dim: int) -> Matrix:
    """Writes the vectors of `batches` (image_id, features) into a mapped file, each photo of `photo_of` once.

    Raises:
        OSError: the temporary folder has no room.
    """
    seen = np.zeros(len(photo_of), np.bool_)
    photos: list[NDArray[np.int64]] = []
    with tempfile.TemporaryFile(prefix="image-features-") as file:
        for batch in batches:
            units, kept = unit_rows(batch["features"], dim)
            rows = np.array([photo_of.get(image_id, -1) for image_id in batch["image_id"].to_pylist()], np.int64)[kept]
            first = np.zeros(len(rows), np.bool_)
            first[np.unique(rows, return_index=True)[1]] = True
            new = first & (rows >= 0) & ~seen[rows]
            seen[rows[new]] = True
            file.write((units if new.all() else units[new]).data)
            photos.append(rows[new])
        file.flush()
        found = np.concatenate(photos) if photos else np.empty(0, np.int64)
        if not len(found):
            return Matrix(np.empty((0, dim), np.float32), found)
        return Matrix(np.memmap(file, np.float32, "r", shape=(len(found), dim)), found)


def unit_rows(features: pa.Array, dim: int) -> tuple[Vector, NDArray[np.int64]]:
    """Unit vectors float32 [m, dim] and which rows they are; without those of another length, zero or not finite."""
    lengths = np.diff(features.offsets.to_numpy())
    kept = np.nonzero(lengths == dim)[0]
    if len(kept) == len(features):
        values = features.flatten().to_numpy(zero_copy_only=False).reshape(-1, dim)
    else:
        values = np.array([features[int(row)].as_py() for row in kept], np.float32).reshape(-1, dim)
    norms = np.sqrt(np.einsum("ij,ij->i", values, values))
    good = np.isfinite(norms) & (norms > 0)
    if not good.all():
        values, norms, kept = values[good], norms[good], kept[good]
    return values / norms[:, None], kept


def unit(vector: Vector) -> Vector:
    """`vector` with length 1; a zero one stays."""
    length = float(np.linalg.norm(vector.astype(np.float64)))
    return (vector / length).astype(np.float32) if length > 0 and np.isfinite(length) else np.zeros_like(vector)


@dataclass(frozen=True)
class Found:
    """One photo that a scan came across."""

    image_id: str
    cosine: float
    row: dict[str, object]


def scan(
    batches: Iterable[pa.RecordBatch], query: Vector, count: int, seconds: float = SCAN_SECONDS
) -> tuple[list[Found], int, bool]:
    """The `count` nearest distinct photos among `batches`, how many rows were compared, and whether that were all."""
    begin, best, searched = time.monotonic(), dict[str, Found](), 0
    query = unit(query)
    for batch in batches:
        if time.monotonic() - begin > seconds:
            return _top(best, count), searched, False
        searched += batch.num_rows
        units, kept = unit_rows(batch["features"], len(query))
        cosines = units @ query
        near = np.argsort(-cosines)[: 4 * count]  # copies of one photo must not push out the others
        others = batch.select([name for name in batch.schema.names if name != "features"])
        for row, cosine in zip(kept[near], cosines[near], strict=True):
            values = others.slice(int(row), 1).to_pylist()[0]
            if values["image_id"] not in best:
                best[values["image_id"]] = Found(values["image_id"], float(cosine), values)
        best = {found.image_id: found for found in _top(best, count)}
    return _top(best, count), searched, True


def _top(best: Mapping[str, Found], count: int) -> list[Found]:
    return sorted(best.values(), key=lambda found: -found.cosine)[:count]
