"""`make up` and `make down`: Airflow's UI on the demo's results, in the background."""

from __future__ import annotations

import json
import sys

from demo import places
from demo.airflow_client import ServerError
from demo.airflow_server import running, stop_server
from demo.run import server


def up() -> int:
    """Starts the UI, or names the one that runs already; it stays until `make down`."""
    if not places.SUMMARY.is_file():
        print("There is nothing to show yet: run `make demo` first.", file=sys.stderr)
        return 1
    if not running(places.AIRFLOW_HOME):
        print("Starting Airflow ...", flush=True)
        days = json.loads(places.SUMMARY.read_text())
        airflow = server(next(iter(days.values()))["weights"])
        try:
            airflow.start()
        except ServerError as error:
            print(error, file=sys.stderr)
            return 1
        airflow.detach()
    url = json.loads((places.AIRFLOW_HOME / "server.json").read_text())["url"]
    passwords = json.loads((places.AIRFLOW_HOME / "passwords.json").read_text())
    user, password = next(iter(passwords.items()))
    print(f"\n  {url}\n  user      {user}\n  password  {password}\n\n`make down` stops it.")
    return 0


def down() -> int:
    """Stops the UI; no error when none runs."""
    print("Airflow is stopped." if stop_server(places.AIRFLOW_HOME) else "Airflow is not running.")
    return 0


if __name__ == "__main__":
    commands = {"up": up, "down": down}
    if len(sys.argv) != 2 or sys.argv[1] not in commands:
        sys.exit("usage: python -m demo.ui up|down")
    sys.exit(commands[sys.argv[1]]())
