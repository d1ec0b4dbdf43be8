"""kill -9 at random moments: of a worker, the workers' daemon, an executor, the driver, the JVM, everything at once, or
the Airflow task, whose job lives on.

After each kill a reader sees one complete run, a retry of the stage succeeds without doing again what a task had
finished, and nothing is left running.
"""

from __future__ import annotations

import json
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pyspark
import pytest

from spark_apps import catalog, contract
from spark_apps.contract import STAGES, MaintainSettings
from spark_apps.maintain import maintain
from spark_apps.spark.jobs import Timings
from spark_apps.tables import staging
from tests import old_store
from tests.faults import airflow_task
from tests.faults.day import PARTITION, Day
from tests.faults.jobs import LEFTOVER_S, REPOSITORY, Job
from tests.faults.reader import Reader

SURVIVORS = ("worker", "daemon", "executor")
"""Victims that Spark replaces by itself: the attempt itself must succeed."""
TRIES = 3
VICTIMS = {
    "ingest": ("worker", "daemon", "driver", "jvm", "group"),
    "extract": ("worker", "daemon", "driver", "jvm", "group"),
    "validate": ("driver", "jvm", "group"),
}
TASK = "task"
"""Launcher and victim: a task of Airflow, which waits for the job that it submitted."""
CLUSTER = "local-cluster[1,2,1024]"
"""A master and a worker in the JVM of the driver, and executors that are processes of their own, as on a cluster."""


class Drill:
    """Days of runs that are killed again and again. `tally`: (stage, victim, outcome) → how often; `photos`: how many a
    retry found finished, and how many it took over."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.chance = random.Random(seed)
        self.day = Day(folder / "landing")
        self.store, self.logs = str(folder / "store"), folder / "logs"
        self.logs.mkdir()
        self.reader = Reader(self.store)
        self.tally: Counter[tuple[str, str, str]] = Counter()
        self.photos: Counter[str] = Counter()
        self._dead: list[tuple[float, Job]] = []
        self._seconds = {"ingest": 6.0, "extract": 9.0, "validate": 4.0}
        self._bags: dict[tuple[str, str], list[str]] = {}

    @property
    def kills(self) -> int:
        return sum(count for (_, _, outcome), count in self.tally.items() if outcome != "too late")

    def round(
        self, run_id: str, victims: dict[str, str] | None = None, master: str = "local[2]", launcher: str = ""
    ) -> None:
        """One run of a changed day; in each stage one process is killed, and the stage tried again until it is done."""
        self.day.change(self.chance)
        self.reader.truths[run_id] = self.day.truth()
        launcher = launcher or self.chance.choice(["module", "submit"])
        for stage in STAGES:
            victim = (victims or {}).get(stage) or self._draw(stage, launcher, master)
            self._stage(stage, run_id, victim, launcher, master)
        assert self.reader.settled(run_id) == run_id
        self._check_leftovers()

    def finish(self) -> None:
        """Nothing is left of any attempt."""
        self._check_leftovers(wait=True)

    def table(self) -> str:
        """The tally: a row for each stage and victim, a column for each outcome."""
        outcomes = sorted({outcome for _, _, outcome in self.tally})
        width = max(len(outcome) for outcome in outcomes)
        lines = [f"{'stage':9} {'killed':9}" + "".join(f" {outcome:>{width}}" for outcome in outcomes)]
        for stage, victim in sorted({key[:2] for key in self.tally}, key=lambda key: (STAGES.index(key[0]), key[1])):
            counts = (self.tally[stage, victim, outcome] or "·" for outcome in outcomes)
            lines.append(f"{stage:9} {victim:9}" + "".join(f" {count:>{width}}" for count in counts))
        readings = f"{self.reader.readings} readings, {self.reader.between} of them between two commits"
        photos = f"{self.photos['finished']} finished photos before a retry, {self.photos['resumed']} taken over"
        return "\n".join([*lines, f"{self.kills} kills, {readings}, {photos}, no violation"])

    def _draw(self, stage: str, launcher: str, master: str) -> str:
        """Every victim has its turn before one comes again."""
        bag = self._bags.setdefault((stage, TASK if launcher == TASK else master), [])
        if not bag:
            more = {CLUSTER: ["executor"] if "worker" in VICTIMS[stage] else [], TASK: [TASK] * len(VICTIMS[stage])}
            victims = [*VICTIMS[stage], *more.get(TASK if launcher == TASK else master, [])]
            bag += self.chance.sample(victims, len(victims))
        victim = bag.pop()
        return "driver" if (stage, launcher, victim) == ("validate", "module", "jvm") else victim  # it has no JVM

    def _stage(self, stage: str, run_id: str, victim: str, launcher: str, master: str) -> None:
        """Attempts at one stage; the first is killed, now and then also the second, the third never."""
        extra = ["--recompute"] if stage == "extract" and self.chance.random() < 0.5 else []
        for attempt in range(1, TRIES + 1):
            before = self.reader.look()
            # A job that has outlived its task may end meanwhile, and then leaves nothing to resume.
            lives_on = attempt > 1 and victim == TASK
            run = contract.RunKey(run_id, airflow_task.DAG_ID if launcher == TASK else "")
            finished = set() if extra or lives_on else done_before(self.store, run, stage)
            job = Job(
                stage, run_id, self.store, *extra,
                logs=self.logs, source=self.day.source, launcher=launcher, master=master,
            )  # fmt: skip
            wanted = attempt == 1 or (attempt == 2 and self.chance.random() < 0.15)
            killed = wanted and self._kill(job, victim)
            code = job.wait()
            self._dead.append((time.monotonic(), job))
            published = self.reader.look()
            if killed and stage != "validate":
                assert published == before, f"{stage} changed what is published"
            if killed and code and victim in SURVIVORS:
                raise AssertionError(f"{stage} did not survive the end of its {victim}: {job.last_words}")
            if killed:
                self.tally[stage, victim, "survived" if code == 0 else "died, retried"] += 1
            elif wanted:
                self.tally[stage, victim, "too late"] += 1
            if code == 0:
                self._check_resumed(stage, run_id, finished, bool(extra))
                if not killed and launcher != TASK:
                    self._seconds[stage] = time.monotonic() - job.begin
                return
            assert killed, f"{stage} of {run_id} failed by itself with {code}: {job.last_words}"
        raise AssertionError(f"{stage} of {run_id} did not succeed in {TRIES} tries")

    def _check_resumed(self, stage: str, run_id: str, finished: set[str], everything: bool) -> None:
        """No photo that was finished is done again; a task of the dead attempt may have finished even later."""
        manifest = catalog.manifest(self.store, PARTITION, run_id, stage)
        assert manifest is not None
        if stage == "validate":
            return
        resumed = manifest.counts["resumed"]
        assert resumed >= len(finished) and not (everything and resumed), (stage, run_id, resumed, len(finished))
        self.photos.update(finished=len(finished), resumed=resumed)

    def _kill(self, job: Job, victim: str) -> bool:
        """Kills the victim at a random moment of what is left of the stage when it first appears."""
        sign = "jvm" if victim == TASK else victim  # a task that has submitted nothing yet is no more than a process
        while victim != "group" and not job.family().get(sign):
            if job.process.poll() is not None:
                return False
            time.sleep(0.05)
        left = max(0.5, self._seconds[job.stage] - (time.monotonic() - job.begin))
        moment = time.monotonic() + self.chance.uniform(0, left)
        while time.monotonic() < moment and job.process.poll() is None:
            time.sleep(0.02)
        return job.kill(victim)

    def _check_leftovers(self, wait: bool = False) -> None:
        """Processes of attempts that ended some time ago must be gone; of the latest ones, only if asked to wait."""
        now = time.monotonic()
        for ended, job in self._dead:
            if wait or now - ended > LEFTOVER_S:
                job.gone(within=max(0.0, ended + LEFTOVER_S - now))
        self._dead = [(ended, job) for ended, job in self._dead if not wait and now - ended <= LEFTOVER_S]


def done_before(store: str, run: contract.RunKey, stage: str) -> set[str]:
    """What the finished tasks of attempts at a stage have left: images that have a vector, or files that were read."""
    table, column = {"ingest": ("images", "uri"), "extract": ("features", "image_id")}.get(stage, ("", ""))
    found: set[str] = set()
    for attempt in Path(staging.unfinished(contract.run_folder(store, PARTITION, run), stage)).glob("*/attempt.json"):
        documents = [json.loads(path.read_text()) for path in attempt.parent.glob("[0-9a-f]*.json")]
        own = next(document for document in documents if "basis" in document)
        for record in [*own["records"], *(document for document in documents if "staged" in document)]:
            for file in record["staged"].get(table, []):
                found |= set(pq.read_table(Path(store, table, file["path"]), columns=[column])[column].to_pylist())
    return found


def test_a_kill_in_each_stage_does_no_harm(tmp_path: Path) -> None:
    drill = Drill(tmp_path, seed=1)
    with drill.reader:
        drill.round("quick", {"ingest": "worker", "extract": "group", "validate": "driver"})
        drill.finish()
    assert drill.reader.readings > 0


def test_a_kill_of_the_maintenance_does_no_harm(tmp_path: Path) -> None:
    """It is killed when it has made so many files and folders: before it merges, and between two commits. A kill that
    a busy machine delays until it has ended is tried again."""
    for made in (1, 7):
        for attempt in range(5):
            store = old_store.unpack(tmp_path / f"{made} {attempt}")
            before = set(Path(store).rglob("*"))
            with (tmp_path / "maintain.log").open("wb") as log:
                command = [sys.executable, "-m", "spark_apps.maintain", "--store", store]
                job = subprocess.Popen(command, cwd=REPOSITORY, stdout=log, stderr=log)
            while len(before ^ set(Path(store).rglob("*"))) < made and job.poll() is None:
                continue
            job.kill()
            if job.wait() == -signal.SIGKILL:
                break
        assert job.returncode == -signal.SIGKILL, (tmp_path / "maintain.log").read_text()
        old_store.check_rows(store)
        maintain(MaintainSettings(store=store), Timings())
        old_store.check_rows(store)
        assert maintain(MaintainSettings(store=store), Timings()).counts["merged"] == 0, "nothing is left to merge"


@pytest.mark.slow_faults
@pytest.mark.timeout(6 * 3600)
@pytest.mark.usefixtures("no_executor_folders")
def test_two_hundred_random_kills_do_no_harm(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    seed = random.randrange(10**6)
    drill = Drill(tmp_path, seed)
    with capsys.disabled():
        print(f"\nseed {seed}")
        with drill.reader:
            rounds = 0
            while drill.kills < 200:
                rounds += 1
                master, launcher = (CLUSTER, "") if rounds % 3 == 0 else ("local[2]", TASK if rounds % 5 == 1 else "")
                drill.round(f"round {rounds}", master=master, launcher=launcher)
                print(f"round {rounds}: {drill.kills} kills", flush=True)
                if rounds % 10 == 0:
                    print(drill.table(), flush=True)
            drill.finish()
        print(drill.table())


@pytest.fixture
def no_executor_folders() -> Iterator[None]:
    """Such a master keeps the executors' folders in Spark's own installation, wherever it is told to; they go again."""
    work = Path(pyspark.__file__).parent / "work"
    before = set(work.glob("app-*"))
    yield
    for folder in set(work.glob("app-*")) - before:
        shutil.rmtree(folder)


@pytest.mark.slow_faults
@pytest.mark.timeout(1800)
@pytest.mark.usefixtures("no_executor_folders")
def test_an_executor_that_is_killed_does_no_harm(tmp_path: Path) -> None:
    drill = Drill(tmp_path, seed=2)
    with drill.reader:
        drill.round("on a cluster", {"ingest": "executor", "extract": "executor", "validate": "driver"}, CLUSTER)
        drill.finish()
    assert drill.tally["ingest", "executor", "survived"] + drill.tally["extract", "executor", "survived"] > 0
