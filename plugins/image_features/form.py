"""The trigger form, drawn from the settings in `spark_apps.contract`, and the way back from its values to them."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Any

from airflow.sdk import Param

from image_features import arguments, partition, run_key, run_settings, settings
from image_features.options import FIELDS
from spark_apps import contract
from spark_apps.contract import MODEL_SOURCES

TYPES = {str: "string", int: "integer", float: "number", bool: "boolean"}

DESCRIPTIONS = {
    "partition": "The day or batch to work on, for example 2026-11-22. Empty: the run's partition key, else the day "
    "of its data interval.",
    "extractor": "image: photos, by the model below. text, audio: files of that kind, without a model. "
    "Others are those that [image_features] extractors names.",
    "weights_sha256": "Expected sha256 of the weights file, 64 hex digits. Empty: not checked.",
}
"""Where the form says something that the command line does not."""

EXAMPLES = {"weights": ["DEFAULT", "IMAGENET1K_V1", "IMAGENET1K_V2", "keras-v1", "random:0"]}
"""Proposals for settings that also take free text."""


def params() -> dict[str, Param]:
    """The Dag's params: one for each of `FIELDS`, with the default that [image_features] gives it.

    Raises:
        BadSetting: a configured default is of the wrong type, out of range or not valid, or time zone or form of the
            partition keys are.
    """
    settings.warn_of_unknown()
    partition.calendar()  # refused here where it is wrong, not in the first night
    return {
        name: _param(section, *field) for section, fields in FIELDS.items() for field in fields for name in [field[1]]
    }


def _param(section: str, stage: str, name: str, title: str) -> Param:
    about = contract.describe(contract.SETTINGS[stage], name)
    kind = about["type"]
    schema: dict[str, Any] = {"section": section, "title": title, "type": TYPES[kind]}
    choices = settings.extractors() if name == "extractor" else about["choices"]
    if choices:
        schema["enum"] = list(choices)
    if about["minimum"] is not None:
        schema |= {"minimum": about["minimum"], "maximum": about["maximum"]}
    if name in EXAMPLES:
        schema["examples"] = EXAMPLES[name]
    if name == "model":
        schema["examples"] = [one for source in settings.model_sources() for one in MODEL_SOURCES[source].examples]
    default = None if name == "partition" else settings.proposed(stage, name)
    if not default and kind is str:
        default = None
        schema["type"] = ["null", "string"]
    if name == "partition":
        schema["pattern"] = f"^{contract.PARTITION_PATTERN}$"
    return Param(default, description=DESCRIPTIONS.get(name, about["help"]), **schema)


def check_keys(given: Iterable[str], known: Iterable[str]) -> None:
    """Refuse run settings that the form does not have; Airflow's API lets them pass.

    Raises:
        BadSetting: it names each unknown key, the closest known one, and all known ones.
    """
    known = sorted(known)
    unknown = sorted(set(given) - set(known))
    if not unknown:
        return
    guesses = {key: difflib.get_close_matches(key, known, n=1) for key in unknown}
    named = [f"{key!r} (did you mean {guess[0]!r}?)" if guess else repr(key) for key, guess in guesses.items()]
    raise contract.BadSetting(
        "unknown_setting", f"Unknown setting {', '.join(named)}.", f"The settings are: {', '.join(known)}."
    )


def check_conf(task: Any, context: Any, job: contract.JobSettings) -> None:
    """Refuse what a run asks for and its `job` would not get: unknown settings where the Dag has a form of ours, else
    settings that the Dag has no param for and that no argument of its tasks reads; another store; and what this Airflow
    keeps from overriding a param.

    Raises:
        BadSetting: it names each.
    """
    conf = context["dag_run"].conf or {}
    params = run_settings.param_names(task)
    ours = {name for kind in contract.COMMANDS.values() for name in arguments.names(kind)}
    asked = {name: conf[name] for name in sorted(ours & set(conf)) if conf[name] is not None}
    if (
        "store" in asked
        and "store" not in task.templated
        and not run_settings.is_same("store", asked["store"], job.store)
    ):
        raise contract.BadSetting(
            "store_not_chosen",
            f"The store of this Dag is {job.store}, not {asked['store']!r}.",
            'Trigger it without a store; to let a run choose, give its tasks store="{{ params.store }}".',
        )
    if ours & params:
        check_keys(conf, known=params)
        _check_overrides({name: value for name, value in asked.items() if value != context["params"].get(name)})
    elif asked and not any(getattr(one, "reads_conf", True) for one in task.dag.tasks if run_key.stage(one)):
        raise contract.BadSetting(
            "unknown_setting",
            f"This Dag takes no {' and no '.join(asked)} from a run.",
            "Give the Dag params=image_features.form.params(), or an argument of its tasks "
            f"\"{{{{ dag_run.conf['{next(iter(asked))}'] }}}}\".",
        )


def _check_overrides(without_effect: Mapping[str, Any]) -> None:
    if without_effect:
        raise contract.BadSetting(
            "conf_without_effect",
            f"In this Airflow a run's conf does not override params: {', '.join(without_effect)}.",
            "Trigger without them, or let an administrator of Airflow set [core] dag_run_conf_overrides_params.",
        )
