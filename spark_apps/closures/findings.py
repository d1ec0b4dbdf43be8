"""What keeps a function from Spark's workers, or makes it heavy, found by walking what would be pickled of it.

Spark pickles a function with all that it reaches: the variables it closes over, the globals it names, its defaults,
the object whose method it is. One SparkSession, lock or open file among them, and the query ends in a page of stack
trace. `explain_closure` walks the same way and names the culprit by its path, `extract → self.spark`, with the fix.
"""

from __future__ import annotations

import functools
import io
import sys
import types
import warnings
from collections import deque
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

from spark_apps.closures import driver_only, pickled
from spark_apps.closures.driver_only import Advice, is_a
from spark_apps.contract import BadSetting

MOST_OBJECTS = 50_000
MOST_FINDINGS = 20
LARGE_BYTES = 2**20
"""Above it Spark itself moves a pickled function out of the way (`spark.broadcast.UDFCompressionThreshold`)."""

_BROADCASTS = frozenset(("pyspark.core.broadcast.Broadcast", "pyspark.broadcast.Broadcast"))
_ARRAYS = frozenset(("numpy.ndarray", "torch.Tensor"))
_TORCH_MODULES = frozenset(("torch.nn.modules.module.Module",))
_UDFS = frozenset(("pyspark.sql.udf.UserDefinedFunction", "pyspark.sql.connect.udf.UserDefinedFunction"))


@dataclass(frozen=True)
class Finding:
    """One thing that a function takes along.

    `path` leads to it from the function: ` → ` goes to a variable, a dot to an attribute. `what` names it, `reason`
    says what is wrong with it, and `fix` what to do. `fatal`: the function does not reach a worker with it; otherwise
    it does, at a price.
    """

    path: str
    what: str
    reason: str
    fix: str
    fatal: bool = True

    def __str__(self) -> str:
        return f"{self.path} is {self.what}, {self.reason}. {self.fix}"


def explain_closure(fn: Any, *, by_value: Collection[str] = ()) -> list[Finding]:
    """What keeps `fn` from Spark's workers, or makes it heavy; fatal findings first, short paths first.

    Looks at what cloudpickle would pickle, and no further: what pickles itself safely is innocent, and so is the inside
    of what workers import by name. Calls nothing of the objects but `__reduce_ex__` and `__getstate__`, as pickling
    does. Works without pyspark, and does not load it.

    Args:
        fn: a function, method, partial, Spark UDF, or any object that is to be pickled.
        by_value: names of modules to be treated as the script itself is, whose functions do not travel as names.
    """
    fn = _inside_udf(fn)
    found: list[Finding] = []
    start = _Step(fn, None, called(fn))
    seen = {id(fn): fn}  # holds the objects, too: an id is used again when its object is gone
    queue = deque([start])
    small = 0
    while queue and len(found) < MOST_FINDINGS:
        here = queue.popleft()
        if known := driver_only.advice(here.value):
            found.append(_culprit(here, known))
            continue
        if is_a(here.value, _BROADCASTS):
            continue
        size = 0 if here.counted else _bytes(here.value)
        if size >= LARGE_BYTES:
            found.append(_large(here.path(), f"{_a(here.value)} of {size / 1e6:.1f} MB"))
        else:
            small += size
        if is_a(here.value, _ARRAYS) and str(here.value.dtype) != "object":
            continue
        counted = here.counted or is_a(here.value, _TORCH_MODULES)
        try:
            for words, value in pickled.parts(here.value, by_value):
                if type(value) in pickled.ATOMS:
                    small += len(value) if isinstance(value, bytes | bytearray | str) else 0
                elif id(value) not in seen and len(seen) < MOST_OBJECTS:
                    seen[id(value)] = value
                    queue.append(_Step(value, here, words, counted))
            found += _notes(here, by_value)
        except Exception as error:
            found.append(_culprit(here, driver_only.OTHER, error))
    if not found and small >= LARGE_BYTES:
        found.append(_large(start.path(), f"something with {small / 1e6:.1f} MB of small objects inside"))
    if not any(finding.fatal for finding in found):
        found += _trial(start, by_value)
    return sorted(found, key=lambda finding: not finding.fatal)


def check_closure(fn: Any, *, by_value: Collection[str] = (), notes: bool = True) -> None:
    """Raises for the first thing that keeps `fn` from Spark's workers; with `notes`, warns of what makes it heavy.

    Raises:
        BadSetting: `driver_only`; the message has the path, the hint the fix.
    """
    for finding in explain_closure(fn, by_value=by_value):
        if finding.fatal:
            raise BadSetting(
                "driver_only",
                f"Spark cannot send {called(_inside_udf(fn))} to its workers: "
                f"{finding.path} is {finding.what}, {finding.reason}.",
                finding.fix,
            )
        if notes:
            warnings.warn(str(finding), stacklevel=2)


def called(fn: Any) -> str:
    """How a function or an object is called in a path."""
    if isinstance(fn, functools.partial):
        return f"partial({called(fn.func)})"
    if isinstance(fn, types.MethodType):
        return called(fn.__func__)
    name = fn.__qualname__ if isinstance(fn, types.FunctionType | type) else type(fn).__qualname__
    return name.replace(".<locals>", "")


class _Step(NamedTuple):
    """A place on the way from the function. `counted`: its bytes are part of what is above it."""

    value: Any
    before: _Step | None
    words: str
    counted: bool = False

    def path(self) -> str:
        words: list[str] = []
        step: _Step | None = self
        while step:
            words.append(step.words)
            step = step.before
        return "".join(reversed(words))


# --- findings ---------------------------------------------------------------------------------------------------------


def _culprit(step: _Step, known: Advice, error: Exception | None = None) -> Finding:
    reason = known.reason
    if error:
        reason += f" ({' '.join(str(error).split())[:200] or type(error).__name__})"
    what = _a(step.value)
    return Finding(step.path(), what, reason, known.fix.format(what=f"the {type(step.value).__name__}"))


def _large(path: str, what: str) -> Finding:
    return Finding(
        path,
        what,
        "which Spark pickles with the function for each query, and every task unpickles anew",
        "Broadcast it once (spark.sparkContext.broadcast, and .value inside the function); for a model use "
        "ImageVectorizer or broadcast_extractor.",
        fatal=False,
    )


def _notes(step: _Step, by_value: Collection[str]) -> Iterator[Finding]:
    """What can be pickled, but does not do in a worker what it does here."""
    value = step.value
    if type(value) is io.TextIOWrapper and value is not sys.stdout and value is not sys.stderr:
        yield Finding(
            step.path(),
            "an open text file",
            "whose whole text is sent",
            "Send its path, and open it there.",
            fatal=False,
        )
    if type(value) is not types.FunctionType or pickled.by_name(value, by_value):
        return
    for words, taken in pickled.through_modules(value):
        known = driver_only.advice(taken)
        if known in (driver_only.SPARK, driver_only.FRAME):
            note = _culprit(_Step(taken, step, words), known)
            reason = "which a worker cannot have: it imports that module anew"
            yield Finding(note.path, note.what, reason, note.fix, fatal=False)


def _a(value: Any) -> str:
    """`a SparkSession`, `an RDD`, `an ndarray`."""
    name = type(value).__name__
    return f"{'an' if name[0] in 'aeiouAEIO' or name.startswith(('RD', 'RL', 'nd')) else 'a'} {name}"


def _bytes(value: Any) -> int:
    """The size of an array, or of all arrays of a torch module; 0 for anything else."""
    if is_a(value, _TORCH_MODULES):
        return sum(map(_bytes, _tensors(value, set())))
    if is_a(value, _ARRAYS):
        try:
            return int(value.nbytes)
        except Exception:  # a tensor of a kind that has no storage
            return 0
    return 0


def _tensors(module: Any, seen: set[int]) -> Iterator[Any]:
    for kind in ("_parameters", "_buffers", "_modules"):
        for value in vars(module).get(kind, {}).values():
            if value is not None and id(value) not in seen:
                seen.add(id(value))
                yield from _tensors(value, seen) if kind == "_modules" else [value]


def _trial(start: _Step, by_value: Collection[str]) -> list[Finding]:
    """The last resort: pickles the function as Spark would, where its cloudpickle is loaded, and keeps nothing."""
    cloudpickle: Any = sys.modules.get("pyspark.cloudpickle", sys.modules.get("cloudpickle"))
    if cloudpickle is None:
        return []

    class Trial(cloudpickle.Pickler):
        def persistent_id(self, value: Any) -> str | None:
            """Leaves out broadcasts, whose pickling registers them for the next query, and arrays, which are heavy."""
            left_out = type(value) not in pickled.ATOMS and is_a(value, _BROADCASTS | _ARRAYS)
            return "left out" if left_out else None

    class Nowhere:
        def write(self, content: Any) -> int:
            return len(content)

    known = cloudpickle.list_registry_pickle_by_value()
    marked = [sys.modules[name] for name in by_value if name in sys.modules and name not in known]
    for module in marked:
        cloudpickle.register_pickle_by_value(module)
    try:
        Trial(Nowhere()).dump(start.value)
    except Exception as error:
        return [_culprit(start._replace(words=f"something in {start.words}"), driver_only.OTHER, error)]
    finally:
        for module in marked:
            cloudpickle.unregister_pickle_by_value(module)
    return []


def _inside_udf(fn: Any) -> Any:
    """The Python function of a Spark UDF, in either of the forms that Spark gives it; else `fn`."""
    if type(fn) is types.FunctionType and {"func", "evalType"} <= fn.__dict__.keys():
        return fn.__dict__["func"]
    return fn.func if is_a(fn, _UDFS) else fn


# --- command line -----------------------------------------------------------------------------------------------------
