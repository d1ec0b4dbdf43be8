"""The asset that a published partition updates, for Dags that want to start when there are new features."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import quote

from airflow.sdk import Asset, AssetAlias

from image_features import run_settings, settings
from spark_apps import contract

NAME = "image_features"
PLAIN = "/:@!$&'()*+,;=~"
"""What stands for itself in the path of a URI (RFC 3986, `pchar`), beside letters and digits."""


def image_features() -> Asset:
    """The table `features` of the configured store, as an asset: what is published of any model."""
    return Asset(name=NAME, uri=_uri(settings.store() or "/not-configured"), group=NAME)


def features(model: str, store: str | None = None) -> Asset:
    """What is published of one model in a store, as an asset.

    `model`: what its vectors are published under, for example resnet50-imagenet1k_v2-fp32. `store`: by default the
    configured one.

    Raises:
        BadSetting: the model is no name, the store no folder or URI; or no store is given, and none is configured.
    """
    if not isinstance(model, str) or not model.strip("/ "):
        raise contract.BadSetting(
            "bad_model",
            f"{model!r} is not a valid model of an asset.",
            "Write what its vectors are published under, for example resnet50-imagenet1k_v2-fp32.",
        )
    place = contract.check_store(store or settings.required("store"))
    uri = f"{_uri(re.sub('^s3a:', 's3:', place))}/{quote(model, safe=PLAIN)}"
    return Asset(name=uri, uri=uri, group=NAME)


def of(manifest: contract.Manifest) -> list[Asset]:
    """The assets that a job has updated, from its manifest: none where nothing is published."""
    if manifest.outcome.get("verdict") not in contract.STANDING or not manifest.model:
        return []
    store = manifest.settings["store"]
    whole = [image_features()] if settings.store() and run_settings.is_same("store", store, settings.store()) else []
    return [features(manifest.model.key, store), *whole]


def _uri(store: str) -> str:
    location = contract.join(contract.plain_scheme(store), "features")
    scheme, separator, path = location.partition("://")
    if not separator:
        scheme, path = "file", location
    # Airflow takes ASCII only, and a # or ? would end the path.
    return f"{scheme}://{path if scheme == 'file' and separator else quote(path, safe=PLAIN)}"


def facts(manifest: contract.Manifest) -> dict[str, Any]:
    """What the asset event says about a publication, from the manifest of validate or undo."""
    return {
        "partition": manifest.partition or manifest.settings.get("partition"),
        "model": manifest.model.key if manifest.model else None,
        "store": manifest.settings["store"],
        "rows": manifest.counts["featured"],
        "quarantined": manifest.counts.get("quarantined"),
        "drift": manifest.outcome.get("drift"),
        "warnings": manifest.outcome.get("warnings", []),
        "verdict": manifest.outcome["verdict"],
        **({"approval": approval} if (approval := manifest.outcome.get("approval")) else {}),
        "table_version": manifest.outcome["table_versions"]["features"],
        "changes": manifest.outcome.get("changes"),
        "report": manifest.outcome["report"],
        "run_id": manifest.outcome.get("run_id", manifest.run_id),
        "stage": manifest.stage,
    }


def announce_all(task: Any, context: Any, manifest: contract.Manifest) -> None:
    """Says on the assets of a publication, and on the outlets that the task was given, what was published. Where
    nothing was, the task has no outlets, so that Airflow makes no event.

    An asset that no Dag names, as an outlet or in its schedule, has no event in Airflow.
    """
    updated = of(manifest)
    task.outlets = [*updated, *(one for one in task.outlets if one not in updated)] if updated else []
    for outlet in task.outlets:
        event = context["outlet_events"][outlet]
        if isinstance(outlet, AssetAlias):
            event.add(updated[0], extra=facts(manifest))
        else:
            announce(event, manifest, context["dag_run"])


def announce(event: Any, manifest: contract.Manifest, dag_run: Any) -> None:
    """Says on an outlet's event what was published, so that every Dag which waits for the asset runs.

    `event`: Airflow's accessor of the outlet. Airflow starts partition-aware Dags (since 3.3) by an event with a key,
    and all others by an event without one only; so there are two.
    """
    about = facts(manifest)
    event.extra.update(about)
    if not hasattr(event, "add_partitions"):
        return
    event.add_partitions(about["partition"])
    keyless = getattr(event, "partition_keys", None)
    if keyless is not None and getattr(dag_run, "partition_key", None) is None:  # else that would be its key
        keyless.add(None)
