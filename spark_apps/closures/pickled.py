"""What cloudpickle pickles of an object, one step deep: its parts, each with the words that lead to it.

Follows the rules of the cloudpickle that PySpark 4.2 carries (pyspark/cloudpickle/cloudpickle.py): what can be imported
by name is pickled as that name, whatever it holds inside; of any other function its closure, the globals that its code
names, its defaults, attributes and annotations are pickled; of any other class its namespace and bases; of all else
what `__reduce_ex__` yields. Needs neither pyspark nor cloudpickle.
"""

from __future__ import annotations

import copyreg
import dis
import functools
import io
import logging
import pickle
import sys
import types
import typing
import weakref
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from enum import Enum
from itertools import islice
from typing import Any, NamedTuple

MOST_ITEMS = 10_000
"""So many items of a container are looked at."""

ATOMS = frozenset(
    (
        *(type(None), type(...), type(NotImplemented), bool, int, float, complex),
        *(str, bytes, bytearray, memoryview, range, types.CodeType),
    )
)
"""Types whose values hold nothing else."""

_GLOBAL_OPS = frozenset(["LOAD_GLOBAL", "STORE_GLOBAL", "DELETE_GLOBAL"])
_ATTRIBUTE_OPS = frozenset(["LOAD_ATTR", "LOAD_METHOD"])
_ENUM_OWN = frozenset(
    ["_generate_next_value_", "_member_names_", "_member_map_", "_member_type_", "_value2member_map_"]
)
_NOT_PICKLED = frozenset(
    (
        *("__weakref__", "__dict__"),
        *("_abc_impl", "_abc_registry", "_abc_cache", "_abc_negative_cache", "_abc_negative_cache_version"),
    )
)


class Part(NamedTuple):
    """`step` continues the path to the whole: ` → name`, `.attribute`, `[index]`, or nothing."""

    step: str
    value: Any


def parts(value: Any, by_value: Collection[str] = ()) -> Iterable[Part]:
    """What cloudpickle would pickle of `value`; nothing for what it pickles by name.

    `by_value`: names of modules whose functions and classes are pickled by value, as those of the script itself are.

    Runs no code of the value but what pickling runs: `__reduce_ex__`, `__getstate__` and their kin.

    Raises:
        Exception: `value` itself cannot be pickled; whatever its pickling raises.
    """
    kind = type(value)
    if issubclass(kind, type):
        return () if by_name(value, by_value) else _of_class(value)
    if kind is types.FunctionType:
        return () if by_name(value, by_value) else _of_function(value)
    if kind is types.ModuleType:
        known = value.__name__ in sys.modules and not _registered(value.__name__, by_value)
        return () if known else _attributes(_without(vars(value), ["__builtins__"]))
    if kind in _RULES:
        return _RULES[kind](value)
    return _of_reduced(value)


def by_name(value: Any, by_value: Collection[str] = ()) -> bool:
    """Whether cloudpickle pickles this function or class as the name that it can be imported by."""
    name, module = getattr(value, "__qualname__", None), getattr(value, "__module__", None)
    if not isinstance(name, str) or not isinstance(module, str):
        return False
    if module == "builtins":  # where not all of Python's own types can be found; cloudpickle knows them all
        return True
    if module == "__main__" or module not in sys.modules or _registered(module, by_value):
        return False
    return _lookup(module, name) is value


def global_names(code: types.CodeType) -> list[str]:
    """The globals that the code and the code nested in it name, in order."""
    names = {each.argval: None for each in dis.get_instructions(code) if each.opname in _GLOBAL_OPS}
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            names.update(dict.fromkeys(global_names(constant)))
    return list(names)


def through_modules(function: types.FunctionType) -> Iterator[Part]:
    """What the function's code takes from modules, as in `config.spark`. It is not pickled; the module's name is."""
    free = zip(function.__code__.co_freevars, function.__closure__ or (), strict=True)
    outside = function.__globals__ | {name: cell.cell_contents for name, cell in free if not _empty(cell)}
    for chain in _chains(function.__code__):
        value = outside.get(chain[0])
        path = f" → {chain[0]}"
        for attribute in chain[1:]:
            if type(value) is not types.ModuleType or attribute not in vars(value):
                break
            value, path = vars(value)[attribute], f"{path}.{attribute}"
            if type(value) is not types.ModuleType:
                yield Part(path, value)


def _chains(code: types.CodeType) -> Iterator[list[str]]:
    """`a.b.c` as ["a", "b", "c"], for globals and variables of the enclosing functions."""
    chain: list[str] = []
    for each in dis.get_instructions(code):
        if each.opname in ("LOAD_GLOBAL", "LOAD_DEREF"):
            if len(chain) > 1:
                yield chain
            chain = [each.argval]
        elif each.opname in _ATTRIBUTE_OPS and chain:
            chain.append(each.argval)
        elif each.opname != "EXTENDED_ARG":
            if len(chain) > 1:
                yield chain
            chain = []
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _chains(constant)


# --- functions and classes --------------------------------------------------------------------------------------------


def _of_function(function: types.FunctionType) -> Iterator[Part]:
    code = function.__code__
    for name, cell in zip(code.co_freevars, function.__closure__ or (), strict=True):
        if not _empty(cell):
            yield Part(f" → {name}", cell.cell_contents)
    for name in global_names(code):
        if name in function.__globals__:
            yield Part(f" → {name}", function.__globals__[name])
    positional = code.co_varnames[: code.co_argcount]
    for name, default in zip(reversed(positional), reversed(function.__defaults__ or ()), strict=False):
        yield Part(f" → {name}", default)
    for name, default in (function.__kwdefaults__ or {}).items():
        yield Part(f" → {name}", default)
    yield from _attributes(function.__dict__)
    for name, annotation in function.__annotations__.items():
        yield Part(f" → annotation of {name}", annotation)


def _of_class(kind: type) -> Iterator[Part]:
    slots = kind.__dict__.get("__slots__", ())
    left_out = _NOT_PICKLED | {slots} if isinstance(slots, str) else _NOT_PICKLED | set(slots)
    if issubclass(kind, Enum):
        left_out |= _ENUM_OWN
    inherited: dict[str, Any] = {}
    for base in reversed(kind.__bases__):
        inherited.update(base.__dict__)
    own = {name: value for name, value in kind.__dict__.items() if inherited.get(name, _Missing) is not value}
    yield from _attributes(_without(own, left_out))
    for base in (*kind.__bases__, type(kind)):
        yield Part(f" → {base.__name__}", base)


class _Missing:
    """Stands for a value that is not there."""


def _empty(cell: types.CellType) -> bool:
    try:
        cell.cell_contents  # noqa: B018
    except ValueError:
        return True
    return False


def _registered(module: str, by_value: Collection[str]) -> bool:
    """Whether the module, or a package around it, is pickled by value."""
    marked = set(by_value)
    for cloudpickle in ("pyspark.cloudpickle.cloudpickle", "cloudpickle.cloudpickle"):
        if cloudpickle in sys.modules:
            marked |= sys.modules[cloudpickle].list_registry_pickle_by_value()
    return any(module == name or module.startswith(name + ".") for name in marked)


def _lookup(module: str, name: str) -> Any:
    found: Any = sys.modules[module]
    for part in name.split("."):
        try:
            found = getattr(found, part)
        except Exception:
            return _Missing
    return found


# --- everything else --------------------------------------------------------------------------------------------------


def _of_reduced(value: Any) -> Iterator[Part]:
    reducer = copyreg.dispatch_table.get(type(value))
    reduced = reducer(value) if reducer else value.__reduce_ex__(pickle.HIGHEST_PROTOCOL)
    if isinstance(reduced, str):
        _importable(value, reduced)
        return
    make, arguments, state, items, pairs = (*reduced, None, None, None)[:5]
    if getattr(make, "__name__", "") in ("__newobj__", "__newobj_ex__"):
        kind, *rest = arguments
        yield Part(f" → {kind.__name__}", kind)
        yield from _indexed(rest, ".__getnewargs__()")
    else:
        yield Part(".__reduce__()[0]", make)
        yield from _named(arguments, value)
    yield from _of_state(state)
    yield from _indexed(items or ())
    for key, item in islice(pairs or (), MOST_ITEMS):
        yield from _item(key, item)


def _of_state(state: Any) -> Iterator[Part]:
    """A state is a dict of attributes, or (that or None, dict of slots), or anything that `__setstate__` takes."""
    if type(state) is tuple and len(state) == 2 and all(type(each) in (dict, type(None)) for each in state):
        for attributes in state:
            yield from _attributes(attributes or {})
    elif type(state) is dict:
        yield from _attributes(state)
    elif state is not None:
        yield Part(".__getstate__()", state)


def _named(arguments: Iterable[Any], whole: Any) -> Iterator[Part]:
    """The arguments of a `__reduce__`, by the name of the attribute that they are, where they are one."""
    try:
        attributes = object.__getattribute__(whole, "__dict__")
        names = {id(value): name for name, value in attributes.items()}
    except Exception:
        names = {}
    for position, argument in enumerate(arguments):
        name = names.get(id(argument))
        yield Part(f".{name}" if name else f".__reduce__()[1][{position}]", argument)


def _importable(value: Any, name: str) -> None:
    """What is pickled by name alone must be found under it, and the workers' `__main__` is not the driver's."""
    module = getattr(value, "__module__", None)
    if module == "__main__":
        raise pickle.PicklingError(f"it is pickled by its name, __main__.{name}, and a worker has another __main__")
    if isinstance(module, str) and module in sys.modules and _lookup(module, name) is not value:
        raise pickle.PicklingError(f"it is pickled by its name, {module}.{name}, which does not lead to it")


def _of_text_file(file: Any) -> Iterable[Part]:
    """cloudpickle sends the text of a file that is open for reading, and fails for others."""
    if file is sys.stdout or file is sys.stderr:
        return ()
    if file is sys.stdin or file.closed or file.isatty() or not hasattr(file, "name"):
        raise pickle.PicklingError("cannot pickle standard input, terminals and closed files")
    if not set("r+") & set(getattr(file, "mode", "")):
        raise pickle.PicklingError("cannot pickle a file that is not open for reading")
    return ()


def _of_property(value: property) -> Iterator[Part]:
    for function in (value.fget, value.fset, value.fdel):
        if function is not None:
            yield Part("", function)


def _of_mapping(value: Mapping[Any, Any]) -> Iterator[Part]:
    for key, item in islice(value.items(), MOST_ITEMS):
        yield from _item(key, item)


def _item(key: Any, item: Any) -> Iterator[Part]:
    plain = type(key) in (str, int, float, bool, bytes)
    yield Part(f"[{key!r:.60}]" if plain else "[…]", item)
    if not plain:
        yield Part(" → a key", key)


def _indexed(value: Iterable[Any], before: str = "") -> Iterator[Part]:
    for position, item in enumerate(islice(value, MOST_ITEMS)):
        yield Part(f"{before}[{position}]", item)


def _of_set(value: Iterable[Any]) -> Iterator[Part]:
    for item in islice(value, MOST_ITEMS):
        yield Part(" → an element", item)


def _attributes(values: Mapping[str, Any]) -> Iterator[Part]:
    for name, value in list(values.items()):
        yield Part(f".{name}", value)


def _without(values: Mapping[str, Any], names: Collection[str]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if name not in names}


def _rules() -> dict[type, Callable[[Any], Iterable[Part]]]:
    """What pickle and cloudpickle do for exactly these types."""
    rules: dict[type, Callable[[Any], Iterable[Part]]] = {
        dict: _of_mapping,
        list: _indexed,
        tuple: _indexed,
        set: _of_set,
        frozenset: _of_set,
        weakref.WeakSet: _of_set,
        types.MappingProxyType: _of_mapping,
        property: _of_property,
        types.CellType: lambda cell: () if _empty(cell) else [Part("", cell.cell_contents)],
        types.MethodType: lambda method: [Part(" → self", method.__self__), Part("", method.__func__)],
        functools.partial: lambda partial: [
            *([] if partial.func is None else [Part(".func", partial.func)]),
            *_indexed(partial.args, ".args"),
            *(Part(f".keywords[{name!r}]", value) for name, value in partial.keywords.items()),
            *_attributes(partial.__dict__),
        ],
        io.TextIOWrapper: _of_text_file,
    }
    views: list[Any] = [kind({}) for kind in (dict, OrderedDict)]
    for view in views:
        rules[type(view.keys())] = rules[type(view.values())] = _of_set
        rules[type(view.items())] = lambda items: _of_mapping(dict(items))
    for wrapper in (classmethod, staticmethod):
        rules[wrapper] = lambda method: [Part("", method.__func__)]
    by_themselves: list[type] = [logging.Logger, logging.RootLogger, types.GetSetDescriptorType, typing.TypeVar]
    for kind in by_themselves:
        rules[kind] = lambda value: ()
    return rules


_RULES = _rules()
