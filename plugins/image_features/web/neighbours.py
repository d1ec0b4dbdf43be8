"""The photos nearest to one of a partition, or to an uploaded one that a child process turns into a vector."""

from __future__ import annotations

import logging
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow.compute as pc

from image_features import settings
from image_features.web import search, store_state
from image_features.web.answers import Neighbour, Neighbours, Photo
from image_features.web.caches import Sized
from image_features.web.children import PATIENCE_SECONDS, Child, refusal
from image_features.web.photos import Index, index_of, no_photo
from image_features.web.refusals import Refused, busy
from image_features.web.stores import Place
from spark_apps import catalog

log = logging.getLogger(__name__)

MAX_PIXELS = 50_000_000
"""Of an uploaded photo."""
SECONDS = 20.0
"""For the child to decode and compute."""

TOO_LARGE_NOTE = (
    "This partition is too large to be kept, so every search reads it again. "
    "Raise [image_features] web_cache_mb to make it quick."
)
CUT_SHORT_NOTE = "Time ran out: only a part of the vectors was compared."


class Kept:
    """The vectors that are kept for searches, on temporary disk; made when the limit is known."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._cache: Sized[tuple[Place, catalog.Partition], search.Matrix] | None = None

    @cached_property
    def limit(self) -> int:
        """Bytes."""
        return settings.web_cache_mb() * 2**20

    def get(self, place: Place, index: Index) -> search.Matrix | None:
        """The vectors of a partition; None when they are too many to be kept, or the disk has no room."""
        if index.truncated or 4 * index.dim * index.table.num_rows > self.limit:
            return None
        with self._lock:
            if self._cache is None:
                self._cache = Sized(self.limit, lambda matrix: int(matrix.units.nbytes))
        keys = {"partition": index.item.partition, "model": index.item.model}
        try:
            return self._cache.get(
                (place, index.item),
                lambda: search.matrix(
                    catalog.stream(place.store, "features", keys, ["image_id", "features"]), index.rows, index.dim
                ),
            )
        except OSError as error:
            log.warning("Image features: the vectors cannot be kept in %s: %s", tempfile.gettempdir(), error)
            return None


_kept = Kept()


def neighbours(place: Place, partition: str, model: str | None, image_id: str, count: int) -> Neighbours:
    """The `count` photos nearest to one of the partition. Raises Refused."""
    index = index_of(place, partition, model)
    with store_state.reading(place):
        row = index.rows.get(image_id)
        matrix = _kept.get(place, index)
        vector = matrix.vector(row) if matrix and row is not None else _stored_vector(place, index, image_id)
        if vector is None:
            raise no_photo()
        query = (
            index.photo(row) if row is not None else Photo(image_id=image_id, name="", copies=1, label=None, score=None)
        )
        return _search(place, index, matrix, vector, query, count)


def neighbours_of_upload(place: Place, partition: str, model: str | None, content: bytes, count: int) -> Neighbours:
    """The `count` photos nearest to the one whose bytes these are. Raises Refused."""
    index = index_of(place, partition, model)
    if not content:
        raise refusal("empty")
    with _one_at_a_time():
        said, payload = _embedder(place, index.fingerprint).ask(content, PATIENCE_SECONDS)
    vector = np.frombuffer(payload, "<f4") if len(payload) == 4 * index.dim else None
    if vector is None:
        raise refusal("decode_error")
    query = Photo(image_id="", name="", copies=1, label=said.get("label"), score=said.get("score"))
    with store_state.reading(place):
        return _search(place, index, _kept.get(place, index), vector, query, count)


def _search(
    place: Place, index: Index, matrix: search.Matrix | None, vector: search.Vector, query: Photo, count: int
) -> Neighbours:
    begin = time.perf_counter()
    if matrix is not None:
        nearest = [(index.photo(row), cosine) for row, cosine in matrix.nearest(vector, count + 1)]
        searched = total = len(matrix.photos)
        note = ""
    else:
        keys = {"partition": index.item.partition, "model": index.item.model}
        columns = ["uri", "image_id", "top1_label", "top1_score", "features"]
        found, searched, all_of_them = search.scan(
            catalog.stream(place.store, "features", keys, columns), vector, count + 1
        )
        nearest = [(index.as_photo(one.row), one.cosine) for one in found]
        total = index.item.rows
        note = TOO_LARGE_NOTE if all_of_them else CUT_SHORT_NOTE
    others = [(photo, cosine) for photo, cosine in nearest if photo.image_id != query.image_id][:count]
    return Neighbours(
        partition=index.item.partition,
        model=index.item.model,
        query=query,
        neighbours=[
            Neighbour(**photo.model_dump(), cosine=cosine, distance=1 - cosine)
            for photo, cosine in ((photo, max(-1.0, min(1.0, value))) for photo, value in others)  # rounding
        ],
        searched=searched,
        total=total,
        seconds=round(time.perf_counter() - begin, 4),
        note=note,
    )


def _stored_vector(place: Place, index: Index, image_id: str) -> search.Vector | None:
    """The vector of a photo that is not kept, from the store."""
    keys = {"partition": index.item.partition, "model": index.item.model}
    for batch in catalog.stream(place.store, "features", keys, ["image_id", "features"]):
        row = pc.index(batch["image_id"], image_id).as_py()
        if row >= 0:
            return np.asarray(batch["features"][row].as_py(), np.float32)
    return None


# --- the model, in its own process ------------------------------------------------------------------------------------


class Embedder:
    """The child with the model of one fingerprint, and the folder its files are in if the store is elsewhere."""

    def __init__(self, place: Place, fingerprint: str) -> None:
        self._copy = tempfile.TemporaryDirectory(prefix="image-features-model-")
        with store_state.reading(place):
            folder = catalog.model_folder(place.store, fingerprint, Path(self._copy.name))
        if folder is None:
            raise Refused(
                404,
                "no_model_artifact",
                "The store does not hold the model of this partition.",
                "It is kept by extract; run a partition again with this model.",
            )
        self.child = Child("model", str(folder), str(MAX_PIXELS), seconds=SECONDS)

    def close(self) -> None:
        self.child.close()
        self._copy.cleanup()


_current: tuple[tuple[Place, str], Embedder] | None = None
_uploads = threading.Lock()


@contextmanager
def _one_at_a_time() -> Iterator[None]:
    if not _uploads.acquire(timeout=PATIENCE_SECONDS):
        raise busy()
    try:
        yield
    finally:
        _uploads.release()


def _embedder(place: Place, fingerprint: str) -> Child:
    """The one child with a model; another model takes the place of the one before. Raises Refused."""
    global _current
    if _current is None or _current[0] != (place, fingerprint):
        fresh = Embedder(place, fingerprint)
        if _current is not None:
            _current[1].close()
        _current = (place, fingerprint), fresh
    return _current[1].child
