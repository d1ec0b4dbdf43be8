"""Caches that many threads share: each value is made once, and they stay within their bounds."""

from __future__ import annotations

import threading
import time
from types import SimpleNamespace

import pytest
from image_features.web import caches
from image_features.web.caches import Fresh, Sized, forget_everything


def test_a_value_is_made_once_however_many_ask() -> None:
    cache: Sized[str, int] = Sized(10)
    made: list[int] = []

    def make() -> int:
        time.sleep(0.05)
        made.append(1)
        return 7

    found: list[int] = []
    threads = [threading.Thread(target=lambda: found.append(cache.get("x", make))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (found, made) == ([7] * 8, [1])


def test_what_was_used_longest_ago_goes_first() -> None:
    cache: Sized[str, str] = Sized(6, len)
    for key in ("aa", "bb", "cc"):
        cache.get(key, lambda key=key: key)  # type: ignore[misc]
    cache.get("aa", lambda: "never made again")
    cache.get("dd", lambda: "dd")
    assert [key in cache for key in ("aa", "bb", "cc", "dd")] == [True, False, True, True]


def test_what_is_too_large_is_made_and_not_kept() -> None:
    cache: Sized[str, str] = Sized(3, len)
    assert cache.get("x", lambda: "large") == "large"
    assert "x" not in cache


def test_a_failure_is_not_kept() -> None:
    cache: Sized[str, int] = Sized(3)
    with pytest.raises(ZeroDivisionError):
        cache.get("x", lambda: 1 // 0)
    assert cache.get("x", lambda: 2) == 2


def test_a_fresh_value_lasts_its_time_and_its_key(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(caches, "time", SimpleNamespace(monotonic=lambda: now))
    fresh: Fresh[str, float] = Fresh(5)
    assert fresh.get("x", lambda _: now) == 100
    now = 104.9
    assert fresh.get("x", lambda _: now) == 100
    assert fresh.get("y", lambda _: 0.0) == 0.0
    now = 105.0
    assert fresh.get("x", lambda _: now) == 105
    fresh.forget()
    assert fresh.get("x", lambda _: -1.0) == -1.0


def test_what_has_to_be_forgotten_is_not_kept_by_whoever_was_making_it() -> None:
    cache: Sized[str, int] = Sized(10)
    cache.get("y", lambda: 1)

    def make() -> int:
        forget_everything()
        return 7

    assert cache.get("x", make) == 7
    assert "x" not in cache and "y" not in cache
    assert cache.get("x", lambda: 8) == 8 and "x" in cache
