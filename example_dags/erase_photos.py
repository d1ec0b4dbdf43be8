"""Forgets photos, from Airflow's UI: removes them from the store, then looks through every byte of it for what is left.

Needs `[image_features] store`. Trigger it with a file that names a photo on each line, by its uri or its image_id;
remove that file afterwards. Who may do this is who may trigger this Dag. docs/privacy.md says what goes where.
"""

from __future__ import annotations

from airflow.sdk import DAG, Param
from image_features.operators import EraseOperator

with DAG(
    "erase_photos",
    schedule=None,
    max_active_runs=1,
    params={
        "list": Param("", type="string", minLength=1, description="For example s3://requests/2026-11-22.txt."),
        "reason": Param("", type="string", description="Why, for tombstone and receipt; without names."),
        "requested_by": Param("", type="string", description="Who wants it, for tombstone and receipt."),
    },
):
    EraseOperator(task_id="erase") >> EraseOperator(task_id="verify", verify=True)
