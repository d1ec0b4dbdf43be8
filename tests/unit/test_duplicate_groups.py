"""Groups of duplicates: the file to keep, and an id that a group has as long as something of it is left."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from itertools import combinations

import pytest

from spark_apps.dedup.groups import EXACT, NEAR, File, Member, Pair, members

NOON = datetime(2026, 11, 1, 12, tzinfo=UTC)


def file(name: str, picture: str, day: str = "d1", side: int = 100, hours: int = 0) -> File:
    return File(day, name, picture, side, side, NOON + timedelta(hours=hours))


def pair(one: str, other: str, similarity: float = 0.9) -> Pair:
    return Pair(one, other, similarity, 4)


def groups(found: list[Member]) -> dict[str, set[str]]:
    """group_id → uris."""
    result: dict[str, set[str]] = {}
    for member in found:
        result.setdefault(member.group_id, set()).add(member.file.uri)
    return result


def test_files_of_the_same_bytes_are_exact_and_others_near() -> None:
    files = [file("a", "1"), file("a again", "1"), file("b", "2"), file("alone", "3")]
    found = {member.file.uri: member for member in members(files, [pair("2", "1", 0.95)], {})}
    assert set(found) == {"a", "a again", "b"}
    assert len({member.group_id for member in found.values()}) == 1
    assert (found["a"].kind, found["a"].twin, found["a"].similarity) == (EXACT, "1", 1.0)
    assert (found["b"].kind, found["b"].twin, found["b"].similarity, found["b"].distance) == (NEAR, "1", 0.95, 4)
    assert [one.key for one in found["a"].pairs] == [("1", "2")], "the evidence stays, beside the copy"


@pytest.mark.parametrize(
    ("files", "kept"),
    [
        ([file("small", "1", side=50), file("large", "2", day="d9", side=51)], "large"),
        ([file("later day", "1", day="d10"), file("first day", "2", day="d9", hours=99)], "first day"),
        ([file("later", "1", hours=2), file("earlier", "2", hours=1)], "earlier"),
        ([file("b", "1"), file("a", "2")], "a"),
        ([File("d1", "unknown", "1"), file("known", "2", day="d2")], "known"),
    ],
)
def test_the_largest_is_kept_and_of_these_the_oldest(files: list[File], kept: str) -> None:
    assert [member.file.uri for member in members(files, [pair("1", "2")], {}) if member.keeper] == [kept]


def test_a_pair_with_a_file_that_is_gone_groups_nothing() -> None:
    assert members([file("a", "1"), file("c", "3")], [pair("1", "2"), pair("2", "3")], {}) == []


def test_a_group_keeps_its_id_when_it_grows_loses_its_first_and_its_keeper() -> None:
    files = [file("a", "1"), file("b", "2")]
    first = members(files, [pair("1", "2")], {})
    (group_id,) = groups(first)
    former = {member.file.image_id: member.group_id for member in first}
    grown = members([*files, file("c", "3", "d2", side=999)], [pair("1", "2"), pair("2", "3")], former)
    assert groups(grown) == {group_id: {"a", "b", "c"}}
    former = {member.file.image_id: member.group_id for member in grown}
    shrunk = members([file("b", "2"), file("c", "3", "d2")], [pair("2", "3")], former)
    assert groups(shrunk) == {group_id: {"b", "c"}}


def test_of_two_groups_that_become_one_the_larger_gives_its_name_and_a_split_one_keeps_it() -> None:
    files = [file(name, name) for name in "abcde"]
    pairs = [pair("a", "b"), pair("c", "d"), pair("d", "e")]
    apart = members(files, pairs, {})
    former = {member.file.image_id: member.group_id for member in apart}
    small, large = former["a"], former["c"]
    assert small != large
    one = members(files, [*pairs, pair("b", "c")], former)
    assert groups(one) == {large: set("abcde")}
    again = members(files, pairs, {member.file.image_id: member.group_id for member in one})
    found = groups(again)
    assert found[large] == set("cde") and len(found) == 2


def test_groups_are_the_connected_parts_whatever_the_order() -> None:
    lot = random.Random(3)
    for _ in range(50):
        files = [
            file(f"u{number}", str(lot.randint(0, 9)), f"d{lot.randint(1, 3)}", lot.randint(1, 3))
            for number in range(12)
        ]
        pairs = [pair(*map(str, lot.sample(range(10), 2))) for _ in range(lot.randint(0, 6))]
        found = members(files, pairs, {})
        where = {member.file.uri: member.group_id for member in found}
        linked = {(one.image_id, other.image_id) for one, other in combinations(files, 2)}
        for one, other in linked:
            if one == other or any(item.key == tuple(sorted((one, other))) for item in pairs):
                ids = {where[each.uri] for each in files if each.image_id in (one, other)}
                assert len(ids) == 1
        for ids in groups(found).values():
            assert len(ids) > 1
            assert sum(member.keeper for member in found if member.file.uri in ids) == 1
        shuffled = members(lot.sample(files, len(files)), lot.sample(pairs, len(pairs)), {})
        assert groups(shuffled) == groups(found)
        assert members(files, pairs, where_by_picture(found)) == found, "a second look changes nothing"


def where_by_picture(found: list[Member]) -> dict[str, str]:
    return {member.file.image_id: member.group_id for member in found}
