"""Looking at the pixels of candidates: only these are read and decoded, each in a guarded child process."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial

from spark_apps import catalog
from spark_apps.contract import BadFile
from spark_apps.dedup.candidates import Candidate
from spark_apps.dedup.groups import Pair
from spark_apps.media import guard, likeness


class Looks:
    """What published pictures look like. Each is read and decoded once, one row group of the store at a time."""

    def __init__(self, store: str, max_pixels: int, said: Callable[[str], None]) -> None:
        self._store, self._max_pixels, self._say = store, max_pixels, said
        self._known: dict[str, likeness.Look | None] = {}

    def take(self, wanted: Mapping[str, str]) -> None:
        """Looks at pictures: image_id → a partition that shows it."""
        by_partition: dict[str, list[str]] = defaultdict(list)
        for image_id, partition in wanted.items():
            if image_id not in self._known:
                by_partition[partition].append(image_id)
        with guard.Guard(partial(likeness.looker, self._max_pixels)) as child:
            for partition, image_ids in by_partition.items():
                for image_id, content in _contents(self._store, partition, image_ids):
                    found = child.decode(content)
                    self._known[image_id] = None if isinstance(found, BadFile) else found
                self._say(f"{partition}: {len(image_ids):,} pictures looked at")

    def confirmed(self, candidates: Iterable[Candidate], max_distance: int) -> Iterator[Pair]:
        """Those that show the same picture: their hashes differ in at most `max_distance` bits."""
        for item in candidates:
            one, other = self._known.get(item.one), self._known.get(item.other)
            if one is None or other is None:  # no photo, or one that can no longer be read: nothing is claimed
                continue
            found = likeness.distance(one, other)
            if found <= max_distance:
                yield Pair(item.one, item.other, round(item.similarity, 6), found)


def _contents(store: str, partition: str, image_ids: Iterable[str]) -> Iterator[tuple[str, bytes]]:
    places = catalog.places(store, partition)
    by_group: dict[tuple[str, int], list[tuple[str, catalog.Place]]] = defaultdict(list)
    for image_id in image_ids:
        if place := places.get(image_id):
            by_group[place.path, place.row_group].append((image_id, place))
    for found in by_group.values():
        contents = catalog.contents(store, found[0][1])
        for image_id, place in found:
            content = contents[place.row].as_py()
            if content is None:  # the store keeps no copy: as it is at its source, or not at all
                content = catalog.read_again(catalog.original(store, place))
            if not isinstance(content, BadFile):
                yield image_id, content
