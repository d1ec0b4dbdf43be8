"""A task of Airflow without its scheduler: the operator of a stage submits its job and waits for it.

python -m tests.faults.airflow_task extract --store … and whatever else the stage's command takes
"""

from __future__ import annotations

import logging
import os
import sys
from collections import defaultdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

from spark_apps import contract

DAG_ID = "drill"


def environment(home: Path, store: str, source: str) -> dict[str, str]:
    """What such a process needs beside what a command does."""
    repository = Path(__file__).resolve().parents[2]
    return {
        "PYTHONPATH": os.pathsep.join([str(repository), str(repository / "plugins")]),
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__IMAGE_FEATURES__STORE": store,
        "AIRFLOW__IMAGE_FEATURES__SOURCE": source,
        "AIRFLOW_CONN_SPARK_DEFAULT": '{"conn_type": "spark", "host": "local[2]"}',
    }


def main(stage: str, words: list[str]) -> None:
    """Raises what the operator raises."""
    from airflow.sdk import DAG
    from image_features import arguments, operators

    kinds = {"ingest": operators.IngestOperator, "extract": operators.ExtractOperator}
    job = contract.parse(contract.SETTINGS[stage], words, stage, "")
    given = {arguments.argument(name): getattr(job, name) for name in arguments.names(type(job))}
    with DAG(DAG_ID, schedule=None):
        task = kinds.get(stage, operators.ValidateOperator)(task_id=stage, **given)
    events: Any = defaultdict(MagicMock)
    dag_run, ti = SimpleNamespace(conf={}), SimpleNamespace(map_index=-1, xcom_push=lambda key, value: None)
    context: Any = {"run_id": job.run_id, "params": {}, "dag_run": dag_run, "outlet_events": events, "ti": ti}
    task.execute(context)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    main(sys.argv[1], sys.argv[2:])
