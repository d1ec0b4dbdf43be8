"""Small pictures of photos: decoded and encoded anew in a child process, never the file's own bytes."""

from __future__ import annotations

import pyarrow as pa

from image_features.web import store_state
from image_features.web.caches import Fresh, Sized
from image_features.web.children import PATIENCE_SECONDS, Child
from image_features.web.refusals import Refused
from spark_apps import catalog, contract

SIDE = 256
MAX_PIXELS = contract.PHOTO_PIXELS
SECONDS = 10.0
STAGED_SECONDS = 20.0
"""How long the list of photos is believed that belong to runs which were not published."""

_places: Sized[tuple[str, str, int], dict[str, catalog.Place]] = Sized(2)
_staged: Fresh[tuple[str, str], dict[str, catalog.Place]] = Fresh(STAGED_SECONDS)
_groups: Sized[tuple[str, str, int], pa.Array] = Sized(96 * 2**20, lambda contents: int(contents.nbytes))
_thumbnails: Sized[tuple[str, str, str], bytes] = Sized(32 * 2**20, len)
_artist = Child("thumbnail", str(SIDE), str(MAX_PIXELS), seconds=SECONDS)


def thumbnail(partition: str, image_id: str) -> bytes:
    """A small WebP of a photo of the partition; a run that was not published will do. Raises Refused."""
    store = store_state.location()
    return _thumbnails.get((store, partition, image_id), lambda: _draw(store, partition, image_id))


def _draw(store: str, partition: str, image_id: str) -> bytes:
    with store_state.reading():
        place = _published_places(store, partition).get(image_id)
        if place is None:  # where it matters most: a rejected run's photos are staged and nothing else
            place = _staged.get((store, partition), lambda key: catalog.staged_places(*key)).get(image_id)
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


def _published_places(store: str, partition: str) -> dict[str, catalog.Place]:
    try:
        published = store_state.published().partitions
    except store_state.StoreProblem as problem:
        if problem.code not in ("empty", "missing"):
            raise
        return {}
    changed = max((item.modified_ms for item in published if item.partition == partition), default=0)
    return _places.get((store, partition, changed), lambda: catalog.places(store, partition))


def _no_thumbnail() -> Refused:
    return Refused(404, "no_thumbnail", "No thumbnail can be drawn of this photo.")
