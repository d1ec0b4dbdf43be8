"""The photos nearest to one of a partition, or to an uploaded one or words that a child process makes a vector of.

Searches all partitions of the model, or some of them, by its search index; without an index that one partition.
"""

from __future__ import annotations

import logging
import math
import tempfile
import threading
import time
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow.compute as pc

from image_features import settings
from image_features.web import embedder, run_documents, search, search_index, store_state
from image_features.web.answers import Compared, Neighbour, Neighbours, Photo
from image_features.web.caches import Sized
from image_features.web.children import refusal
from image_features.web.photos import Index, index_of, no_photo
from image_features.web.refusals import Refused
from image_features.web.stores import Place
from image_features.wording import name_of
from spark_apps import catalog
from spark_apps.contract import partitions as keys_in_order
from spark_apps.search.reading import Neighbour as Row

log = logging.getLogger(__name__)

TOO_LARGE_NOTE = (
    "This partition is too large to be kept, so every search reads it again. "
    "Raise [image_features] web_cache_mb to make it quick."
)
CUT_SHORT_NOTE = "Time ran out: only a part of the vectors was compared."


FURTHEST = 1000
"""Neighbours that can be paged through."""


@dataclass(frozen=True)
class Scope:
    """Where a search looks: from the partition `first` to `last`, an empty one is no limit; `count` photos a page."""

    first: str = ""
    last: str = ""
    count: int = 24
    page: int = 1

    def among(self, partitions: frozenset[str]) -> list[str]:
        """Those of the partitions that lie between, the oldest first."""
        order = keys_in_order.order
        return [
            key
            for key in sorted(partitions, key=order)
            if (not self.first or order(key) >= order(self.first)) and (not self.last or order(key) <= order(self.last))
        ]


@dataclass(frozen=True)
class Question:
    """What is asked: the vector of a photo, which is shown as `query`, and where to look; `standing` is the index."""

    place: Place
    vector: search.Vector
    query: Photo
    scope: Scope
    standing: search_index.Standing


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


def neighbours(place: Place, partition: str, model: str | None, image_id: str, scope: Scope) -> Neighbours:
    """The photos nearest to one of the partition. Raises Refused."""
    item = store_state.published(place).find(partition, model)
    standing = search_index.of(place, item.model)
    if standing.index is not None and partition in standing.current and scope != _day(partition, scope):
        with store_state.reading(place):
            known = standing.index.lookup(image_id, partition)
        if known is not None:
            query = _photo(known[0], _source(place, item))
            return _by_index(Question(place, known[1], query, scope, standing), item)
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
        return _search(Question(place, vector, query, scope, standing), index, matrix)


def neighbours_of_upload(place: Place, partition: str, model: str | None, content: bytes, scope: Scope) -> Neighbours:
    """The photos nearest to the one whose bytes these are. Raises Refused."""
    if not content:
        raise refusal("empty")
    return _of_stranger(place, index_of(place, partition, model), content, scope)


def neighbours_of_words(place: Place, partition: str, model: str | None, words: str, scope: Scope) -> Neighbours:
    """The photos nearest to what the words say. Raises Refused."""
    index = index_of(place, partition, model)
    if not index.words:
        raise Refused(422, "no_words", f"The model {index.item.model} knows no words.", "Search by a photo.")
    return _of_stranger(place, index, words.encode(), scope, words)


def _of_stranger(place: Place, index: Index, content: bytes, scope: Scope, words: str = "") -> Neighbours:
    by_text_side = bool(words) and index.extractor != "text"  # whose model takes texts as files
    said, payload = embedder.ask(place, index.fingerprint, content, by_text_side)
    vector = np.frombuffer(payload, "<f4") if len(payload) == 4 * index.dim else None
    if vector is None:
        raise refusal("decode_error")
    query = Photo(image_id="", name=words, copies=1, label=said.get("label"), score=said.get("score"))
    standing = search_index.of(place, index.item.model)
    with store_state.reading(place):
        return _search(Question(place, vector, query, scope, standing), index)


def _day(partition: str, scope: Scope) -> Scope:
    """The same search in the one partition, which is compared with all of it and needs no index."""
    return Scope(partition, partition, scope.count, scope.page)


def _search(asked: Question, index: Index, matrix: search.Matrix | None = None) -> Neighbours:
    """By the index where there is one, and more than the partition is asked for. `matrix`: its vectors, if at hand."""
    if asked.standing.index is not None and asked.scope != _day(index.item.partition, asked.scope):
        return _by_index(asked, index.item)
    return _in_partition(asked, index, matrix or _kept.get(asked.place, index))


def _by_index(asked: Question, item: catalog.Partition) -> Neighbours:
    """A page of the nearest photos of what the index holds as it is published."""
    place, scope, standing = asked.place, asked.scope, asked.standing
    assert standing.index is not None
    begin = time.perf_counter()
    among = scope.among(standing.current)
    wanted = scope.page * scope.count
    with store_state.reading(place):
        # Twice as many: copies are one photo here, and the photo asked about is not among its own neighbours.
        rows, compared = standing.index.search(asked.vector, min(2 * wanted + 16, 2 * FURTHEST), among)
    found: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        if row.image_id != asked.query.image_id:
            found.setdefault((row.partition, row.image_id), []).append(row)
    page = list(found.values())[wanted - scope.count : wanted]
    published = {one.partition: one for one in store_state.published(place).partitions if one.model == item.model}
    nearest = [
        _neighbour(
            _photo(one[0], _source(place, published[one[0].partition]), len(one)), one[0].similarity, one[0].partition
        )
        for one in page
        if one[0].partition in published
    ]
    left_out = {key: rows for key, rows in standing.behind.items() if key in scope.among(frozenset(standing.behind))}
    return Neighbours(
        partition=item.partition,
        model=item.model,
        query=asked.query,
        neighbours=nearest,
        searched=compared.rows,
        total=compared.rows,
        seconds=round(time.perf_counter() - begin, 4),
        note="",
        compared=Compared(
            first=among[0] if among else "",
            last=among[-1] if among else "",
            partitions=len(among),
            exact=compared.exact,
            index="ok",
            behind_partitions=len(left_out),
            behind_rows=sum(left_out.values()),
        ),
        page=scope.page,
        more=len(found) > wanted and wanted + scope.count <= FURTHEST,
    )


def _in_partition(asked: Question, index: Index, matrix: search.Matrix | None) -> Neighbours:
    """A page of the nearest photos of one partition, compared with all of it."""
    scope = asked.scope
    begin = time.perf_counter()
    wanted = scope.page * scope.count
    if matrix is not None:
        nearest = [(index.photo(row), cosine) for row, cosine in matrix.nearest(asked.vector, wanted + 2)]
        searched = total = len(matrix.photos)
        note = ""
    else:
        keys = {"partition": index.item.partition, "model": index.item.model}
        columns = ["uri", "image_id", "top1_label", "top1_score", "features"]
        found, searched, all_of_them = search.scan(
            catalog.stream(asked.place.store, "features", keys, columns), asked.vector, wanted + 2
        )
        nearest = [(index.as_photo(one.row), one.cosine) for one in found]
        total = index.item.rows
        note = TOO_LARGE_NOTE if all_of_them else CUT_SHORT_NOTE
    others = [(photo, cosine) for photo, cosine in nearest if photo.image_id != asked.query.image_id]
    key = index.item.partition
    return Neighbours(
        partition=key,
        model=index.item.model,
        query=asked.query,
        neighbours=[_neighbour(photo, cosine, key) for photo, cosine in others[wanted - scope.count : wanted]],
        searched=searched,
        total=total,
        seconds=round(time.perf_counter() - begin, 4),
        note=note,
        compared=Compared(first=key, last=key, partitions=1, exact=searched == total, index=asked.standing.state),
        page=scope.page,
        more=len(others) > wanted and wanted + scope.count <= FURTHEST,
    )


def _neighbour(photo: Photo, cosine: float, partition: str) -> Neighbour:
    cosine = max(-1.0, min(1.0, cosine))  # rounding
    return Neighbour(**photo.model_dump(), partition=partition, cosine=cosine, distance=1 - cosine)


def _photo(row: Row, source: str | None, copies: int = 1) -> Photo:
    score = row.score if row.score is not None and math.isfinite(row.score) else None
    return Photo(
        image_id=row.image_id,
        name=name_of(row.uri, source),
        copies=copies,
        label=row.label,
        score=score,
    )


_sources: Sized[tuple[Place, catalog.Partition], str | None] = Sized(20_000)


def _source(place: Place, item: catalog.Partition) -> str | None:
    """The folder that the photos of a published partition came from, as its ingest says."""

    def read() -> str | None:
        with store_state.reading(place):
            document = run_documents.document(place, item.partition, item.folder, "ingest.json")
        ingest = run_documents.manifest_of(document)
        return str(ingest.settings["source"]) if ingest and "source" in ingest.settings else None

    return _sources.get((place, item), read)


def _stored_vector(place: Place, index: Index, image_id: str) -> search.Vector | None:
    """The vector of a photo that is not kept, from the store."""
    keys = {"partition": index.item.partition, "model": index.item.model}
    for batch in catalog.stream(place.store, "features", keys, ["image_id", "features"]):
        row = pc.index(batch["image_id"], image_id).as_py()
        if row >= 0:
            return np.asarray(batch["features"][row].as_py(), np.float32)
    return None
