"""What has moved between the versions of Airflow that are supported, 3.1 and newer."""

from __future__ import annotations

try:
    from airflow.sdk import CronDataIntervalTimetable
except ImportError:  # Airflow 3.1
    from airflow.timetables.interval import CronDataIntervalTimetable  # type: ignore[assignment]

try:
    from airflow.sdk.observability.stats import Stats
except ImportError:
    try:
        from airflow.observability.stats import Stats  # type: ignore[assignment]  # Airflow 3.2
    except ImportError:
        from airflow.stats import Stats  # Airflow 3.1

__all__ = ["CronDataIntervalTimetable", "Stats"]
