"""The poorest photos of what is published: the blank, the darkest, the most blurred, each with its value."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from image_features.web import photos, store_state
from image_features.web.answers import PoorPhoto, PoorPhotos, PoorPhotosOfAKind
from image_features.web.caches import Sized
from image_features.web.stores import Place
from spark_apps import catalog
from spark_apps.contract import photo_quality

SHOWN = 6
"""Of each kind."""
CANDIDATES = 64
"""Files from which these are taken: copies of a photo are shown once."""
COLUMNS = ["uri", "image_id", "top1_label", "top1_score", "sharpness", "brightness", "contrast", "blank"]
MEASURES = {"blank": "contrast", "dark": "brightness", "blurred": "sharpness"}
"""Of `photo_quality.POOR`, the column that says how poor, the lower the poorer."""
LIMITS = {"blank": photo_quality.BLANK, "dark": photo_quality.DARK, "blurred": photo_quality.BLURRED}

_found: Sized[tuple[Place, catalog.Partition], PoorPhotos] = Sized(256, lambda _: 1)


def of(place: Place, partition: str, model: str) -> PoorPhotos:
    """Of a published partition. No kind where nothing was measured: a store of before, or other files than photos.

    Raises Refused.
    """
    index = photos.index_of(place, partition, model)
    return _found.get((place, index.item), lambda: _read(place, index))


def _read(place: Place, index: photos.Index) -> PoorPhotos:
    item, measured = index.item, 0
    counts = dict.fromkeys(photo_quality.POOR, 0)
    poorest: dict[str, pa.Table] = {}
    keys = {"partition": item.partition, "model": item.model}
    with store_state.reading(place):
        delta = catalog.table(place.store, "features")
        if delta is not None and set(COLUMNS) <= set(catalog.columns(delta).names):
            for batch in catalog.stream(place.store, "features", keys, COLUMNS, rows=65_536):
                rows = pa.Table.from_batches([batch])
                rows = rows.filter(pc.is_valid(rows["contrast"]))
                measured += rows.num_rows
                for kind, column in MEASURES.items():
                    fitting = rows.filter(rows["blank"]) if kind == "blank" else rows
                    fitting = fitting.filter(pc.invert(fitting["blank"])) if kind == "blurred" else fitting
                    counts[kind] += int((np.asarray(fitting[column]) < LIMITS[kind]).sum())
                    both = [poorest[kind], fitting] if kind in poorest else [fitting]
                    sorted_ = pa.concat_tables(both).sort_by([(column, "ascending"), ("uri", "ascending")])
                    poorest[kind] = sorted_.slice(0, CANDIDATES)
    return PoorPhotos(
        partition=item.partition,
        model=item.model,
        measured=measured,
        kinds=[
            PoorPhotosOfAKind(
                kind=kind,
                measure=MEASURES[kind],
                limit=LIMITS[kind],
                total=counts[kind],
                photos=_shown(index, MEASURES[kind], poorest[kind].to_pylist()),
            )
            for kind in photo_quality.POOR
            if measured
        ],
    )


def _shown(index: photos.Index, column: str, rows: list[dict[str, Any]]) -> list[PoorPhoto]:
    distinct = {row["image_id"]: row for row in reversed(rows)}
    chosen = sorted(distinct.values(), key=lambda row: (row[column], row["uri"]))[:SHOWN]
    shown = []
    for row in chosen:
        at = index.rows.get(row["image_id"])
        photo = index.as_photo(row) if at is None else index.photo(at)
        shown.append(PoorPhoto(**photo.model_dump(), value=row[column]))
    return shown
