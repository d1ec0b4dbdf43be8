"""Which arguments of the provider's operator are kept, and the environment of a job, without Airflow's secrets."""

from __future__ import annotations

import json
import locale
import os
import pwd
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from image_features import JOBS, processes
from image_features.deployments import Deployment
from spark_apps import contract

OURS = "The stage says what runs; choose the operator of another stage, or settings of this one."
AGAIN = "An attempt always starts the job anew; known vectors are not computed again."
WAITED_FOR = "The operator waits for spark-submit, and reads the stage's manifest from the store when that has ended."
REFUSED: Mapping[str, str] = {
    "application": OURS,
    "application_args": OURS,
    "java_class": OURS,
    "durable": AGAIN,
    "reconnect_on_retry": AGAIN,
    "track_driver_via_k8s_api": WAITED_FOR,
    "yarn_track_via_rm_api": WAITED_FOR,
}
"""Arguments of SparkSubmitOperator that cannot be kept, and why. All others are passed on."""


def check_arguments(operator: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments that are passed on to SparkSubmitOperator; the refused ones among them as None, or the Dag's
    `default_args` would set them still.

    Raises:
        ValueError: one of `REFUSED` asks for something, by itself or in `default_args`.
    """
    asked = {**(given.get("default_args") or {}), **given}
    for name, reason in REFUSED.items():
        if asked.get(name):
            raise ValueError(f"{operator} does not take the argument {name}. {reason}")
    return {**given, **dict.fromkeys(REFUSED)}


def environment(
    deployment: Deployment, task: str, env_vars: Mapping[str, Any], access: Mapping[str, str]
) -> dict[str, str]:
    """The job's environment: this process's, without Airflow's own variables, which hold its secrets; what reaches the
    stores, `access`, in the place of what did so before; then what the deployment needs, then `env_vars`."""
    env = {name: value for name, value in os.environ.items() if not name.lstrip("_").startswith("AIRFLOW")}
    env = contract.access.merged(env, access)
    beside_python = str(Path(sys.executable).parent)
    env["PATH"] = os.pathsep.join([env.get("PATH", os.defpath), beside_python])
    env |= deployment.environment(env) | _account()
    if not _is_utf8():
        env["LC_ALL"] = "C.UTF-8"  # a JVM in another encoding cannot open files with names beyond it
    return {**env, **{name: str(value) for name, value in env_vars.items()}, processes.MARK: task}


def _account() -> dict[str, str]:
    """What spark-submit lacks where this user has no entry in the system's list of users, as in a container."""
    try:
        pwd.getpwuid(os.getuid())
    except KeyError:
        # By a process: of spark_apps this side knows the contract and the catalog only.
        command = [sys.executable, "-m", "spark_apps.host.account"]
        done = subprocess.run(command, cwd=JOBS.parent, check=True, stdout=subprocess.PIPE, text=True)
        return dict(json.loads(done.stdout))
    return {}


def _is_utf8() -> bool:
    """Whether a process that is started now takes file names for UTF-8; Python itself does so in the C locale, too."""
    chosen = next((os.environ[name] for name in ("LC_ALL", "LC_CTYPE", "LANG") if os.environ.get(name)), "C")
    return "utf" in chosen.lower() or "utf" in locale.normalize(chosen).lower()
