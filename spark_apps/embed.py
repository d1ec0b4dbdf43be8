"""One photo at a time, in a process of its own with limits: a thumbnail, or its vector, or that of words, by a model.

Serves the pages, whose own process must neither decode strangers' bytes nor load a model. Reads photos from standard
input and answers on standard output until the input ends or nobody asks for a while; writes no file. Of credentials
and settings it needs none. Every message is a frame: its length as 8 bytes, little-endian, then so many bytes. A
question is one frame, the file's bytes, or words. An answer is two: JSON, and the thumbnail or the float32 vector. The
JSON is {} or says what the model takes the photo for (`label`, `score`), or why there is no answer (`code`, `message`).

    python spark_apps/embed.py thumbnail <side in pixels> <max pixels>
    python spark_apps/embed.py model <folder with model.json> <max pixels>
    python spark_apps/embed.py words <folder with model.json> 0
"""

from __future__ import annotations

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

import faulthandler
import io
import json
import os
import re
import resource
import select
from collections.abc import Callable
from typing import Any, BinaryIO

from PIL import ImageFile

from spark_apps.contract import EXTRACTORS, BadFile, BadSetting, JobError, ModelInfo, frames
from spark_apps.media import preview

IDLE_SECONDS = 120
SECONDS_PER_IMAGE = 30
THUMBNAIL_MEMORY_BYTES = 2 * 2**30
MODEL_MEMORY_BYTES = 8 * 2**30
"""Address space, of which a torch model with its libraries uses most and touches little."""
THREADS = 2
"""For the model: the pages' machine has other things to do."""

Answer = tuple[dict[str, Any], bytes]


def thumbnail(content: bytes, side: int, max_pixels: int) -> bytes:
    """A picture of the file (see `preview`), at most `side` pixels long, as WebP. Raises BadFile.

    A photo that ends too early is drawn as far as it goes.
    """
    ImageFile.LOAD_TRUNCATED_IMAGES = True
    target = io.BytesIO()
    preview.draw(content, side, max_pixels).save(target, "WEBP", quality=75)
    return target.getvalue()


def embedder(folder: Path, max_pixels: int) -> Callable[[bytes], Answer]:
    """A function from a file's bytes to its label and vector, by the pipeline's own code. Raises JobError.

    A user's own extractor is refused: what the store names is not run in the pages' child.
    """
    from spark_apps import extractors

    info = _described(folder)
    if info.extractor not in EXTRACTORS:
        raise BadSetting(
            "own_extractor", f"The extractor {info.extractor} is not run here.", "Only those that are built in are."
        )
    extractor = extractors.opened(info, max_pixels, folder, THREADS, "cpu")

    def embed(content: bytes) -> Answer:
        (vector,), ((label, score),) = extractor.label([extractor.prepare(content)])
        if isinstance(vector, BadFile):
            raise vector
        return {"label": label, "score": score}, vector.astype("<f4").tobytes()

    return embed


def reader(folder: Path) -> Callable[[bytes], Answer]:
    """A function from words, UTF-8, to their vector. Raises JobError."""
    from spark_apps.model import words

    side = words.opened(_described(folder), folder, THREADS)

    def embed(content: bytes) -> Answer:
        try:
            return {}, side.vector(content.decode()).astype("<f4").tobytes()
        except (UnicodeDecodeError, BadSetting) as error:
            raise BadFile("not_text", str(error)) from error

    return embed


def _described(folder: Path) -> ModelInfo:
    info = ModelInfo.from_record(json.loads((folder / "model.json").read_text()))
    if not re.fullmatch("[0-9a-f]+", info.fingerprint):  # it names files
        raise ValueError("The fingerprint is not a hexadecimal number.")
    return info


def serve(argv: list[str], source: BinaryIO, target: BinaryIO) -> None:
    """Answers until nobody asks any more."""
    try:
        answer = _prepared(*argv)
    except Exception as error:  # a forged or damaged document can be anything
        code = error.code if isinstance(error, JobError) else type(error).__name__
        frames.send(target, json.dumps({"code": code, "message": str(error)}).encode(), b"")
        return
    frames.send(target, b"{}", b"")
    while (content := _read(source)) is not None:
        said: dict[str, Any]
        faulthandler.dump_traceback_later(SECONDS_PER_IMAGE, exit=True)  # should nobody be there to end a hanging one
        try:
            said, payload = answer(content)
        except BadFile as bad:
            said, payload = {"code": bad.code, "message": bad.message}, b""
        except MemoryError:
            said, payload = {"code": "out_of_memory", "message": "Decoding needed more memory than the limit."}, b""
        faulthandler.cancel_dump_traceback_later()
        frames.send(target, json.dumps(said).encode(), payload)


def _prepared(kind: str, what: str, max_pixels: str) -> Callable[[bytes], Answer]:
    _limit(resource.RLIMIT_AS, THUMBNAIL_MEMORY_BYTES if kind == "thumbnail" else MODEL_MEMORY_BYTES)
    _limit(resource.RLIMIT_CORE, 0)
    answer: Callable[[bytes], Answer]
    if kind == "thumbnail":
        side, pixels = int(what), int(max_pixels)

        def answer(content: bytes) -> Answer:
            return {}, thumbnail(content, side, pixels)
    elif kind == "words":
        answer = reader(Path(what))
    else:
        answer = embedder(Path(what), int(max_pixels))
    _limit(resource.RLIMIT_FSIZE, 0)  # before the first stranger's file, after torch has tried its temporary folder
    return answer


def _limit(limit: int, value: int) -> None:
    resource.setrlimit(limit, (value, value))


def _read(source: BinaryIO) -> bytes | None:
    """The next question; None when there is none any more."""
    if not select.select([source], [], [], IDLE_SECONDS)[0]:
        return None
    try:
        return frames.read(source)
    except EOFError:
        return None


if __name__ == "__main__":
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # a decoder that prints must not disturb the answers
    serve(sys.argv[1:], sys.stdin.buffer, answers)
