"""What Airflow is told of the package where it is installed: its options, operators, sensors and links."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from typing import Any

from image_features.options import ABOUT, OPTIONS, SECTION


def get_provider_info() -> dict[str, Any]:
    """The document that Airflow's entry point `apache_airflow_provider` asks for.

    Every process of Airflow reads it, so it imports neither Airflow nor anything heavy. The plugin is not in it: it has
    an entry point of its own, `airflow.plugins`.
    """
    options = {option.name: option.for_airflow() for option in OPTIONS.values()}
    return {
        "package-name": "image-features",
        "name": "Image Features",
        "description": "A feature vector for every photo, every day, by Spark jobs.",
        "versions": [_version()],
        "integrations": [{"integration-name": "Image Features", "tags": ["software"]}],
        "operators": [{"integration-name": "Image Features", "python-modules": ["image_features.operators"]}],
        "sensors": [{"integration-name": "Image Features", "python-modules": ["image_features.sensors"]}],
        "triggers": [{"integration-name": "Image Features", "python-modules": ["image_features.triggers"]}],
        "notifications": ["image_features.notifier.ImageFeaturesNotifier"],
        "extra-links": ["image_features.links.ReportLink", "image_features.links.SparkLink"],
        "config": {SECTION: {"description": ABOUT, "options": options}},
    }


def _version() -> str:
    try:
        return version("image-features")
    except PackageNotFoundError:  # a checkout
        return "0"
