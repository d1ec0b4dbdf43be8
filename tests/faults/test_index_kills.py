"""The search index is killed at random moments; readers see whole partitions, and the next run makes it right."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from spark_apps import catalog
from spark_apps.contract import IndexSettings
from spark_apps.index import index
from spark_apps.search import datasets, writing
from spark_apps.spark.jobs import Timings
from tests.shelf import MODEL, Shelf

REPOSITORY = Path(__file__).resolve().parents[2]
KILLS, DAYS, ROWS, DIM = 20, 4, 400, 64


@pytest.mark.slow_faults
@pytest.mark.timeout(1800)
def test_killed_at_random_a_run_of_index_leaves_whole_partitions_and_the_next_makes_it_right(tmp_path: Path) -> None:
    shelf = Shelf(str(tmp_path / "store"))
    settings = IndexSettings(store=shelf.store, model=MODEL, ann_rows=256)
    numbers, dice = np.random.default_rng(0), random.Random(0)
    shown: dict[str, set[int]] = {f"d{day}": {0} for day in range(DAYS)}
    seconds, survived = 0.0, 0
    for kill in range(KILLS + 1):
        for day in shown:
            rows = ROWS + kill
            vectors = {f"u{n}": numbers.normal(size=DIM).astype(np.float32) for n in range(rows)}
            shelf.publish(day, f"r{kill}", {uri: f"{day} {kill} {uri}" for uri in vectors}, vectors=vectors)
            shown[day].add(rows)
        command = [sys.executable, "-m", "spark_apps.index", "--store", shelf.store, "--model", MODEL]
        begin = time.monotonic()
        job = subprocess.Popen([*command, "--ann-rows", "256"], cwd=REPOSITORY, stderr=subprocess.DEVNULL)
        if kill == 0:  # how long it takes when it is left alone
            assert job.wait() == 0
            seconds = time.monotonic() - begin
            continue
        time.sleep(dice.uniform(0.2, 1.0) * seconds)
        job.send_signal(signal.SIGKILL)
        survived += job.wait() == 0
        for day, part in datasets.held(datasets.opened(shelf.store, MODEL)).items():
            assert part.rows in shown[day] and part.publication, f"half of {day} is there"
        if kill % 2:  # every other time, what was killed is left for the next to find
            assert index(settings, Timings()).counts["differing"] == 0
            assert writing.audit(shelf.store, MODEL) == {}
    done = index(settings, Timings())
    assert done.counts["differing"] == 0 and writing.audit(shelf.store, MODEL) == {}
    assert {item.partition: item.rows for item in catalog.partitions(shelf.store, MODEL)} == dict.fromkeys(
        shown, ROWS + KILLS
    )
    assert survived < KILLS / 2, "the kills came too late"
