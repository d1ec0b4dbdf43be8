"""A job as any submitter needs it: what to run, with which arguments; and which document in the store is its own."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from spark_apps.contract.command_line import to_args
from spark_apps.contract.follow_ups import COMMANDS
from spark_apps.contract.names import join
from spark_apps.contract.settings import JobSettings

HERE = str(Path(__file__).parents[1])
"""The folder of this package: one application for each stage."""


@dataclass(frozen=True, kw_only=True)
class JobSpec:
    """One Spark job, for whichever service submits it. Plain text throughout, and no secrets.

    `application`: the Python file that is the program. `arguments`: its command line. `py_files`: archives that driver
    and workers need on Python's path. `environment`: variables that the driver needs. `python`: the interpreter of the
    workers, empty for the cluster's own.
    """

    stage: str
    application: str
    arguments: list[str]
    py_files: list[str] = field(default_factory=list)
    environment: dict[str, str] = field(default_factory=dict)
    python: str = ""

    def conf(self) -> dict[str, str]:
        """What of it spark-submit takes as settings of Spark."""
        return {"spark.pyspark.python": self.python} if self.python else {}

    def command(self, conf: Mapping[str, str] | None = None, spark_submit: str = "spark-submit") -> list[str]:
        """The command line of spark-submit; `conf` are further settings of Spark. The environment is not in it."""
        settings = {**self.conf(), **(conf or {})}
        return [
            spark_submit,
            *(part for name, value in settings.items() for part in ("--conf", f"{name}={value}")),
            *(["--py-files", ",".join(self.py_files)] if self.py_files else []),
            self.application,
            *self.arguments,
        ]

    def shell(self, conf: Mapping[str, str] | None = None, spark_submit: str = "spark-submit") -> str:
        """`command` for a shell, quoted, with the environment before it."""
        env = ["env", *(f"{name}={value}" for name, value in self.environment.items())] if self.environment else []
        return shlex.join([*env, *self.command(conf, spark_submit)])


def job_spec(
    settings: JobSettings,
    *,
    applications: str = HERE,
    code: str = "",
    environment: Mapping[str, str] | None = None,
    python: str = "",
) -> JobSpec:
    """The job that these settings describe.

    `applications`: folder or URI of `ingest.py`, `extract.py` and `validate.py`, where the cluster finds them. `code`:
    the archive that `python -m spark_apps.pack --code` makes, where the cluster finds it; empty where the package is
    installed, or lies on this machine with driver and workers.
    """
    stage = next(name for name, kind in COMMANDS.items() if kind is type(settings))
    return JobSpec(
        stage=stage,
        application=join(applications, f"{stage}.py"),
        arguments=to_args(settings),
        py_files=[code] if code else [],
        environment=dict(environment or {}),
        python=python,
    )


def is_left_by(record: Mapping[str, Any], submission: str, since: datetime | None) -> bool:
    """Whether a manifest or an `error.json`, as JSON, was left by the job that is waited for: by the one of that
    `submission`, or, without a name, by one that began `since` (an error: that was written since then)."""
    if submission:
        settings = record.get("settings") or {}
        return submission in (record.get("submission"), settings.get("submission"))
    moment = record.get("started_at") or record.get("at")
    return since is None or (bool(moment) and datetime.fromisoformat(str(moment)) >= since.replace(microsecond=0))
