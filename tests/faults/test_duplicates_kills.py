"""Runs of duplicates are killed at random moments; the table always is one that a whole run has left, and the next run
makes it right."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import skimage
from PIL import Image

from spark_apps import catalog
from tests.shelf import MODEL, Shelf
from tests.unit.test_duplicates import EDITS, groups, jpeg, look, publish, rows

REPOSITORY = Path(__file__).resolve().parents[2]
KILLS = 20
PHOTOS = ("astronaut.png", "coffee.png", "chelsea.png", "rocket.jpg", "motorcycle_left.png", "moon.png")


@pytest.mark.slow_faults
@pytest.mark.timeout(1800)
def test_killed_at_random_a_run_leaves_the_table_whole_and_the_next_makes_it_right(tmp_path: Path) -> None:
    shelf, dice = Shelf(str(tmp_path / "store")), random.Random(0)
    photos = {name: Image.open(Path(skimage.__file__).parent / "data" / name).convert("RGB") for name in PHOTOS}
    command = [sys.executable, "-m", "spark_apps.duplicates", "--store", shelf.store, "--model", MODEL]
    seconds, killed, versions = 0.0, 0, {0}
    for kill in range(KILLS + 1):
        for day in dice.sample(range(4), 2):
            chosen = [(name, edit) for name in PHOTOS for edit in EDITS if dice.random() < 0.4]
            files = {f"{name} {edit}": jpeg(EDITS[edit](photos[name]), dice.randint(60, 95)) for name, edit in chosen}
            publish(shelf, f"d{day}", f"r{kill}", files or {"moon": jpeg(photos["moon.png"])})
        begin = time.monotonic()
        job = subprocess.Popen(command, cwd=REPOSITORY, stderr=subprocess.DEVNULL)
        if kill == 0:  # how long it takes when it is left alone
            assert job.wait() == 0
            seconds = time.monotonic() - begin
        else:
            time.sleep(dice.uniform(0.2, 1.1) * seconds)
            job.send_signal(signal.SIGKILL)
            killed += job.wait() == -signal.SIGKILL
        table = catalog.table(shelf.store, "duplicates")
        versions.add(table.version() if table else 0)
        for group, members in (groups(shelf) if table else {}).items():
            keepers = [name for name in members if rows(shelf)[name]["keeper"]]
            assert len(members) > 1 and len(keepers) == 1, f"half of {group} is there"
        if kill % 2:
            assert_right(shelf)
    assert_right(shelf)
    assert killed >= KILLS / 2, "the kills came too late"
    assert len(versions) > 2


def assert_right(shelf: Shelf) -> None:
    """The table is what comparing everything anew makes, and names nothing that is not published."""
    look(shelf)
    step_by_step = {frozenset(names) for names in groups(shelf).values()}
    published = {
        (item.partition, uri)
        for item in catalog.partitions(shelf.store, MODEL)
        for uri in catalog.vectors(shelf.store, item.partition, MODEL, ["uri"])["uri"].to_pylist()
    }
    assert set(rows(shelf)) <= published
    look(shelf, rebuild=True)
    assert {frozenset(names) for names in groups(shelf).values()} == step_by_step
