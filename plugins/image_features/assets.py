"""The asset that a published partition updates, for Dags that want to start when there are new features."""

from __future__ import annotations

from typing import Any

from airflow.sdk import Asset

from image_features import settings
from spark_apps import contract

NAME = "image_features"


def image_features() -> Asset:
    """The table `features` of the configured store, as an asset."""
    store = settings.store() or "/not-configured"
    location = contract.join(store, "features")
    return Asset(name=NAME, uri=location if "://" in location else f"file://{location}", group="image_features")


def event(manifest: contract.Manifest) -> dict[str, Any]:
    """What the asset event says about a published run, from validate's manifest."""
    return {
        "partition": manifest.partition,
        "rows": manifest.counts["featured"],
        "table_version": manifest.outcome["table_versions"]["features"],
        "report": manifest.outcome["report"],
        "model": (manifest.model or {}).get("key"),
        "run_id": manifest.run_id,
    }
