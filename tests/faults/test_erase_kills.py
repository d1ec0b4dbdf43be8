"""An erasure is killed at random moments while others publish; the next ends with nothing left, and nothing lost."""

from __future__ import annotations

import itertools
import os
import random
import signal
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest

from spark_apps import catalog
from spark_apps.contract import IndexSettings, Manifest, ValidateSettings
from spark_apps.erasure.heeding import heeding
from spark_apps.index import index
from spark_apps.search import writing
from spark_apps.spark.jobs import Timings
from spark_apps.tables import tombstones
from tests.shelf import MODEL, Shelf, image_id

REPOSITORY = Path(__file__).resolve().parents[2]
DAYS, PHOTOS, DIM = [f"d{day}" for day in range(6)], 200, 16


def files(day: str, run: int) -> dict[str, str]:
    """The photos of a day: the same in each run, and one more."""
    return {
        f"file:///landing/{day}/{number}.jpg": f"photo {number} of {day}, {'x' * 64}" for number in range(PHOTOS)
    } | {f"file:///landing/{day}/of run {run}.jpg": f"photo of {run}"}


def vectors(uris: Iterable[str]) -> dict[str, np.ndarray]:
    return {uri: np.random.default_rng(zlib.crc32(uri.encode())).normal(size=DIM).astype(np.float32) for uri in uris}


class Publishing(threading.Thread):
    """Publishes one day after another, again and again, until it is told to stop: `shown`, by day. As the pipeline
    does, it leaves out what was erased when it began, and looks at its end for what was erased since."""

    def __init__(self, shelf: Shelf, first: int) -> None:
        super().__init__(daemon=True)
        self.shelf, self.stop, self.shown, self.run_number = shelf, threading.Event(), dict[str, int](), first

    def run(self) -> None:
        while not self.stop.wait(0.05):
            day = DAYS[self.run_number % len(DAYS)]
            settings = ValidateSettings(store=self.shelf.store, partition=day, run_id=f"r{self.run_number}")
            heeding(self.publish)(settings, Timings())
            self.shown[day] = self.run_number
            self.run_number += 1

    def publish(self, settings: ValidateSettings, timings: Timings) -> Manifest:
        stones = tombstones.read(self.shelf.store)
        taken = {
            uri: name
            for uri, name in files(settings.partition, self.run_number).items()
            if not stones.has_uri(uri) and not stones.has_image(image_id(name))
        }
        time.sleep(0.1)
        self.shelf.publish(settings.partition, settings.run_id, taken, vectors=vectors(taken))
        return timings.manifest("validate", settings, counts={})


def drill(folder: Path, kills: int, seed: int) -> None:
    shelf, dice = Shelf(str(folder / "store")), random.Random(seed)
    for day in DAYS:
        for run in range(2):
            shelf.publish(day, f"r{run}", files(day, run), vectors=vectors(files(day, run)))
    index(IndexSettings(store=shelf.store, model=MODEL, ann_rows=256), Timings())
    shown, published = dict.fromkeys(DAYS, 1), 2
    gone: dict[str, str] = {}
    unheard: dict[str, str] = {}  # asked for by a run that was killed before its tombstone: asked for again
    seconds, killed, survived = 0.0, 0, 0
    for round_ in itertools.count():  # the first and the last are left alone: one tells how long it takes
        last = killed == kills
        wanted = {uri: name for day in DAYS for uri, name in dice.sample([*files(day, 0).items()][:PHOTOS], 3)}
        wanted |= unheard
        listed = folder / f"{round_}.txt"
        listed.write_text(
            "\n".join(uri if place % 2 else image_id(name) for place, (uri, name) in enumerate(wanted.items()))
        )
        others = Publishing(shelf, published)
        others.start()
        command = [sys.executable, "-m", "spark_apps.erase", "--store", shelf.store, "--list", str(listed)]
        begin = time.monotonic()
        job = subprocess.Popen(command, cwd=REPOSITORY, stderr=subprocess.PIPE, text=True)
        if round_ and not last:
            time.sleep(dice.uniform(0.3, 1.0) * seconds)
            job.send_signal(signal.SIGKILL)
        _, said = job.communicate()
        if job.returncode == -signal.SIGKILL:
            killed += 1
        else:
            seconds, survived = time.monotonic() - begin, survived + 1
        assert survived <= 2 + 3 * kills, "the kills come too late"
        stones = tombstones.read(shelf.store)
        heard = all(stones.has_uri(uri) or stones.has_image(image_id(name)) for uri, name in wanted.items())
        gone, unheard = (gone | wanted, {}) if heard else (gone, wanted)
        others.stop.set()
        others.join()
        shown |= others.shown
        published = others.run_number
        if last:
            break
    assert job.returncode == 0 or "seem to be written by a run in progress" in said, said
    for path in Path(shelf.store).rglob("*"):  # a day later, nobody takes what killed runs have left for a run's
        os.utime(path, (path.stat().st_mtime - 25 * 3600,) * 2)
    again = subprocess.run(
        [sys.executable, "-m", "spark_apps.erase", "--store", shelf.store],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
    )
    assert again.returncode == 0, again.stderr
    whole = folder / "all.txt"
    whole.write_text("\n".join([*gone, *map(image_id, gone.values())]))
    command = [sys.executable, "-m", "spark_apps.erase", "--store", shelf.store, "--list", str(whole), "--verify"]
    verified = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
    assert verified.returncode == 0, verified.stdout + verified.stderr
    for day in DAYS:
        left = {uri: image_id(name) for uri, name in files(day, shown[day]).items() if uri not in gone}
        for table in (catalog.images(shelf.store, day), catalog.vectors(shelf.store, day, MODEL)):
            rows = table.select(["uri", "image_id"]).to_pylist()
            assert {row["uri"]: row["image_id"] for row in rows} == left and len(rows) == len(left)
    assert index(IndexSettings(store=shelf.store, model=MODEL), Timings()).counts["differing"] == 0
    assert writing.audit(shelf.store, MODEL) == {}


@pytest.mark.timeout(300)
def test_killed_twice_beside_publications_it_is_finished_by_the_next(tmp_path: Path) -> None:
    drill(tmp_path, kills=2, seed=0)


@pytest.mark.slow_faults
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("seed", range(1, 4))
def test_killed_at_random_nothing_is_left_and_nothing_is_lost(tmp_path: Path, seed: int) -> None:
    drill(tmp_path, kills=15, seed=seed)
