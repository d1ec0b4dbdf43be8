"""Functions that hold something: every way to hold it, many things that must not be sent, and many that may."""

from __future__ import annotations

import abc
import asyncio
import collections
import concurrent.futures
import dataclasses
import datetime
import enum
import functools
import itertools
import json
import logging
import multiprocessing.pool
import queue
import random
import re
import socket
import sqlite3
import subprocess
import sys
import tempfile
import threading
import typing
import weakref
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import torch

Held = tuple[Any, str]
"""A function, and how the path to what it holds must end."""


def in_a_script(source: str, **names: Any) -> dict[str, Any]:
    """The globals of a script after it has run; its functions are pickled by value, as those of `__main__`."""
    script = {"__name__": "a_script", **names}
    exec(source, script)
    return script


def logged(fn: Callable[..., Any]) -> Callable[..., Any]:
    """A decorator as they all are."""

    @functools.wraps(fn)
    def wrapper(*args: Any) -> Any:
        return fn(*args)

    return wrapper


def holders(culprit: Any) -> dict[str, Held]:
    """`culprit`, held in every way that pickling follows."""

    class Vectorizer:
        """The first thing that everybody writes: the object that does the work holds the session, too."""

        def __init__(self) -> None:
            self.spark = culprit

        def extract_features(self, content: bytes) -> list[float]:
            return [float(len(content))]

        def process_images(self) -> Callable[[bytes], list[float]]:
            return lambda content: self.extract_features(content)

    class Slots:
        __slots__ = ("held", "other")

        def __init__(self) -> None:
            self.held = culprit

    class SlotsAndMore(Slots):
        pass

    @dataclasses.dataclass(frozen=True)
    class Settings:
        size: int
        session: Any

        def run(self, value: int) -> int:
            return value

    class Callee:
        def __init__(self) -> None:
            self.session = culprit

        def __call__(self, value: int) -> int:
            return value

    class Attribute:
        session = culprit

        def run(self) -> int:
            return 1

    class Derived(Attribute):
        pass

    class Methods:
        @staticmethod
        def still() -> Any:
            return culprit

        @property
        def lazily(self) -> Any:
            return 1

    class Property:
        @property
        def lazily(self) -> Any:
            return culprit

    class Reduced:
        def __reduce__(self) -> Any:
            return (list, ((culprit,),))

    class State:
        def __getstate__(self) -> Any:
            return {"kept": culprit}

    class OddState:
        def __getstate__(self) -> Any:
            return [culprit]

        def __setstate__(self, state: Any) -> None:
            pass

    class Arguments:
        def __new__(cls, *args: Any) -> Any:
            return super().__new__(cls)

        def __getnewargs__(self) -> Any:
            return (culprit,)

    class Dict(dict[str, Any]):
        pass

    class List(list[Any]):
        pass

    def outer() -> Callable[[], Any]:
        def middle() -> Any:
            def inner() -> Any:
                return culprit

            return inner()

        return middle

    def default(value: int, session: Any = culprit) -> int:
        return value

    def keyword(value: int, *, session: Any = culprit) -> int:
        return value

    def plain(*args: Any, **keywords: Any) -> int:
        return 1

    def attributed() -> int:
        return 1

    attributed.session = culprit  # type: ignore[attr-defined]

    def annotated(value: int) -> int:
        return value

    annotated.__annotations__["value"] = culprit

    @functools.singledispatch
    def dispatched(value: Any) -> Any:
        return culprit

    def calls(other: Any) -> Callable[[], Any]:
        return lambda: other

    cycle = Callee()
    cycle.me = cycle  # type: ignore[attr-defined]
    deep: Any = culprit
    for _ in range(2000):
        deep = [deep]
    script = in_a_script(
        """
spark_ = spark
def direct(): return spark
def nested(): return [lambda: spark for _ in range(3)]
def comprehended(rows): return [spark.range(row) for row in rows]
def stores():
    global spark
    spark = None
class Job:
    def run(self): return 1
    def other(self): return spark
def uses_class(): return Job
def chained(): return direct()
""",
        spark=culprit,
    )
    return {
        "the first class, by a lambda": (Vectorizer().process_images(), "process_images.<lambda> → self.spark"),
        "the first class, by its method": (Vectorizer().extract_features, "extract_features → self.spark"),
        "nested closures": (outer(), "middle → culprit"),
        "a function in a function": (calls(outer()), "<lambda> → other → culprit"),
        "a lambda in a comprehension": ([lambda: (culprit, None) for _ in range(2)][-1], "<lambda> → culprit"),
        "slots": (calls(Slots()), " → other.held"),
        "slots of a base": (calls(SlotsAndMore()), " → other.held"),
        "a dataclass": (calls(Settings(1, culprit)), " → other.session"),
        "a dataclass's method": (Settings(1, culprit).run, "Settings.run → self.session"),
        "an object with __call__": (Callee(), "Callee.session"),
        "a partial's argument": (functools.partial(plain, culprit), "partial(holders.plain).args[0]"),
        "a partial's keyword": (functools.partial(plain, session=culprit), ".keywords['session']"),
        "a partial's function": (functools.partial(outer()), "partial(holders.outer.middle).func → culprit"),
        "a default": (default, "default → session"),
        "a keyword's default": (keyword, "keyword → session"),
        "a decorated function": (logged(outer()), "holders.outer.middle → fn → culprit"),
        "a function's attribute": (attributed, "attributed.session"),
        "an annotation": (annotated, "annotated → annotation of value"),
        "a class": (calls(Attribute), " → other.session"),
        "the class of an object": (calls(Attribute()), " → other → Attribute.session"),
        "a method's class": (Attribute().run, " → self → Attribute.session"),
        "a base class": (calls(Derived), " → other → Attribute.session"),
        "a static method": (calls(Methods), " → other.still → culprit"),
        "a property": (calls(Property()), " → other → Property.lazily → culprit"),
        "a list": (calls([1, [culprit]]), " → other[1][0]"),
        "a dict": (calls({"a": {"b": culprit}}), " → other['a']['b']"),
        "a key": (calls({culprit: 1}), " → other → a key"),
        "a tuple key": (calls({("a", culprit): 1}), " → other → a key[1]"),
        "a set": (calls({culprit}), " → other → an element"),
        "a dict's values": (calls({"a": culprit}.values()), " → other → an element"),
        "a dict of a class": (calls(Dict(a=culprit)), " → other['a']"),
        "a list of a class": (calls(List([culprit])), " → other[0]"),
        "an ordered dict": (calls(collections.OrderedDict(a=culprit)), " → other['a']"),
        "a deque": (calls(collections.deque([culprit])), " → other[0]"),
        "a defaultdict": (calls(collections.defaultdict(lambda: culprit)), "[0] → culprit"),
        "an iterator": (calls(iter([culprit])), "[0]"),
        "an exception": (calls(ValueError(culprit)), "[0]"),
        "what __reduce__ gives": (calls(Reduced()), "[0]"),
        "what __getstate__ gives": (calls(State()), " → other.kept"),
        "an odd __getstate__": (calls(OddState()), " → other.__getstate__()[0]"),
        "what __getnewargs__ gives": (calls(Arguments()), " → other.__getnewargs__()[0]"),
        "a cycle": (cycle.__call__, "Callee.__call__ → self.session"),
        "two thousand lists": (calls(deep), "[0][0][0]"),
        "a global": (script["direct"], "direct → spark"),
        "a global in a nested lambda": (script["nested"], "nested → spark"),
        "a global in a comprehension": (script["comprehended"], "comprehended → spark"),
        "a global that is written": (script["stores"], "stores → spark"),
        "a method that is not called": (script["uses_class"], "uses_class → Job.other → spark"),
        "a method beside the one that is sent": (script["Job"]().run, " → self → Job.other → spark"),
        "a function that is called": (script["chained"], "chained → direct → spark"),
        "a dispatched function": (calls(dispatched), " → culprit"),
    }


def things(open_things: ExitStack) -> dict[str, Any]:
    """What cannot be pickled, whoever holds it."""
    folder = Path(open_things.enter_context(tempfile.TemporaryDirectory()))
    (folder / "text").write_text("text")
    pool = open_things.enter_context(concurrent.futures.ThreadPoolExecutor(1))
    waiting = asyncio.sleep(0)
    open_things.callback(waiting.close)
    child = subprocess.Popen([sys.executable, "-c", ""])
    open_things.callback(child.wait)

    @functools.lru_cache
    def cached() -> int:
        return 1

    return {
        "lock": threading.Lock(),
        "rlock": threading.RLock(),
        "event": threading.Event(),
        "condition": threading.Condition(),
        "semaphore": threading.BoundedSemaphore(),
        "thread": threading.Thread(target=print),
        "timer": threading.Timer(1, print),
        "thread's own": threading.local(),
        "queue": queue.Queue(),
        "simple queue": queue.SimpleQueue(),
        "executor": pool,
        "future": concurrent.futures.Future(),
        "pool": open_things.enter_context(multiprocessing.pool.ThreadPool(1)),
        "child": child,
        "handler": logging.StreamHandler(),
        "socket": open_things.enter_context(socket.socket()),
        "sqlite": sqlite3.connect(":memory:"),
        "sqlite cursor": sqlite3.connect(":memory:").cursor(),
        "bytes of a file": open_things.enter_context((folder / "text").open("rb")),
        "raw file": open_things.enter_context((folder / "text").open("rb", buffering=0)),
        "file to write": open_things.enter_context((folder / "out").open("w")),
        "file to write bytes": open_things.enter_context((folder / "out2").open("wb")),
        "generator": (row for row in range(3)),
        "coroutine": waiting,
        "frame": sys._getframe(),
        "weak reference": weakref.ref(ExitStack),
        "match": re.match("a", "a"),
        "cached function": cached,
        "method of a lock": threading.Lock().acquire,
    }


@dataclasses.dataclass
class ByName:
    """Its class is imported by name in a worker."""

    value: int = 1
    lock: Any = None

    def run(self, value: int) -> int:
        return value

    def __getstate__(self) -> dict[str, Any]:
        return {"value": self.value}


@functools.cache
def remembered(value: int) -> int:
    return value


def innocents() -> dict[str, Any]:
    """Functions that can be sent, each near to one that cannot."""

    class Watchful:
        """Pickling reads none of its properties."""

        calls: typing.ClassVar[list[str]] = []

        @property
        def session(self) -> Any:
            raise AssertionError("a property was read")

        def __getattr__(self, name: str) -> Any:
            if name.startswith("__"):
                raise AttributeError(name)
            raise AssertionError(f"{name} was read")

    class OwnThread(threading.Thread):
        def __reduce__(self) -> Any:
            return (OwnThread, ())

    class Colour(enum.Enum):
        RED = 1

        def shown(self) -> str:
            return self.name

    class Shape(abc.ABC):
        @abc.abstractmethod
        def area(self) -> float: ...

    class Square(Shape):
        def area(self) -> float:
            return 1.0

    Point = collections.namedtuple("Point", "x y")
    T = typing.TypeVar("T")

    class Box(typing.Generic[T]):
        __slots__ = ("value",)

        def __init__(self, value: T) -> None:
            self.value = value

    @dataclasses.dataclass(slots=True, frozen=True)
    class Settings:
        sizes: list[int] = dataclasses.field(default_factory=list)

    class Node:
        def __init__(self) -> None:
            self.me = self

    def calls(other: Any) -> Callable[[], Any]:
        return lambda: other

    def recursive(value: int) -> int:
        return recursive(value - 1) if value else 0

    def makes_its_own(rows: Iterator[int]) -> Iterator[Any]:
        lock = threading.Lock()
        for row in rows:
            with lock:
                yield row

    async def waits() -> None:
        await asyncio.sleep(0)

    def late() -> Any:
        return never_set  # type: ignore[name-defined]  # noqa: F821

    def empty_cell() -> Any:
        def inner() -> Any:
            return not_yet  # type: ignore[has-type]

        if False:
            not_yet = 1
        return inner

    log = logging.getLogger("a.job")
    script = in_a_script(
        """
import os.path, logging, numpy as np
spark = lock
LOG = logging.getLogger("job")
SIZE = 3
def local_of_the_same_name():
    spark = 1
    return spark
def attribute_of_the_same_name(thing): return thing.spark, thing.lock
def argument_of_the_same_name(spark): return lambda: spark
def uses(): return os.path.join("a"), LOG.info("x"), np.mean([SIZE])
def never_named(): return 1
""",
        lock=threading.Lock(),
    )
    return {
        **{name: script[name] for name in script if name.islower() and callable(script[name]) and name != "lock"},
        "a lambda": lambda value: value + 1,
        "a module": calls(np),
        "functions of packages": calls([np.mean, json.dumps, torch.nn.functional.relu, np.add, len, Path.exists]),
        "a function of this module": logged,
        "a logger": calls(log),
        "the root logger": calls(logging.getLogger()),
        "a logger's method": log.info,
        "a logger's adapter": calls(logging.LoggerAdapter(log, {})),
        "an object of a class by name": ByName(lock=threading.Lock()).run,
        "a cached function of a module": calls(remembered),
        "properties": calls(Watchful()),
        "a thread that pickles itself": calls(OwnThread()),
        "an enum": calls([Colour.RED, Colour]),
        "an abstract class": calls([Shape, Square()]),
        "a named tuple": calls(Point(1, 2)),
        "types of Python": calls([type(None), type(...), type(recursive), type(row for row in ""), type(print)]),
        "a generic class": calls([Box(1), Box]),
        "a type variable": calls(T),
        "a dataclass": calls([Settings([1]), Settings, dataclasses.fields(Settings)]),
        "a cycle": calls(Node()),
        "a recursive function": recursive,
        "a lock of its own": makes_its_own,
        "a coroutine function": waits,
        "a name that is not there": late,
        "an empty cell": empty_cell(),
        "a partial": functools.partial(calls, [1, {"a": (2, {3})}]),
        "a decorated function": logged(lambda value: value),
        "values": calls(
            [
                *(re.compile("a"), Path("a"), datetime.datetime.now(datetime.UTC), random.Random(1), itertools.count()),
                *(np.random.default_rng(0), np.arange(3), np.array([None, "a"]), torch.float32, torch.zeros(2)),
                *(
                    torch.nn.Linear(2, 2),
                    range(3),
                    slice(1),
                    memoryview(b"a"),
                    bytearray(b"a"),
                    Ellipsis,
                    {1: 2}.keys(),
                ),
                *(collections.Counter("aab"), collections.ChainMap({1: 2}), ValueError("a"), typing.Any, list[int]),
            ]
        ),
    }
