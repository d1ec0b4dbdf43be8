"""Registers the plugin, nothing else: the code is in the package `image_features` beside this file."""

from __future__ import annotations

from airflow.plugins_manager import AirflowPlugin


class ImageFeaturesPlugin(AirflowPlugin):
    """The plugin as Airflow lists it under Admin → Plugins."""

    name = "image_features"
