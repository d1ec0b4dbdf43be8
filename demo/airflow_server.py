"""A real Airflow on this machine for the demo and the tests: loopback, free ports, SQLite, gone without a trace.

What `airflow standalone` starts, less the log servers, which listen on every network interface. The components live in
a session of their own under `keeper.py`, which ends all of them, Spark included, when `stop` is called, when a
component dies, or when the owning process is gone.
"""

from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Any

import psutil

from demo import keeper, ports
from demo.airflow_client import DAG_ID, AirflowClient, ServerError, request
from spark_apps.host import cores as usable

REPO = Path(__file__).resolve().parents[1]
COMPONENTS = {
    "api-server": ["airflow", "api-server"],
    "scheduler": ["airflow", "scheduler", "--skip-serve-logs"],
    "dag-processor": ["airflow", "dag-processor"],
    "triggerer": ["airflow", "triggerer", "--skip-serve-logs"],
}


class AirflowServer(AirflowClient):
    """A private Airflow with this repository's Dags and plugins, and the client to talk to it.

    `home` keeps the database, the logs and the password, so that a later server there shows the same runs. `store` and
    `source` become the settings of the same names; `env` adds to, and wins over, the environment of every component.
    Use it as a context manager, or `start`, then `stop` or `detach`.
    """

    def __init__(self, home: Path, *, store: str, source: str, env: dict[str, str] | None = None) -> None:
        super().__init__("", "admin", "")
        self.home = home.resolve()
        self.store = store
        self.logs = self.home / "server-logs"
        self._settings = {"AIRFLOW__IMAGE_FEATURES__STORE": store, "AIRFLOW__IMAGE_FEATURES__SOURCE": source}
        self._settings |= env or {}
        self._keeper: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> AirflowServer:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self, timeout: float = 240) -> None:
        """Start, and wait until the API, scheduler, Dag processor and triggerer are healthy and the Dag is parsed.

        Raises:
            ServerError: another server runs from the same home, a component died, the Dag does not import, or
                `timeout` seconds went by. Nothing is left running then.
        """
        if pid := running(self.home):
            raise ServerError(f"An Airflow server (process {pid}) already runs from {self.home}; stop it first.")
        deadline = time.monotonic() + timeout
        self.logs.mkdir(parents=True, exist_ok=True)
        for old in self.logs.glob("*.log"):
            old.unlink()
        port = ports.free()
        self.url = f"http://127.0.0.1:{port}"
        self.password = self._password()
        env = self._environment(port)
        self._migrate(env)
        with (self.logs / "keeper.log").open("wb") as log:  # our own output may be a pipe that waits for its end
            self._keeper = subprocess.Popen(
                [sys.executable, str(Path(keeper.__file__)), str(self.logs), json.dumps(COMPONENTS)],
                env=env,
                cwd=self.home,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        try:
            created = psutil.Process(self._keeper.pid).create_time()
            _record(self.home).write_text(json.dumps({"pid": self._keeper.pid, "created": created, "url": self.url}))
            waiting_for = "the API"
            while waiting_for:
                self.check_alive()
                if time.monotonic() > deadline:
                    raise ServerError(
                        f"Airflow did not start in {timeout:.0f} s: no sign of {waiting_for}.{self._tails()}"
                    )
                time.sleep(0.5)
                waiting_for = self._missing()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End every process of the server and of the Spark jobs it started. Harmless when nothing runs."""
        if self._keeper is not None and self._keeper.stdin is not None:
            self._keeper.stdin.close()
            self._keeper.wait()
            self._keeper = None

    def detach(self) -> None:
        """Let the server outlive this process; `stop_server(home)` ends it."""
        if self._keeper is None or self._keeper.stdin is None:
            raise ServerError("The server is not running.")
        self._keeper.stdin.write(b"detach\n")
        self._keeper.stdin.close()
        self._keeper = None

    def check_alive(self) -> None:
        """Raises ServerError, with the last lines of the logs, when the server has ended."""
        if self._keeper is not None and self._keeper.poll() is not None:
            reason = (self.logs / "keeper.log").read_text().strip()
            raise ServerError(f"Airflow ended: {reason}.{self._tails()}")

    def _environment(self, port: int) -> dict[str, str]:
        env = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW__")}
        cores = min(usable.available(), 4)
        env.setdefault("AIRFLOW_CONN_SPARK_DEFAULT", json.dumps({"conn_type": "spark", "host": f"local[{cores}]"}))
        return {
            **env,
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), env.get("PATH", os.defpath)]),
            "PYTHONUNBUFFERED": "1",
            "AIRFLOW_HOME": str(self.home),
            # SQLite lets one process write at a time: on a busy machine the others wait longer than its usual 5 s
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{self.home}/airflow.db?timeout=60",
            "AIRFLOW__CORE__DAGS_FOLDER": str(REPO / "dags"),
            "AIRFLOW__CORE__PLUGINS_FOLDER": str(REPO / "plugins"),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__CORE__PARALLELISM": "4",
            "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
            "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{self.url}/execution/",
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": f"{self.username}:admin",
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(self.home / "passwords.json"),
            "AIRFLOW__API__HOST": "127.0.0.1",
            "AIRFLOW__API__PORT": str(port),
            "AIRFLOW__API__BASE_URL": self.url,
            "AIRFLOW__API__WORKERS": "1",
            "AIRFLOW__SCHEDULER__USE_JOB_SCHEDULE": "False",  # it makes the runs it is asked for, none of its own
            "AIRFLOW__DAG_PROCESSOR__PRINT_STATS_INTERVAL": "0",
            "AIRFLOW__LOGGING__UVICORN_LOGGING_LEVEL": "WARNING",
            "AIRFLOW__LOGGING__NAMESPACE_LEVELS": "http.access=WARNING",
            "AIRFLOW__LOGGING__COLORED_CONSOLE_LOG": "False",
            **self._settings,
        }

    def _password(self) -> str:
        file = self.home / "passwords.json"
        if not file.exists():
            file.touch(mode=0o600)
            file.write_text(json.dumps({self.username: secrets.token_urlsafe(12)}))
        return str(json.loads(file.read_text())[self.username])

    def _migrate(self, env: dict[str, str]) -> None:
        with (self.logs / "migrate.log").open("wb") as log:
            command = ["airflow", "db", "migrate"]
            done = subprocess.run(command, env=env, cwd=self.home, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        if done.returncode:
            raise ServerError(f"Airflow's database could not be prepared.{self._tails()}")

    def _missing(self) -> str:
        """What the server still lacks to be ready; empty when nothing."""
        try:
            health = request("GET", f"{self.url}/api/v2/monitor/health", timeout=5)
        except OSError:
            return "the API"
        for part in ("scheduler", "dag_processor", "triggerer"):
            if (health.get(part) or {}).get("status") != "healthy":
                return f"a healthy {part}"
        if errors := self.api("GET", "/api/v2/importErrors")["import_errors"]:
            raise ServerError(f"{errors[0]['filename']} cannot be imported:\n{errors[0]['stack_trace']}")
        dags = self.api("GET", "/api/v2/dags")["dags"]
        return "" if any(dag["dag_id"] == DAG_ID for dag in dags) else f"the Dag {DAG_ID}"

    def _tails(self, lines: int = 12) -> str:
        tails = [
            f"\n--- {log}\n" + "\n".join(log.read_text(errors="replace").splitlines()[-lines:])
            for log in sorted(self.logs.glob("*.log"))
        ]
        return "".join(tails)


def running(home: Path) -> int | None:
    """The process id of the keeper of a server that runs from `home`, None when there is none."""
    try:
        record: dict[str, Any] = json.loads(_record(home).read_text())
        keeping = psutil.Process(record["pid"])
        # a process id is used again after a reboot, its start time is not
        same = abs(keeping.create_time() - record["created"]) < 1 and keeping.status() != psutil.STATUS_ZOMBIE
    except (OSError, ValueError, KeyError, psutil.Error):
        return None
    return keeping.pid if same else None


def stop_server(home: Path) -> bool:
    """End the server that runs from `home`, whoever started it; False when there was none."""
    pid = running(home)
    if pid is None:
        return False
    os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + keeper.GRACE_SECONDS + 10
    while running(home) == pid and time.monotonic() < deadline:
        time.sleep(0.1)
    keeper.end_session(pid, grace=0)
    return True


def _record(home: Path) -> Path:
    return home / "server.json"
