"""Registers the plugin, nothing else: the code is in the package `image_features` beside this file."""

from __future__ import annotations

import logging

from airflow.plugins_manager import AirflowPlugin

try:
    from image_features.web import views

    APPS, VIEWS = views.fastapi_apps(), views.EXTERNAL_VIEWS
except Exception:
    logging.getLogger(__name__).exception("Image features: the pages are missing; the Dags are not affected.")
    APPS, VIEWS = [], []


class ImageFeaturesPlugin(AirflowPlugin):
    """The plugin as Airflow lists it under Admin → Plugins."""

    name = "image_features"
    fastapi_apps = APPS
    external_views = VIEWS
