"""The vectorizer brings its code and its model to workers that know nothing of it, without anybody's help."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("session", ["local-cluster[1,1,1024]", "connect"])
def test_code_and_model_follow_the_vectorizer(session: str, tmp_path: Path) -> None:
    import pyspark

    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "SPARK_REMOTE")}
    environment |= {
        "SPARK_LOCAL_IP": "127.0.0.1",
        "SPARK_HOME": str(Path(pyspark.__file__).parent),
        "PYSPARK_PYTHON": sys.executable,
    }
    script = str(Path(__file__).with_name("reach.py"))
    done = subprocess.run(
        [sys.executable, "-P", script, session, str(REPOSITORY)],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=400,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "dimension 512" in done.stdout
