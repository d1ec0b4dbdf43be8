"""The parts of the benchmarks that decide what the numbers mean: photos, ticks, first rows, the check of vectors."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from benchmarks import photos, places, processes, protocol, ticks
from benchmarks.photos import PhotoSet
from tests.processes import is_running


def test_photos_are_the_same_each_time_and_differ_from_each_other() -> None:
    first = [photos.picture("0.2", index) for index in range(4)]
    photos.picture.cache_clear()
    assert [photos.picture("0.2", index) for index in range(4)] == first
    assert len(set(first)) == 4
    assert {Image.open(io.BytesIO(content)).size for content in first} == {photos.SIZES["0.2"]}


def test_a_large_set_repeats_the_pictures_in_files_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(photos.DISTINCT, "0.2", 2)
    files = dict(photos.files(PhotoSet("0.2", 5)))
    assert len(files) == len(set(files.values())) == 5
    pixels = [np.asarray(Image.open(io.BytesIO(content))) for content in files.values()]
    assert (pixels[0] == pixels[2]).all() and (pixels[0] == pixels[4]).all() and not (pixels[0] == pixels[1]).all()


def test_a_set_is_made_once_in_both_forms(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places, "PHOTOS", tmp_path)
    made = photos.make(PhotoSet("0.2", 9))
    before = {path: path.stat().st_mtime_ns for path in made.folder.rglob("*")}
    photos.make(PhotoSet("0.2", 9))
    assert {path: path.stat().st_mtime_ns for path in made.folder.rglob("*")} == before
    rows = pq.read_table(made.parquet).to_pylist()
    assert {row["uri"]: row["content"] for row in rows} == {p.name: p.read_bytes() for p in made.jpeg.iterdir()}


def test_steady_counts_what_was_done_while_all_workers_were_at_work() -> None:
    early, late = [(10.0, 16), (12.0, 16), (14.0, 16), (20.0, 16)], [(13.0, 8), (15.0, 8), (16.0, 8)]
    assert ticks.steady([early, late]) == (3.0, 16 + 8 + 8)  # from 13, when the late one is warm, to 16, when it ends
    with pytest.raises(ValueError, match="never"):
        ticks.steady([[(1.0, 16), (2.0, 16)], [(5.0, 16)]])


def test_a_ticker_leaves_what_the_reader_reads(tmp_path: Path) -> None:
    for worker in (ticks.Ticker(str(tmp_path)), ticks.Ticker(str(tmp_path))):
        worker.done(16)
        worker.done(4)
    workers = ticks.read(tmp_path)
    assert [[images for _, images in batches] for batches in workers] == [[16, 4], [16, 4]]


def test_only_the_first_row_of_all_workers_leaves_a_mark(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mark = tmp_path / "mark"
    monkeypatch.setenv(protocol.MARK, str(mark))
    protocol.first_row()
    moment = float(mark.read_text())
    monkeypatch.setenv(protocol.MARK, str(mark))  # another worker
    protocol.first_row()
    assert float(mark.read_text()) == moment


def test_the_hook_marks_the_first_features_of_our_engine_and_changes_nothing_else(tmp_path: Path) -> None:
    code = """
import os
from spark_apps.model import engines
class Fake:
    crop = 224
    def run(self, pixels): return pixels + 1
def load(): return Fake()
"""
    code += "import sys; assert hasattr(engines.load, '__name__'); print(engines.load.__module__)\n"
    for mark, module in ((str(tmp_path / "mark"), "sitecustomize"), ("", "spark_apps.model.engines")):
        path = os.pathsep.join([str(places.ROOT), str(places.HOOKS)])
        env = {**os.environ, "PYTHONPATH": path, protocol.MARK: mark}
        ended = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
        assert ended.stdout.strip() == module


def job(folder: Path) -> protocol.Job:
    """A job on a set of three photos, two of them with a reference."""
    (folder / "parquet").mkdir()
    pq.write_table(pa.table({"uri": ["a.jpg", "b.jpg", "c.jpg"]}), folder / "parquet" / "0.parquet")
    np.savez(folder / "reference.npz", **{"a.jpg": np.ones(4), "b.jpg": np.arange(4.0)})
    return protocol.Job(photos=str(folder), model="", out="")


def features(folder: Path, rows: dict[str, list[float]]) -> list[str]:
    path = folder / "features.parquet"
    vectors = pa.array(list(rows.values()), pa.list_(pa.float32()))
    pq.write_table(pa.table({"uri": list(rows), "features": vectors}), path)
    return [str(path)]


def test_vectors_are_compared_with_the_reference_by_name(tmp_path: Path) -> None:
    right = {"file:///x/a.jpg": [2.0] * 4, "b.jpg": [0.0, 1, 2, 3], "c.jpg": [0.0] * 4}
    assert protocol.check(job(tmp_path), features(tmp_path, right)) == 1
    assert protocol.check(
        protocol.Job(photos=str(tmp_path), model="", out=""), features(tmp_path, right | {"b.jpg": [3.0, 2, 1, 0]})
    ) == pytest.approx(4 / 14, abs=1e-6)


def test_a_photo_without_features_is_no_result(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="2 photos"):
        protocol.check(job(tmp_path), features(tmp_path, {"a.jpg": [1.0] * 4, "b.jpg": [1.0] * 4}))


def test_every_field_of_a_job_is_an_option() -> None:
    argv = ["--photos", "/p", "--model", "/m", "--out", "/o", "--precision", "int8", "--warm-up", "day", "--cores", "1"]
    assert protocol.parse("", argv) == protocol.Job("/p", "/m", "/o", precision="int8", warm_up="day", cores=1)


def test_a_system_that_dies_leaves_its_last_words(tmp_path: Path) -> None:
    with pytest.raises(processes.Failed, match=r"exit status 1: .*No module named benchmarks"):
        processes.run("nobody", protocol.Job(photos="-", model="-", out=str(tmp_path / "out")))


HANGS = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], start_new_session=True)
open("{pid}", "w").write(str(child.pid))
time.sleep(60)
"""


def test_a_system_that_hangs_is_ended_with_all_it_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "hangs.py").write_text(HANGS.format(pid=tmp_path / "pid"))
    monkeypatch.setattr(processes, "EVERY_S", 0.1)
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{tmp_path}/hangs.py"\n')
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))
    with pytest.raises(processes.Failed, match="longer than 6 s"):
        processes.run("hangs", protocol.Job(photos="-", model="-", out=str(tmp_path / "out")), timeout=6)
    pid = int((tmp_path / "pid").read_text())
    assert not is_running(pid)
