"""A photo that hangs, kills or starves the process that decodes it costs one row: the others get their features."""

from __future__ import annotations

import contextlib
import io
import os
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from spark_apps import catalog
from spark_apps.contract import STAGES
from tests.faults.day import PARTITION, Day
from tests.faults.hostile import slow_jpeg, vast_tiff
from tests.faults.jobs import Job
from tests.faults.reader import Reader

CGROUPS = Path("/sys/fs/cgroup")
JOB_MEMORY = 2 * 2**30
"""Bytes. Enough for the JVM, the driver and two workers with a model, not for a worker that decodes `vast_tiff`."""


def run_with(tmp_path: Path, bad: dict[str, tuple[str, bytes]], **extract: object) -> None:
    """A run of a day with the files `bad`, name → code and content; only its extract gets `extract`. All must go well
    but for these files."""
    day = Day(tmp_path / "landing")
    for name, (code, content) in bad.items():
        day.add_bad(name, code, content)
    store = str(tmp_path / "store")
    reader = Reader(store)
    reader.truths["run"] = day.truth()
    for stage in STAGES:
        options = extract if stage == "extract" else {}
        job = Job(stage, "run", store, logs=tmp_path, source=day.source, **options)  # type: ignore[arg-type]
        assert job.wait() == 0, job.last_words
        job.gone()
        if stage == "extract":
            assert "Python worker exited unexpectedly" in job.log, "the worker lived through it"
    reader.settled("run")
    rows = {row["uri"]: row for row in catalog.quarantine(store, PARTITION).to_pylist()}
    for name, (code, content) in bad.items():
        row = rows[(day.folder / name).as_uri()]
        assert (row["stage"], row["error_code"], row["size_bytes"]) == ("extract", code, len(content))


def test_photos_that_crash_or_starve_their_decoder_are_set_aside(tmp_path: Path) -> None:
    """No photo is known that crashes today's decoders; so Pillow is made to crash at pictures of one size, and to be
    killed at those of another, as the kernel does when memory is short."""
    (tmp_path / "python").mkdir()
    (tmp_path / "python" / "sitecustomize.py").write_text(
        "import os, signal\n"
        "from PIL import ImageFile\n"
        "load = ImageFile.ImageFile.load\n"
        "ends = {(233, 144): signal.SIGABRT, (234, 144): signal.SIGKILL}\n"
        "ImageFile.ImageFile.load = "
        "lambda self: os.kill(os.getpid(), ends[self.size]) if self.size in ends else load(self)\n"
    )
    photos = {}
    for name, code, width in (("crash.jpg", "decoder_crash", 233), ("starve.jpg", "out_of_memory", 234)):
        photo = io.BytesIO()
        Image.new("RGB", (width, 144), "teal").save(photo, "JPEG")
        photos[name] = (code, photo.getvalue())
    run_with(tmp_path, photos, environment={"PYTHONPATH": str(tmp_path / "python")})


@pytest.mark.slow_faults
def test_a_photo_that_decodes_for_minutes_is_set_aside(tmp_path: Path) -> None:
    run_with(tmp_path, {"slow.jpg": ("timeout", slow_jpeg(scans=20_000))})


@pytest.mark.slow_faults
def test_a_photo_that_makes_the_kernel_kill_its_decoder_is_set_aside(tmp_path: Path) -> None:
    with memory_limit(JOB_MEMORY) as group:
        enter = ("sh", "-c", f'echo $$ > "{group}/cgroup.procs" && exec "$@"', "sh")
        run_with(tmp_path, {"vast.tif": ("out_of_memory", vast_tiff(side=9_000))}, enter=enter)


@contextlib.contextmanager
def memory_limit(limit: int) -> Iterator[Path]:
    """A control group whose processes together may use `limit` bytes; skips the test where there can be none."""
    old = CGROUPS / "memory"
    group = (old if old.is_dir() else CGROUPS) / f"fault-drill-{uuid.uuid4().hex[:8]}"
    try:
        group.mkdir()
        (group / ("memory.limit_in_bytes" if old.is_dir() else "memory.max")).write_text(str(limit))
    except OSError as error:
        with contextlib.suppress(OSError):
            group.rmdir()
        pytest.skip(f"needs a memory control group: {error}")
    try:
        yield group
    finally:
        with contextlib.suppress(OSError):
            os.rmdir(group)
