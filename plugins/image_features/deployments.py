"""Where a job's driver and tasks run: what spark-submit is given for each way, and how such a job is ended."""

from __future__ import annotations

import importlib.util
import logging
import re
import subprocess
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from image_features import JOBS, connections, processes, settings
from image_features.spark_hook import StageHook
from spark_apps import contract
from spark_apps.contract import BadSetting

log = logging.getLogger(__name__)

MASTER = r"local(\[[^\]]+\])?|yarn|(spark|k8s)://.+"
LOG4J = Path(__file__).with_name("log4j2.properties")
DRIVER_VARIABLES = {"yarn": "spark.yarn.appMasterEnv", "k8s": "spark.kubernetes.driverEnv"}
"""Scheme of a master → the prefix of Spark's settings for the environment of a driver that it runs."""


@dataclass(frozen=True)
class Deployment:
    """One way to run a job, by the Spark connection `conn_id` on `master`; as it stands here, with the driver on this
    machine and nothing to send anywhere."""

    conn_id: str
    master: str

    def conf(self, env_vars: Mapping[str, object]) -> dict[str, str]:
        """Settings of Spark; `env_vars` are the variables that the user gives the job."""
        return {"spark.driver.extraJavaOptions": f"-Dlog4j2.configurationFile='{LOG4J.as_uri()}'"}

    def code(self, folder: Path) -> list[str]:
        """What Python needs on its path, made in `folder`, which is there as long as the job runs."""
        return []

    def archives(self) -> list[str]:
        """What is unpacked beside each executor, and beside a driver among them."""
        return []

    def environment(self, inherited: Mapping[str, str]) -> dict[str, str]:
        """Variables for spark-submit beside those that it inherits: this Python, and the Spark installed with it.

        A pyspark in a path with a blank must be named: spark-submit's own search for it runs `$PYSPARK_DRIVER_PYTHON`
        without quotes (bin/find-spark-home).
        """
        found = {"PYSPARK_DRIVER_PYTHON": sys.executable}
        if not inherited.get("SPARK_HOME") and len(sys.executable.split()) > 1:
            spec = importlib.util.find_spec("pyspark")
            if spec and spec.origin:
                found["SPARK_HOME"] = str(Path(spec.origin).parent)
        return found

    def warnings(self, variables: Iterable[str]) -> list[str]:
        """What will not work, a sentence each. `variables`: names of those that connections give the job."""
        return []

    def end(self, hook: StageHook, submitted: subprocess.Popen[str]) -> None:
        """End a running job; what is left of it on this machine is killed after that."""
        processes.ask_to_end(submitted)
        hook.on_kill()


class Local(Deployment):
    """Driver and tasks in one process on this machine."""

    def conf(self, env_vars: Mapping[str, object]) -> dict[str, str]:
        """A JVM that starts quickly: it only hands out references, and its optimising compiler costs more than it
        brings. Without it a day of four photos takes 14 instead of 22 seconds of CPU time."""
        (name, options), *_ = super().conf(env_vars).items()
        return {name: f"{options} -XX:TieredStopAtLevel=1"}

    def environment(self, inherited: Mapping[str, str]) -> dict[str, str]:
        """The tasks' Python is known, too."""
        return {**super().environment(inherited), "PYSPARK_PYTHON": sys.executable}


class _Remote(Deployment):
    """Tasks on a cluster, which is sent our code and any packed environment."""

    def conf(self, env_vars: Mapping[str, object]) -> dict[str, str]:
        """The Python of the executors, and the variables of a driver among them."""
        prefix = DRIVER_VARIABLES.get(self.master.partition("://")[0])
        found = {f"{prefix}.{name}": str(value) for name, value in env_vars.items()} if prefix else {}
        return {**found, "spark.pyspark.python": contract.ENVIRONMENT_PYTHON} if settings.environment() else found

    def code(self, folder: Path) -> list[str]:
        """Our package as a zip, made by a process: of spark_apps this side knows the contract and the catalog only."""
        command = [sys.executable, "-m", "spark_apps.pack", "--code", str(folder)]
        done = subprocess.run(command, cwd=JOBS.parent, check=True, stdout=subprocess.PIPE, text=True)
        return [done.stdout.strip()]

    def archives(self) -> list[str]:
        """The packed environment."""
        environment = settings.environment()
        return [f"{environment}#{contract.ENVIRONMENT}"] if environment else []


class Client(_Remote):
    """The driver on this machine, tasks on a cluster."""

    def conf(self, env_vars: Mapping[str, object]) -> dict[str, str]:
        """Both halves; the driver's Python is named, or it would take the executors'."""
        found = {**Deployment.conf(self, env_vars), **super().conf(env_vars)}
        return {**found, "spark.pyspark.driver.python": sys.executable} if settings.environment() else found


class Cluster(_Remote):
    """Driver and tasks on a cluster, and a spark-submit on this machine that waits for them."""

    def environment(self, inherited: Mapping[str, str]) -> dict[str, str]:
        """None: on YARN the driver would look for the Python that PYSPARK_DRIVER_PYTHON names here."""
        return {}

    def warnings(self, variables: Iterable[str]) -> list[str]:
        """How a driver on YARN can be ended, and what does not reach a driver: spark-submit's environment stays here,
        and Spark's settings for a driver's are on its command line, where everybody can read them."""
        unknown = self.master == "yarn" and not connections.yarn_address(self.conn_id)
        found = [connections.NO_YARN_ADDRESS.format(conn_id=self.conn_id)] if unknown else []
        if names := ", ".join(sorted(variables)):
            found.append(connections.NOT_ON_CLUSTER.format(names=names))
        return found

    def end(self, hook: StageHook, submitted: subprocess.Popen[str]) -> None:
        """First the driver: the hook tells the cluster only while spark-submit, which it kills itself, is there."""
        try:
            hook.end_on_cluster(by_request=bool(connections.yarn_address(self.conn_id)))
        except FileNotFoundError as error:
            log.warning("The driver on the cluster was not told to end: %s is not on PATH.", error.filename)
        except Exception as error:  # whatever client of a cluster this was, the rest is to be ended all the same
            log.warning("The driver on the cluster was not told to end, and may run on: %s. End it there.", error)


def of(conn_id: str, hook: StageHook) -> Deployment:
    """The way to run a job that the connection asks for. Raises BadSetting when it leads nowhere."""
    master = _master(conn_id, hook)
    if hook.deploy_mode == "cluster":
        return Cluster(conn_id, master)
    return Local(conn_id, master) if _is_local(master) else Client(conn_id, master)


def _is_local(master: str) -> bool:
    """Whether driver and tasks are one process on this machine, and no cluster has to be told anything."""
    return master.startswith("local")


def _master(conn_id: str, hook: StageHook) -> str:
    """The Spark master that the connection leads to.

    Raises:
        BadSetting: Spark has no such master, or it has a deploy mode that takes no Python application.
    """
    master = hook.master
    if not re.fullmatch(MASTER, master):
        raise BadSetting(
            "bad_connection",
            f"The Spark connection {conn_id!r} leads to {master!r}, which is not a valid Spark master.",
            "Its host must be local[*], spark://host:7077, yarn or k8s://https://host:443.",
        )
    if hook.deploy_mode == "cluster" and (_is_local(master) or master.startswith("spark://")):
        # https://spark.apache.org/docs/latest/submitting-applications.html: no cluster mode for Python applications
        kind = "local" if _is_local(master) else "standalone"
        raise BadSetting(
            "bad_connection",
            f"The Spark connection {conn_id!r} asks for deploy mode cluster.",
            f"A {kind} Spark runs Python applications in client mode only: set its deploy-mode to client.",
        )
    return master
