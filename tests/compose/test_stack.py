"""The whole stack, as it is shipped, on a real engine: `make test-compose`.

Builds and starts it, has Airflow run days over its REST API, kills a Spark worker in the middle of extract, restarts
everything, and takes it down. The tests are one story in the order of this file. The image's base and Postgres' image
are the variables BASE_IMAGE and POSTGRES_IMAGE of docker-compose.yaml, taken from the environment.
"""

from __future__ import annotations

import json
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
from PIL import Image
from skimage import data

from demo import landing, ports
from demo.airflow_client import DAG_ID, AirflowClient, ServerError
from tests.compose import inside
from tests.compose.stack import YESTERDAY, Stack, docker, log, needs_engine, switch_on

pytestmark = pytest.mark.timeout(3600)

LONG_DAY, LONG_DAY_PHOTOS = "a-long-day", 600
RUN_SECONDS = 1800
SETTINGS = {"weights": "random:0", "recheck": 2, "max_failed_fraction": 0.3}


@dataclass
class Story:
    """What one test leaves for the next."""

    stack: Stack
    airflow: AirflowClient
    photos: Path
    run_ids: dict[str, str] = field(default_factory=dict)
    published: dict[str, Any] = field(default_factory=dict)
    seen: dict[str, str] = field(default_factory=dict)
    """Text in which no secret may be: what it is → the text."""

    def files(self, day: str) -> list[str]:
        """What lies in the folder of a day."""
        folder = self.photos / day
        return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())

    def wait(self, *days: str) -> None:
        """Until the runs of these days have ended well."""
        ended = self.airflow.wait([self.run_ids[day] for day in days], RUN_SECONDS)
        for day in days:
            run = ended[self.run_ids[day]]
            log.info("run %s of %s: %s %s", self.run_ids[day], day, run["state"], run["tasks"])
            failed = [task for task, state in run["tasks"].items() if state == "failed"]
            words = self.airflow.task_log(self.run_ids[day], failed[0]) if failed else ""
            assert run["state"] == "success", words[-3000:]

    def read_published(self) -> dict[str, Any]:
        """The published tables, read with `spark_apps.catalog` inside the stack."""
        found: dict[str, Any] = self.stack.python(inside.PUBLISHED)
        return found

    def check(self, day: str) -> dict[str, Any]:
        """That a day is published by its run, with every file once and no other; what is published of it."""
        day_now: dict[str, Any] = self.published[day]
        assert day_now["run_id"] == self.run_ids[day]
        rows = [unquote(urlsplit(uri).path) for uri in day_now["featured"] + day_now["quarantined"]]
        assert sorted(row.removeprefix(f"/data/landing/{day}/") for row in rows) == self.files(day)
        log.info(
            "%s: %d files = %d vectors + %d quarantined, each once",
            *(day, len(rows), len(day_now["featured"]), len(day_now["quarantined"])),
        )
        return day_now


@pytest.fixture(scope="module")
def photos() -> Iterator[Path]:
    """A landing folder that the containers' user may read: the demo's three days, a long day, and yesterday."""
    folder = Path(tempfile.mkdtemp(prefix="image-features-landing-"))
    landing.prepare(folder)
    (folder / YESTERDAY).mkdir()
    for name in ("coffee", "chelsea", "rocket"):
        Image.fromarray(getattr(data, name)()).save(folder / YESTERDAY / f"{name}.jpg")
    (folder / LONG_DAY).mkdir()
    subjects = [Image.fromarray(getattr(data, name)()) for name in ("astronaut", "coffee", "chelsea", "rocket")]
    for number in range(LONG_DAY_PHOTOS):
        left, top = number % 40, number // 40
        subjects[number % 4].crop((left, top, left + 380, top + 280)).save(folder / LONG_DAY / f"{number:04}.jpg")
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def story(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    """The stack, built and healthy."""
    needs_engine()
    folder = tmp_path_factory.mktemp("stack")
    settings = {
        "LANDING": str(photos),
        "AIRFLOW_PORT": str(ports.free()),
        "WEIGHTS": "random:0",
        "SPARK_EVENT_LOG": "true",
    }
    stack = Stack(folder, **settings)
    began = time.monotonic()
    stack.compose("build", timeout=3000)
    (image,) = json.loads(docker("image", "inspect", stack.config()["services"]["scheduler"]["image"]))
    log.info("built in %.0f s; the image has %.2f GB", time.monotonic() - began, image["Size"] / 1e9)
    with stack.running(folder):
        yield Story(stack, stack.airflow, photos, seen={"the image": json.dumps(image)})


# --- the story --------------------------------------------------------------------------------------------------------


def test_airflow_is_ready_and_asks_for_the_password(story: Story) -> None:
    assert story.airflow.api("GET", "/api/v2/importErrors")["import_errors"] == []
    plugins = story.airflow.api("GET", "/api/v2/plugins")["plugins"]
    assert "image_features" in {plugin["name"] for plugin in plugins}
    with pytest.raises(ServerError, match="401"):
        AirflowClient(story.airflow.url, "admin", "admin").api("GET", "/api/v2/dags")
    workers = story.stack.python(inside.MASTER)["workers"]
    log.info("Spark's master has %s", ", ".join(f"{worker['host']} ({worker['state']})" for worker in workers))
    assert [worker["state"] for worker in workers] == ["ALIVE", "ALIVE"]
    log.info("memory of the stack at rest:\n%s", story.stack.memory())


def test_a_backfill_of_three_days_and_the_scheduled_run_are_published(story: Story) -> None:
    story.run_ids[YESTERDAY] = switch_on(story.airflow)
    run_ids = story.airflow.backfill(landing.DAYS[0], landing.DAYS[-1], {"model": "resnet18", **SETTINGS}, at_once=3)
    story.run_ids |= dict(zip(landing.DAYS, run_ids, strict=True))
    log.info("backfill of %s to %s: %s", landing.DAYS[0], landing.DAYS[-1], run_ids)
    story.wait(YESTERDAY, *landing.DAYS)
    story.published = story.read_published()
    for day in (YESTERDAY, *landing.DAYS):
        story.check(day)
    quarantined = [story.published[day]["quarantined"] for day in landing.DAYS]
    assert list(map(len, quarantined)) == [3, 2, 3]  # the image has no decoder of JPEG XL


def test_a_worker_killed_in_the_middle_of_extract_costs_no_photo(story: Story) -> None:
    before = set(story.stack.python(inside.EVENTS))
    story.run_ids[LONG_DAY] = story.airflow.trigger({"partition": LONG_DAY, "model": "resnet50", **SETTINGS})
    log.info("triggered %s over the API", story.run_ids[LONG_DAY])
    look_around(story)
    progress = wait_for_progress(story, LONG_DAY)
    victim = story.stack.containers("spark-worker")[0]
    docker("kill", victim)
    log.info(
        "KILLED the worker %s while extract had done %d of %d photos", victim[:12], progress["done"], progress["total"]
    )
    assert 0 < progress["done"] < progress["total"]
    assert len(story.stack.containers("spark-worker")) == 1

    story.wait(LONG_DAY)
    story.published = story.read_published()
    assert len(story.check(LONG_DAY)["featured"]) == LONG_DAY_PHOTOS
    found = story.stack.python(inside.EVENTS)
    extract = found[max(name for name in set(found) - before if found[name]["app"] == "image-features extract")]
    log.info("extract's event log: tasks begun %s, done %s", extract["started"], extract["succeeded"])
    log.info("executors lost: %s", extract["removed"])
    assert len(extract["hosts"]) >= 2
    assert len(extract["started"]) >= 2, "the lost executor was computing; it may not have come to the end of a task"
    assert extract["removed"]


def test_two_executors_took_part_in_the_backfill(story: Story) -> None:
    found = story.stack.python(inside.EVENTS)
    hosts = [set(events["succeeded"]) for events in found.values() if events["app"] == "image-features extract"]
    log.info("workers that computed, for each extract: %s", [len(executors) for executors in hosts])
    assert len(hosts) >= 5
    assert max(map(len, hosts)) >= 2
    for events in found.values():
        assert events["settings"]["spark.authenticate"] == "true"
        assert events["settings"]["spark.network.crypto.enabled"] == "true"


def test_the_killed_worker_comes_back_with_up(story: Story) -> None:
    story.stack.start()
    assert len(story.stack.containers("spark-worker")) == 2
    states = Counter(worker["state"] for worker in story.stack.python(inside.MASTER)["workers"])
    assert states["ALIVE"] == 2


def test_no_secret_is_anywhere_it_can_be_read(story: Story) -> None:
    seen = story.seen
    seen["the containers' logs"] = story.stack.compose("logs", "--no-color")
    runs = story.airflow.api("GET", f"/api/v2/dags/{DAG_ID}/dagRuns")["dag_runs"]
    tasks = story.airflow.api("GET", f"/api/v2/dags/{DAG_ID}/dagRuns/~/taskInstances")["task_instances"]
    assert len(tasks) == 3 * len(runs) == 15
    seen["runs, tasks and their rendered fields"] = json.dumps([runs, tasks])
    assert "rendered_fields" in seen["runs, tasks and their rendered fields"]
    seen["task logs"] = "".join(story.airflow.task_log(task["dag_run_id"], task["task_id"]) for task in tasks)
    assert "spark-submit" in seen["task logs"]
    for name in ("connections", "variables", "importErrors", "assets/events", "eventLogs"):
        seen[name] = json.dumps(story.airflow.api("GET", f"/api/v2/{name}"))
    for name, text in seen.items():
        assert text.strip(), name
        found = [secret for secret, value in story.stack.secrets.items() if value in text]
        assert not found, f"{found} in {name}"
    files = story.stack.python(inside.SEARCH, secrets=list(story.stack.secrets.values()))
    log.info("no secret in %s, nor in %d files of the volumes", ", ".join(seen), files["read"])
    assert files["read"] > 50
    assert files["with_secrets"] == []


def test_the_cluster_turns_away_whoever_does_not_know_the_secret(story: Story) -> None:
    for secret, welcome in (("not-the-secret", False), (story.stack.secrets["SPARK_AUTH_SECRET"], True)):
        said = story.stack.python(inside.STRANGER, secret=secret, service="spark-master")
        log.info("a worker with %s secret: %s", "the" if welcome else "another", said["last"])
        assert said["registered"] is welcome


def test_after_a_restart_everything_is_found_again(story: Story) -> None:
    runs_before = history(story.airflow)
    log_before = story.airflow.task_log(story.run_ids[LONG_DAY], "extract")
    story.stack.compose("down", "--timeout", "30")
    assert not story.stack.compose("ps", "--all", "--quiet")
    log.info("down; starting again")
    story.stack.start()
    story.airflow = story.stack.airflow
    assert history(story.airflow) == runs_before
    assert story.airflow.task_log(story.run_ids[LONG_DAY], "extract") == log_before
    assert story.read_published() == story.published
    log.info("found again: %d runs with their logs, %d published days", len(runs_before), len(story.published))


def test_a_day_that_is_run_again_reuses_its_vectors(story: Story) -> None:
    day = landing.DAYS[0]
    featured = story.published[day]["featured"]
    story.run_ids[day] = story.airflow.trigger({"partition": day, "model": "resnet18", **SETTINGS})
    story.wait(day)
    story.published = story.read_published()
    again = story.check(day)
    assert sorted(again["featured"]) == sorted(featured)
    assert again["counts"]["computed"] == 0
    log.info("%s again: %s", day, again["counts"])


def look_around(story: Story) -> None:
    """Keeps what a running job shows to others, for the search for secrets."""
    driver = story.stack.python(inside.DRIVER)
    story.seen["the driver's arguments and environment"] = json.dumps(driver)
    ids = story.stack.compose("ps", "--quiet").split()
    story.seen["arguments of all processes"] = "".join(docker("top", one, "-eo", "pid,args") for one in ids)
    story.seen["Spark's pages"] = json.dumps(story.stack.python(inside.PAGES))
    log.info("memory of the stack at work:\n%s", story.stack.memory())
    assert "PYSPARK_PYTHON=" in driver["environment"]


# --- waiting ----------------------------------------------------------------------------------------------------------


def wait_for_progress(story: Story, day: str) -> dict[str, Any]:
    """What progress.json says as soon as extract has done something, and is not done."""
    deadline = time.monotonic() + RUN_SECONDS
    while time.monotonic() < deadline:
        look = ["exec", "-T", "scheduler", "bash", "-c", f"cat /data/store/runs/{day}/*/progress.json"]
        done = story.stack.try_compose(*look)
        if done.returncode == 0:
            progress: dict[str, Any] = json.loads(done.stdout)
            if progress["done"]:
                return progress
        state = story.airflow.run(story.run_ids[day])["state"]
        assert state not in ("success", "failed"), f"The run ended ({state}) before its extract was seen at work."
        time.sleep(0.5)
    raise AssertionError("extract was never seen at work")


def history(airflow: AirflowClient) -> dict[str, str]:
    """Every run and how it ended."""
    runs = airflow.api("GET", f"/api/v2/dags/{DAG_ID}/dagRuns?limit=100")["dag_runs"]
    return {run["dag_run_id"]: run["state"] for run in runs}
