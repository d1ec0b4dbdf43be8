"""What spark-submit is told wins over our defaults: a job sent to a cluster must not run on the sender."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pyspark

REPOSITORY = Path(__file__).resolve().parents[2]
ASK = """
import sys
sys.path.insert(0, sys.argv[1])
from spark_apps.spark import contexts
spark = contexts.context("test")
print(spark.master, spark.getConf().get("spark.log.level"))
"""


def told(tmp_path: Path, *arguments: str) -> str:
    (tmp_path / "ask.py").write_text(ASK)
    environment = {**os.environ, "PYSPARK_PYTHON": sys.executable, "PYSPARK_DRIVER_PYTHON": sys.executable}
    environment["SPARK_HOME"] = str(Path(pyspark.__file__).parent)  # its own search fails at a blank in our path
    command = [str(Path(sys.executable).with_name("spark-submit")), *arguments, str(tmp_path / "ask.py")]
    done = subprocess.run([*command, str(REPOSITORY)], env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout.strip()


def test_master_and_settings_of_spark_submit_are_kept(tmp_path: Path) -> None:
    arguments = ("--master", "local[1]", "--conf", "spark.log.level=ERROR")
    assert told(tmp_path, *arguments) == "local[1,4] ERROR", "a task may fail three times, all else as told"


def test_what_spark_submit_leaves_open_is_filled_in(tmp_path: Path) -> None:
    assert told(tmp_path) == "local[*,4] WARN"
