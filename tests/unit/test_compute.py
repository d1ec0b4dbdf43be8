"""Decoding ahead of the model: order, limits, failures."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from spark_apps.contract import BadFile, ExtractSettings, ModelInfo, Unreachable
from spark_apps.pipeline.compute import DECODED_AHEAD, Outbox, TaskPlan, UniqueFile, _ahead, one_by_one, pooled
from spark_apps.tables import staging
from tests.shelf import Shelf


def numbered(count: int) -> Iterator[UniqueFile]:
    return (UniqueFile(str(number), bytes([number]), []) for number in range(count))


def slow_for_the_first(content: bytes) -> np.ndarray | BadFile:
    if content == b"\0":
        time.sleep(0.2)
    if content == b"\x03":
        return BadFile("corrupt", "three")
    return np.full((2, 2, 3), content[0], np.uint8)


def seen(decoded: Iterator[tuple[UniqueFile, np.ndarray | BadFile]]) -> list[tuple[str, object]]:
    return [(file.image_id, got.code if isinstance(got, BadFile) else int(got[0, 0, 0])) for file, got in decoded]


def test_a_pool_gives_the_same_in_the_same_order_as_one_by_one() -> None:
    expected = seen(one_by_one(slow_for_the_first, numbered(40)))
    assert expected[3] == ("3", "corrupt")
    assert len(expected) == 40
    assert seen(pooled(slow_for_the_first, numbered(40), 3)) == expected
    assert seen(pooled(slow_for_the_first, numbered(0), 3)) == []


def test_photos_are_decoded_while_the_model_runs_and_not_without_limit() -> None:
    started = []

    def decode(content: bytes) -> np.ndarray:
        started.append(content[0])
        return np.zeros((1, 1, 3), np.uint8)

    decoded = pooled(decode, numbered(200), 2)
    next(decoded)
    deadline = time.monotonic() + 10
    while len(started) < 2 * DECODED_AHEAD + 1:  # the caller does not ask: this is its model's time
        assert time.monotonic() < deadline
        time.sleep(0.01)
    time.sleep(0.1)
    assert len(started) == 2 * DECODED_AHEAD + 1
    decoded.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("decode")]


def test_what_a_decoder_should_never_raise_reaches_the_caller_and_ends_the_pool() -> None:
    def decode(content: bytes) -> np.ndarray:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        list(pooled(decode, numbered(50), 2))
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("decode")]


def test_reading_ahead_holds_one_item_more_than_the_caller() -> None:
    read: list[int] = []

    def work(item: int) -> int:
        read.append(item)
        return item

    with ThreadPoolExecutor(1) as pool:
        for count, (item, result) in enumerate(_ahead(pool, work, range(6), 1)):
            assert item == result == count
            time.sleep(0.05)
            assert max(read) <= item + 1
    assert read == list(range(6))


@pytest.mark.parametrize("failing", ["features", "quarantine"])
def test_a_writer_that_fails_at_its_end_does_not_keep_the_others_files(
    failing: str, shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = ExtractSettings(store=shelf.store, partition="d1", run_id="r")
    outbox = Outbox(TaskPlan(settings, ModelInfo(key="k", fingerprint="f"), "data/d1/r/a", "", 1), cast(Any, None))
    finish = staging.StagedWriter._finish_file

    def full(writer: staging.StagedWriter) -> None:
        if writer._table.name == failing:
            raise OSError(28, "No space left on device")
        finish(writer)

    monkeypatch.setattr(staging.StagedWriter, "_finish_file", full)
    file = UniqueFile("id", b"x", ["file:///a.jpg"])
    with pytest.raises(Unreachable, match="No space left"), outbox:  # noqa: PT012  its exit raises
        outbox._accept(file, np.ones(4, np.float32), (None, None), {})
        outbox.add(file, BadFile("corrupt", "It is damaged."))
    assert not list(Path(shelf.store).rglob("*.parquet"))
