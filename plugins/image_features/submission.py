"""What spark-submit is given beside a stage's own arguments: options, code, and an environment without secrets."""

from __future__ import annotations

import importlib.util
import locale
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from image_features import JOBS, processes, settings
from spark_apps import contract

if TYPE_CHECKING:
    from airflow.providers.apache.spark.hooks.spark_submit import SparkSubmitHook

LOG4J = Path(__file__).with_name("log4j2.properties")

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
    """The arguments that are passed on to SparkSubmitOperator.

    Raises:
        ValueError: one of `REFUSED` asks for something.
    """
    for name, reason in REFUSED.items():
        if given.get(name):
            raise ValueError(f"{operator} does not take the argument {name}. {reason}")
    return {name: value for name, value in given.items() if name not in REFUSED}


def is_local(master: str) -> bool:
    """Whether driver and tasks are one process on this machine, and no cluster has to be told anything."""
    return master.startswith("local")


def in_cluster(hook: SparkSubmitHook) -> bool:
    """Whether the driver runs on the cluster, not beside Airflow."""
    return bool(hook._connection["deploy_mode"] == "cluster")


def complete(hook: SparkSubmitHook, master: str, folder: Path, env_vars: Mapping[str, Any]) -> None:
    """Adds what every job of ours needs; what is there already wins. `folder` is there for as long as the job runs."""
    driver_here = not in_cluster(hook)
    conf: dict[str, Any] = {}
    if driver_here:
        conf["spark.driver.extraJavaOptions"] = _java_options(master)
    if not is_local(master):
        code = _packed_code(folder)
        hook._py_files = ",".join(filter(None, [hook._py_files, code]))
        environment = settings.environment()
        if environment:
            hook._archives = ",".join(filter(None, [hook._archives, f"{environment}#{contract.ENVIRONMENT}"]))
            conf["spark.pyspark.python"] = contract.ENVIRONMENT_PYTHON
            if driver_here:
                conf["spark.pyspark.driver.python"] = sys.executable  # else the driver, too, would take the one above
    hook._conf = {**conf, **_for_the_driver(hook, env_vars), **hook._conf}
    hook._env_vars = None  # given any, the hook would replace the job's environment by this process's, secrets included


def environment(
    master: str, task: str, driver_here: bool, env_vars: Mapping[str, Any], access: Mapping[str, str]
) -> dict[str, str]:
    """The job's environment: this process's, without Airflow's own variables, which hold its secrets; what reaches the
    stores, `access`, in the place of what did so before; then `env_vars`.

    On YARN a driver in the cluster would look for the Python that PYSPARK_DRIVER_PYTHON names, so it is set for one
    beside Airflow alone.
    """
    env = {name: value for name, value in os.environ.items() if not name.lstrip("_").startswith("AIRFLOW")}
    env = contract.access.merged(env, access)
    beside_python = str(Path(sys.executable).parent)
    env["PATH"] = os.pathsep.join([env.get("PATH", os.defpath), beside_python])
    if driver_here:
        env["PYSPARK_DRIVER_PYTHON"] = sys.executable
        if home := _spark_home(env):
            env["SPARK_HOME"] = home
    if is_local(master):
        env["PYSPARK_PYTHON"] = sys.executable
    if not _is_utf8():
        env["LC_ALL"] = "C.UTF-8"  # a JVM in another encoding cannot open files with names beyond it
    return {**env, **{name: str(value) for name, value in env_vars.items()}, processes.MARK: task}


def _for_the_driver(hook: SparkSubmitHook, env_vars: Mapping[str, Any]) -> dict[str, str]:
    """`env_vars` as settings of Spark, where YARN or Kubernetes runs the driver; so the provider's hook passes them."""
    prefix = "spark.yarn.appMasterEnv" if hook._is_yarn else "spark.kubernetes.driverEnv"
    if not (hook._is_yarn or hook._is_kubernetes):
        return {}
    return {f"{prefix}.{name}": str(value) for name, value in env_vars.items()}


def _packed_code(folder: Path) -> str:
    # By a process: of spark_apps this side knows the contract and the catalog, and nothing else.
    command = [sys.executable, "-m", "spark_apps.pack", "--code", str(folder)]
    return subprocess.run(command, cwd=JOBS.parent, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()


def _java_options(master: str) -> str:
    """Options for the driver's JVM: few words and, for Spark within one process, a quick start."""
    options = f"-Dlog4j2.configurationFile='{LOG4J.as_uri()}'"
    if is_local(master):
        # The JVM only hands out references: its optimising compiler costs more than it brings. Without it a day of four
        # photos takes 14 instead of 22 seconds of CPU time.
        options += " -XX:TieredStopAtLevel=1"
    return options


def _spark_home(env: Mapping[str, str]) -> str:
    """SPARK_HOME for a pyspark of this environment whose path has a blank: spark-submit's own search for it runs
    `$PYSPARK_DRIVER_PYTHON` without quotes (bin/find-spark-home)."""
    if env.get("SPARK_HOME") or len(sys.executable.split()) < 2:
        return ""
    spec = importlib.util.find_spec("pyspark")
    return str(Path(spec.origin).parent) if spec and spec.origin else ""


def _is_utf8() -> bool:
    """Whether a process that is started now takes file names for UTF-8; Python itself does so in the C locale, too."""
    chosen = next((os.environ[name] for name in ("LC_ALL", "LC_CTYPE", "LANG") if os.environ.get(name)), "C")
    return "utf" in chosen.lower() or "utf" in locale.normalize(chosen).lower()
