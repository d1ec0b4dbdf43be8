"""The Spark side: image features under plain spark-submit. Knows nothing of Airflow."""

from types import ModuleType


def __getattr__(name: str) -> ModuleType:
    """`from spark_apps import imaging`, as extractors of one's own were written for 0.1.0."""
    if name == "imaging":
        from spark_apps.media import imaging

        return imaging
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
