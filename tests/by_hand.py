"""A job from the command line, in an environment where nothing about Spark or Java is set but what a test sets."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]


def ingest(day: Path, store: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "spark_apps.ingest", "--source", f"{day}/{{partition}}", "--partition", "d1"]
    known = {name: value for name, value in os.environ.items() if not name.startswith(("SPARK_", "PYSPARK_", "JAVA_"))}
    return subprocess.run(
        [*command, "--run-id", "r", "--store", str(store)],
        cwd=REPOSITORY,
        env={**known, **environment},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
