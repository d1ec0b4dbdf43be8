"""Photos that share a vector: the same picture in other bytes, or a model that cannot tell pictures apart?

A retagged copy, a black frame of another minute, a picture saved in two formats: their bytes differ and their pixels
do not, so one vector for all is right. What is compared is what enters the model, the prepared file.
"""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from spark_apps import extractors
from spark_apps.contract import BadFile, ModelInfo, StagedFile
from spark_apps.tables import contents, data_files, schemas

DRAWN = 200
"""Photos judged, drawn by lot from those that share a vector: a share of them is right within 7 points, 19 times in 20
(binomial), and up to so many are all of them."""
COMPARED = 8
"""Photos of one vector that each of those is compared with."""


@dataclass(frozen=True)
class Twins:
    """What a look at `photos` of those that share a vector found. `differing`: the image_ids among these whose vector
    belongs to another input of the model too. Photos that their source no longer has as they were are not looked at."""

    photos: int
    differing: frozenset[str]

    @property
    def fraction(self) -> float:
        """Share of the photos looked at that share a vector and not their pixels (0 to 1); 1 where none could be."""
        return len(self.differing) / self.photos if self.photos else 1.0


def look(
    store_uri: str,
    images: Sequence[StagedFile],
    sharing: Sequence[Collection[str]],
    info: ModelInfo,
    max_pixels: int,
    lot: str,
    within: str = "",
) -> Twins:
    """Prepares a sample of the photos that share a vector again, and compares them.

    `images`: staged files; `sharing`: the image_ids of each shared vector; `lot`: the same draws the same photos;
    `within`: as in `contents.of`.
    Holds the bytes of one row group at a time. Raises OSError or pyarrow.ArrowException for a damaged file.
    """

    def draw(ids: Collection[str], count: int) -> list[str]:
        return sorted(ids, key=lambda image_id: hashlib.sha256(f"{lot} {image_id}".encode()).digest())[:count]

    drawn = set(draw([image_id for ids in sharing for image_id in ids], DRAWN))
    compared = [drawn.intersection(ids).union(draw(ids, COMPARED)) for ids in sharing if not drawn.isdisjoint(ids)]
    extractor = extractors.opened(info, max_pixels)
    inputs: dict[str, bytes] = {}
    gone: set[str] = set()
    for image_id, content in _contents(store_uri, images, set().union(*compared), within):
        if isinstance(content, BadFile):
            gone.add(image_id)
            continue
        gone.discard(image_id)  # a copy of it is still there
        try:
            inputs[image_id] = hashlib.sha256(pickle.dumps(extractor.prepare(content))).digest()
        except BadFile:  # extract could prepare it, so something is wrong: never an excuse
            inputs[image_id] = image_id.encode()
    drawn, compared = drawn - gone, [ids - gone for ids in compared]
    different = [ids for ids in compared if len({inputs.get(image_id, b"") for image_id in ids}) > 1]
    return Twins(len(drawn), frozenset(drawn.intersection(*[set().union(*different)])))


def _contents(
    store_uri: str, images: Sequence[StagedFile], wanted: set[str], within: str
) -> Iterator[tuple[str, bytes | BadFile]]:
    left = set(wanted)
    for _, parquet in data_files.opened(store_uri, schemas.IMAGES, images):
        for group in range(parquet.num_row_groups):
            here = pc.is_in(
                parquet.read_row_group(group, columns=["image_id"])["image_id"], pa.array(left, pa.string())
            )
            if not pc.any(here).as_py():
                continue
            rows = parquet.read_row_group(group, columns=contents.COLUMNS).filter(here).to_pylist()
            for row, content in zip(rows, contents.of(rows, within), strict=True):
                if row["image_id"] in left:
                    left -= {row["image_id"]} if isinstance(content, bytes) else set()
                    yield row["image_id"], content
