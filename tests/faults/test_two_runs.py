"""Two runs of one partition at once, and one run twice at once: the later wins whole, nothing is lost or mixed."""

from __future__ import annotations

import random
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from spark_apps.contract import STAGES
from tests.faults.day import Day
from tests.faults.in_process import InThisProcess
from tests.faults.jobs import Job
from tests.faults.reader import Reader


class Rivals:
    """A store that several runs of one partition write to at the same time."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.chance = random.Random(seed)
        self.day = Day(folder / "landing")
        self.store, self.logs = str(folder / "store"), folder / "logs"
        self.logs.mkdir()
        self.reader = Reader(self.store)

    def prepare(self, run_id: str) -> None:
        """Changes the day; `run_id` is to publish it as it is now."""
        self.day.change(self.chance)
        self.reader.truths[run_id] = self.day.truth()

    def start(self, stage: str, run_id: str) -> Job:
        extra = ["--recheck", "0"] if stage == "validate" else []  # the faster, the closer the commits are together
        return Job(stage, run_id, self.store, *extra, logs=self.logs, source=self.day.source)

    def run(self, run_id: str, stages: tuple[str, ...] = STAGES) -> None:
        """One stage after the other; each must succeed."""
        for stage in stages:
            finish(self.start(stage, run_id))

    def at_once(self, *steps: tuple[str, tuple[str, ...]]) -> None:
        """Runs (run id, stages) side by side, each a random moment after the one before."""
        with ThreadPoolExecutor(len(steps)) as pool:
            futures = []
            for run_id, stages in steps:
                futures.append(pool.submit(self.run, run_id, stages))
                time.sleep(self.chance.uniform(0, 1.5))
            for future in futures:
                future.result()


def finish(job: Job) -> None:
    assert job.wait() == 0, job.last_words
    job.gone()


def test_two_runs_that_publish_at_once(tmp_path: Path) -> None:
    """The same two runs publish again and again, at random offsets; each time one of them is there whole."""
    rivals = Rivals(tmp_path, seed=5)
    jobs = InThisProcess(rivals.day, rivals.store)
    for run_id in ("one", "other"):
        rivals.prepare(run_id)
        jobs.ingest(run_id)
        jobs.extract(run_id)
    with rivals.reader:
        for _ in range(4):
            rivals.at_once(("one", ("validate",)), ("other", ("validate",)))
            rivals.reader.settled()
        rivals.run("one", ("validate",))
        assert rivals.reader.settled() == "one", "who publishes alone has published last"


@pytest.mark.slow_faults
@pytest.mark.timeout(1800)
def test_two_whole_runs_at_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    seed = random.randrange(10**6)
    rivals = Rivals(tmp_path, seed)
    with capsys.disabled():
        print(f"\nseed {seed}")
    with rivals.reader:
        for trial in range(3):
            rivals.day.change(rivals.chance)
            for run_id in (f"one {trial}", f"other {trial}"):
                rivals.reader.truths[run_id] = rivals.day.truth()
            rivals.at_once((f"one {trial}", STAGES), (f"other {trial}", STAGES))
            assert rivals.reader.settled() in (f"one {trial}", f"other {trial}")


@pytest.mark.slow_faults
@pytest.mark.timeout(1800)
def test_a_stage_that_runs_twice_at_once(tmp_path: Path) -> None:
    """As when only the task that watches a job was killed: the retry starts while the job still runs."""
    rivals = Rivals(tmp_path, seed=7)
    with rivals.reader:
        for trial in range(2):
            run_id, forgotten = f"run {trial}", []
            rivals.prepare(run_id)
            for stage in STAGES:
                forgotten.append(rivals.start(stage, run_id))
                time.sleep(rivals.chance.uniform(0, 6))
                finish(rivals.start(stage, run_id))  # the forgotten one may go on beside the next stage
            assert rivals.reader.look() == run_id
            for job in forgotten:  # one that sees the other gives way
                assert job.wait() == 0 or "has taken over" in job.last_words, job.last_words
            assert rivals.reader.settled(run_id) == run_id
