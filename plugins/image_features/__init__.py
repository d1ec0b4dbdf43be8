"""The Airflow side: operators, trigger form, partition, asset. Of the Spark side it knows `contract` and `catalog`."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
"""The folder that holds `spark_apps`."""

# Airflow puts dags/ and plugins/ on the path, not the folder above them.
if importlib.util.find_spec("spark_apps") is None:
    sys.path.append(str(ROOT))
