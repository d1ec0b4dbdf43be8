"""The three commands as people run them: under spark-submit and as modules, with exit codes and error.json."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pyspark
import pytest

from spark_apps import catalog
from spark_apps.contract import STAGES, ExitCode
from tests.spark.conftest import GOOD, fill

REPOSITORY = Path(__file__).resolve().parents[2]
MODEL = ["--model", "resnet18", "--weights", "random:0"]


def command(stage: str, *arguments: str, launcher: str = "module") -> subprocess.CompletedProcess[str]:
    """Runs a stage from another folder, as a scheduler would."""
    submit = [str(Path(sys.executable).with_name("spark-submit")), "--master", "local[2]"]
    launch = {
        "module": [sys.executable, "-m", f"spark_apps.{stage}"],
        "submit": [*submit, str(REPOSITORY / "spark_apps" / f"{stage}.py")],
    }[launcher]
    environment = {**os.environ, "PYSPARK_PYTHON": sys.executable}
    environment["SPARK_HOME"] = str(Path(pyspark.__file__).parent)  # its own search fails at a blank in our path
    environment.pop("PYTHONPATH", None)
    folder = REPOSITORY if launcher == "module" else Path("/")
    return subprocess.run(
        [*launch, *arguments], cwd=folder, env=environment, capture_output=True, text=True, timeout=300, check=False
    )


def where(store: Path, partition: str = "d1") -> list[str]:
    return ["--store", str(store), "--partition", partition, "--run-id", "manual__2026-11-22T00:00:00+00:00"]


def test_three_spark_submits_publish_a_day(tmp_path: Path) -> None:
    fill(tmp_path / "d1")
    options = {
        "ingest": ["--source", str(tmp_path / "{partition}")],
        "extract": MODEL,
        "validate": ["--max-failed-fraction", "0.5"],
    }
    for stage in STAGES:
        outcome = command(stage, *where(tmp_path / "store"), *options[stage], launcher="submit")
        assert outcome.returncode == ExitCode.DONE, outcome.stderr[-3000:]
    [published] = catalog.partitions(str(tmp_path / "store"))
    assert (published.rows, published.run_id) == (GOOD, "manual__2026-11-22T00:00:00+00:00")


def test_spark_submit_passes_a_refusal_on_as_exit_code_2(tmp_path: Path) -> None:
    outcome = command("extract", *where(tmp_path / "store"), *MODEL, launcher="submit")
    assert outcome.returncode == ExitCode.BAD_SETTING
    assert "Run ingest first" in outcome.stdout  # spark-submit merges the two streams of its Python


REFUSALS = {
    "missing source": ("ingest", ["--source", "/no/such/folder"], ExitCode.UNREACHABLE, "does not exist"),
    "empty day": ("ingest", ["--source", "{empty}"], ExitCode.BAD_SETTING, "--on-empty skip"),
    "empty day, skipped": ("ingest", ["--source", "{empty}", "--on-empty", "skip"], ExitCode.NOTHING_TO_DO, "no files"),
    "unknown model": ("extract", ["--model", "resnet5"], ExitCode.BAD_SETTING, "Did you mean resnet50?"),
    "batch size 0": ("extract", ["--batch-size", "0"], ExitCode.BAD_SETTING, "from 1 to 1024"),
    "no number": ("extract", ["--batch-size", "many"], ExitCode.BAD_SETTING, "invalid int value"),
    "unknown flag": ("validate", ["--colour", "red"], ExitCode.BAD_SETTING, "--colour"),
    "stage missing": ("validate", [], ExitCode.BAD_SETTING, "Run ingest first"),
}


@pytest.mark.parametrize(("stage", "arguments", "code", "sentence"), REFUSALS.values(), ids=REFUSALS.keys())
def test_a_refusal_is_one_sentence_and_an_exit_code(
    stage: str, arguments: list[str], code: ExitCode, sentence: str, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    arguments = [argument.replace("{empty}", str(tmp_path / "empty")) for argument in arguments]
    outcome = command(stage, *where(tmp_path / "store"), *arguments)
    assert outcome.returncode == code
    assert sentence in outcome.stderr
    assert "Traceback" not in outcome.stderr
    assert catalog.partitions(str(tmp_path / "store")) == []


def test_a_failure_leaves_error_json_and_a_retry_removes_it(tmp_path: Path) -> None:
    fill(tmp_path / "here")
    missing = command("ingest", *where(tmp_path / "store"), "--source", str(tmp_path / "gone"))
    assert missing.returncode == ExitCode.UNREACHABLE
    run_id = "manual__2026-11-22T00:00:00+00:00"
    error = catalog.error(str(tmp_path / "store"), "d1", run_id)
    assert error is not None
    assert (error["stage"], error["code"], error["exit_code"]) == ("ingest", "source_missing", 4)
    assert command("ingest", *where(tmp_path / "store"), "--source", str(tmp_path / "here")).returncode == ExitCode.DONE
    assert catalog.error(str(tmp_path / "store"), "d1", run_id) is None


def test_a_wrong_sha256_is_refused(tmp_path: Path) -> None:
    import torch

    fill(tmp_path / "d1")
    assert command("ingest", *where(tmp_path / "store"), "--source", str(tmp_path / "d1")).returncode == 0
    torch.save({"fc.weight": torch.zeros(2, 2)}, tmp_path / "weights.pth")
    arguments = ["--weights", str(tmp_path / "weights.pth"), "--weights-sha256", "0" * 64]
    outcome = command("extract", *where(tmp_path / "store"), *arguments)
    assert outcome.returncode == ExitCode.BAD_SETTING
    assert "sha256" in outcome.stderr
    assert catalog.partitions(str(tmp_path / "store")) == []


@pytest.mark.parametrize("partition", ["../../x", "a/b", ".hidden", ""])
def test_a_partition_key_never_leaves_its_folder(partition: str, tmp_path: Path) -> None:
    arguments = [
        "--store",
        str(tmp_path / "store"),
        "--partition",
        partition,
        "--run-id",
        "r",
        "--source",
        str(tmp_path),
    ]
    assert command("ingest", *arguments).returncode == ExitCode.BAD_SETTING
    assert list(tmp_path.iterdir()) == []


def test_an_unwritable_store_is_unreachable(tmp_path: Path) -> None:
    fill(tmp_path / "d1")
    (tmp_path / "file").touch()
    outcome = command("ingest", *where(tmp_path / "file" / "store"), "--source", str(tmp_path / "d1"))
    assert outcome.returncode == ExitCode.UNREACHABLE
    assert "Not a directory" in outcome.stderr


@pytest.mark.parametrize("stage", STAGES)
def test_help_explains_every_argument(stage: str) -> None:
    outcome = command(stage, "--help")
    assert outcome.returncode == 0
    assert "--partition" in outcome.stdout
