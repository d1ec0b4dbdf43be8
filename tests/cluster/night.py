"""One night of the Dag without a scheduler: runs its three operators as a task does, and writes down what they tell.

    python night.py <outcome file> <partition> <settings as JSON>

The environment is Airflow's. The outcome holds what each stage counted, and what Airflow's page of rendered templates
would show of it.
"""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

RUN_ID = "manual__2026-11-22T07:43:15+00:00"


def main(outcome: Path, partition: str, chosen: dict[str, Any]) -> None:
    from airflow.sdk import DAG
    from airflow.sdk.execution_time.context import OutletEventAccessors
    from image_features import form
    from image_features.operators import ExtractOperator, IngestOperator, ValidateOperator

    logging.basicConfig(level=logging.INFO, format="%(message)s")
    told = {}
    for kind in (IngestOperator, ExtractOperator, ValidateOperator):
        with DAG("image_features", params=form.params(), schedule=None):
            task = kind(task_id=kind.stage)
        params = {name: param.value for name, param in form.params().items()}
        context: Any = {
            "run_id": RUN_ID,
            "params": {**params, "partition": partition, **chosen},
            "dag_run": SimpleNamespace(conf=chosen),
            "data_interval_start": None,
            "outlet_events": OutletEventAccessors(),
            "ti": SimpleNamespace(map_index=-1, xcom_push=lambda key, value: None),
        }
        counts = task.execute(context)
        rendered = {field: str(getattr(task, field, None)) for field in task.template_fields}
        told[kind.stage] = {"counts": counts, "rendered": rendered}
    outcome.write_text(json.dumps(told))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], json.loads(sys.argv[3]))
