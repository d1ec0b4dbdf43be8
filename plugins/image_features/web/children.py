"""The child processes that decode and compute for the pages: limited, replaced when they die, few at a time.

This process never decodes a file: a hostile one must not reach it. What a child answers is data, bounded in length
and never unpickled.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

from image_features.web.refusals import Refused, busy
from spark_apps import contract
from spark_apps.contract import frames

log = logging.getLogger(__name__)

EMBED = Path(contract.__file__).parents[1] / "embed.py"
START_SECONDS = 60.0
PATIENCE_SECONDS = 15.0
"""That a request waits for a child that looks at another photo."""
ANSWER_BYTES = 2 * 2**20
"""Longest answer that is taken from a child."""
KEPT_VARIABLES = ("PATH", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "TMPDIR", "HOME")
"""Of the environment; the api-server's holds secrets."""


class Died(Exception):
    """The child ended, or was ended because it took too long (`status` None)."""

    def __init__(self, status: int | None) -> None:
        super().__init__(status)
        self.status = status


class Child:
    """One process of `spark_apps/embed.py`, started when it is needed; one question at a time."""

    def __init__(self, *arguments: str, seconds: float) -> None:
        self.arguments = arguments
        self._seconds = seconds
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()

    def ask(self, content: bytes, patience: float) -> tuple[dict[str, Any], bytes]:
        """What the child says of a file, and the bytes it made of it.

        Raises:
            Refused: the child is busy for longer than `patience` seconds, cannot start, or `content` gives nothing:
                then the code is one of `contract.QUARANTINE_CODES`.
        """
        if not self._lock.acquire(timeout=patience):
            raise busy()
        try:
            said, payload = self._ask(content)
        except Died as died:
            self.close()
            code = "timeout" if died.status is None else "out_of_memory" if died.status == -9 else "decoder_crash"
            raise refusal(code) from None
        finally:
            self._lock.release()
        if "code" in said:
            raise refusal(str(said["code"]))
        return said, payload

    def close(self) -> None:
        """Ends the process."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()
            for stream in (process.stdin, process.stdout):
                with contextlib.suppress(OSError, ValueError):
                    if stream:
                        stream.close()

    def _ask(self, content: bytes) -> tuple[dict[str, Any], bytes]:
        if self._process is not None and self._process.poll() is not None:
            self.close()  # nobody had asked for a while
        process = self._process or self._start()
        assert process.stdin
        deadline = time.monotonic() + self._seconds
        writer = threading.Thread(target=_write, args=(process.stdin, content), daemon=True)
        writer.start()  # a child that does not read must not hold this thread
        return self._receive(deadline)

    def _start(self) -> subprocess.Popen[bytes]:
        self._process = subprocess.Popen(
            [sys.executable, str(EMBED), *self.arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd="/",
            env={name: os.environ[name] for name in KEPT_VARIABLES if name in os.environ},
        )
        try:
            said, _ = self._receive(time.monotonic() + START_SECONDS)
        except Died:
            said = {"code": "died"}
        if "code" in said:
            self.close()
            log.error("Image features: %s cannot start: %s", EMBED.name, said)
            if said["code"] == "own_extractor":
                raise Refused(422, "own_extractor", said["message"], "Choose a file of the partition instead.")
            if said["code"] in ("no_words", "package_missing"):
                raise Refused(422, said["code"], said["message"], "Search by a photo, or ask who runs this Airflow.")
            raise Refused(
                503,
                "no_thumbnail" if self.arguments[0] == "thumbnail" else "no_model_artifact",
                "The process that looks at photos cannot start on this machine.",
                "The model's engine must be installed where the api-server runs.",
            )
        return self._process

    def _receive(self, deadline: float) -> tuple[dict[str, Any], bytes]:
        assert self._process and self._process.stdout
        try:
            said, payload = (frames.receive(self._process.stdout, deadline, ANSWER_BYTES) for _ in range(2))
        except TimeoutError:
            raise Died(None) from None
        except EOFError:
            raise Died(self._process.wait()) from None
        found = json.loads(said)
        return found if isinstance(found, dict) else {}, payload


def refusal(code: str) -> Refused:
    """The refusal of a file that gives no pixels, in the words of the quarantine."""
    hints = {
        "too_many_pixels": "Scale it down.",
        "unsupported_format": "Convert it to JPEG, PNG or WebP.",
        "decoder_missing": "The package that decodes its format is not installed beside Airflow's web server.",
        "not_an_image": "The content is not an image, whatever its name says.",
    }
    if code not in contract.QUARANTINE_CODES:
        code = "decode_error"
    return Refused(422, code, f"This photo cannot be used: {code.replace('_', ' ')}.", hints.get(code, ""))


def _write(stream: Any, content: bytes) -> None:
    with contextlib.suppress(OSError, ValueError):  # a child that has ended says so when its answer is read
        frames.send(stream, content)
