"""What Airflow lists under Admin → Plugins: found by entry point where the package is installed, else by the file
`plugins/image_features_plugin.py`."""

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
    """The pages and their place in Airflow's."""

    name = "image_features"
    fastapi_apps = APPS
    external_views = VIEWS
