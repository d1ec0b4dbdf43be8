"""What a setting says of itself: help, choices and bounds, and the check that every dataclass of settings makes."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from spark_apps.contract.errors import BadSetting

KINDS = {str: "a text", int: "a whole number", float: "a number", bool: "true or false"}


def setting(
    help: str,
    default: Any = dataclasses.MISSING,
    *,
    choices: Sequence[str] | None = None,
    minimum: float | None = None,
    maximum: float | None = None,
    check: Callable[[str], Any] | None = None,
) -> Any:
    """A settings field that carries its own help text, choices and bounds (both bounds inclusive). `check` raises
    BadSetting for a text that is not of its form."""
    metadata = {"help": help, "choices": choices, "minimum": minimum, "maximum": maximum, "check": check}
    return field(default=default, metadata=metadata)


@dataclass(frozen=True, kw_only=True)
class Checked:
    """Settings that are checked when they are made.

    Raises:
        BadSetting: a value is of another type than its field, or outside the field's choices or bounds.
    """

    def __post_init__(self) -> None:
        kinds = typing.get_type_hints(type(self))
        for spec in dataclasses.fields(self):
            _check(spec, getattr(self, spec.name), kinds[spec.name])


def describe(cls: type[Checked], name: str) -> dict[str, Any]:
    """Help, choices, bounds, type and default of one setting, for whoever draws a form."""
    spec = next(spec for spec in dataclasses.fields(cls) if spec.name == name)
    default = None if spec.default is dataclasses.MISSING else spec.default
    return {**spec.metadata, "type": typing.get_type_hints(cls)[name], "default": default}


def check_value(cls: type[Checked], name: str, value: Any) -> None:
    """The check of one setting by itself. Raises BadSetting."""
    spec = next(spec for spec in dataclasses.fields(cls) if spec.name == name)
    _check(spec, value, typing.get_type_hints(cls)[name])


def out_of_range(value: Any, choices: Sequence[str] | None, minimum: float | None, maximum: float | None) -> str:
    """What to choose instead of a value that is none of the choices or beyond a bound; empty when it is allowed."""
    if choices and value not in choices:
        return f"Choose one of: {', '.join(choices)}."
    if minimum is not None and maximum is not None and not minimum <= value <= maximum:
        return f"Choose a number from {minimum} to {maximum}."
    if minimum is not None and not value >= minimum:
        return f"Choose a number of at least {minimum}."
    return ""


def _check(spec: dataclasses.Field[Any], value: Any, kind: type) -> None:
    limits = spec.metadata
    name = spec.name.replace("_", "-")
    fits = isinstance(value, (int, float) if kind is float else kind)
    if not fits or (isinstance(value, bool) and kind is not bool):  # to Python, a truth value is a whole number
        raise BadSetting(f"bad_{spec.name}", f"{name} {value!r} is not {KINDS[kind]}.", limits["help"])
    if spec.default is dataclasses.MISSING and not value:
        raise BadSetting(f"bad_{spec.name}", f"{name} is empty.", limits["help"])
    if better := out_of_range(value, limits["choices"], limits["minimum"], limits["maximum"]):
        wrong = f"{value!r} is not a valid {name}." if limits["choices"] else f"{name} {value} is out of bounds."
        raise BadSetting(f"bad_{spec.name}", wrong, better)
    if limits["check"] is not None:
        limits["check"](value)
