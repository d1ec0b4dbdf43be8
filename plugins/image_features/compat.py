"""What has moved between the versions of Airflow that are supported, 3.1 and newer."""

from __future__ import annotations

try:
    from airflow.sdk import CronDataIntervalTimetable
except ImportError:  # Airflow 3.1
    from airflow.timetables.interval import CronDataIntervalTimetable  # type: ignore[assignment]

__all__ = ["CronDataIntervalTimetable"]
