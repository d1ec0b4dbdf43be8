"""Decoding that cannot take its process down: a watch on the optimistic way, a child process on the careful one.

A decoder that hangs or grows cannot be stopped from within Python. So a worker decodes in its own process under a watch
that ends the process when one image takes too long. Spark then tries the task again, and on that second attempt every
image is decoded in a child process with a limit on time and memory: the culprit is found and quarantined.
"""

from __future__ import annotations

import faulthandler
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from spark_apps.contract import BadFile, JobError, frames

SECONDS_PER_IMAGE = 30
"""A photo of 200 megapixels takes 8 s of a core at most, as measured in docs/design.md."""
START_SECONDS = 60
CHILD_MEMORY_BYTES = 4 * 2**30
"""Address space of the child: 200 megapixels took at most 1.9 GiB of it, as measured in docs/design.md."""

Decode = Callable[[bytes], Any]
"""Bytes of a file to what the model takes, for a photo uint8 [crop, crop, 3]; raises BadFile."""
Attempt = Callable[[bytes], Any]
"""The same, but a `BadFile` is what it gives and not what it raises: on to quarantine it is a value like any other."""


def watched(decode: Decode, seconds: float = SECONDS_PER_IMAGE) -> Attempt:
    """Decodes in this process, in any number of threads, and ends it when one file takes longer than `seconds`."""
    deadlines: dict[int, float] = {}
    changing = threading.Lock()
    # In C, the traceback and then the signal's own end of the process: neither needs the interpreter's lock, which a
    # decoder that hangs may hold. The system's timer costs a call; a thread of faulthandler's 0.2 ms a file.
    faulthandler.register(signal.SIGALRM, chain=True)

    def wind() -> None:
        left = min(deadlines.values()) - time.monotonic() if deadlines else 0
        signal.setitimer(signal.ITIMER_REAL, max(left, 0.001) if deadlines else 0)

    def watch(content: bytes) -> Any:
        me = threading.get_ident()
        with changing:
            deadlines[me] = time.monotonic() + seconds
            wind()
        try:
            return decode(content)
        except BadFile as bad:
            return bad
        finally:
            with changing:
                del deadlines[me]
                wind()

    return watch


class Guard:
    """Decodes in a child process with a time and a memory limit; a dead child is replaced at the next file.

    `make` is pickled, and gives the child its `Decode`. Use as a context manager, or call `close`.
    """

    def __init__(
        self,
        make: Callable[[], Decode],
        seconds: float = SECONDS_PER_IMAGE,
        memory_bytes: int = CHILD_MEMORY_BYTES,
    ) -> None:
        self._arguments = (make, memory_bytes, seconds)
        self._seconds = seconds
        self._child: subprocess.Popen[bytes] | None = None

    def decode(self, content: bytes) -> Any:
        """An `Attempt`: what the child's `Decode` gives or refuses, or a `BadFile` that tells the child's end.

        Those are `timeout`, `out_of_memory` and `decoder_crash`.

        Raises:
            JobError: `decoder_not_started`, no file's fault.
        """
        if self._child is not None and self._child.poll() is not None:
            self.close()  # it died between two files, through no fault of this one
        child = self._child or self._start()
        assert child.stdin and child.stdout
        try:
            frames.send(child.stdin, content)
            return pickle.loads(frames.receive(child.stdout, time.monotonic() + self._seconds))
        except TimeoutError:
            self.close()
            return BadFile("timeout", f"Decoding took longer than {self._seconds:g} s.")
        except (BrokenPipeError, EOFError):
            status = child.wait()
            self.close()
            if status == -9:
                return BadFile("out_of_memory", "The system ended the decoder, most likely for lack of memory.")
            return BadFile("decoder_crash", f"The decoder died with status {status}.")

    def close(self) -> None:
        """Ends the child."""
        child, self._child = self._child, None
        if child is None:
            return
        child.kill()
        assert child.stdin and child.stdout
        with suppress(BrokenPipeError):  # what it did not read
            child.stdin.close()
        child.stdout.close()  # not to its end: what the child has started may hold it open
        child.wait()

    def __enter__(self) -> Guard:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _start(self) -> subprocess.Popen[bytes]:
        path = [os.path.abspath(entry) for entry in sys.path]  # an interactive Python has "", its working folder
        code = f"import sys; sys.path[:] = {path!r}; from spark_apps.media import guard; guard.serve()"
        command = [sys.executable, "-c", code]
        try:
            self._child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd="/")
            assert self._child.stdin and self._child.stdout
            frames.send(self._child.stdin, pickle.dumps(self._arguments))
            frames.receive(
                self._child.stdout, time.monotonic() + START_SECONDS
            )  # ready: importing does not count as a file's time
        except TimeoutError:
            raise self._not_started(f"was not ready after {START_SECONDS:g} s") from None
        except (BrokenPipeError, EOFError):
            assert self._child is not None
            raise self._not_started(f"ended at once with status {self._child.wait()}") from None
        except OSError as error:  # no memory or no process left for another
            raise self._not_started(f"could not be started: {error}") from None
        return self._child

    def _not_started(self, what: str) -> JobError:
        """An OSError would be told as one of the store, which the caller is using at the same time."""
        self.close()
        return JobError(
            "decoder_not_started",
            f"The process that decodes suspicious files {what}.",
            "The machine may be short of memory or very busy; the log has what it printed. A retry may help.",
        )


def serve() -> None:
    """The child: decodes what comes in on standard input, for as long as somebody asks and hears the answers."""
    import resource

    source, target = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # a decoder that prints must not disturb the answers
    try:
        make, memory_bytes, seconds = pickle.loads(frames.read(source))
        decode = watched(make(), 2 * seconds)  # should the parent die while this child hangs
        resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        frames.send(target, pickle.dumps(None))
        while True:
            content = frames.read(source)
            answer: Any
            try:
                answer = decode(content)
            except MemoryError:
                answer = BadFile("out_of_memory", "Decoding needed more memory than the limit.")
            frames.send(target, pickle.dumps(answer))
    except (EOFError, BrokenPipeError):  # the parent has ended, a killed task's while this child was still starting
        os._exit(0)  # an answer that nobody hears would be a trace at the interpreter's end, too
