"""Small pictures of photos: decoded and encoded anew in a child process, never the file's own bytes."""

from __future__ import annotations

import pyarrow as pa

from image_features import allowed_places, run_settings
from image_features.web import store_state
from image_features.web.caches import Fresh, Sized
from image_features.web.children import PATIENCE_SECONDS, Child
from image_features.web.refusals import Refused
from image_features.web.store_state import log
from image_features.web.stores import Place
from spark_apps import catalog, contract

SIDE = 256
MAX_PIXELS = contract.PHOTO_PIXELS
SECONDS = 10.0
SOURCE_BYTES = 64 * 2**20
"""Of a photo that the store keeps no copy of: what this process reads at its source to draw it."""
STAGED_SECONDS = 20.0
"""How long the list of photos is believed that belong to runs which were not published."""

_places: Sized[tuple[Place, str, int], dict[str, catalog.Place]] = Sized(2)
_staged: Fresh[tuple[Place, str], dict[str, catalog.Place]] = Fresh(STAGED_SECONDS, limit=2)
_groups: Sized[tuple[Place, str, int], pa.Array] = Sized(96 * 2**20, lambda contents: int(contents.nbytes))
_thumbnails: Sized[tuple[Place, str, str], bytes] = Sized(32 * 2**20, len)
_artist = Child("thumbnail", str(SIDE), str(MAX_PIXELS), seconds=SECONDS)


def thumbnail(place: Place, partition: str, image_id: str) -> bytes:
    """A small WebP of a photo of the partition; a run that was not published will do. Raises Refused."""
    store_state.heed_erasures(place)
    return _thumbnails.get((place, partition, image_id), lambda: _draw(place, partition, image_id))


def _draw(place: Place, partition: str, image_id: str) -> bytes:
    with store_state.reading(place):
        found = _published_places(place, partition).get(image_id)
        if found is None:  # where it matters most: a rejected run's photos are staged and nothing else
            staged = _staged.get((place, partition), lambda key: catalog.staged_places(key[0].store, key[1]))
            found = staged.get(image_id)
        if found is None:
            raise _no_thumbnail()
        key = place, found.path, found.row_group
        content = _groups.get(key, lambda: catalog.contents(place.store, found))[found.row].as_py()
        if content is None:
            content = _at_source(place, partition, found)
    try:
        drawn = _artist.ask(content, PATIENCE_SECONDS)[1]
    except Refused as refused:
        if refused.status == 422:
            raise _no_thumbnail() from None
        raise
    if not drawn:
        raise _no_thumbnail()
    return drawn


def _at_source(place: Place, partition: str, found: catalog.Place) -> bytes:
    """The bytes of a photo that the store keeps no copy of. Read where runs of this Airflow may read, and with what the
    store is read with, as its tasks do: what a store says of its source is no reason to read elsewhere."""
    file, allowed = catalog.original(place.store, found), run_settings.sources(partition)
    if not allowed_places.is_file_below(file.uri, allowed) or file.size_bytes > SOURCE_BYTES:
        raise _no_thumbnail()
    try:
        content = catalog.read_again(file, allowed_places.folders(allowed))
    except contract.Unreachable as error:
        log.warning("Image features: %s", error)
        raise _no_thumbnail() from None
    if not isinstance(content, bytes):
        raise _no_thumbnail()
    return content


def _published_places(place: Place, partition: str) -> dict[str, catalog.Place]:
    try:
        published = store_state.published(place).partitions
    except store_state.StoreProblem as problem:
        if problem.code not in ("empty", "missing"):
            raise
        return {}
    changed = max((item.modified_ms for item in published if item.partition == partition), default=0)
    return _places.get((place, partition, changed), lambda: catalog.places(place.store, partition))


def _no_thumbnail() -> Refused:
    return Refused(404, "no_thumbnail", "No thumbnail can be drawn of this photo.")
