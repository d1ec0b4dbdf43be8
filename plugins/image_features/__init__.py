"""The Airflow side: operators, trigger form, partition, asset. Of the Spark side it knows `contract` and `catalog`."""

from __future__ import annotations

import importlib.util
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any


def _check_airflow() -> None:
    """Raises ImportError in an Airflow that is too old; without it each import would fail for a reason of its own."""
    for distribution in ("apache-airflow-core", "apache-airflow"):  # 2.x has only the second
        try:
            found = version(distribution)
        except PackageNotFoundError:
            continue
        if tuple(map(int, found.split(".")[:2])) < (3, 1):
            raise ImportError(f"Image Features needs Airflow 3.1 or newer; this is {found}. Upgrade Airflow.")
        return


def _find_jobs() -> Path:
    """The folder of our package `spark_apps`, which is made importable.

    It is installed beside this package, or lies beside the folder `plugins` of a checkout.

    Raises:
        ImportError: it is not there, or another package of that name is found first.
    """
    checkout = Path(__file__).resolve().parents[2]
    # Airflow puts dags/ and plugins/ on the path, not the folder above them.
    if importlib.util.find_spec("spark_apps") is None:
        sys.path.append(str(checkout))
    spec = importlib.util.find_spec("spark_apps")
    folders = [Path(folder) for folder in (spec.submodule_search_locations or ()) if spec] if spec else []
    for folder in folders:
        if (folder / "contract" / "documents.py").is_file():
            return folder
    if spec is None:
        raise ImportError(
            f"Image Features: the folder spark_apps is missing in {checkout}. Lay it beside the folder plugins, or "
            "install the package: pip install image-features."
        )
    raise ImportError(
        f"Image Features: another package named spark_apps ({spec.origin or folders[0]}) hides ours. Rename it, or put "
        "ours before it on PYTHONPATH."
    )


_check_airflow()
JOBS = _find_jobs()
"""The folder of the package `spark_apps`: one file for each job that spark-submit is given."""


def __getattr__(name: str) -> Any:
    """`ImageFeaturesTaskGroup`, imported when it is asked for: the provider's entry point must stay light."""
    if name == "ImageFeaturesTaskGroup":
        from image_features.task_group import ImageFeaturesTaskGroup

        return ImageFeaturesTaskGroup
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
