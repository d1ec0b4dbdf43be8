"""The independent recomputation, by the library that a model comes from; what every engine is measured against."""

from __future__ import annotations

from spark_apps.contract import ModelSettings
from spark_apps.model import sources
from spark_apps.model.sources import Reference


def reference(model: ModelSettings) -> Reference:
    """A function from an upright RGB photo to its features, float32 [dim].

    That of an artefact: `reference(artifact.info.settings())`, whose weights must have the same sha256 again.

    Raises:
        BadSetting, Unreachable: as `sources.resolve`.
    """
    return sources.of(model.model).reference(model)
