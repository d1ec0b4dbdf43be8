"""The distinct photos of a partition: a list to page through and to pick from."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from typing import Any

import pyarrow as pa

from image_features.web import run_documents, store_state
from image_features.web.answers import PartitionModels, Photo, PhotoPage
from image_features.web.caches import Sized
from image_features.web.refusals import Refused
from image_features.web.stores import Place
from image_features.wording import name_of
from spark_apps import catalog

PHOTOS_PER_PAGE = 24
LISTED = 200_000
"""Distinct photos of a partition that can be paged through, and whose vectors are kept for the search."""


@dataclass(frozen=True)
class Index:
    """The distinct photos of one published (partition, model), by name: image_id, uri, copies, label, score.
    `extractor`: the name of what made the vectors. `words`: whether it can be searched by words."""

    item: catalog.Partition
    table: pa.Table
    truncated: bool
    source: str | None
    extractor: str
    fingerprint: str
    dim: int
    words: bool = False

    @cached_property
    def rows(self) -> dict[str, int]:
        """image_id → row."""
        return {image_id: row for row, image_id in enumerate(self.table["image_id"].to_pylist())}

    def photo(self, row: int) -> Photo:
        return self.as_photo(self.table.slice(row, 1).to_pylist()[0])

    def as_photo(self, values: dict[str, Any]) -> Photo:
        """A photo from a row of this table or of the table features."""
        score = values["top1_score"]
        return Photo(
            image_id=values["image_id"],
            name=name_of(values["uri"], self.source),
            copies=values.get("copies", 1),
            label=values["top1_label"],
            score=score if score is not None and math.isfinite(score) else None,
        )


def no_photo() -> Refused:
    """The refusal of a photo that is not there."""
    return Refused(404, "no_such_photo", "This partition has no such photo.", "Pick one of its photos.")


_indexes: Sized[tuple[Place, catalog.Partition], Index] = Sized(128 * 2**20, lambda index: 2 * index.table.nbytes)


def index_of(place: Place, partition: str, model: str | None) -> Index:
    """The photos of what is published; without a model, most recently. Raises Refused."""
    item = store_state.published(place).find(partition, model)
    return _indexes.get((place, item), lambda: _make(place, item))


def _make(place: Place, item: catalog.Partition) -> Index:
    keys = {"partition": item.partition, "model": item.model}
    columns = ["uri", "image_id", "top1_label", "top1_score", "model_fingerprint"]
    parts, count = [], 0
    with store_state.reading(place):
        for batch in catalog.stream(place.store, "features", keys, columns, rows=65_536):
            parts.append(pa.Table.from_batches([batch]))
            count += batch.num_rows
            if count >= LISTED:
                break
        rows = pa.concat_tables(parts) if parts else None
        if rows is None or not rows.num_rows:
            raise no_photo()
        vectors = catalog.stream(place.store, "features", keys, ["features"], rows=1)
        dim = next(len(batch["features"][0]) for batch in vectors if batch.num_rows)
        ingest, extract = (
            run_documents.manifest_of(run_documents.document(place, item.partition, item.folder, f"{stage}.json"))
            for stage in ("ingest", "extract")
        )
    asked = ingest.settings if ingest else {}
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
        source=str(asked["source"]) if "source" in asked else None,
        extractor=str(asked.get("extractor", "image")),
        fingerprint=rows["model_fingerprint"][0].as_py(),
        dim=dim,
        words=bool(extract and extract.model and (extract.model.text_files or extract.model.extractor == "text")),
    )


def page(place: Place, partition: str, model: str | None, number: int) -> PhotoPage:
    """A page of the distinct photos, by name. Raises Refused."""
    index, published = index_of(place, partition, model), store_state.published(place)
    total = index.table.num_rows
    pages = max(1, -(-total // PHOTOS_PER_PAGE))
    number = min(number, pages)
    first = (number - 1) * PHOTOS_PER_PAGE
    return PhotoPage(
        partition=partition,
        model=index.item.model,
        extractor=index.extractor,
        words=index.words,
        partitions=[
            PartitionModels(partition=key, models=sorted(item.model for item in items))
            for key, items in groupby(published.partitions, lambda item: item.partition)
        ],
        page=number,
        pages=pages,
        total=total,
        truncated=index.truncated,
        photos=[index.photo(row) for row in range(first, min(first + PHOTOS_PER_PAGE, total))],
    )


def sample(place: Place, partition: str, model: str, seed: str, count: int) -> list[Photo]:
    """`count` photos drawn by a hash of `seed` and the photo: the same each time."""
    index = index_of(place, partition, model)
    lots = sorted(index.rows, key=lambda image_id: hashlib.sha256(f"{seed} {image_id}".encode()).digest())
    return [index.photo(index.rows[image_id]) for image_id in lots[:count]]
