"""The classes whose objects stay in the process that made them, and what a person does instead of sending one."""

from __future__ import annotations

import copyreg
from collections.abc import Collection, Iterator
from typing import Any, NamedTuple


class Advice(NamedTuple):
    """`reason` goes on from "it is a SparkSession,"; `fix` is what to do, with {what} for the object."""

    reason: str
    fix: str


SPARK = Advice(
    "which only the driver has",
    "Copy the values that the function needs into plain variables before the function is made, and keep {what} out of "
    "the object and the variables that it uses; a task runs without it.",
)
FRAME = Advice(
    "which only the driver can query",
    "Join it to the other data instead; or collect() it while it is small, and let the function use the rows.",
)
_COLUMN = Advice(
    "which describes a step of a query and has no value in a task",
    "Pass it to the UDF as an argument; the function then gets its value for each row.",
)
_JVM = Advice("which is a handle on an object in the driver's JVM", SPARK.fix)
_LOCK = Advice(
    "which belongs to this process",
    "Make it in the worker: inside the function, or as a global of an importable module. Or leave it out of what is "
    "pickled, by a __getstate__ of the object that holds it.",
)
_CONNECTION = Advice(
    "which cannot leave this process",
    "Send its address, and open it in the worker: once for a partition (a function over an iterator, such as an "
    "arrow_udf or mapInArrow) or once for a process (functools.cache in an importable module).",
)
_FILE = Advice(
    "which cannot leave this process",
    "Send its path, and open it inside the function; SparkContext.addFile brings a file of the driver to the workers.",
)
_LAZY = Advice(
    "which is a half-run computation of this process",
    "Send a list of what it yields, or the function that makes it.",
)
OTHER = Advice(
    "which cannot be pickled",
    "Make it in the worker: inside the function, or once for a process by functools.cache in an importable module. Or "
    "leave it out of what is pickled, by a __getstate__ of the object that holds it.",
)

_CLASSES: dict[Advice, tuple[str, ...]] = {
    SPARK: (
        "pyspark.sql.session.SparkSession",
        "pyspark.sql.connect.session.SparkSession",
        "pyspark.core.context.SparkContext",
        "pyspark.context.SparkContext",
        "pyspark.streaming.context.StreamingContext",
    ),
    FRAME: (
        "pyspark.sql.dataframe.DataFrame",
        "pyspark.sql.classic.dataframe.DataFrame",
        "pyspark.sql.connect.dataframe.DataFrame",
        "pyspark.core.rdd.RDD",
        "pyspark.rdd.RDD",
    ),
    _COLUMN: ("pyspark.sql.classic.column.Column",),
    _JVM: (
        "py4j.java_gateway.JavaObject",
        "py4j.java_gateway.JavaClass",
        "py4j.java_gateway.JavaPackage",
        "py4j.java_gateway.JavaMember",
        "py4j.java_gateway.JVMView",
        "py4j.java_gateway.JavaGateway",
        "py4j.java_gateway.GatewayClient",
    ),
    _LOCK: (
        "_thread.lock",
        "_thread.RLock",
        "_thread._local",
        "threading.Barrier",
        "threading.Condition",
        "threading.Event",
        "threading.Semaphore",
        "threading.Thread",
        "queue.Queue",
        "_queue.SimpleQueue",
        "concurrent.futures._base.Executor",
        "concurrent.futures._base.Future",
        "multiprocessing.pool.Pool",
        "subprocess.Popen",
        "logging.Handler",
    ),
    _CONNECTION: (
        "socket.socket",
        "sqlite3.Connection",
        "sqlite3.Cursor",
        "sqlalchemy.engine.base.Connection",
        "sqlalchemy.engine.base.Engine",
        "psycopg.Connection",
        "psycopg2.extensions.connection",
        "pymysql.connections.Connection",
        "botocore.client.BaseClient",
    ),
    _FILE: ("_io.FileIO", "_io.BufferedReader", "_io.BufferedWriter", "_io.BufferedRandom"),
    _LAZY: ("builtins.generator", "builtins.coroutine", "builtins.async_generator", "builtins.frame"),
}
"""By full name, so that nothing need be imported. A class derived from one of them is meant, too, unless it brings a
`__reduce__` or `__getstate__` of its own."""

_ADVICE = {name: advice for advice, names in _CLASSES.items() for name in names}
_HOOKS = frozenset(("__reduce__", "__reduce_ex__", "__getstate__"))


def advice(value: Any) -> Advice | None:
    """What to do instead of sending `value`; None for what is not known to stay."""
    if type(value) in copyreg.dispatch_table:
        return None
    for name, kind in _names(value):
        if name in _ADVICE:
            return _ADVICE[name]
        if _HOOKS & vars(kind).keys():
            return None
    return None


def is_a(value: Any, names: Collection[str]) -> bool:
    """Whether one of the value's classes has one of these full names."""
    return any(name in names for name, _ in _names(value))


def _names(value: Any) -> Iterator[tuple[str, type]]:
    """The full names of the value's classes; asks the type alone, so that no property of the value runs."""
    for kind in type(value).__mro__:
        yield f"{kind.__module__}.{kind.__qualname__}", kind
