"""A partition for each hour of a time zone that sets its clock, and their backfill.

Needs `[image_features] source` and `store`. Keys have the offset from UTC, as an hour comes twice in October:
2026-10-25T02_0200, then 2026-10-25T02_0100 (no key may have a +). An hour without photos is skipped.

Hours that have passed; with `--reprocess-behavior completed` those that have run before, too:

    airflow backfill create --dag-id hours_in_berlin --from-date 2026-10-25T01:00+02:00 --to-date 2026-10-25T03:00+01:00
"""

from __future__ import annotations

from datetime import datetime

from airflow.sdk import DAG
from image_features import ImageFeaturesTaskGroup
from image_features.compat import CronDataIntervalTimetable

ZONE = "Europe/Berlin"
HOUR = f"{{{{ data_interval_start.in_timezone('{ZONE}').strftime('%Y-%m-%dT%H%z').replace('+', '_') }}}}"

with DAG(
    "hours_in_berlin",
    schedule=CronDataIntervalTimetable("0 * * * *", timezone=ZONE),
    start_date=datetime(2026, 1, 1),
    catchup=False,
    max_active_runs=2,
):
    ImageFeaturesTaskGroup(partition=HOUR, on_empty="skip")
