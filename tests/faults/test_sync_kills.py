"""A sync is killed at random moments while days are published and replaced; the next one makes the place right."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from spark_apps import catalog
from spark_apps.sinks import open_sink, sync
from tests.postgres import postgres
from tests.shelf import MODEL, Shelf
from tests.unit.test_sync import in_parquet, in_postgres, published

REPOSITORY = Path(__file__).resolve().parents[2]
DIM, DAYS = 512, 6


@pytest.mark.parametrize(
    ("kind", "kills", "rows"),
    [
        ("parquet", 2, 500),
        pytest.param("parquet", 20, 1500, marks=[pytest.mark.slow_faults, pytest.mark.timeout(1800)]),
        pytest.param("postgres", 20, 1500, marks=[pytest.mark.slow_faults, pytest.mark.timeout(1800)]),
    ],
)
def test_killed_at_random_a_sync_goes_on_and_the_place_holds_what_is_published(
    tmp_path: Path, kind: str, kills: int, rows: int
) -> None:
    if kind == "parquet":
        drill(tmp_path, str(tmp_path / "vectors"), kills, rows)
        return
    with postgres() as uri:
        drill(tmp_path, f"{uri}&table=drill", kills, rows)


def drill(folder: Path, to: str, kills: int, rows: int) -> None:
    shelf = Shelf(str(folder / "store"))
    numbers, dice = np.random.default_rng(0), random.Random(0)
    command = [sys.executable, "-m", "spark_apps.sync", "--store", shelf.store, "--model", MODEL, "--to", to]
    begun = 0
    for kill in range(kills + 1):
        for day in range(DAYS) if kill == 0 else dice.sample(range(DAYS), 3):
            uris = [f"u{number}" for number in dice.sample(range(rows + 100), rows)]
            vectors = {uri: numbers.normal(size=DIM).astype(np.float32) for uri in uris}
            shelf.publish(f"d{day}", f"r{kill}", {uri: f"{kill} {uri}" for uri in uris}, vectors=vectors)
        full = ["--full"] if kill % 4 == 3 else []
        job = subprocess.Popen([*command, *full], cwd=REPOSITORY, stderr=subprocess.PIPE, text=True)
        assert job.stderr is not None
        if kill:
            at_work = job.stderr.readline().startswith("d")
            time.sleep(dice.uniform(0, rows / 3000))
            job.send_signal(signal.SIGKILL)
            begun += job.wait() == -signal.SIGKILL and at_work
        else:
            assert job.wait() == 0, job.stderr.read()
        job.stderr.close()
        if kill % 2:  # every other time, what was killed is left for the next kill
            assert_equal(shelf, to)
    assert_equal(shelf, to)
    assert begun >= kills / 2, "the kills came too late"


def assert_equal(shelf: Shelf, to: str) -> None:
    with closing(open_sink(to)) as sink:
        assert not sync(shelf.store, MODEL, sink).differing
    place, table = to.split("&table=") if "&table=" in to else (to, "")
    sink, held = in_postgres(place, table) if table else in_parquet(Path(to).parent)
    sink.close()
    assert held() == published(shelf)
    assert sum(item.rows for item in catalog.partitions(shelf.store, MODEL)) == len(held())
