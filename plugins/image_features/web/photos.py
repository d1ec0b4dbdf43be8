"""The photos of a partition: to look at, to pick from, and to find the nearest of."""

from __future__ import annotations

import hashlib
import logging
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from image_features import settings
from image_features.web import reports, search, stores
from image_features.web.caches import Sized
from image_features.web.children import Child, refusal
from image_features.web.errors import Refused, busy
from image_features.web.schemas import Neighbour, Neighbours, Photo, PhotoPage
from spark_apps import catalog

log = logging.getLogger(__name__)

PHOTOS_PER_PAGE = 24
LISTED = 200_000
"""Distinct photos of a partition that can be paged through, and whose vectors are kept for the search."""
THUMBNAIL_SIDE = 256
THUMBNAIL_PIXELS = 100_000_000
UPLOAD_PIXELS = 50_000_000
UPLOAD_SECONDS = 20.0
PATIENCE_SECONDS = 15.0

TOO_LARGE_NOTE = (
    "This partition is too large to be kept, so every search reads it again. "
    "Raise [image_features] web_cache_mb to make it quick."
)
CUT_SHORT_NOTE = "Time ran out: only a part of the vectors was compared."


@dataclass(frozen=True)
class Index:
    """The distinct photos of one published (partition, model), by name: image_id, uri, copies, label, score."""

    item: catalog.Partition
    table: pa.Table
    truncated: bool
    source: str | None
    fingerprint: str
    dim: int

    @cached_property
    def rows(self) -> dict[str, int]:
        """image_id → row."""
        return {image_id: row for row, image_id in enumerate(self.table["image_id"].to_pylist())}

    def photo(self, row: int) -> Photo:
        return self.as_photo(self.table.slice(row, 1).to_pylist()[0])

    def as_photo(self, values: dict[str, Any]) -> Photo:
        """A photo from a row of this table or of the table features."""
        return Photo(
            image_id=values["image_id"],
            name=reports.name_of(values["uri"], self.source),
            copies=values.get("copies", 1),
            label=values["top1_label"],
            score=values["top1_score"],
        )


def _no_photo() -> Refused:
    return Refused(404, "no_such_photo", "This partition has no such photo.", "Pick one of its photos.")


def _no_thumbnail() -> Refused:
    return Refused(404, "no_thumbnail", "No thumbnail can be drawn of this photo.")


_indexes: Sized[tuple[str, catalog.Partition], Index] = Sized(128 * 2**20, lambda index: 2 * index.table.nbytes)


def _index(partition: str, model: str | None) -> Index:
    published = stores.published()
    item = published.find(partition, model)
    return _indexes.get((published.store, item), lambda: _make_index(published.store, item))


def _make_index(store: str, item: catalog.Partition) -> Index:
    keys = {"partition": item.partition, "model": item.model}
    columns = ["uri", "image_id", "top1_label", "top1_score", "model_fingerprint"]
    parts, count = [], 0
    with stores.reading():
        for batch in catalog.stream(store, "features", keys, columns, rows=65_536):
            parts.append(pa.Table.from_batches([batch]))
            count += batch.num_rows
            if count >= LISTED:
                break
        rows = pa.concat_tables(parts) if parts else None
        if rows is None or not rows.num_rows:
            raise _no_photo()
        first = next(iter(catalog.stream(store, "features", keys, ["features"], rows=1)))
        ingest = reports.document(store, item.partition, item.run_id, "ingest.json") or {}
    distinct = rows.group_by("image_id", use_threads=False).aggregate(
        [("uri", "first"), ("uri", "count"), ("top1_label", "first"), ("top1_score", "first")]
    )
    names = {
        "image_id": "image_id",
        "uri": "uri_first",
        "copies": "uri_count",
        "top1_label": "top1_label_first",
        "top1_score": "top1_score_first",
    }
    return Index(
        item=item,
        table=distinct.select(list(names.values())).rename_columns(list(names)).sort_by("uri"),
        truncated=count < item.rows,
        source=(ingest.get("settings") or {}).get("source"),
        fingerprint=rows["model_fingerprint"][0].as_py(),
        dim=len(first["features"][0]),
    )


# --- to look at -------------------------------------------------------------------------------------------------------


def page(partition: str, model: str | None, number: int) -> PhotoPage:
    """A page of the distinct photos, by name. Raises Refused."""
    index, published = _index(partition, model), stores.published()
    total = index.table.num_rows
    pages = max(1, -(-total // PHOTOS_PER_PAGE))
    number = min(number, pages)
    first = (number - 1) * PHOTOS_PER_PAGE
    return PhotoPage(
        partition=partition,
        model=index.item.model,
        models=sorted(item.model for item in published.partitions if item.partition == partition),
        partitions=[item.partition for item in published.partitions if item.model == index.item.model],
        page=number,
        pages=pages,
        total=total,
        truncated=index.truncated,
        photos=[index.photo(row) for row in range(first, min(first + PHOTOS_PER_PAGE, total))],
    )


def sample(partition: str, model: str, seed: str, count: int) -> list[Photo]:
    """`count` photos drawn by a hash of `seed` and the photo: the same each time."""
    index = _index(partition, model)
    lots = sorted(index.rows, key=lambda image_id: hashlib.sha256(f"{seed} {image_id}".encode()).digest())
    return [index.photo(index.rows[image_id]) for image_id in lots[:count]]


_places: Sized[tuple[str, str, int], dict[str, catalog.Place]] = Sized(2)
_groups: Sized[tuple[str, str, int], pa.Array] = Sized(96 * 2**20, lambda contents: int(contents.nbytes))
_thumbnails: Sized[tuple[str, str, str], bytes] = Sized(32 * 2**20, len)
_artist = Child("thumbnail", str(THUMBNAIL_SIDE), str(THUMBNAIL_PIXELS), seconds=10.0)


def thumbnail(partition: str, image_id: str) -> bytes:
    """A small WebP of a photo that the partition holds. Raises Refused."""
    store = stores.location()
    return _thumbnails.get((store, partition, image_id), lambda: _draw(store, partition, image_id))


def _draw(store: str, partition: str, image_id: str) -> bytes:
    with stores.reading():
        changed = max(
            (item.modified_ms for item in stores.published().partitions if item.partition == partition), default=0
        )
        places = _places.get((store, partition, changed), lambda: catalog.places(store, partition))
        place = places.get(image_id)
        if place is None:
            raise _no_thumbnail()
        key = store, place.path, place.row_group
        content = _groups.get(key, lambda: catalog.contents(store, place))[place.row].as_py()
    try:
        drawn = _artist.ask(content, PATIENCE_SECONDS)[1]
    except Refused as refused:
        if refused.status == 422:
            raise _no_thumbnail() from None
        raise
    if not drawn:
        raise _no_thumbnail()
    return drawn


# --- the nearest ------------------------------------------------------------------------------------------------------


class Kept:
    """The vectors that are kept for searches, on temporary disk; made when the limit is known."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._cache: Sized[tuple[str, catalog.Partition], search.Matrix] | None = None

    @cached_property
    def limit(self) -> int:
        """Bytes."""
        return settings.web_cache_mb() * 2**20

    def get(self, store: str, index: Index) -> search.Matrix | None:
        """The vectors of a partition; None when they are too many to be kept, or the disk has no room."""
        if index.truncated or 4 * index.dim * index.table.num_rows > self.limit:
            return None
        with self._lock:
            if self._cache is None:
                self._cache = Sized(self.limit, lambda matrix: int(matrix.units.nbytes))
        keys = {"partition": index.item.partition, "model": index.item.model}
        try:
            return self._cache.get(
                (store, index.item),
                lambda: search.matrix(
                    catalog.stream(store, "features", keys, ["image_id", "features"]), index.rows, index.dim
                ),
            )
        except OSError as error:
            log.warning("Image features: the vectors cannot be kept in %s: %s", tempfile.gettempdir(), error)
            return None


_kept = Kept()


def neighbours(partition: str, model: str | None, image_id: str, count: int) -> Neighbours:
    """The `count` photos nearest to one of the partition. Raises Refused."""
    index = _index(partition, model)
    store = stores.location()
    with stores.reading():
        row = index.rows.get(image_id)
        matrix = _kept.get(store, index)
        vector = matrix.vector(row) if matrix and row is not None else _stored_vector(store, index, image_id)
        if vector is None:
            raise _no_photo()
        query = (
            index.photo(row) if row is not None else Photo(image_id=image_id, name="", copies=1, label=None, score=None)
        )
        return _search(store, index, matrix, vector, query, count)


def neighbours_of_upload(partition: str, model: str | None, content: bytes, count: int) -> Neighbours:
    """The `count` photos nearest to the one whose bytes these are. Raises Refused."""
    index = _index(partition, model)
    store = stores.location()
    if not content:
        raise refusal("empty")
    with _one_at_a_time():
        said, payload = _embedder(store, index.fingerprint).ask(content, PATIENCE_SECONDS)
    vector = np.frombuffer(payload, "<f4") if len(payload) == 4 * index.dim else None
    if vector is None:
        raise refusal("decode_error")
    query = Photo(image_id="", name="", copies=1, label=said.get("label"), score=said.get("score"))
    with stores.reading():
        return _search(store, index, _kept.get(store, index), vector, query, count)


def _search(
    store: str, index: Index, matrix: search.Matrix | None, vector: search.Vector, query: Photo, count: int
) -> Neighbours:
    begin = time.perf_counter()
    if matrix is not None:
        nearest = [(index.photo(row), cosine) for row, cosine in matrix.nearest(vector, count + 1)]
        searched = total = len(matrix.photos)
        note = ""
    else:
        keys = {"partition": index.item.partition, "model": index.item.model}
        columns = ["uri", "image_id", "top1_label", "top1_score", "features"]
        found, searched, all_of_them = search.scan(catalog.stream(store, "features", keys, columns), vector, count + 1)
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


def _stored_vector(store: str, index: Index, image_id: str) -> search.Vector | None:
    """The vector of a photo that is not kept, from the store."""
    keys = {"partition": index.item.partition, "model": index.item.model}
    for batch in catalog.stream(store, "features", keys, ["image_id", "features"]):
        row = pc.index(batch["image_id"], image_id).as_py()
        if row >= 0:
            return np.asarray(batch["features"][row].as_py(), np.float32)
    return None


# --- the model, in its own process ------------------------------------------------------------------------------------


class Embedder:
    """The child with the model of one fingerprint, and the folder its files are in if the store is elsewhere."""

    def __init__(self, store: str, fingerprint: str) -> None:
        self._copy = tempfile.TemporaryDirectory(prefix="image-features-model-")
        with stores.reading():
            folder = catalog.model_folder(store, fingerprint, Path(self._copy.name))
        if folder is None:
            raise Refused(
                404,
                "no_model_artifact",
                "The store does not hold the model of this partition.",
                "It is kept by extract; run a partition again with this model.",
            )
        self.child = Child("model", str(folder), str(UPLOAD_PIXELS), seconds=UPLOAD_SECONDS)

    def close(self) -> None:
        self.child.close()
        self._copy.cleanup()


_current: tuple[tuple[str, str], Embedder] | None = None
_uploads = threading.Lock()


@contextmanager
def _one_at_a_time() -> Iterator[None]:
    if not _uploads.acquire(timeout=PATIENCE_SECONDS):
        raise busy()
    try:
        yield
    finally:
        _uploads.release()


def _embedder(store: str, fingerprint: str) -> Child:
    """The one child with a model; another model takes the place of the one before. Raises Refused."""
    global _current
    if _current is None or _current[0] != (store, fingerprint):
        fresh = Embedder(store, fingerprint)
        if _current is not None:
            _current[1].close()
        _current = (store, fingerprint), fresh
    return _current[1].child
