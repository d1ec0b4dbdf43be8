"""The stack of docker-compose.yaml for tests: its files as they are shipped, secrets and volumes of its own."""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from demo.airflow_client import DAG_ID, AirflowClient

log = logging.getLogger("compose")

REPOSITORY = Path(__file__).resolve().parents[2]
YESTERDAY = (datetime.now(UTC) - timedelta(days=1)).date().isoformat()
PASSED_ON = re.compile(r"PATH|HOME|DOCKER_\w+|BUILDX_\w+|BASE_IMAGE|POSTGRES_IMAGE|S3_\w+|WHEELS|PIP_CONF")
"""Of the environment, what says where images and packages come from here. All else is the stack's own affair."""


def plugin_missing() -> str:
    """Why `docker compose` cannot be used here; empty when it can."""
    if shutil.which("docker") is None:
        return "docker is not installed"
    if _run("docker", "compose", "version").returncode:
        return "docker has no compose plugin"
    return ""


def engine_missing() -> str:
    """Why no container can be started here; empty when they can."""
    if reason := plugin_missing():
        return reason
    found = _run("docker", "info", "--format", "{{.ServerVersion}}")
    return "" if found.returncode == 0 else f"no Docker engine answers: {found.stderr.strip()}"


def needs_engine() -> None:
    """Skips the test, or ends all where `make test-compose` has asked for it and there is no engine."""
    if os.environ.get("IMAGE_FEATURES_COMPOSE") != "required":
        pytest.skip("builds and starts the whole stack; make test-compose runs it")
    if reason := engine_missing():
        pytest.exit(f"The stack cannot be tried here: {reason}.", returncode=1)


class ComposeFailed(Exception):
    """A command of docker has failed; the message has its last words."""


class Stack:
    """One project: the settings in `env_file` are those of `make env` and what `set` adds."""

    def __init__(self, folder: Path, project: str = "image-features-test", **settings: str) -> None:
        self.project, self.env_file = project, folder / "test.env"
        done = _run(sys.executable, str(REPOSITORY / "deploy" / "env.py"), str(self.env_file))
        if done.returncode:
            raise ComposeFailed(done.stdout + done.stderr)
        self.secrets = {
            name: value for name, value in self.settings().items() if re.search("PASSWORD|KEY|SECRET", name)
        }
        self.set(**settings)

    @property
    def airflow(self) -> AirflowClient:
        """Its REST API, signed in."""
        url = f"http://127.0.0.1:{self.settings()['AIRFLOW_PORT']}"
        return AirflowClient(url, "admin", self.secrets["AIRFLOW_ADMIN_PASSWORD"])

    def start(self) -> None:
        """Starts the stack, or what is missing of it, and waits until all of it is healthy."""
        began = time.monotonic()
        self.compose("up", "--detach", "--wait", "--wait-timeout", "900", timeout=1000)
        log.info("healthy after %.0f s:\n%s", time.monotonic() - began, self.compose("ps").rstrip())

    @contextmanager
    def running(self, folder: Path) -> Iterator[None]:
        """Started from nothing, and nothing is left of it; the containers' logs are in `folder`."""
        self.compose("down", "--volumes", "--remove-orphans")
        assert not self.remains()
        try:
            self.start()
            yield
        finally:
            (folder / "logs.txt").write_text(self.try_compose("logs", "--no-color", "--timestamps").stdout)
            log.info("the containers' logs are in %s", folder / "logs.txt")
            self.compose("down", "--volumes", "--timeout", "30")
        assert not self.remains()
        log.info("taken down: no container, volume or network is left")

    def settings(self) -> dict[str, str]:
        """What the file of settings says, comments apart."""
        lines = self.env_file.read_text().splitlines()
        return dict(line.split("=", 1) for line in lines if "=" in line and not line.startswith("#"))

    def set(self, **settings: str) -> None:
        """Adds settings, as a person would with an editor."""
        with self.env_file.open("a") as file:
            file.writelines(f"{name}={value}\n" for name, value in settings.items())

    def compose(self, *arguments: str, stdin: str = "", timeout: float = 600) -> str:
        """What `docker compose ARGUMENTS` prints. Raises ComposeFailed."""
        done = self.try_compose(*arguments, stdin=stdin, timeout=timeout)
        if done.returncode:
            words = "\n".join((done.stdout + done.stderr).splitlines()[-40:])
            raise ComposeFailed(f"docker compose {' '.join(arguments)}: exit code {done.returncode}\n{words}")
        return done.stdout

    def try_compose(self, *arguments: str, stdin: str = "", timeout: float = 600) -> subprocess.CompletedProcess[str]:
        """The same, whatever its exit code."""
        command = ["docker", "compose", "--project-name", self.project, "--env-file", str(self.env_file)]
        return _run(*command, *arguments, stdin=stdin, timeout=timeout)

    def config(self, *profiles: str) -> dict[str, Any]:
        """The project as compose understands it."""
        options = [option for profile in profiles for option in ("--profile", profile)]
        config: dict[str, Any] = json.loads(self.compose(*options, "config", "--format", "json"))
        return config

    def python(self, script: str, service: str = "scheduler", **values: Any) -> Any:
        """The JSON that a Python script prints inside a running container; `values` are its variables."""
        assignments = "\n".join(f"{name} = {value!r}" for name, value in values.items())
        # without the interpreter's own end, at which Arrow's threads now and then abort the process of a short script
        leave = "import os, sys\nsys.stdout.flush()\nos._exit(0)"
        text = f"{assignments}\n{script}\n{leave}\n"
        return json.loads(self.compose("exec", "-T", service, "python", "-", stdin=text))

    def memory(self) -> str:
        """What each container uses now."""
        ids = self.compose("ps", "--quiet").split()
        return docker("stats", "--no-stream", "--format", "{{.Name}} {{.MemUsage}}", *ids).rstrip()

    def containers(self, service: str) -> list[str]:
        """The ids of a service's running containers."""
        return self.compose("ps", "--quiet", "--status=running", service).split()

    def remains(self) -> str:
        """Containers, volumes and networks that the engine has of this project."""
        label = f"label=com.docker.compose.project={self.project}"
        kinds = (["ps", "--all"], ["volume", "ls"], ["network", "ls"])
        return "".join(docker(*kind, "--quiet", "--filter", label) for kind in kinds)


def switch_on(airflow: AirflowClient) -> str:
    """Switches the Dag on; the id of the run, that of yesterday, which Airflow then starts by itself.

    Healthy containers may have read no Dag yet: on a busy machine that takes some minutes.
    """
    deadline = time.monotonic() + 300
    while not any(dag["dag_id"] == DAG_ID for dag in airflow.api("GET", "/api/v2/dags")["dags"]):
        assert time.monotonic() < deadline, airflow.api("GET", "/api/v2/importErrors")
        time.sleep(1)
    airflow.api("PATCH", f"/api/v2/dags/{DAG_ID}", {"is_paused": False})
    for _ in range(120):
        for run in airflow.api("GET", f"/api/v2/dags/{DAG_ID}/dagRuns")["dag_runs"]:
            if run["run_type"] == "scheduled":
                return str(run["dag_run_id"])
        time.sleep(1)
    raise AssertionError("Airflow started no run by itself.")


def docker(*arguments: str, timeout: float = 120) -> str:
    """What `docker ARGUMENTS` prints. Raises ComposeFailed."""
    done = _run("docker", *arguments, timeout=timeout)
    if done.returncode:
        raise ComposeFailed(f"docker {' '.join(arguments)}: {done.stderr.strip()}")
    return done.stdout


def _run(*command: str, stdin: str = "", timeout: float = 60) -> subprocess.CompletedProcess[str]:
    env = {name: value for name, value in os.environ.items() if PASSED_ON.fullmatch(name)}
    return subprocess.run(
        command, cwd=REPOSITORY, env=env, input=stdin, capture_output=True, text=True, timeout=timeout
    )
