"""`make demo`: three days of photos through real Airflow and real Spark, and what came out.

`--extractor text` and `--extractor audio` take a folder of texts or of sounds through the same Dag instead.
"""

from __future__ import annotations

import argparse
import shlex
import signal
import sys
import time
from collections.abc import Sequence
from http import HTTPStatus
from types import FrameType
from typing import Any
from urllib.parse import quote

from demo import contact_sheet, landing, other_files, places, results, weights
from demo.airflow_client import DAG_ID, AirflowClient, Run, ServerError
from demo.airflow_server import AirflowServer, running
from demo.follow import STAGES, follow
from spark_apps import catalog, contract

RUN_TIMEOUT_S = 3600.0
BACKFILL_ATTEMPTS = 10


class DemoFailed(Exception):
    """The demo ends here; the message is for the person who started it."""


def main(argv: Sequence[str] = ()) -> int:
    """Runs the demo; the exit code is 0 only when every day is published and every file accounted for."""
    signal.signal(signal.SIGTERM, _terminated)
    parser = argparse.ArgumentParser(prog="demo", description="Takes files through real Airflow and real Spark.")
    parser.add_argument(
        "--extractor",
        choices=contract.EXTRACTORS,
        default="image",
        help="image: three days of photos; text, audio: a folder of texts or of sounds",
    )
    extractor = parser.parse_args(argv).extractor
    begin = time.monotonic()
    try:
        found = run(extractor)
    except KeyboardInterrupt:
        return _stopped("Interrupted.", 130)
    except SystemExit as ended:
        return _stopped("Terminated.", int(ended.code or 0))
    except (DemoFailed, ServerError, TimeoutError, results.NotAccountedFor, contract.JobError) as error:
        print(f"\nThe demo failed: {error}", file=sys.stderr)
        return 1
    report(found, time.monotonic() - begin)
    return 0


def run(extractor: str = "image") -> list[results.DayResult]:
    """Prepares, runs, checks and draws; returns the result of each day.

    Raises:
        DemoFailed, ServerError, TimeoutError, NotAccountedFor, JobError: it did not work out.
    """
    if running(places.AIRFLOW_HOME):
        raise DemoFailed("An Airflow is running from var/airflow (make up, or another demo). Run `make down` first.")
    if extractor == "image":
        folders = landing.prepare(places.LANDING)
    else:
        folder = other_files.prepare(places.LANDING, extractor)
        folders = {folder.name: folder}
    files = sum(path.is_file() for folder in folders.values() for path in folder.rglob("*"))
    _say("files", f"{files} in {', '.join(places.shown(folder) for folder in folders.values())}")
    chosen, missing = weights.choose() if extractor == "image" else ("", [])
    for sentence in missing:
        _say("weights", sentence)
    _say("model", f"{weights.BACKBONE} with {chosen}" if chosen else f"the extractor {extractor}")
    if chosen == weights.RANDOM:
        _say("WARNING", "THESE WEIGHTS ARE RANDOM: the vectors carry little meaning, and so do neighbours and labels.")
    _say("airflow", "starting ...")
    with server(chosen) as airflow:
        _say("airflow", f"{airflow.url} (user {airflow.username}, password {airflow.password})")
        if extractor == "image":
            days = _backfill(airflow, {"model": weights.BACKBONE, "weights": chosen})
            _say("backfill", f"{landing.DAYS[0]} to {landing.DAYS[-1]}, by Airflow's scheduler")
        else:
            days = {day: airflow.trigger({"extractor": extractor, "partition": day}) for day in folders}
            _say("run", f"triggered with extractor {extractor} and partition {', '.join(days)}")
        ended = follow(airflow, str(places.STORE), days, RUN_TIMEOUT_S)
        _check_runs(airflow, days, ended)
    store = str(places.STORE)
    found = [results.read(store, day, days[day], folder) for day, folder in folders.items()]
    results.summarise(found, places.SUMMARY)
    contact_sheet.make(store, list(folders), found[0].model, places.CONTACT_SHEET)
    return found


def server(chosen_weights: str) -> AirflowServer:
    """The demo's Airflow, its trigger form set to the demo's photos, store and weights."""
    return AirflowServer(
        places.AIRFLOW_HOME,
        store=str(places.STORE),
        source=places.source(),
        env={
            "AIRFLOW__IMAGE_FEATURES__INDEX": "true",
            "AIRFLOW__IMAGE_FEATURES__DUPLICATES": "true",
            **({"AIRFLOW__IMAGE_FEATURES__WEIGHTS": chosen_weights} if chosen_weights else {}),
        },
    )


def report(found: list[results.DayResult], seconds: float) -> None:
    """The last words of a demo that went well."""
    print(f"\n{results.table(found)}\n")
    print(f"Every file is accounted for: {_sum(found)}.")
    if found[0].weights == weights.RANDOM:
        print("THE WEIGHTS WERE RANDOM: the vectors, neighbours and labels carry little meaning.")
    print(f"weights        {found[0].weights} (model {found[0].model}, fingerprint {found[0].model_fingerprint})")
    print(f"store          {places.shown(places.STORE)}")
    print(f"contact sheet  {places.shown(places.CONTACT_SHEET)}")
    print(f"summary        {places.shown(places.SUMMARY)}")
    print(f"search         {search_command(found[0])}")
    print(f"duplicates     {results.duplicates(str(places.STORE), found[0].model)}")
    print(f"\nDone in {seconds:.0f} s. Next: `make up` opens Airflow's UI on these runs; `make demo` runs them again.")


def search_command(day: results.DayResult) -> str:
    """The command that finds what is nearest to one of the demo's files, in all of its days."""
    files = sorted(path for path in (places.LANDING / day.partition).rglob("*") if path.is_file())
    option = "--text-file" if day.model.startswith("text") else "--photo"
    photo = str(places.shown(files[0])) if files else "FILE"
    words = [".venv/bin/python", "-m", "spark_apps.search", "--store", str(places.STORE), "--model", day.model]
    return shlex.join([*words, option, photo])


def _sum(found: list[results.DayResult]) -> str:
    listed, featured = sum(day.listed for day in found), sum(day.featured for day in found)
    return f"{listed} listed = {featured} featured + {listed - featured} quarantined"


def end_leftovers(airflow: AirflowClient) -> None:
    """Ends what an interrupted demo left in Airflow's database: it would keep its days from being run again."""
    for backfill in airflow.api("GET", f"/api/v2/backfills?dag_id={DAG_ID}")["backfills"]:
        if backfill["completed_at"] is None:
            airflow.api("PUT", f"/api/v2/backfills/{backfill['id']}/cancel")
    for state in ("queued", "running"):
        path = f"/api/v2/dags/{DAG_ID}/dagRuns"
        for left in airflow.api("GET", f"{path}?state={state}")["dag_runs"]:
            airflow.api("PATCH", f"{path}/{quote(left['dag_run_id'])}", {"state": "failed"})


def _backfill(airflow: AirflowClient, conf: dict[str, Any]) -> dict[str, str]:
    """One backfill over the demo's days, which runs days of an earlier demo again; partition → run id.

    Airflow refuses (503) to create one while SQLite is locked by another of its processes, so it is asked again.
    """
    for attempt in range(1, BACKFILL_ATTEMPTS + 1):
        try:
            end_leftovers(airflow)
            run_ids = airflow.backfill(landing.DAYS[0], landing.DAYS[-1], conf, reprocess="completed")
            break
        except ServerError as error:
            if error.status != HTTPStatus.SERVICE_UNAVAILABLE or attempt == BACKFILL_ATTEMPTS:
                raise
            time.sleep(3)
    if len(run_ids) != len(landing.DAYS):
        raise DemoFailed(f"The backfill made {len(run_ids)} runs for {len(landing.DAYS)} days: {', '.join(run_ids)}.")
    return dict(zip(landing.DAYS, run_ids, strict=True))


def _check_runs(airflow: AirflowClient, days: dict[str, str], ended: dict[str, Run]) -> None:
    """Raises DemoFailed with the job's own words when a run has failed."""
    problems = []
    for day, run in ended.items():
        if run["state"] == "success":
            continue
        error = catalog.error(str(places.STORE), day, days[day])
        if error is not None:
            problems.append(f"{day}, {error['stage']}: {error['message']} {error['hint']}".strip())
            continue
        stage = next((stage for stage in STAGES if run["tasks"].get(stage) == "failed"), STAGES[0])
        log = airflow.task_log(days[day], stage).splitlines()
        problems.append("\n  ".join([f"{day}, {stage} failed; the end of its log:", *log[-8:]]))
    if problems:
        raise DemoFailed("\n".join([f"{len(problems)} of {len(ended)} days were not published.", *problems]))


def _say(about: str, text: str) -> None:
    print(f"{about:9} {text}", flush=True)


def _stopped(word: str, code: int) -> int:
    print(f"\n{word} Nothing is left running; `make demo` starts again.", file=sys.stderr)
    return code


def _terminated(number: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + number)
