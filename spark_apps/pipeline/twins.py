"""Photos that share a vector: the same picture in other bytes, or a model that cannot tell pictures apart?

A retagged copy, a black frame of another minute, a picture saved in two formats: their bytes differ and their pixels
do not, so one vector for all is right. What is compared is what enters the model, the prepared file.
"""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from spark_apps import extractors
from spark_apps.contract import BadFile, ModelInfo, StagedFile
from spark_apps.pipeline import keys, places
from spark_apps.pipeline.keys import Keys
from spark_apps.spark.spreading import Spread
from spark_apps.tables import contents, schemas

DRAWN = 200
"""Photos judged, drawn by lot from those that share a vector: a share of them is right within 7 points, 19 times in 20
(binomial), and up to so many are all of them."""
COMPARED = 8
"""Photos of one vector that each of those is compared with."""


@dataclass(frozen=True)
class Sharing:
    """Vectors that more than one image has. `images`, `vectors`: the keys of each such pair, by vector and image
    ascending. `distinct`: images in all."""

    images: Keys
    vectors: Keys
    distinct: int

    @property
    def fraction(self) -> float:
        """Share of the images whose vector another image has too (0 to 1)."""
        return len(self.images) / self.distinct if self.distinct else 0.0

    @property
    def suspects(self) -> Keys:
        """These images, ascending."""
        return np.unique(self.images)


NOTHING = Sharing(keys.of([]), keys.of([]), 0)


@dataclass(frozen=True)
class Twins:
    """What a look at `photos` of those that share a vector found. `differing`: the keys of the images among these whose
    vector belongs to another input of the model too, ascending. Photos that their source no longer has as they were are
    not looked at."""

    photos: int
    differing: Keys

    @property
    def fraction(self) -> float:
        """Share of the photos looked at that share a vector and not their pixels (0 to 1); 1 where none could be."""
        return len(self.differing) / self.photos if self.photos else 1.0


def sharing(images: Keys, vectors: Keys) -> Sharing:
    """Which images share a vector, by the keys of both of each row."""
    rows = np.flatnonzero(keys.within(vectors, keys.repeated(np.sort(vectors))))
    rows = rows[np.lexsort((images[rows], vectors[rows]))]
    by_vector, by_image = vectors[rows], images[rows]
    new = np.ones(len(rows), bool)
    new[1:] = (by_vector[1:] != by_vector[:-1]) | (by_image[1:] != by_image[:-1])
    by_vector, by_image = by_vector[new], by_image[new]
    several = keys.within(by_vector, keys.repeated(by_vector))
    return Sharing(by_image[several], by_vector[several], len(np.unique(images)))


def look(
    spread: Spread,
    store: str,
    images: Sequence[StagedFile],
    found: Sharing,
    info: ModelInfo,
    max_pixels: int,
    lot: str,
    within: str = "",
) -> Twins:
    """Prepares a sample of the photos that share a vector again, and compares them.

    `images`: staged files; `lot`: the same draws the same photos; `within`: as in `contents.of`. Holds the bytes of one
    row group at a time. Raises Unreachable.
    """
    drawn = _draw(found.suspects, DRAWN, lot)
    compared = []
    for vector in np.unique(found.vectors[np.isin(found.images, drawn)]):
        first, last = (np.searchsorted(found.vectors, vector, side) for side in ("left", "right"))
        ids = found.images[first:last]
        compared.append(np.union1d(np.intersect1d(drawn, ids), _draw(ids, COMPARED, lot)))
    extractor = extractors.opened(info, max_pixels)
    inputs: dict[int, bytes] = {}
    gone: set[int] = set()
    for image, content in _contents(spread, store, images, np.unique(np.concatenate(compared)), within):
        if isinstance(content, BadFile):
            gone.add(image)
            continue
        gone.discard(image)  # a copy of it is still there
        try:
            inputs[image] = hashlib.sha256(pickle.dumps(extractor.prepare(content))).digest()
        except BadFile:  # extract could prepare it, so something is wrong: never an excuse
            inputs[image] = str(image).encode()
    left = np.array(sorted(gone), np.uint64)
    drawn, compared = np.setdiff1d(drawn, left), [np.setdiff1d(ids, left) for ids in compared]
    different = [ids for ids in compared if len({inputs.get(int(image), b"") for image in ids}) > 1]
    return Twins(len(drawn), np.intersect1d(drawn, np.concatenate([keys.of([]), *different])))


def _draw(images: Keys, count: int, lot: str) -> Keys:
    """So many of them at most, by lot."""
    return images[np.argsort(keys.lots(images, lot), kind="stable")[:count]]


def _contents(
    spread: Spread, store: str, images: Sequence[StagedFile], wanted: Keys, within: str
) -> Iterator[tuple[int, bytes | BadFile]]:
    """Key and bytes of each of these images, from the first file that gives them; a `BadFile` of each that does not."""
    left = set(map(int, wanted))
    by_id = places.Wanted(store, schemas.IMAGES, "image_id", wanted)
    for table in places.rows(spread, images, by_id, contents.COLUMNS):
        rows, found = table.to_pylist(), map(int, keys.of(table["image_id"].to_pylist()))
        for image, content in zip(found, contents.of(rows, within), strict=True):
            if image in left:
                left -= {image} if isinstance(content, bytes) else set()
                yield image, content
