"""The keyword arguments of the operators, made from the settings of their stages in `spark_apps.contract`.

Each is a template field. What is written out is checked when the Dag is parsed, what a template, another task or a
mapping gives, in the run.
"""

from __future__ import annotations

import dataclasses
import difflib
import inspect
import re
import typing
from collections.abc import Callable, Iterable, Mapping
from datetime import date
from pathlib import PurePath
from typing import Any, TypeVar

from image_features.options import TRUTHS
from spark_apps import contract
from spark_apps.contract import BadSetting

FROM_AIRFLOW = frozenset({"run_id", "dag_id", "map_index", "branch", "submission"})
"""Settings that say which run a job works for, and at which try."""
FROM_ADMINISTRATOR = frozenset({"within", "weights_within"})
"""Settings that keep a job in the places that [image_features] allows."""
NOT_FOR_A_TASK: Mapping[type[contract.JobSettings], frozenset[str]] = {
    contract.UndoSettings: frozenset({"list"}),
    contract.IndexSettings: frozenset({"check"}),
}
RENAMED = {"resources": "resources_per_task"}
"""Setting → argument, where Airflow has an argument of that name for something else."""
FROM_THE_RUN = {
    "store": "[image_features] store",
    "source": "[image_features] source",
    "partition": "the partition key of the run, else the start of its data interval",
}
"""What a task has that is not given a setting which the command line requires."""
ATTRIBUTES = {"dry_run": "is_dry_run"}
"""Setting → attribute, where operators have a method of that name."""

Init = TypeVar("Init", bound=Callable[..., None])


def names(kind: type[contract.JobSettings]) -> list[str]:
    """The settings of a stage that its operator has as arguments."""
    left_out = FROM_AIRFLOW | FROM_ADMINISTRATOR | NOT_FOR_A_TASK.get(kind, frozenset())
    return [field.name for field in dataclasses.fields(kind) if field.name not in left_out]


def argument(name: str) -> str:
    """What the argument for a setting is called."""
    return RENAMED.get(name, name)


def attribute(name: str) -> str:
    """What the operator's attribute, and template field, for a setting is called."""
    return ATTRIBUTES.get(name, argument(name))


def fields(kind: type[contract.JobSettings]) -> list[str]:
    """The template fields for the settings of a stage."""
    return [attribute(name) for name in names(kind)]


def declared(*kinds: type[contract.JobSettings]) -> Callable[[Init], Init]:
    """Gives an `__init__(self, *, …, **kwargs)` the settings of `kinds` as keyword arguments, in its signature: Airflow
    reads there what `default_args` may set and `.partial()` may be given."""

    def decorate(init: Init) -> Init:
        own = inspect.signature(init)
        ours = {
            argument(name): inspect.Parameter(
                argument(name), inspect.Parameter.KEYWORD_ONLY, default=None, annotation=_annotation(kind, name)
            )
            for kind in kinds
            for name in names(kind)
        }
        kept = [one for one in own.parameters.values() if one.kind is not inspect.Parameter.VAR_KEYWORD]
        rest = [one for one in own.parameters.values() if one.kind is inspect.Parameter.VAR_KEYWORD]
        init.__signature__ = own.replace(parameters=[*kept, *ours.values(), *rest])  # type: ignore[attr-defined]
        init.__doc__ = "\n".join([init.__doc__ or "", "", *documentation(*kinds)])
        return init

    return decorate


def documentation(*kinds: type[contract.JobSettings]) -> list[str]:
    """One `:param` line for each argument. Where [image_features] has an option of that name, its value comes before
    the default."""
    lines = {}
    for kind in kinds:
        for name in names(kind):
            about = contract.describe(kind, name)
            default = FROM_THE_RUN.get(name) or about["default"]
            default = f" Default: {default}." if default not in (None, "") else ""
            lines[argument(name)] = f":param {argument(name)}: (templated) {about['help']}{default}"
    return list(lines.values())


def take(kind: type[contract.JobSettings], kwargs: dict[str, Any]) -> dict[str, Any]:
    """The settings among the keyword arguments, which it takes out of them: {setting: value}; None is not given."""
    return {name: kwargs.pop(argument(name), None) for name in names(kind)}


def accepted(operator: type) -> set[str]:
    """The names of all arguments that an operator takes, its own and those of what it builds on."""
    inits = [vars(base)["__init__"] for base in operator.__mro__ if "__init__" in vars(base)]
    return {name for init in inits for name in inspect.signature(init).parameters}


def refuse_unknown(taker: str, given: Iterable[str], known: Iterable[str]) -> None:
    """Refuses arguments that `taker` does not have.

    Raises:
        TypeError: it names the stages that have such a setting, else the nearest of the `known` ones.
    """
    for name in sorted(set(given) - set(known)):
        stages = [stage for stage, kind in contract.COMMANDS.items() if name in map(argument, names(kind))]
        nearest = difflib.get_close_matches(name, sorted(known), n=1)
        if stages:
            advice = f" It is a setting of {' and '.join(stages)}."
        else:
            advice = f" Did you mean {nearest[0]}?" if nearest else ""
        raise TypeError(f"{taker} has no argument {name}.{advice}")


def is_literal(value: Any) -> bool:
    """Whether the value stands in the Dag as it is: no template, and nothing that another task or a mapping gives."""
    if isinstance(value, str):
        return "{{" not in value and "{%" not in value
    if isinstance(value, list | tuple | set | dict):
        return all(map(is_literal, value.values() if isinstance(value, dict) else value))
    return not hasattr(value, "iter_references")  # what XComArg and the arguments of a mapped group have in common


def may_read_conf(value: Any) -> bool:
    """Whether an argument that is no literal can come from the conf of the run: in its template, or by another task."""
    return not isinstance(value, str) or re.search(r"conf|xcom|\bti\b|task_instance", value) is not None


def given(values: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that a task has been given; None is not given."""
    return {name: value for name, value in values.items() if value is not None}


def in_dag(task: Any, name: str) -> Any:
    """What a task of the Dag was given for a setting. Of a mapped one only `.partial()` can be seen; what its mapping
    or `default_args` may give it is no literal."""
    if not hasattr(task, "partial_kwargs"):
        return getattr(task, attribute(name))
    return task.partial_kwargs.get(argument(name), task.expand_input)


def converted(kind: type[contract.JobSettings], name: str, value: Any) -> Any:
    """A value as the setting's type, where it stands for one: a template renders as text, or as a number or a date in a
    Dag that renders native objects; a folder may be a Path. Anything else stays, for the setting's check to refuse.
    """
    wanted = typing.get_type_hints(kind)[name]
    if wanted is str:
        stands = isinstance(value, str | int | float | date | PurePath) and not isinstance(value, bool)
        return str(value).strip() if stands else value
    if not isinstance(value, str):
        return value
    try:
        return TRUTHS[value.strip().lower()] if wanted is bool else wanted(value.strip())
    except (KeyError, ValueError):
        return value


def rendered(kind: type[contract.JobSettings], given: Mapping[str, Any], templated: Iterable[str]) -> dict[str, Any]:
    """The arguments of a task in its run, as the types of their settings; `templated` were not literals in the Dag.

    Raises:
        BadSetting: a template, a task or a mapping gave nothing for a setting that may not be empty.
    """
    found = {}
    for name, value in given.items():
        empty = value is None or (isinstance(value, str) and value.strip() in ("", "None"))
        if name in templated and empty:
            if contract.describe(kind, name)["default"] == "":
                continue
            raise BadSetting(
                f"empty_{name}",
                f"The argument {argument(name)} was given nothing in this run.",
                "Correct its template, or the task or mapping that it is from, or leave it out to have the default.",
            )
        if value is not None:
            found[name] = converted(kind, name, value)
    return found


def check_literals(kind: type[contract.JobSettings], values: Mapping[str, Any]) -> dict[str, Any]:
    """Checks each setting that stands in the Dag as it is, by itself, and gives them as their types. Raises
    BadSetting."""
    found = {name: converted(kind, name, value) for name, value in given(values).items() if is_literal(value)}
    for name, value in found.items():
        contract.check_value(kind, name, value)
    if "partition" in found:
        contract.check_partition(found["partition"])
    if "store" in found:
        contract.check_store(found["store"])
    return found


def _annotation(kind: type[contract.JobSettings], name: str) -> str:
    wanted = typing.get_type_hints(kind)[name].__name__
    return "str | XComArg | None" if wanted == "str" else f"{wanted} | str | XComArg | None"
