#!/usr/bin/python3.11 -IS
"""Whether the service of this container works, for docker's health checks: exit code 0 when it does, else the reason.

The standard library only, and isolated: it runs every few seconds in every container.
"""

import json
import socket
import sys
import urllib.request
from collections.abc import Callable
from typing import Any

SECONDS = 8.0


def ask(url: str) -> Any:
    """The JSON that `url` answers with. Raises OSError."""
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with direct.open(url, timeout=SECONDS) as answer:
        return json.load(answer)


def airflow(part: str) -> bool:
    """Whether `part` of Airflow is healthy, as the api-server sees it."""
    health = ask("http://api-server:8080/api/v2/monitor/health")
    return bool(health[part]["status"] == "healthy")


def scheduler() -> bool:
    """Whether this scheduler's heart beats."""
    with urllib.request.urlopen("http://127.0.0.1:8974/health", timeout=SECONDS) as answer:
        return bool(answer.status == 200)


def spark_worker() -> bool:
    """Whether the master counts on the worker of this container."""
    workers = ask("http://spark-master:8080/json/")["workers"]
    here = {socket.gethostname(), socket.gethostbyname(socket.gethostname())}
    mine = [worker for worker in workers if worker["host"] in here]
    return any(worker["state"] == "ALIVE" for worker in mine)


CHECKS: dict[str, Callable[[], bool]] = {
    "api-server": lambda: airflow("metadatabase"),
    "scheduler": scheduler,
    "dag-processor": lambda: airflow("dag_processor"),
    "triggerer": lambda: airflow("triggerer"),
    "spark-master": lambda: bool(ask("http://spark-master:8080/json/")["status"] == "ALIVE"),
    "spark-worker": spark_worker,
    "history-server": lambda: isinstance(ask("http://127.0.0.1:18080/api/v1/applications?limit=1"), list),
}


def main() -> int:
    """Says what is wrong, for `docker inspect`."""
    role = sys.argv[1]
    try:
        healthy = CHECKS[role]()
    except (OSError, ValueError, KeyError) as error:
        print(f"{role}: {error!r}")
        return 1
    if not healthy:
        print(f"{role}: answers, but not as one that works")
    return 0 if healthy else 1


if __name__ == "__main__":
    sys.exit(main())
