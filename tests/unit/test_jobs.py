"""A job is described so that any submitter can run it, and knows its own documents from those of earlier tries."""

from __future__ import annotations

import dataclasses
import json
import shlex
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from spark_apps import catalog, contract
from spark_apps.contract import ExtractSettings, IngestSettings, MaintainSettings

COMMON = {"store": "s3://features/a b", "partition": "2026-11-22", "run_id": "manual__2026-11-22T00:00:00+00:00"}
EXTRACT = ExtractSettings(**COMMON, dag_id="night", branch="a/b", precision="int8", recompute=True)


def test_the_arguments_of_a_job_are_its_settings() -> None:
    spec = contract.job_spec(EXTRACT)
    assert contract.parse(ExtractSettings, spec.arguments, "test", "") == EXTRACT
    assert Path(spec.application).is_file() and Path(spec.application).name == "extract.py"
    assert dataclasses.asdict(spec) == json.loads(json.dumps(dataclasses.asdict(spec))), "an XCom can hold it"


@pytest.mark.parametrize(
    "settings", [MaintainSettings(store="/store", run_id="r"), IngestSettings(**COMMON, source="/p")]
)
def test_each_command_has_an_application(settings: contract.JobSettings) -> None:
    assert Path(contract.job_spec(settings).application).is_file()


def test_the_command_line_sends_what_a_cluster_lacks() -> None:
    spec = contract.job_spec(
        EXTRACT, applications="s3://code/apps/", code="s3://code/x.zip", python="/usr/bin/python3.11"
    )
    command = spec.command({"spark.master": "yarn"})
    assert command[0] == "spark-submit"
    assert command[-len(spec.arguments) - 1 :] == ["s3://code/apps/extract.py", *spec.arguments]
    assert command[command.index("--py-files") + 1] == "s3://code/x.zip"
    given = {command[at + 1] for at, word in enumerate(command) if word == "--conf"}
    assert given == {"spark.pyspark.python=/usr/bin/python3.11", "spark.master=yarn"}


def test_a_shell_runs_the_same_with_the_environment(tmp_path: Path) -> None:
    environment = {"AWS_REGION": "eu central; rm -rf /", "OTHER": "'\"$HOME"}
    spec = contract.job_spec(EXTRACT, environment=environment)
    says = tmp_path / "submit it"
    script = "import json, os, sys\nprint(json.dumps([sys.argv[1:], dict(os.environ)]))"
    says.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -c {shlex.quote(script)} "$@"\n')
    says.chmod(0o755)
    done = subprocess.run(
        ["/bin/sh", "-c", spec.shell(spark_submit=str(says))], capture_output=True, text=True, check=True
    )
    arguments, got = json.loads(done.stdout)
    assert arguments == spec.command()[1:]
    assert {name: got[name] for name in environment} == environment


BEGAN = datetime(2026, 11, 22, 3, 0, 0, 500_000, tzinfo=UTC)


@pytest.mark.parametrize(
    ("record", "submission", "ours"),
    [
        ({"settings": {"submission": "b"}, "started_at": "2020-01-01T00:00:00+00:00"}, "b", True),
        ({"settings": {"submission": "a"}, "started_at": "2030-01-01T00:00:00+00:00"}, "b", False),
        ({"submission": "b", "at": "2020-01-01T00:00:00+00:00"}, "b", True),
        ({"at": "2030-01-01T00:00:00+00:00"}, "b", False),
        ({"started_at": "2026-11-22T03:00:00+00:00"}, "", True),
        ({"started_at": "2026-11-22T02:59:59+00:00"}, "", False),
        ({"at": "2026-11-22T04:00:00+01:00"}, "", True),
        ({}, "", False),
    ],
)
def test_a_document_is_known_by_its_submission_else_by_its_time(
    record: dict[str, object], submission: str, ours: bool
) -> None:
    assert contract.is_left_by(record, submission, BEGAN) is ours
    assert contract.is_left_by(record, submission, BEGAN + timedelta(days=3000)) is (ours and bool(submission))


def test_a_job_that_fails_says_of_which_submission_it_was(tmp_path: Path) -> None:
    job = IngestSettings(
        store=str(tmp_path / "store"), partition="d", run_id="r", source="/nowhere", submission="second"
    )
    spec = contract.job_spec(job)
    done = subprocess.run([sys.executable, spec.application, *spec.arguments], capture_output=True, text=True)
    assert done.returncode == contract.ExitCode.UNREACHABLE, done.stderr
    record = catalog.left_by(job, "error.json")
    assert record is not None and contract.is_left_by(record, "second", None)
    assert not contract.is_left_by(record, "first", None)
