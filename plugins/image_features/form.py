"""The trigger form, drawn from the settings in `spark_apps.contract`, and the way back from its values to them."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Iterable, Mapping
from typing import Any

from airflow.sdk import Param

from image_features import allowed_places, partition, settings
from image_features.options import FIELDS
from spark_apps import contract

TYPES = {str: "string", int: "integer", float: "number", bool: "boolean"}

DESCRIPTIONS = {
    "partition": "The day or batch to work on, for example 2026-11-22. Empty: the run's partition key, else the day "
    "of its data interval.",
    "extractor": "image: photos, by the backbone below. text, audio: files of that kind, without a backbone. "
    "Others are those that [image_features] extractors names.",
    "weights_sha256": "Expected sha256 of the weights file, 64 hex digits. Empty: not checked.",
}
"""Where the form says something that the command line does not."""

EXAMPLES = {"weights": ["DEFAULT", "IMAGENET1K_V1", "IMAGENET1K_V2", "keras-v1", "random:0"]}
"""Proposals for settings that also take free text."""


def params() -> dict[str, Param]:
    """The Dag's params: one for each of `FIELDS`, with the default that [image_features] gives it.

    Raises:
        BadSetting: a configured default is of the wrong type or out of range, or time zone or form of the partition
            keys are.
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
    default = None if name == "partition" else settings.value(name)
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


def job_settings(
    stage: str, values: Mapping[str, Any], *, run: contract.RunKey, context: Mapping[str, Any]
) -> contract.Settings:
    """The settings of one stage's job, from the values of the form; `context` is the task's.

    Raises:
        BadSetting: a value is missing, out of bounds or contradicts another.
    """
    kind = contract.SETTINGS[stage]
    names = {field.name for field in dataclasses.fields(kind)}
    chosen = {name: value for name, value in values.items() if name in names and value is not None}
    if "source" in names and not chosen.get("source"):
        chosen["source"] = settings.required("source")
    chosen["partition"] = partition.of(values.get("partition"), context)
    return kind(**{**chosen, "store": settings.required("store"), **dataclasses.asdict(run)})


def confined(job: contract.Settings) -> contract.Settings:
    """The same settings, with what keeps the job within the places that the administrator of this Airflow allows.

    Raises:
        BadSetting: they name another source or extractor, or weights at another place.
    """
    extractor = getattr(job, "extractor", "image")
    if extractor not in settings.extractors():
        raise contract.BadSetting(
            "extractor_not_allowed",
            f"The extractor {extractor!r} is not allowed in this Airflow.",
            f"Use {', '.join(settings.extractors())}, or let an administrator of Airflow add it to [image_features] "
            "extractors.",
        )
    if isinstance(job, contract.ExtractSettings) and not allowed_places.is_named(job.weights):
        allowed_places.check("weights", job.weights, settings.weights_locations())
    if isinstance(job, contract.ExtractSettings | contract.ValidateSettings):
        return dataclasses.replace(job, weights_within="\n".join(settings.weights_locations()))
    if isinstance(job, contract.IngestSettings):
        allowed = [allowed_places.above_partition(place, job.partition) for place in settings.sources()]
        allowed_places.check("source", job.source, allowed)
        return dataclasses.replace(job, within=allowed_places.folders(allowed))
    return job
