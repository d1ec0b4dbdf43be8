"""The settings of a task's job in one run, and the places that the administrator of this Airflow keeps it in."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, TypeVar

from image_features import allowed_places, arguments, partition, run_key, settings
from image_features.options import OPTIONS
from spark_apps import contract
from spark_apps.contract import locations

PLACES = ("store", "source", "partition")
NOT_BY_A_PARAM = frozenset({"store", "to", "sink"})
"""Settings that whoever triggers a run does not choose, unless the Dag's author lets them by a template."""
OF_OTHER_MEANING: Mapping[type[contract.JobSettings], frozenset[str]] = dict.fromkeys(
    (contract.UndoSettings, contract.IndexSettings, contract.DuplicatesSettings, contract.SyncSettings),
    frozenset({"model"}),
)
"""Settings that share no more than their name with an option of [image_features] and a param of the stages: there,
model is a backbone."""

Kind = TypeVar("Kind", bound=contract.JobSettings)


def chosen(
    kind: type[contract.JobSettings], given: Mapping[str, Any], params: Mapping[str, Any], conf: Mapping[str, Any]
) -> dict[str, Any]:
    """The settings that somebody has chosen, as their types: the run's conf over the task's arguments `given`, over the
    params of its Dag, over [image_features]. Of conf only what the Dag has a param for.

    Raises:
        BadSetting: an option of [image_features] is of another type or out of range.
    """
    found = {}
    for name in arguments.names(kind):
        proposed = params.get(name) if name not in NOT_BY_A_PARAM else None
        asked = proposed if conf.get(name) == proposed else None  # else this Airflow lets no conf override a param
        option = settings.value(name) if name in OPTIONS and name not in OF_OTHER_MEANING.get(kind, ()) else None
        value = next((one for one in (asked, given.get(name), proposed, option) if one is not None), None)
        if value is not None:
            found[name] = arguments.converted(kind, name, value)
    return found


def usual(kind: type[contract.JobSettings], name: str) -> Any:
    """What a setting is where nobody has chosen it: the option of [image_features], else the default."""
    option = settings.value(name) if name in OPTIONS else None
    return contract.describe(kind, name)["default"] if option is None else option


def chosen_for(kind: type[contract.JobSettings], given: Mapping[str, Any], task: Any, context: Any) -> dict[str, Any]:
    """`chosen` for the arguments `given` to a task, in its run. Raises BadSetting."""
    return chosen(kind, given, _params(kind, task, context), context["dag_run"].conf or {})


def of(kind: type[Kind], given: Mapping[str, Any], task: Any, context: Any) -> Kind:
    """The settings of a job of `kind` in the run of `task`, were its arguments these.

    Raises:
        BadSetting: a value is missing, out of bounds, contradicts another, or is not allowed in this Airflow.
    """
    values = chosen_for(kind, given, task, context)
    of_a_run = not (issubclass(kind, contract.ModelSettingsOfARun) and values.get("model"))
    if of_a_run and task.stage in run_key.ALONE and not run_key.nearest(task, "extract"):
        raise contract.BadSetting(
            "no_model", "The argument model is missing.", f"Give it, or let {task.task_id} follow an extract."
        )
    if "partition" in arguments.names(kind) and of_a_run:
        values["partition"] = partition.of(values.get("partition"), context)
    for name in {"store", "source"} & set(arguments.names(kind)):
        values[name] = values.get(name) or settings.required(name)
    run = dataclasses.asdict(run_key.key(task, context))
    known = {field.name for field in dataclasses.fields(kind)}
    for field in dataclasses.fields(kind):
        if field.default is dataclasses.MISSING and field.name not in {*values, *run}:
            raise contract.BadSetting(
                f"no_{field.name}", f"The argument {field.name} is missing.", f"Give it: {field.metadata['help']}"
            )
    return confined(kind(**values, **{name: value for name, value in run.items() if name in known}))


def _params(kind: type[contract.JobSettings], task: Any, context: Any) -> dict[str, Any]:
    """The params that settings of `kind` are taken from, with their values in this run."""
    left_out = OF_OTHER_MEANING.get(kind, frozenset()) if "extract" in map(run_key.stage, task.dag.tasks) else ()
    return {name: context["params"].get(name) for name in param_names(task) if name not in left_out}


def param_names(task: Any) -> set[str]:
    """The params of a task and its Dag. Their values are those of the run, in its context: Airflow validates the one of
    the Dag when it is looked at, and a param that each run must give has none."""
    return {*task.dag.params, *task.params}


def confined(job: Kind) -> Kind:
    """The same settings, with what keeps the job within the places that the administrator of this Airflow allows.

    Raises:
        BadSetting: as `check_places`.
    """
    check_places(type(job), vars(job))
    if isinstance(job, contract.ExtractSettings | contract.ValidateSettings):
        return dataclasses.replace(job, weights_within="\n".join(settings.weights_locations()))
    if isinstance(job, contract.IngestSettings):
        return dataclasses.replace(job, within=allowed_places.folders(sources(job.partition)))
    return job


def check_places(kind: type[contract.JobSettings], values: Mapping[str, Any]) -> None:
    """Refuses settings of `kind` that lead out of the places that the administrator of this Airflow allows.

    Raises:
        BadSetting: they name another store, source, extractor or source of models, or weights or a model at another
            place.
    """
    if "store" in values:
        allowed_places.check("store", values["store"], settings.stores())
    if "source" in values:
        allowed_places.check("source", values["source"], sources(values["partition"]))
    if "weights" in values and not allowed_places.is_named(values["weights"]):
        allowed_places.check("weights", values["weights"], settings.weights_locations())
    if issubclass(kind, contract.ExtractSettings) and "model" in values:
        _check_model(values["model"])
    if values.get("extractor", "image") not in settings.extractors():
        raise contract.BadSetting(
            "extractor_not_allowed",
            f"The extractor {values['extractor']!r} is not allowed in this Airflow.",
            f"Use {', '.join(settings.extractors())}, or let an administrator of Airflow add it to [image_features] "
            "extractors.",
        )


def _check_model(model: str) -> None:
    source, allowed = contract.model_source(model), settings.model_sources()
    if source not in allowed:
        raise contract.BadSetting(
            "model_not_allowed",
            f"Models of {source}, such as {model!r}, are not allowed in this Airflow.",
            f"Use one of {', '.join(allowed)}, or let an administrator of Airflow add it to [image_features] "
            "model_sources.",
        )
    if contract.is_at_a_place(model):
        allowed_places.check("model", model, settings.weights_locations())


def check_in_dag(kind: type[contract.JobSettings], given: Mapping[str, Any], mapped: bool = False) -> None:
    """Refuses what can be seen of a task's arguments while its Dag is parsed: each literal by itself, all of them
    together where none but the places and the partition is a template, and places that this Airflow does not allow.
    Where the task is `mapped`, the others are not known.

    Raises:
        BadSetting: the sentence of the first that is wrong.
    """
    literal = arguments.check_literals(kind, given)
    if not literal:
        return
    needed = {field.name for field in dataclasses.fields(kind) if field.default is dataclasses.MISSING} - set(literal)
    stand_in = {name: "0" if name in ("partition", "run_id") else "/" for name in needed}
    values = {**chosen(kind, literal, {}, {}), **stand_in}
    if not mapped and set(arguments.given(given)) <= {*literal, *PLACES}:
        values = vars(kind(**values))
    check_places(kind, {name: values[name] for name in ("partition", *literal) if name in values})


def sources(partition: str) -> list[str]:
    """Where the photos of a partition may lie."""
    return [allowed_places.above_partition(place, partition) for place in settings.sources()]


def is_same(name: str, one: Any, other: Any) -> bool:
    """Whether two values of a setting mean the same: a store may be written in several ways, /x and file:///x/."""
    if not (arguments.is_literal(one) and arguments.is_literal(other)):
        return bool(one == other)
    one, other = str(one).strip(), str(other).strip()
    place = locations.parts(one) if name == "store" else None
    return one == other or (place is not None and place == locations.parts(other))


def check_chain(task: Any) -> None:
    """Refuses a stage of which it can be seen in the finished Dag that it cannot find what the one before it leaves.

    Raises:
        BadSetting: it follows several of them, or one at another place.
    """
    run_key.branch(task)
    for name in run_key.before(task.stage):
        for before in run_key.nearest(task, name):
            check_same_place(before, task)


def check_same_place(one: Any, other: Any) -> None:
    """Refuses two stages of one chain of which it can be seen in the Dag that they work on different places.

    Raises:
        BadSetting: their stores or partitions differ.
    """
    for name, configured in (("store", settings.store()), ("partition", "that of the run")):
        values = [arguments.in_dag(task, name) or configured for task in (one, other)]
        if all(map(arguments.is_literal, values)) and not is_same(name, *values):
            raise contract.BadSetting(
                "contradiction",
                f"{one.task_id} and {other.task_id} have different values of {name}: {values[0]!r} and {values[1]!r}.",
                f"Give both the same {name}: a stage continues what the one before it left there.",
            )
