"""The set-up as the JVM meets it: a user without an entry works, what cannot work is exit code 2 and a sentence."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

from tests.by_hand import REPOSITORY, ingest

OTHER: dict[str, Any] = {"user": 54321, "group": 54321, "extra_groups": []}


@pytest.mark.skipif(os.name != "posix" or os.getuid() != 0, reason="only root can be somebody else")
def test_a_user_without_an_entry_runs_a_job(landing: Path) -> None:
    python = [sys.executable, "-m"]
    environment = {"PATH": os.environ["PATH"], "HOME": "/"}
    try:
        subprocess.run([sys.executable, "-c", "import pyspark"], cwd=REPOSITORY, env=environment, check=True, **OTHER)
    except (PermissionError, subprocess.CalledProcessError):
        pytest.skip("another user cannot read this Python")
    with tempfile.TemporaryDirectory() as folder:
        shutil.copytree(landing, Path(folder, "landing"))
        for path in (Path(folder), *Path(folder).rglob("*")):
            os.chown(path, 54321, 54321)
        run = ["--store", f"{folder}/store", "--partition", "d1", "--run-id", "r"]
        job = [*python, "spark_apps.ingest", "--source", f"{folder}/landing/{{partition}}", *run]
        done = subprocess.run(
            job, cwd=REPOSITORY, env=environment, capture_output=True, text=True, timeout=300, **OTHER
        )
        assert done.returncode == 0, done.stderr[-3000:]
        assert "accepted" in done.stderr


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({"PYSPARK_PYTHON": "/gone"}, "PYSPARK_PYTHON is /gone: there is no such program"),
        ({"SPARK_LOCAL_DIRS": "/dev/null/a,/proc/b"}, "SPARK_LOCAL_DIRS has no folder that can be used (/dev/null/a:"),
        ({"PYSPARK_SUBMIT_ARGS": "--frobnicate pyspark-shell"}, "Spark's JVM does not start"),
    ],
)
def test_what_only_shows_with_a_jvm_is_a_sentence_too(
    landing: Path, tmp_path: Path, environment: dict[str, str], words: str
) -> None:
    done = ingest(landing, tmp_path / "store", **environment)
    assert done.returncode == 2, done.stderr[-3000:]
    assert f"ingest failed: {words}" in done.stderr
    assert "Traceback" not in done.stderr
