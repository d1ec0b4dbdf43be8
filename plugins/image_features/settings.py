"""The one place that reads Airflow's configuration: section [image_features], or AIRFLOW__IMAGE_FEATURES__<NAME>."""

from __future__ import annotations

import os
from typing import Any

from airflow.providers.common.compat.sdk import conf

from spark_apps import contract

SECTION = "image_features"


def store() -> str:
    """Folder or URI of the tables; empty when it is not configured."""
    return _text("store")


def source() -> str:
    """Folder or URI of the photos, with {partition} in it; empty when it is not configured."""
    return _text("source")


def conn_id() -> str:
    """The Airflow connection to Spark."""
    return _text("conn_id", "spark_default")


def storage_conn_id() -> str:
    """The Airflow connection of type aws to take storage credentials from; empty: the environment has them."""
    return _text("storage_conn_id")


def environment() -> str:
    """A packed environment that every executor unpacks for its Python workers; empty: the nodes have what they need.

    Raises:
        BadSetting: it is named by a path of this machine where there is no such file.
    """
    location = _text("environment")
    if location and "://" not in location and not os.path.isfile(location):
        raise contract.BadSetting(
            "bad_environment",
            f"[{SECTION}] environment = {location!r} is no file of this machine.",
            "Pack one with python -m spark_apps.pack, or clear the setting.",
        )
    return location


def schedule() -> str:
    """When the daily run starts, as a cron expression in UTC."""
    return _text("schedule", "0 0 * * *")


def extractors() -> list[str]:
    """The extractors that the form offers: those built in, and what the operator of this Airflow adds to them.

    Whoever may trigger the Dag may choose among them and name no other: an extractor is code that runs.
    """
    added = [part.strip() for part in _text("extractors").split(",") if part.strip()]
    return [*contract.EXTRACTORS, *added]


def sources() -> list[str]:
    """Where whoever may trigger the Dag may let it read photos: folders or URIs; {partition} may be in them.

    By default nowhere but at the configured source.
    """
    return [*_list("sources"), *filter(None, [source()])]


def weights_locations() -> list[str]:
    """Files, folders or URIs that the weights of a run may be read from, beside those known by name."""
    return [*_list("weights_locations"), *filter(None, [_text("weights")])]


def dag_ids() -> list[str]:
    """The Dags whose runs fill the store: those that the pages show."""
    return [dag_id for dag_id in (part.strip() for part in _text("dag_ids", "image_features").split(",")) if dag_id]


def base_url() -> str:
    """Where Airflow's pages are, with the sub-path they may have."""
    return str(conf.get("api", "base_url", fallback="") or "")


def history_server() -> str:
    """Address of Spark's history server, for links; empty when there is none."""
    return _text("history_server").rstrip("/")


def web_cache_mb() -> int:
    """Megabytes of temporary disk that the pages may fill with vectors, for the search of neighbours.

    Raises:
        BadSetting: the configured text is no number.
    """
    return int(default("web_cache_mb", int, 2048))


def default(name: str, kind: type, fallback: Any) -> Any:
    """What the trigger form proposes for the setting `name`: configured text turned into `kind`, else `fallback`.

    Raises:
        BadSetting: the configured text is no `kind`.
    """
    text = _text(name)
    if not text:
        return fallback
    try:
        return conf.getboolean(SECTION, name) if kind is bool else kind(text)
    except ValueError:
        hint = f"Correct it in airflow.cfg or in AIRFLOW__{SECTION.upper()}__{name.upper()}."
        raise contract.BadSetting(
            f"bad_{name}", f"[{SECTION}] {name} = {text!r} is no {kind.__name__}.", hint
        ) from None


def _text(name: str, fallback: str = "") -> str:
    return conf.get(SECTION, name, fallback=fallback).strip() or fallback


def _list(name: str) -> list[str]:
    return [part for part in (part.strip() for part in _text(name).split(",")) if part]
