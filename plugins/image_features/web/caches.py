"""Small caches for many threads: each value is made once, whoever asks meanwhile waits for it."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any, Generic, TypeVar
from weakref import WeakSet

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")


class Sized(Generic[Key, Value]):
    """Keeps the values used last, as many as fit into `limit` by `size`. A larger one is made and not kept."""

    def __init__(self, limit: int, size: Callable[[Value], int] = lambda value: 1) -> None:
        self._limit, self._size = limit, size
        self._values: OrderedDict[Key, Value] = OrderedDict()
        self._making: dict[Key, threading.Lock] = {}
        self._total = self._drops = 0
        self._lock = threading.Lock()
        _all.add(self)

    def __contains__(self, key: Key) -> bool:
        with self._lock:
            return key in self._values

    def get(self, key: Key, make: Callable[[], Value]) -> Value:
        """The value of `key`, made by `make` if it is not kept. What `make` raises goes to the caller."""
        with self._lock:
            if key in self._values:
                self._values.move_to_end(key)
                return self._values[key]
            making = self._making.setdefault(key, threading.Lock())
        with making:
            with self._lock:
                if key in self._values:
                    self._values.move_to_end(key)
                    return self._values[key]
                drops = self._drops
            try:
                value = make()
                self._keep(key, value, drops)
            finally:
                with self._lock:
                    self._making.pop(key, None)
        return value

    def drop(self, key: Key | None = None) -> None:
        """Forgets the value of `key`, or all, those too that are being made."""
        with self._lock:
            self._drops += key is None
            for one in list(self._values) if key is None else [key] if key in self._values else []:
                self._total -= self._size(self._values.pop(one))

    def _keep(self, key: Key, value: Value, drops: int) -> None:
        size = self._size(value)
        if size > self._limit:
            return
        with self._lock:
            if drops != self._drops:  # it was made of what has to be forgotten
                return
            if key in self._values:
                self._total -= self._size(self._values.pop(key))
            self._values[key] = value
            self._total += size
            while self._total > self._limit:
                _, oldest = self._values.popitem(last=False)
                self._total -= self._size(oldest)


_all: WeakSet[Sized[Any, Any]] = WeakSet()


def forget_everything() -> None:
    """Every cache of this process forgets all that it keeps."""
    for cache in [*_all]:
        cache.drop()


class Fresh(Generic[Key, Value]):
    """Keeps each value for `seconds`, and `limit` of them at most. Who waits for one key holds up no other."""

    def __init__(self, seconds: float, limit: int = 64) -> None:
        self._seconds = seconds
        self._kept: Sized[Key, _Kept[Value]] = Sized(limit)

    def get(self, key: Key, make: Callable[[Key], Value]) -> Value:
        """The value of `key`, made anew by `make(key)` when it is too old."""
        kept = self._kept.get(key, _Kept)
        with kept.lock:
            if kept.made_at is None or time.monotonic() - kept.made_at >= self._seconds:
                kept.value, kept.made_at = make(key), time.monotonic()
            return kept.value  # type: ignore[return-value]

    def forget(self, key: Key | None = None) -> None:
        """Asks again next time, for one key or all."""
        self._kept.drop(key)


class _Kept(Generic[Value]):
    """A value, when it was made, and who makes it."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.value: Value | None = None
        self.made_at: float | None = None
