"""However a job ends, its exit code, its manifest or its error.json says so; what it ran with is written down."""

from __future__ import annotations

import json
import platform
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from spark_apps import contract
from spark_apps.contract import (
    BadSetting,
    ExtractSettings,
    JobError,
    Manifest,
    NothingToDo,
    QualityFailed,
    Unreachable,
    ValidateSettings,
)
from spark_apps.spark import contexts, jobs
from spark_apps.spark.jobs import Timings

Job = Callable[[ValidateSettings, Timings], Manifest]


@pytest.fixture
def settings(tmp_path: Path) -> ValidateSettings:
    return ValidateSettings(store=str(tmp_path / "store"), partition="d1", run_id="manual:1")


@pytest.fixture
def run(settings: ValidateSettings, monkeypatch: pytest.MonkeyPatch) -> Callable[[Job], int]:
    def run(job: Job) -> int:
        monkeypatch.setattr(sys, "argv", ["validate", *contract.to_args(settings)])
        return jobs.run("validate", ValidateSettings, job, "What it does.\n\nMore.")

    return run


def fails_with(error: BaseException) -> Job:
    def job(settings: ValidateSettings, timings: Timings) -> Manifest:
        raise error

    return job


def succeeds(settings: ValidateSettings, timings: Timings) -> Manifest:
    with timings.phase("work"):
        pass
    return timings.manifest("validate", settings, counts={"listed": 1234})


def documents(settings: ValidateSettings) -> dict[str, Any]:
    return {path.name: json.loads(path.read_text()) for path in Path(settings.folder).glob("*.json")}


def test_success_leaves_a_manifest_and_exits_with_0(
    run: Callable[[Job], int], settings: ValidateSettings, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(succeeds) == 0
    (name, manifest), *rest = documents(settings).items()
    assert (name, rest) == ("validate.json", [])
    assert (manifest["stage"], manifest["run_id"], manifest["counts"]) == ("validate", "manual:1", {"listed": 1234})
    assert manifest["settings"] == vars(settings)
    assert manifest["seconds"].keys() == {"startup", "work", "total"}
    assert manifest["versions"]["python"] == platform.python_version()
    assert jobs.read_manifest(settings, "validate") == Manifest.from_record(manifest)
    assert "validate d1: 1,234 listed in " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("kind", "code"), [(BadSetting, 2), (QualityFailed, 3), (Unreachable, 4), (NothingToDo, 5), (JobError, 1)]
)
def test_each_failure_has_its_exit_code_and_its_record(
    run: Callable[[Job], int],
    settings: ValidateSettings,
    capsys: pytest.CaptureFixture[str],
    kind: type[JobError],
    code: int,
) -> None:
    assert run(fails_with(kind("some_code", "It broke.", "Fix it."))) == code
    record = documents(settings)["error.json"]
    assert record.pop("at")
    assert record == {
        "stage": "validate",
        "code": "some_code",
        "message": "It broke.",
        "hint": "Fix it.",
        "exit_code": code,
    }
    assert "validate failed: It broke. Fix it." in capsys.readouterr().err


def test_a_later_attempt_clears_the_record_of_the_one_before(
    run: Callable[[Job], int], settings: ValidateSettings
) -> None:
    run(fails_with(Unreachable("x", "Gone.")))
    assert run(succeeds) == 0
    assert documents(settings).keys() == {"validate.json"}
    run(fails_with(Unreachable("x", "Gone.")))
    assert documents(settings).keys() == {"error.json"}, "a failed attempt must not look like a finished stage"


def spark_error(error: Exception) -> RuntimeError:
    """An error of a worker as Spark tells it on the driver: the worker's own traceback among those of the JVM."""
    try:
        try:
            raise OSError("the bucket does not answer")
        except OSError as cause:
            raise error from cause
    except Exception:
        trace = traceback.format_exc()
    return RuntimeError(
        "An error occurred while calling o61.collectToPython.\n: org.apache.spark.SparkException: Job aborted due to "
        f"stage failure: Task 0 in stage 0.0 failed 4 times\norg.apache.spark.api.python.PythonException: {trace}\n"
        "\tat org.apache.spark.api.python.BasePythonRunner.handlePythonException(PythonRunner.scala:581)\n"
        "Caused by: java.io.IOException: Broken pipe\n"
    )


@pytest.mark.parametrize("kind", JobError.kinds().values(), ids=JobError.kinds())
def test_what_a_worker_said_is_found_in_the_trace(
    run: Callable[[Job], int], settings: ValidateSettings, kind: type[JobError]
) -> None:
    assert run(fails_with(spark_error(kind("some_code", "It broke.", "Fix it.")))) == kind.exit_code
    record = documents(settings)["error.json"]
    assert record["message"] == "It broke. Fix it."


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (RuntimeError("pages of\n\ttrace\njava.io.IOException: No space left on device\n\tat x"), "No space left"),
        (ZeroDivisionError("division by zero"), "ZeroDivisionError: division by zero"),
        (KeyError(), "KeyError"),
        (RuntimeError("\n"), "RuntimeError"),
    ],
)
def test_an_unexpected_error_is_told_in_a_line_and_may_be_retried(
    run: Callable[[Job], int],
    settings: ValidateSettings,
    capsys: pytest.CaptureFixture[str],
    error: Exception,
    message: str,
) -> None:
    assert run(fails_with(error)) == 1
    record = documents(settings)["error.json"]
    assert record["code"] == "unexpected"
    assert message in record["message"]
    assert "Traceback" in capsys.readouterr().err, "the log has the whole story"


def test_a_wrong_argument_exits_with_2_before_anything_is_touched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    store = tmp_path / "store"
    monkeypatch.setattr(sys, "argv", ["extract", "--store", str(store), "--partition", "../x", "--run-id", "r"])
    assert jobs.run("extract", ExtractSettings, succeeds, None) == 2  # type: ignore[arg-type]
    assert "'../x' is not a valid partition key" in capsys.readouterr().err
    assert not store.exists()


@pytest.mark.parametrize("place", ["a file", "a file/below"])
def test_a_store_that_cannot_be_written_to_exits_with_4(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], place: str
) -> None:
    (tmp_path / "a file").touch()
    args = ["--store", str(tmp_path / place), "--partition", "p", "--run-id", "r"]
    monkeypatch.setattr(sys, "argv", ["validate", *args])
    assert jobs.run("validate", ValidateSettings, succeeds, None) == 4
    assert str(tmp_path / place) in capsys.readouterr().err


@pytest.mark.parametrize(
    ("store", "name", "value", "sentence"),
    [
        ("s3://bucket/store", "AWS_CA_BUNDLE", "/gone.pem", "AWS_CA_BUNDLE names, /gone.pem, cannot be read"),
        ("s3://bucket/store", "HTTPS_PROXY", "socks5://proxy:1080", "neither an http nor an https proxy"),
        ("abfss://container@account/store", "AZURE_STORAGE_ACCOUNT_NAME", "", "Write abfss://container@account.dfs"),
        ("hdfs://name:8020/store", "HADOOP_HOME", "", "libhdfs"),
        ("s3n://bucket/store", "AWS_REGION", "eu-west-1", "Write s3://"),
        ("wasbs://container@account.blob.core.windows.net/store", "AWS_REGION", "eu-west-1", "Write abfss://"),
        ("http://host/store", "AWS_REGION", "eu-west-1", "docs/stores.md"),
    ],
)
def test_a_set_up_that_leads_to_no_store_exits_with_2_and_a_sentence(
    store: str,
    name: str,
    value: str,
    sentence: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for variable in ("NO_PROXY", "no_proxy", "https_proxy", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "argv", ["validate", "--store", store, "--partition", "d1", "--run-id", "r"])
    assert jobs.run("validate", ValidateSettings, succeeds, None) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("validate failed: ") and sentence in line


def test_a_stage_that_has_not_run_is_asked_for_by_name(settings: ValidateSettings) -> None:
    with pytest.raises(BadSetting, match="ingest of run manual:1") as caught:
        jobs.read_manifest(settings, "ingest")
    assert caught.value.code == "stage_missing"


def test_phases_add_up() -> None:
    timings = Timings()
    for _ in range(2):
        with timings.phase("work"):
            time.sleep(0.02)
    with pytest.raises(KeyError), timings.phase("other"):
        raise KeyError
    assert timings.seconds["work"] >= 0.04
    assert timings.seconds["startup"] > 0
    assert "other" in timings.seconds


def test_versions_are_those_of_what_is_installed() -> None:
    import pyarrow

    assert jobs.versions()["pyarrow"] == pyarrow.__version__
    assert jobs.versions().keys() <= {"python", *jobs.PACKAGES}


LOST = (
    "An error occurred while calling z:org.apache.spark.api.python.PythonRDD.collectAndServe.\n"
    ": {error}\n"
    "\tat org.apache.spark.api.python.BasePythonRunner$ReaderIterator.handlePythonException(PythonRunner.scala:665)\n"
)
IN_PYTHON = "org.apache.spark.api.python.PythonException: Traceback (most recent call last):\n"


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (
            IN_PYTHON + "pyspark.errors.exceptions.base.PySparkRuntimeError: [PYTHON_VERSION_MISMATCH] "
            "Python in worker has different version: 3.12 than that in driver: 3.11, "
            "PySpark cannot run with different minor versions.",
            "The Python on 10.0.0.7 is 3.12, that of the driver is 3.11",
        ),
        (
            IN_PYTHON + '  File "/opt/landing.py", line 12, in <module>\n    import pyarrow\n'
            "ModuleNotFoundError: No module named 'pyarrow'\n",
            "The Python on 10.0.0.7 has no package pyarrow.",
        ),
        (
            "org.apache.spark.SparkException: Job aborted due to stage failure: Task 3 in stage 0.0 failed 4 times, "
            "most recent failure: Lost task 3.3 in stage 0.0 (TID 9) (10.0.0.7 executor 1): "
            'java.io.IOException: Cannot run program "python3.11": error=2, No such file or directory',
            "The Python python3.11 on 10.0.0.7 cannot be started: No such file or directory.",
        ),
    ],
)
def test_nodes_that_cannot_run_a_task_are_a_sentence(error: str, sentence: str) -> None:
    problem = contexts._unfit_worker(LOST.format(error=error), "10.0.0.7")
    assert problem is not None
    assert sentence in str(problem)


def test_any_other_failure_of_a_task_is_no_matter_of_the_nodes() -> None:
    assert contexts._unfit_worker(str(spark_error(Unreachable("x", "Gone."))), "10.0.0.7") is None


@pytest.mark.parametrize(("count", "workers", "largest"), [(1, 2, 8), (9, 2, 8), (64, 2, 8), (5_000, 16, 8), (7, 5, 1)])
def test_work_is_shared_out_whole_and_ends_in_small_shares(count: int, workers: int, largest: int) -> None:
    shares = contexts.shared_out(range(count), workers, largest)
    sizes = [len(share) for share in shares]
    assert [unit for share in shares for unit in share] == list(range(count))
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] <= largest
    assert sizes[-1] == 1
    assert len(shares) <= count / largest + 4 * workers + 2 * workers * largest.bit_length()


def test_the_first_share_leaves_as_much_for_every_worker_again() -> None:
    assert [len(share) for share in contexts.shared_out(range(36), 2, 20)] == [9, 7, 5, 4, 3, 2, 2, 1, 1, 1, 1]


def test_nothing_is_shared_out_as_nothing() -> None:
    assert contexts.shared_out([], 4, 8) == []
