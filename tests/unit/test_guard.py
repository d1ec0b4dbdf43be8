"""A photo that hangs, grows or kills its decoder is quarantined, and the worker lives on."""

from __future__ import annotations

import io
import os
import pickle
import signal
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from PIL import Image

from demo.landing import flat_png
from spark_apps import storage
from spark_apps.contract import MAX_PIXELS, BadFile, JobError, Unreachable, frames
from spark_apps.media import guard as guard_module
from spark_apps.media import imaging
from spark_apps.media.fitting import Preprocessing
from spark_apps.media.guard import Decode, Guard, watched
from tests.processes import ended

SIZE = Preprocessing()
DECODER = partial(imaging.decoder, SIZE, MAX_PIXELS)
SMALL = flat_png(60, 40)
SLOW = flat_png(10_000, 10_000)
"""A valid picture that keeps a decoder busy for a second or more."""


@pytest.fixture
def guard() -> Iterator[Guard]:
    with Guard(DECODER) as guard:
        yield guard


def children() -> list[psutil.Process]:
    """Living children of guards; other tests of this process may have left dead ones of other kinds."""
    living = [child for child in psutil.Process().children() if child.status() != psutil.STATUS_ZOMBIE]
    return [child for child in living if "guard.serve()" in " ".join(child.cmdline())]


def refusal(guard: Guard, content: bytes) -> BadFile:
    bad = guard.decode(content)
    assert isinstance(bad, BadFile)
    return bad


def test_pixels_are_those_of_decoding_in_this_process(guard: Guard, photos: dict[str, Path]) -> None:
    for path in list(photos.values())[:6]:
        content = path.read_bytes()
        pixels = guard.decode(content)
        assert (pixels.dtype, pixels.shape) == (np.uint8, (224, 224, 3))
        assert np.array_equal(pixels, imaging.decode(content, SIZE, MAX_PIXELS)), path.name


def test_a_bad_image_is_refused_as_in_this_process_and_the_child_stays(guard: Guard) -> None:
    guard.decode(SMALL)
    (child,) = children()
    for content in (b"", b"no image", SMALL[:40]):
        with pytest.raises(BadFile) as expected:
            imaging.decode(content, SIZE, MAX_PIXELS)
        found = refusal(guard, content)
        assert (found.code, found.message) == (expected.value.code, expected.value.message)
    assert children() == [child]


def test_a_picture_that_takes_too_long_is_a_timeout() -> None:
    with Guard(DECODER, seconds=0.3) as guard:
        begin = time.monotonic()
        bad = refusal(guard, SLOW)
        assert (bad.code, bad.message) == ("timeout", "Decoding took longer than 0.3 s.")
        assert time.monotonic() - begin < 30
        assert children() == [], "the busy child must not go on in the background"


def test_after_a_picture_that_hangs_the_next_is_decoded() -> None:
    with Guard(DECODER, seconds=4) as guard:
        guard.decode(SMALL)
        (child,) = children()
        child.suspend()  # hangs for ever
        assert refusal(guard, SMALL).code == "timeout"
        assert guard.decode(SMALL).shape == (224, 224, 3)


def test_a_picture_that_needs_too_much_memory_is_refused_and_the_next_is_decoded() -> None:
    with Guard(DECODER, memory_bytes=400 * 2**20) as guard:
        assert refusal(guard, SLOW).code == "out_of_memory"
        assert guard.decode(SMALL).shape == (224, 224, 3)


def _saved(mode: str, color: Any, kind: str) -> bytes:
    """A picture of one colour and 200 megapixels, as the largest of today's telephones."""
    target = io.BytesIO()
    Image.new(mode, (16_320, 12_240), color).save(target, kind, **({"compress_level": 1} if kind == "PNG" else {}))
    return target.getvalue()


@pytest.mark.parametrize(
    ("make", "scaled", "mebibytes"),
    [
        pytest.param(partial(_saved, "RGB", "olive", "JPEG"), False, 854, id="JPEG"),
        pytest.param(partial(_saved, "RGB", "olive", "JPEG"), True, 89, id="JPEG, scaled decode"),
        pytest.param(lambda: _saved("RGB", "olive", "JPEG")[:-2], False, 1638, id="JPEG without its end marker"),
        pytest.param(partial(_saved, "RGB", "olive", "PNG"), False, 844, id="PNG"),
        pytest.param(partial(_saved, "RGBA", (90, 120, 60, 128), "PNG"), False, 1694, id="PNG with transparency"),
        pytest.param(partial(_saved, "I;16", 30_000, "TIFF"), False, 1756, id="TIFF, 16 bits grey"),
    ],
)
def test_the_largest_photos_take_no_more_memory_than_docs_design_says(
    make: Callable[[], bytes], scaled: bool, mebibytes: int
) -> None:
    preprocessing = Preprocessing(scaled=scaled)
    with Guard(partial(imaging.decoder, preprocessing, MAX_PIXELS), seconds=300) as guard:
        assert guard.decode(make()).shape == (224, 224, 3)
        (child,) = children()
        status = Path(f"/proc/{child.pid}/status").read_text().split()
    assert (
        int(status[status.index("VmHWM:") + 1]) / 1024 < 1.05 * mebibytes
    )  # libraries take some megabytes more or less


@pytest.mark.parametrize(("ended_by", "code"), [(signal.SIGSEGV, "decoder_crash"), (signal.SIGKILL, "out_of_memory")])
def test_a_picture_that_kills_its_decoder_is_refused_and_the_next_is_decoded(
    guard: Guard, ended_by: signal.Signals, code: str
) -> None:
    guard.decode(SMALL)
    (child,) = children()

    def kill_when_busy() -> None:
        idle = child.cpu_times().user
        while child.cpu_times().user - idle < 0.1:
            time.sleep(0.01)
        child.send_signal(ended_by)

    killer = threading.Thread(target=kill_when_busy)
    killer.start()
    bad = refusal(guard, SLOW)
    killer.join()
    assert bad.code == code
    assert guard.decode(SMALL).shape == (224, 224, 3)
    assert [one.pid for one in children()] != [child.pid]


def test_a_child_that_dies_between_two_pictures_is_no_fault_of_the_next(guard: Guard) -> None:
    guard.decode(SMALL)
    (child,) = children()
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # dead for certain, and left for the guard to notice
    assert guard.decode(SMALL).shape == (224, 224, 3)


def test_no_child_is_left_behind_and_none_is_started_without_need() -> None:
    with Guard(DECODER) as guard:
        assert children() == []
        guard.decode(SMALL)
        assert len(children()) == 1
    assert children() == []
    guard.close()  # a second time is not an error


def decoder_that_forks() -> Decode:
    """As a library may that reports its use: the other process holds the child's output open when the child ends."""

    def decode(content: bytes) -> int:
        other = os.fork()
        if other == 0:
            time.sleep(60)
            os._exit(0)
        return other

    return decode


def test_the_end_of_a_child_waits_for_nobody_else() -> None:
    guard = Guard(decoder_that_forks)
    other = guard.decode(b"")
    try:
        begin = time.monotonic()
        guard.close()
        assert time.monotonic() - begin < 30
        assert psutil.pid_exists(other)
    finally:
        os.kill(other, signal.SIGKILL)


@pytest.mark.parametrize("moment", ["starting", "asking", "ready", "answering"])
def test_a_child_whose_parent_has_ended_ends_without_a_word(moment: str) -> None:
    """What it printed would follow the job's last line, which says why the job ended."""
    child = subprocess.Popen(
        [sys.executable, "-c", "from spark_apps.media import guard; guard.serve()"],
        **dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE),
        cwd=Path(__file__).parents[2],
    )
    assert child.stdin and child.stdout and child.stderr
    arguments = pickle.dumps((DECODER, 2**32, 30.0))
    if moment == "asking":
        child.stdin.write(struct.pack("<Q", len(arguments)) + arguments[:9])
    elif moment != "starting":
        frames.send(child.stdin, arguments)
    if moment == "answering":
        frames.receive(child.stdout, time.monotonic() + 60)
        frames.send(child.stdin, SMALL)
    child.stdout.close()
    child.stdin.close()
    assert child.stderr.read() == b""
    assert child.wait(30) == 0


def in_a_worker(code: str, content: bytes) -> subprocess.CompletedProcess[bytes]:
    setup = """
import sys, time
from functools import partial
from spark_apps import storage
from spark_apps.contract import BadFile
from spark_apps.media import guard as guard_module
from spark_apps.media import imaging
from spark_apps.media.guard import Guard, watched
from spark_apps.media.fitting import Preprocessing
decoder = imaging.decoder(Preprocessing(), 10**8)
content = sys.stdin.buffer.read()
"""
    command = [sys.executable, "-c", setup + code]
    return subprocess.run(command, input=content, capture_output=True, timeout=60, cwd=Path(__file__).parents[2])


def test_a_hang_ends_the_watched_worker() -> None:
    done = in_a_worker("watched(decoder, seconds=0.2)(content)\nprint('went on')", SLOW)
    assert done.returncode == -signal.SIGALRM
    assert b"went on" not in done.stdout
    assert b"imaging.py" in done.stderr, "the log must tell where it hung"


def test_the_watch_ends_with_the_picture_good_or_bad() -> None:
    code = """
watched(decoder)(content)  # what the first picture loads takes time on a busy machine
decode = watched(decoder, seconds=2)
print(decode(content).shape)
print(decode(b'').code)
time.sleep(2.3)
print('went on')
"""
    done = in_a_worker(code, SMALL)
    assert done.stdout.decode().split("\n")[:3] == ["(224, 224, 3)", "empty", "went on"], done.stderr


def test_a_hang_is_found_while_other_threads_decode_on() -> None:
    code = """
import io, threading
from PIL import Image
small = io.BytesIO()
Image.new("RGB", (40, 40)).save(small, "PNG")
decode = watched(decoder, seconds=0.5)
def others():
    while True:
        decode(small.getvalue())
threading.Thread(target=others, daemon=True).start()
decode(content)
print('went on')
"""
    done = in_a_worker(code, SLOW)
    assert done.returncode == -signal.SIGALRM
    assert b"went on" not in done.stdout


def test_a_watched_picture_has_the_same_pixels(photos: dict[str, Path]) -> None:
    content = photos["chelsea.png"].read_bytes()
    assert np.array_equal(watched(DECODER())(content), imaging.decode(content, SIZE, MAX_PIXELS))


def test_a_worker_that_is_killed_leaves_no_idle_child() -> None:
    code = """
import os
guard = Guard(partial(imaging.decoder, Preprocessing(), 10**8))
guard.decode(content)
print(guard._child.pid, flush=True)
os.kill(os.getpid(), 9)
"""
    child = int(in_a_worker(code, SMALL).stdout)
    assert ended([child])


def never_ready() -> Decode:
    time.sleep(60)
    raise AssertionError


def dies_at_once() -> Decode:
    os._exit(7)


@pytest.mark.parametrize(
    ("make", "seconds", "words"),
    [(never_ready, 2, "was not ready after 2 s"), (dies_at_once, 60, "ended at once with status 7")],
)
def test_a_child_that_does_not_start_is_no_fault_of_the_store(
    make: Callable[[], Decode], seconds: float, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guard_module, "START_SECONDS", seconds)
    with Guard(make) as guard:
        with pytest.raises(JobError, match=words) as caught, storage.reaching("store", "/the store"):
            guard.decode(SMALL)
        assert not isinstance(caught.value, Unreachable)
        assert "store" not in str(caught.value)
        assert not children()


def test_a_child_that_cannot_be_started_is_no_fault_of_the_store(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/no/such/python")
    with (
        Guard(DECODER) as guard,
        pytest.raises(JobError, match=r"could not be started: .*No such file") as caught,
        storage.reaching("store", "/the store"),
    ):
        guard.decode(SMALL)
    assert not isinstance(caught.value, Unreachable)
