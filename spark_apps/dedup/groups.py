"""Groups of files that show the same picture, from pairs of pictures: which file is kept, and an id that stays.

Pictures are told by their bytes (`image_id`), so files of the same bytes need no pair. A group is a connected part of
the graph of pairs. Nothing here reads or writes; the same files, pairs and former ids give the same groups.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime

from spark_apps.contract import partitions

EXACT, NEAR = "exact", "near"


@dataclass(frozen=True)
class File:
    """A published file. `width`, `height` in pixels as stored; None where the store does not say."""

    partition: str
    uri: str
    image_id: str
    width: int | None = None
    height: int | None = None
    modified_at: datetime | None = None

    @property
    def pixels(self) -> int:
        return (self.width or 0) * (self.height or 0)


@dataclass(frozen=True)
class Pair:
    """Two pictures of other bytes that show the same. `similarity`: cosine of their vectors; `distance`: bits in which
    their hashes differ, at best."""

    one: str
    other: str
    similarity: float
    distance: int

    @property
    def key(self) -> tuple[str, str]:
        return (self.one, self.other) if self.one < self.other else (self.other, self.one)


@dataclass(frozen=True)
class Member:
    """A file in a group. `kind`: exact, where another published file has the same bytes. `twin`: the picture that is
    most like it, and how much, as in `Pair`; itself, for exact. `pairs`: the evidence, all confirmed pairs of it."""

    file: File
    group_id: str
    keeper: bool
    kind: str
    twin: str
    similarity: float
    distance: int
    pairs: tuple[Pair, ...]


def members(files: Iterable[File], pairs: Iterable[Pair], former: Mapping[str, str]) -> list[Member]:
    """All members of all groups, by partition and uri.

    `files`: at least every published file of each picture in `pairs`, and of each that is published more than once;
    a file that turns out to have no twin is left out. `former`: image_id → id of the group it was in before.
    """
    by_picture: dict[str, list[File]] = defaultdict(list)
    for file in files:
        by_picture[file.image_id].append(file)
    evidence: dict[str, dict[tuple[str, str], Pair]] = defaultdict(dict)
    for pair in pairs:
        if pair.one in by_picture and pair.other in by_picture:
            evidence[pair.one][pair.key] = evidence[pair.other][pair.key] = pair
    parts = [part for part in _parts(by_picture, evidence) if sum(len(by_picture[one]) for one in part) > 1]
    found = [
        _member(file, group_id, keeper is file, by_picture, evidence)
        for part, group_id in zip(parts, _ids(parts, by_picture, former), strict=True)
        for keeper in [min((file for one in part for file in by_picture[one]), key=_worse)]
        for one in part
        for file in by_picture[one]
    ]
    return sorted(found, key=lambda member: (partitions.order(member.file.partition), member.file.uri))


def _worse(file: File) -> tuple[object, ...]:
    """What files are sorted by, the one to keep first: the largest in pixels, of these the oldest."""
    changed = file.modified_at.timestamp() if file.modified_at else float("inf")
    return -file.pixels, partitions.order(file.partition), changed, file.uri


def _parts(pictures: Iterable[str], evidence: Mapping[str, Mapping[tuple[str, str], Pair]]) -> Iterator[list[str]]:
    """The connected parts, each sorted."""
    seen: set[str] = set()
    for start in sorted(pictures):
        if start in seen:
            continue
        part, ahead = [], [start]
        seen.add(start)
        while ahead:
            here = ahead.pop()
            part.append(here)
            for key in evidence.get(here, ()):
                for other in key:
                    if other not in seen:
                        seen.add(other)
                        ahead.append(other)
        yield sorted(part)


def _ids(parts: list[list[str]], by_picture: Mapping[str, list[File]], former: Mapping[str, str]) -> Iterator[str]:
    """An id for each part. Of several parts that were one group, that with most of its files keeps the id; a part that
    was several groups takes the id of the one with most files in it; others are named after their oldest file."""
    claims = []
    for place, part in enumerate(parts):
        votes = Counter[str]()
        for one in part:
            if one in former:
                votes[former[one]] += len(by_picture[one])
        claims += [(-count, group_id, place) for group_id, count in votes.items()]
    given: dict[int, str] = {}
    taken: set[str] = set()
    for _, group_id, place in sorted(claims):
        if place not in given and group_id not in taken:
            given[place] = group_id
            taken.add(group_id)
    taken.update(former.values())  # never given to others while anybody may know it
    for place, part in enumerate(parts):
        if place not in given:
            oldest = min((file for one in part for file in by_picture[one]), key=lambda file: _age(file))
            name = oldest.image_id
            while (fresh := hashlib.sha256(f"group {name}".encode()).hexdigest()[:16]) in taken:
                name += "+"
            given[place] = fresh
            taken.add(fresh)
        yield given[place]


def _age(file: File) -> tuple[object, ...]:
    return partitions.order(file.partition), file.uri


def _member(
    file: File,
    group_id: str,
    keeper: bool,
    by_picture: Mapping[str, list[File]],
    evidence: Mapping[str, Mapping[tuple[str, str], Pair]],
) -> Member:
    own = sorted(evidence.get(file.image_id, {}).values(), key=lambda pair: (-pair.similarity, pair.key))
    if len(by_picture[file.image_id]) > 1:
        return Member(file, group_id, keeper, EXACT, file.image_id, 1.0, 0, tuple(own))
    best = own[0]
    twin = best.other if best.one == file.image_id else best.one
    return Member(file, group_id, keeper, NEAR, twin, best.similarity, best.distance, tuple(own))
