"""The order of partition keys and their series, in the contract and wherever the stages and the catalog use them."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from spark_apps import catalog, contract, validate
from spark_apps.contract.partitions import earlier, order, series, to_reuse_from
from tests.shelf import MODEL, Shelf


@pytest.mark.parametrize(
    "oldest_first",
    [
        ["2026-09-30", "2026-10-01", "2026-11-22"],
        ["2026-W5", "2026-W12", "2027-W01"],
        ["2026-W05", "2026-W12"],
        ["2026-9-30", "2026-10-1"],
        ["batch-7", "batch-10", "batch-100"],
        ["2026-11-21", "2026-11-22", "2026-11-22T00", "2026-11-22T07", "2026-11-22T10", "2026-11-23"],
        ["batch-7", "cam-a_2026-11-22", "texts", "2026-11-22"],
        ["2026-10-25T01_0200", "2026-10-25T02_0200", "2026-10-25T02_0100", "2026-10-25T03_0100"],
        ["2026-11-01T00-0400", "2026-11-01T01-0400", "2026-11-01T01-0500", "2026-11-01T02-0500"],
        ["2026-10-25T02-00_0200", "2026-10-25T02-00_0100", "2026-10-25T02-30_0200", "2026-10-25T02-30_0100"],
        ["2026-10-25T00_0000", "2026-10-25T00-0100", "2026-10-25T01-0100"],  # the Azores go from UTC to an hour before
        ["07", "7", "8"],
    ],
)
def test_keys_are_sorted_by_time_and_by_number(oldest_first: list[str]) -> None:
    shuffled = oldest_first[:]
    random.Random(0).shuffle(shuffled)
    assert sorted(shuffled, key=order) == oldest_first


@pytest.mark.parametrize("zone", ["Europe/Berlin", "America/New_York", "Atlantic/Azores", "Asia/Kolkata", "UTC"])
@pytest.mark.parametrize("form", ["%Y-%m-%dT%H%z", "%Y-%m-%d", "%G-W%V", "cam-a_%Y-%m-%dT%H%z", "%Y%m%dT%H%z", "%Y-%m"])
def test_a_year_of_hours_is_in_order_and_one_series(zone: str, form: str) -> None:
    hours = (datetime(2026, 1, 1, tzinfo=UTC) + timedelta(hours=hour) for hour in range(366 * 24))
    keys = list(dict.fromkeys(hour.astimezone(ZoneInfo(zone)).strftime(form).replace("+", "_") for hour in hours))
    assert sorted(keys, key=order) == keys
    assert len({series(key) for key in keys}) == 1


@pytest.mark.parametrize("key", ["", "-", "é", "١٢", "T02_0200", "2" * 64, "T0200", "a.b_c", "2026-11-22T"])
def test_any_text_can_be_compared(key: str) -> None:
    assert sorted(["2026-11-22", key, "texts"], key=order)
    assert earlier(key, [key]) == []


KEYS = [
    *("2026-11-20", "2026-11-21", "2026-11-22", "2026-11-23", "2026-11-22T06", "2026-11-22T07", "2026-11-22T10"),
    *("2026-W46", "2026-W47", "batch-7", "batch-10", "cam-a_2026-11-21", "cam-b_2026-11-21", "texts"),
]


@pytest.mark.parametrize(
    ("key", "before"),
    [
        ("2026-11-22", ["2026-11-21", "2026-11-20"]),
        ("2026-11-22T10", ["2026-11-22T07", "2026-11-22T06"]),
        ("2026-W47", ["2026-W46"]),
        ("batch-11", ["batch-10", "batch-7"]),
        ("batch-8", ["batch-7"]),
        ("cam-a_2026-11-22", ["cam-a_2026-11-21"]),
        ("texts", []),
        ("2026-11-20", []),
    ],
)
def test_a_partition_is_compared_with_those_before_it_in_its_series(key: str, before: list[str]) -> None:
    assert earlier(key, KEYS) == before
    assert earlier(key, reversed(KEYS)) == before


def test_vectors_are_reused_from_the_own_series_first_and_never_from_what_comes_after() -> None:
    found = to_reuse_from("2026-11-22", KEYS)
    assert found[:3] == ["2026-11-21", "2026-11-20", "2026-W47"]
    assert set(found) == set(KEYS) - {"2026-11-22", "2026-11-23"}
    assert to_reuse_from("trial", KEYS)[0] == "2026-W47", "a name by itself finds the newest of all others"


@pytest.fixture
def mixed(shelf: Shelf) -> Shelf:
    for key in KEYS:
        shelf.publish(key, "r", {f"{key}.jpg": key}, fingerprint=f"of {key}")
    return shelf


def test_the_catalog_lists_the_newest_first_and_finds_what_came_before(mixed: Shelf) -> None:
    listed = [item.partition for item in catalog.partitions(mixed.store)]
    assert listed == sorted(KEYS, key=order, reverse=True)
    assert listed[0] == "2026-W47"
    assert catalog.earlier(mixed.store, "batch-11", MODEL, 1) == ["batch-10"]
    assert catalog.earlier(mixed.store, "2026-11-22T10", MODEL, 7) == ["2026-11-22T07", "2026-11-22T06"]
    assert catalog.earlier(mixed.store, "texts", MODEL, 7) == []


def test_one_model_key_means_one_fingerprint_across_all_series(mixed: Shelf) -> None:
    assert set(catalog.fingerprints(mixed.store, MODEL, "texts", 99)) == set(KEYS) - {"texts"}
    assert set(catalog.fingerprints(mixed.store, MODEL, "2026-11-22T08", 1)) == {"2026-11-22T07", "2026-11-22T10"}


def test_a_run_is_checked_against_its_series_alone(mixed: Shelf) -> None:
    def history(partition: str, count: int = 7) -> list[str]:
        settings = contract.ValidateSettings(store=mixed.store, partition=partition, run_id="r", history=count)
        return [item.partition for item in validate._history(settings, MODEL)]

    assert history("batch-11") == ["batch-10", "batch-7"]
    assert history("batch-11", 1) == ["batch-10"]
    assert history("2026-11-23T00") == ["2026-11-22T10", "2026-11-22T07", "2026-11-22T06"]
    assert history("2026-11-23") == ["2026-11-22", "2026-11-21", "2026-11-20"]
    assert history("texts") == []
