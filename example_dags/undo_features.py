"""Takes back what was published of a partition, from Airflow's UI: what was there before is there again.

Needs `[image_features] store`. Trigger it with the partition and the model. Dags that wait for the model's asset run,
as after a publication. Who may do this is who may trigger this Dag.
"""

from __future__ import annotations

from airflow.sdk import DAG, Param
from image_features.operators import UndoOperator

with DAG(
    "undo_features",
    schedule=None,
    params={
        "partition": Param(None, type="string", description="For example 2026-11-22."),
        "model": Param(None, type="string", description="For example resnet50-imagenet1k_v2-fp32."),
        "to_version": Param(0, type="integer", minimum=0, description="0: the publication before."),
    },
):
    UndoOperator(task_id="undo")
