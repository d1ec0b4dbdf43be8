"""What Airflow is told of the package where it is installed: operators and links."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from typing import Any


def get_provider_info() -> dict[str, Any]:
    """The document that Airflow's entry point `apache_airflow_provider` asks for.

    Every process of Airflow reads it, so it imports neither Airflow nor anything heavy.
    """
    return {
        "package-name": "image-features",
        "name": "Image Features",
        "description": "A feature vector for every photo, every day, by Spark jobs.",
        "versions": [_version()],
        "integrations": [{"integration-name": "Image Features", "tags": ["software"]}],
        "operators": [{"integration-name": "Image Features", "python-modules": ["image_features.operators"]}],
        "extra-links": ["image_features.links.ReportLink", "image_features.links.SparkLink"],
    }


def _version() -> str:
    try:
        return version("image-features")
    except PackageNotFoundError:  # a checkout
        return "0"
