"""Photos of a partition, their neighbours and duplicates."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel


class Photo(BaseModel):
    """One distinct photo. `name`: of its first file, relative to the source. `copies`: files with the same bytes.

    `label` and `score` (0 to 1): the model's first guess, null for a model without labels.
    """

    image_id: str
    name: str
    copies: int
    label: str | None
    score: float | None


class Sample(BaseModel):
    """A few photos of a run, drawn at random; empty when the run is not the one that is published."""

    partition: str
    model: str | None
    photos: list[Photo]


class PoorPhoto(Photo):
    """One distinct photo with its contrast, brightness or sharpness."""

    value: float


class PoorPhotosOfAKind(BaseModel):
    """`kind`: blank, dark or blurred. `measure`: what says so, and `limit` below which value. `total`: files of the
    kind; `photos`: the first of them, the poorest first, and of the dark and blurred further ones, which are not."""

    kind: str
    measure: str
    limit: float
    total: int
    photos: list[PoorPhoto]


class PoorPhotos(BaseModel):
    """The poorest photos of a run. `measured`: files; no kinds without any, or when the run is not published."""

    partition: str
    model: str | None
    measured: int
    kinds: list[PoorPhotosOfAKind]


class PartitionModels(BaseModel):
    """A published partition and the models it is published under."""

    partition: str
    models: list[str]


class PhotoPage(BaseModel):
    """A page of the distinct photos of a partition. `total` counts those that can be paged through; a partition may
    hold more (`truncated`), which neighbours are still found among.

    `extractor`: what made the vectors: image, text, audio or a module's own. `words`: whether they can be searched by
    words. `partitions`: all that are published, newest first, to pick another.
    """

    partition: str
    model: str
    extractor: str
    words: bool
    partitions: list[PartitionModels]
    page: int
    pages: int
    total: int
    truncated: bool
    photos: list[Photo]


class DuplicateFile(BaseModel):
    """A file of a group. `kind`: exact or near; `similarity`, `distance`: of the picture most like it, as in the table
    duplicates. `width`, `height` in pixels, where they are known."""

    partition: str
    image_id: str
    name: str
    keeper: bool
    kind: str
    similarity: float
    distance: int
    width: int | None
    height: int | None


class DuplicateGroup(BaseModel):
    """Files that show the same picture, the one to keep first; `size`: how many, of which the first are given."""

    group_id: str
    size: int
    files: list[DuplicateFile]


class DuplicatesPage(BaseModel):
    """A page of groups. `looked`: whether anybody has looked for duplicates in this store. `partitions`: those with a
    file in any group of the model, newest first."""

    looked: bool
    partition: str | None
    model: str
    models: list[str]
    partitions: list[str]
    page: int
    pages: int
    groups_total: int
    files_total: int
    groups: list[DuplicateGroup]


class Neighbour(Photo):
    """`cosine`: similarity, -1 to 1. `distance`: 1 - cosine. `partition`: where it was published."""

    partition: str
    cosine: float
    distance: float


class Compared(BaseModel):
    """What a search looked through: partitions from `first` to `last`, `partitions` of them. `exact`: every vector was
    compared; else the search index chose those that were, and it may have missed one.

    `index`: the state of the model's search index: ok; none: there is none; unavailable: it cannot be read here.
    Without it a search goes through one partition. `behind_partitions`, `behind_rows`: what was left out, because the
    index does not hold it as it is published.
    """

    first: str
    last: str
    partitions: int
    exact: bool
    index: Literal["ok", "none", "unavailable"]
    behind_partitions: int = 0
    behind_rows: int = 0


class Neighbours(BaseModel):
    """The nearest photos, nearest first, each photo once. The photo asked about is not among its own neighbours; the
    copy of an uploaded one is, with a cosine of 1.

    `query`: the photo asked about; name and image_id are empty for an upload. `searched` of `total` vectors were
    compared, fewer only when time ran out; `note` says then, or when the partition is too large to be kept, what that
    means, and is empty else. `seconds`: of the search. `more`: there is a further page.
    """

    partition: str
    model: str
    query: Photo
    neighbours: list[Neighbour]
    searched: int
    total: int
    seconds: float
    note: str
    compared: Compared
    page: int
    more: bool
