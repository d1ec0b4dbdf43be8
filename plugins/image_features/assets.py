"""The asset that a published partition updates, for Dags that want to start when there are new features."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from airflow.sdk import Asset

from image_features import settings
from spark_apps import contract

NAME = "image_features"
PLAIN = "/:@!$&'()*+,;=~"
"""What stands for itself in the path of a URI (RFC 3986, `pchar`), beside letters and digits."""


def image_features() -> Asset:
    """The table `features` of the configured store, as an asset."""
    location = contract.join(contract.plain_scheme(settings.store() or "/not-configured"), "features")
    scheme, separator, path = location.partition("://")
    if not separator:
        scheme, path = "file", location
    # Airflow takes ASCII only, and a # or ? would end the path.
    uri = f"{scheme}://{path if scheme == 'file' and separator else quote(path, safe=PLAIN)}"
    return Asset(name=NAME, uri=uri, group="image_features")


def facts(manifest: contract.Manifest) -> dict[str, Any]:
    """What the asset event says about a published run, from validate's manifest."""
    return {
        "partition": manifest.partition,
        "rows": manifest.counts["featured"],
        "table_version": manifest.outcome["table_versions"]["features"],
        "report": manifest.outcome["report"],
        "model": manifest.model.key if manifest.model else None,
        "run_id": manifest.run_id,
    }


def announce(event: Any, manifest: contract.Manifest, dag_run: Any) -> None:
    """Says on an outlet's event what was published, so that every Dag which waits for the asset runs.

    `event`: Airflow's accessor of the outlet. Airflow starts partition-aware Dags (since 3.3) by an event with a key,
    and all others by an event without one only; so there are two.
    """
    event.extra.update(facts(manifest))
    if not hasattr(event, "add_partitions"):
        return
    event.add_partitions(manifest.partition)
    keyless = getattr(event, "partition_keys", None)
    if keyless is not None and getattr(dag_run, "partition_key", None) is None:  # else that would be its key
        keyless.add(None)
