"""More rows than memory should hold come out sorted and complete, however often, and leave no file behind."""

from __future__ import annotations

import os
import random
import resource
import tempfile
from pathlib import Path

import pyarrow as pa
import pytest

from spark_apps.contract import Unreachable
from spark_apps.pipeline import sorting
from spark_apps.pipeline.sorting import Sorter

SCHEMA = pa.schema([("key", pa.string()), ("number", pa.int64())])


@pytest.fixture
def in_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs of some hundred rows, merged five at a time."""
    monkeypatch.setattr(sorting, "RUN_BYTES", 2000)
    monkeypatch.setattr(sorting, "BATCH_ROWS", 5)


def rows(keys: list[str], begin: int = 0) -> pa.Table:
    return pa.table([keys, list(range(begin, begin + len(keys)))], schema=SCHEMA)


def filled(keys: list[str], piece: int = 7) -> Sorter:
    sorter = Sorter(SCHEMA, "key")
    for begin in range(0, len(keys), piece):
        sorter.add(rows(keys[begin : begin + piece], begin))
    return sorter


def pairs(sorter: Sorter) -> list[tuple[str, int]]:
    return [(row["key"], row["number"]) for page in sorter.pages() for row in page.to_pylist()]


@pytest.mark.parametrize("different", [1, 3, 40, 10_000])
def test_rows_come_sorted_and_equal_ones_together_as_they_came(in_runs: None, different: int) -> None:
    chance = random.Random(different)
    keys = [f"ö{chance.randrange(different)}\N{GRINNING FACE}" for _ in range(600)]
    sorter = filled(keys)
    expected = sorted(zip(keys, range(len(keys)), strict=True), key=lambda pair: pair[0])
    assert sorter.rows == len(keys)
    assert pairs(sorter) == expected == pairs(sorter), "as often as one asks"
    pages = [set(page["key"].to_pylist()) for page in sorter.pages()]
    assert sum(map(len, pages)) == len(set(keys)), "no key is in two pages"
    assert all(pages)


def test_rows_that_come_after_a_look_are_sorted_with_those_before(in_runs: None) -> None:
    sorter = filled([f"{number % 100:03}" for number in range(500)])
    before = pairs(sorter)
    sorter.add(rows(["000", "zzz", "050"], 500))
    assert sorted([*before, ("000", 500), ("zzz", 501), ("050", 502)]) == pairs(sorter)


def test_few_rows_stay_in_memory_and_none_give_no_page() -> None:
    assert pairs(filled(["b", "a", "b"])) == [("a", 1), ("b", 0), ("b", 2)]
    assert list(Sorter(SCHEMA, "key").pages()) == []


def test_no_file_of_it_has_a_name(in_runs: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    sorter = filled([str(number) for number in range(600)])
    next(sorter.pages())
    assert list(tmp_path.iterdir()) == []
    held = [os.readlink(link) for link in Path("/proc/self/fd").iterdir() if link.exists() or link.is_symlink()]
    assert any(str(tmp_path) in place for place in held), "it is there that it writes"


def test_a_temporary_folder_without_room_is_told(in_runs: None) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))  # as on a full disk; Python ignores the signal
    try:
        with pytest.raises(Unreachable, match=tempfile.gettempdir()) as caught:
            filled([str(number) for number in range(600)])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "TMPDIR" in caught.value.hint
