"""A set-up that cannot work is exit code 2 and a sentence that names it, before a JVM starts."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from spark_apps.host import account
from tests.by_hand import REPOSITORY, ingest


@pytest.fixture(scope="module")
def day(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A source with one file on one day."""
    root = tmp_path_factory.mktemp("source")
    (root / "d1").mkdir()
    (root / "d1" / "photo.jpg").write_bytes(b"\xff\xd8\xff")
    return root


def refused(done: subprocess.CompletedProcess[str], store: Path, code: str, words: str) -> None:
    assert done.returncode == 2, done.stderr[-3000:]
    (found,) = store.glob("runs/d1/*/error.json")
    record = json.loads(found.read_text())
    assert record["code"] == code
    assert words in record["message"] and record["hint"]
    assert "Traceback" not in done.stderr
    assert "log4j" not in done.stderr, "no JVM was started"


def program(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


GONE = "there is no such folder"


@pytest.mark.parametrize(
    ("environment", "code", "words"),
    [
        ({"PATH": "/gone"}, "no_java", "no java on the PATH"),
        ({"JAVA_HOME": "/gone"}, "no_java", f"JAVA_HOME is /gone: {GONE}"),
        ({"JAVA_HOME": "{here}/file"}, "no_java", "it is not a folder"),
        ({"JAVA_HOME": "{here}/empty"}, "no_java", "bin/java is not there"),
        ({"JAVA_HOME": "{here}/closed"}, "no_java", "bin/java may not be executed"),
        ({"JAVA_HOME": "{here}/broken"}, "no_java", "ends with exit code 1 (libjvm.so is missing)"),
        ({"JAVA_HOME": "{here}/old"}, "java_too_old", "is Java 8, and Spark"),
        ({"JAVA_HOME": "{here}/older"}, "java_too_old", "is Java 11, and Spark"),
        ({"SPARK_HOME": "/gone"}, "no_spark", f"SPARK_HOME is /gone: {GONE}"),
        ({"SPARK_HOME": "{here}/empty"}, "no_spark", "bin/spark-submit is not there"),
        ({"PYSPARK_SUBMIT_ARGS": "--master local[1]"}, "bad_submit_args", "lacks the word pyspark-shell"),
        ({"PYSPARK_SUBMIT_ARGS": "'pyspark-shell"}, "bad_submit_args", "cannot be read"),
        ({"SPARK_CONF_DIR": "/gone"}, "no_spark_conf", "SPARK_CONF_DIR is /gone"),
        ({"OMP_NUM_THREADS": "many"}, "bad_omp_num_threads", "'many'"),
        ({"TMPDIR": "/gone"}, "tmpdir_unusable", "TMPDIR /gone cannot be used: No such file"),
        ({"TMPDIR": "{here}/file"}, "tmpdir_unusable", "file cannot be used: Not a directory"),
    ],
)
def test_a_fault_of_the_set_up_is_a_sentence(
    day: Path, tmp_path: Path, environment: dict[str, str], code: str, words: str
) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "empty").mkdir()
    program(tmp_path / "broken/bin/java", "echo libjvm.so is missing >&2; exit 1")
    program(tmp_path / "closed/bin/java", "exit 0")
    (tmp_path / "closed/bin/java").chmod(0o644)
    program(tmp_path / "old/bin/java", "echo 'openjdk version \"1.8.0_392\"' >&2")
    program(tmp_path / "older/bin/java", "exit 1")
    (tmp_path / "older/release").write_text('IMPLEMENTOR="X"\nJAVA_VERSION="11.0.2"\n')
    meant = {name: value.format(here=tmp_path) for name, value in environment.items()}
    refused(ingest(day, tmp_path / "store", **meant), tmp_path / "store", code, words)


def test_a_full_temporary_folder_is_named(day: Path, tmp_path: Path) -> None:
    full = tmp_path / "full"
    full.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(full)], check=False)
    if mounted.returncode:
        pytest.skip("needs the right to mount a small disk")
    try:
        done = ingest(day, tmp_path / "store", TMPDIR=str(full))
    finally:
        subprocess.run(["umount", "--lazy", str(full)], check=True)
    refused(done, tmp_path / "store", "tmpdir_full", f"TMPDIR {full} cannot be used: No space left on device")


ASK = "import getpass; from pathlib import Path; from spark_apps.host import account; account.complete(); "


@pytest.mark.skipif(os.name != "posix" or os.getuid() != 0, reason="only root can be somebody else")
@pytest.mark.parametrize("home", [None, "/"])
def test_a_user_without_an_entry_has_a_name_and_a_home(home: str | None) -> None:
    code = ASK + "print(getpass.getuser(), Path.home()); (Path.home() / 'x').touch(); (Path.home() / 'x').unlink()"
    path = {"PATH": os.environ["PATH"], "PYTHONPATH": str(REPOSITORY)}
    environment = path | ({"HOME": home} if home else {})
    asked = {"user": 54321, "group": 54321, "extra_groups": [], "env": environment, "cwd": "/", "text": True}
    try:
        subprocess.run([sys.executable, "-c", "import spark_apps"], stderr=subprocess.DEVNULL, check=True, **asked)
    except (PermissionError, subprocess.CalledProcessError):
        pytest.skip("another user cannot read this Python")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, **asked)
    assert done.returncode == 0, done.stderr
    name, found = done.stdout.split()
    assert name == "uid-54321"
    assert Path(found).is_absolute() and "image-features-" in found


def test_a_user_with_an_entry_keeps_name_and_home() -> None:
    before = dict(os.environ)
    account.complete()
    assert account.is_listed() and dict(os.environ) == before
