"""A real Spark standalone cluster on loopback: a master and workers as processes of their own, ended by process id."""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar
from urllib.request import urlopen

import psutil
import pyspark

from demo import ports

SPARK_HOME = Path(pyspark.__file__).parent
START_S = 120.0
"""A daemon takes 3 s to start on a quiet machine."""

QUICK_JAVA = {"JDK_JAVA_OPTIONS": "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC"}
"""For JVMs that live some seconds: less compiling, which is half of the processor time these tests take."""

Found = TypeVar("Found")


class Daemon:
    """The master or a worker, in a session of its own: whatever it starts belongs to that session."""

    def __init__(self, name: str, folder: Path, environment: dict[str, str], *command: str) -> None:
        self.work, self.log = folder / name, folder / f"{name}.log"
        self.work.mkdir()
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [str(SPARK_HOME / "bin" / "spark-class"), *command],
                cwd=self.work,
                env={**environment, "SPARK_LOCAL_DIRS": str(self.work / "local")},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def said(self, pattern: str) -> str:
        """Waits for a line that matches and returns its group. Raises AssertionError when it does not come."""

        def line() -> str | None:
            assert self.process.poll() is None, self.log.read_text()[-3000:]
            found = re.search(pattern, self.log.read_text())
            return found[1] if found else None

        return wait_for(line, START_S, self.log.name)

    def family(self) -> list[psutil.Process]:
        """It and all processes it started that are still alive, its executors and their Python workers."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error, ProcessLookupError):
                if os.getsid(process.pid) == self.process.pid and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
        return found

    def kill(self) -> int:
        """Ends all of it at once, as a machine that loses its power does; the number of processes."""
        family = self.family()
        for process in family:
            with contextlib.suppress(psutil.Error):
                process.kill()
        psutil.wait_procs(family, timeout=10)
        self.process.wait(10)
        return len(family)


class Standalone:
    """A master and `workers` workers of `cores` cores each. Authentication and encryption are on.

    The shared secret is in `conf/spark-defaults.conf`, which only its owner can read, as on a real cluster; `conf` is
    what SPARK_CONF_DIR has to name for a job. `path` is the first folder of the nodes' PATH, where their Python is.
    `apart`: each worker has an address of its own, as Spark does nothing a second time on one host.
    """

    def __init__(self, folder: Path, path: Path, workers: int = 2, cores: int = 1, apart: bool = False) -> None:
        self.folder, self.conf, self.events = folder, folder / "conf", folder / "events"
        self.secret, self.cores = secrets.token_hex(16), workers * cores
        self.ui_port, self._worker_cores = ports.free(), str(cores)
        self.events.mkdir(parents=True)
        self.conf.mkdir()
        self.conf.chmod(0o700)
        defaults = self.conf / "spark-defaults.conf"
        defaults.touch(0o600)
        defaults.write_text("".join(f"{key} {value}\n" for key, value in self._settings().items()))
        self._environment = {
            "PATH": f"{path}:{os.environ['PATH']}",
            "HOME": str(folder),
            "SPARK_HOME": str(SPARK_HOME),
            "SPARK_CONF_DIR": str(self.conf),
            "SPARK_LOCAL_IP": "127.0.0.1",
            "SPARK_DAEMON_MEMORY": "256m",
            **QUICK_JAVA,
            **{name: os.environ[name] for name in ("JAVA_HOME", "LANG") if name in os.environ},
        }
        self.daemons: list[Daemon] = []
        try:
            master = self._start("master", "master.Master", "--port", "0", "--webui-port", "0")
            self.master = master.said(r"(spark://127\.0\.0\.1:\d+)")
            self.workers = [self._start_worker(number, 1 + number * apart) for number in range(workers)]
            for worker in self.workers:
                worker.said(r"(Successfully registered) with master")
        except BaseException:
            self.stop()
            raise

    def _settings(self) -> dict[str, Any]:
        return {
            "spark.authenticate": "true",
            "spark.authenticate.secret": self.secret,
            "spark.network.crypto.enabled": "true",
            "spark.io.encryption.enabled": "true",
            "spark.driver.host": "127.0.0.1",
            "spark.driver.bindAddress": "127.0.0.1",
            "spark.driver.memory": "512m",
            "spark.executor.memory": "512m",
            "spark.executor.cores": "1",
            # All executors begin at the same time.
            "spark.cores.max": self.cores,
            "spark.scheduler.minRegisteredResourcesRatio": "1.0",
            # The most talkative that a cluster can be, for the tests that look for secrets.
            "spark.ui.enabled": "true",
            "spark.ui.port": self.ui_port,
            "spark.eventLog.enabled": "true",
            "spark.eventLog.rolling.enabled": "false",
            "spark.eventLog.compress": "false",
            "spark.eventLog.dir": self.events.as_uri(),
        }

    def _start(self, name: str, main: str, *arguments: str, host: int = 1) -> Daemon:
        command = (f"org.apache.spark.deploy.{main}", "--host", f"127.0.0.{host}", *arguments)
        self.daemons.append(Daemon(name, self.folder, self._environment, *command))
        return self.daemons[-1]

    def _start_worker(self, number: int, host: int) -> Daemon:
        name = f"worker-{number}"
        size = ("--cores", self._worker_cores, "--memory", "1g", "--webui-port", "0")
        return self._start(name, "worker.Worker", *size, "--work-dir", str(self.folder / name), self.master, host=host)

    def executors(self, worker: Daemon, application: str) -> set[str]:
        """The ids of the executors that a worker has run for an application."""
        return {folder.name for folder in (worker.work / application).iterdir()}

    def application(self, name: str) -> str | None:
        """The id of the running application of that name, from the user interface of its driver."""
        try:
            found = self.ask("applications")
        except (OSError, ValueError):  # no driver, or one that is starting up and says so in HTML
            return None
        return next((item["id"] for item in found if item["name"] == name), None)

    def ask(self, path: str) -> Any:
        """An answer of the REST interface of the driver that runs. Raises OSError when none does."""
        return json.loads(self.page(f"http://127.0.0.1:{self.ui_port}/api/v1/{path}"))

    @staticmethod
    def page(url: str) -> str:
        with urlopen(url, timeout=30) as answer:
            text: str = answer.read().decode()
        return text

    def pages(self) -> dict[str, str]:
        """The web pages of the master and of the workers, and what they say as JSON."""
        found: dict[str, str] = {}
        for daemon in self.daemons:
            if daemon.process.poll() is None:
                address = daemon.said(r"(http://127\.0\.0\.1:\d+)")
                found |= {f"{daemon.log.name} {path}": self.page(f"{address}/{path}") for path in ("", "json/")}
        return found

    def events_of(self, application: str) -> Iterator[dict[str, Any]]:
        """The event log of an application."""
        file = next(self.events.glob(f"{application}*"))
        for line in file.read_text().splitlines():
            yield json.loads(line)

    def stop(self) -> None:
        """Ends every process of the cluster, and removes what it was sent: whole environments, unpacked."""
        for daemon in reversed(self.daemons):
            daemon.kill()
            shutil.rmtree(daemon.work, ignore_errors=True)


def wait_for(condition: Callable[[], Found | None], seconds: float, what: str) -> Found:
    """The first true answer of `condition`. Raises AssertionError when there is none in time."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := condition():
            return found
        time.sleep(0.2)
    raise AssertionError(f"{what} was waited for in vain for {seconds:g} s")
