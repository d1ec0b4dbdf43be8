"""The one place that reads Airflow's configuration: section [image_features], or AIRFLOW__IMAGE_FEATURES__<NAME>.

What can be read is what `options` describes. Where the package is installed, Airflow itself knows the defaults of that
table; where folders lie beside one another it does not. Both give the same values here.
"""

from __future__ import annotations

import difflib
import logging
import os
import zoneinfo
from configparser import InterpolationError
from functools import cache
from typing import Any

from airflow.providers.common.compat.sdk import conf

from image_features import allowed_places
from image_features.options import OPTIONS, SECTION
from spark_apps import contract

DAY = "%Y-%m-%d"
"""The form of partition keys where none is configured. In the table it would be taken for variables of Airflow 3.1."""


def value(name: str) -> Any:
    """The configured value of an option, else its default; None where there is neither.

    Raises:
        BadSetting: the configured text is of another type or out of range, or airflow.cfg has a single % in it.
        KeyError: there is no such option in the table.
    """
    option = OPTIONS[name]
    try:
        text = conf.get(SECTION, option.name, fallback="") or ""
    except InterpolationError:
        what = f"[{SECTION}] {name} has a single % in airflow.cfg, where it begins a variable."
        raise contract.BadSetting(f"bad_{name}", what, "Write each % twice there: %%Y-%%m-%%d.") from None
    return option.parse(text.strip())


def proposed(stage: str, name: str) -> Any:
    """`value` of an option that is the default of a stage's setting.

    Raises:
        BadSetting: as `value`, or the contract refuses it whatever the other settings are.
    """
    found = value(name)
    if found is not None:
        others = {"store": "/", "partition": "any", "run_id": "any", **({"source": "/"} if stage == "ingest" else {})}
        try:
            contract.SETTINGS[stage](**{**others, name: found})
        except contract.BadSetting as error:
            hint = f"{error.hint} Correct it in airflow.cfg or in {OPTIONS[name].variable}."
            raise contract.BadSetting(error.code, f"[{SECTION}] {name} = {found!r}: {error.message}", hint) from None
    return found


def required(name: str) -> Any:
    """The configured value of an option that tasks cannot do without.

    Raises:
        BadSetting: it is not configured; the hint says where.
    """
    if found := value(name):
        return found
    raise contract.BadSetting(
        f"bad_{name}",
        f"No {name} is configured.",
        f"Set [{SECTION}] {name} in airflow.cfg, or {OPTIONS[name].variable}, for each component of Airflow.",
    )


def store() -> str:
    """Folder or URI of the tables; empty when it is not configured."""
    return value("store") or ""


def source() -> str:
    """Folder or URI of the photos, with {partition} in it; empty when it is not configured."""
    return value("source") or ""


def conn_id() -> str:
    """The Airflow connection to Spark."""
    return str(value("conn_id"))


def storage_conn_id() -> str:
    """The Airflow connection to take storage credentials from; empty: the environment has them."""
    return value("storage_conn_id") or ""


def environment() -> str:
    """A packed environment that every executor unpacks for its Python workers; empty: the nodes have what they need.

    Raises:
        BadSetting: it is named by a path of this machine where there is no such file.
    """
    location = value("environment") or ""
    if location and "://" not in location and not os.path.isfile(location):
        raise contract.BadSetting(
            "bad_environment",
            f"[{SECTION}] environment = {location!r} is not a file on this machine.",
            "Pack one with python -m spark_apps.pack, or clear the setting.",
        )
    return location


def schedule() -> str:
    """When the daily run starts, as a cron expression in the configured time zone.

    Raises:
        BadSetting: Airflow does not take it for one.
    """
    from airflow.exceptions import AirflowTimetableInvalid
    from airflow.timetables.interval import CronDataIntervalTimetable

    expression = str(value("schedule"))
    try:
        CronDataIntervalTimetable(expression, timezone="UTC").validate()
    except AirflowTimetableInvalid as error:
        raise contract.BadSetting(
            "bad_schedule",
            f"[{SECTION}] schedule = {expression!r} is not a valid cron expression: {str(error).rstrip('.')}.",
            f"Write one such as {OPTIONS['schedule'].example}, in airflow.cfg or in {OPTIONS['schedule'].variable}.",
        ) from None
    return expression


def timezone() -> zoneinfo.ZoneInfo:
    """The time zone of the daily run and of partition keys.

    Raises:
        BadSetting: there is no such time zone; the hint names the nearest.
    """
    name = str(value("timezone"))
    try:
        return zoneinfo.ZoneInfo(name)
    except (LookupError, ValueError, OSError):  # unknown; no name; a part of names, such as Europe
        raise contract.BadSetting(
            "bad_timezone",
            f"[{SECTION}] timezone = {name!r} is not a valid time zone.",
            f"{_nearest_zone(name)}Write a name of the IANA database, such as Europe/Berlin, in airflow.cfg or in "
            f"{OPTIONS['timezone'].variable}.",
        ) from None


def partition_format() -> str:
    """The form of partition keys that are made from a data interval, as `strftime` takes it."""
    return str(value("partition_format") or DAY)


def max_active_runs() -> int:
    """How many runs of the Dag `image_features` may work at once. Raises BadSetting."""
    return int(value("max_active_runs"))


def placement() -> dict[str, str]:
    """Pool and queue of the tasks of our own Dags, as arguments of operators; without what is not configured."""
    return {name: found for name, found in (("pool", value("pool")), ("queue", value("queue"))) if found}


def extractors() -> list[str]:
    """The extractors that the form offers: those built in, and what the administrator of this Airflow adds to them.

    Whoever may trigger the Dag may choose among them and name no other: an extractor is code that runs.
    """
    return [*contract.EXTRACTORS, *_list("extractors")]


def stores() -> list[str]:
    """Where the store of a run may be: folders or URIs. By default nowhere but at the configured one."""
    return [*_list("stores"), *filter(None, [store()])]


def sources() -> list[str]:
    """Where a run may read photos, whoever triggered it: folders or URIs; {partition} may be in them.

    By default nowhere but at the configured source.
    """
    return [*_list("sources"), *filter(None, [source()])]


def weights_locations() -> list[str]:
    """Files, folders or URIs that weights and models of a run may be read from, beside those known by name."""
    weights, model = str(value("weights")), str(value("model"))
    configured = [] if allowed_places.is_named(weights) else [weights]
    return [*_list("weights_locations"), *configured, *([model] if contract.is_at_a_place(model) else [])]


def model_sources() -> list[str]:
    """The sources that the models of a run may come from.

    Raises:
        BadSetting: there is no such source; the hint names them.
    """
    found = _list("model_sources")
    for name in found:
        if name not in contract.MODEL_SOURCES:
            raise contract.BadSetting(
                "bad_model_sources",
                f"[{SECTION}] model_sources = {name!r} is not a source of models.",
                f"Choose among {', '.join(contract.MODEL_SOURCES)}, in airflow.cfg or in "
                f"{OPTIONS['model_sources'].variable}.",
            )
    return found


def dag_ids() -> list[str]:
    """The only Dags that the pages show; empty: all that hold tasks of this project."""
    return _list("dag_ids")


def base_url() -> str:
    """Where Airflow's pages are, with the sub-path they may have."""
    return str(conf.get("api", "base_url", fallback="") or "")


def history_server() -> str:
    """Address of Spark's history server, for links; empty when there is none."""
    return (value("history_server") or "").rstrip("/")


def web_cache_mb() -> int:
    """Megabytes of temporary disk that the pages may fill with vectors, for the search of neighbours.

    Raises:
        BadSetting: the configured text is not a number.
    """
    return int(value("web_cache_mb"))


def index() -> bool:
    """Whether what is published is brought into the search index. Raises BadSetting."""
    return bool(value("index"))


def duplicates() -> bool:
    """Whether duplicates are looked for after each publication. Raises BadSetting."""
    return bool(value("duplicates"))


def ask_to_publish() -> bool:
    """Whether a person is asked about a run that its checks have rejected. Raises BadSetting."""
    return bool(value("ask_to_publish"))


def ask_hours() -> float:
    """How many hours that person has. Raises BadSetting."""
    return float(value("ask_hours"))


def default(name: str, kind: type, fallback: Any) -> Any:
    """`value` as Dags written for 0.1.0 ask for it. Raises BadSetting."""
    found = value(name)
    return fallback if found is None else kind(found)


def unknown() -> dict[str, str]:
    """Options that are set in the section and not in the table, each with the nearest known name, or an empty text."""
    written = set(conf.options(SECTION)) - set(conf.defaults()) if conf.has_section(SECTION) else set()
    prefix = f"AIRFLOW__{SECTION}__".upper()
    written |= {name.removeprefix(prefix).lower() for name in os.environ if name.startswith(prefix)}
    names = sorted(written - set(OPTIONS))
    return {name: next(iter(difflib.get_close_matches(name, OPTIONS, n=1)), "") for name in names}


@cache  # once for each process: Airflow parses a Dag every few seconds
def warn_of_unknown() -> None:
    """Says in the log which options of the section mean nothing."""
    for name, nearest in unknown().items():
        guess = f"did you mean {nearest}? " if nearest else ""
        logging.getLogger(__name__).warning(
            "[%s] %s is not an option, %sThey are: %s.", SECTION, name, guess, ", ".join(sorted(OPTIONS))
        )


@cache
def _nearest_zone(name: str) -> str:
    names = {known.lower(): known for known in zoneinfo.available_timezones()}
    return next((f"Did you mean {names[near]}? " for near in difflib.get_close_matches(name.lower(), names, n=1)), "")


def _list(name: str) -> list[str]:
    return [part for part in (part.strip() for part in (value(name) or "").split(",")) if part]


def metrics_have_no_tags() -> bool:
    """Whether the values of tags must stand in the names: plain StatsD has no tags, and Airflow drops them there."""
    plain = conf.getboolean("metrics", "statsd_on", fallback=False)
    tagged = ("statsd_datadog_enabled", "statsd_influxdb_enabled")
    return bool(plain and not any(conf.getboolean("metrics", name, fallback=False) for name in tagged))
