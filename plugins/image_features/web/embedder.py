"""The child process with a model that turns an uploaded photo, or words, into a vector; the pages never load one."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from image_features.web import store_state
from image_features.web.children import PATIENCE_SECONDS, Child
from image_features.web.refusals import Refused, busy
from image_features.web.stores import Place
from spark_apps import catalog

MAX_PIXELS = 50_000_000
"""Of an uploaded photo."""
SECONDS = 20.0
"""For the child to decode and compute."""


def ask(place: Place, fingerprint: str, content: bytes, words: bool = False) -> tuple[dict[str, Any], bytes]:
    """What the kept model of a fingerprint says of a file's bytes, and its vector as float32; with `words`, what its
    text side makes of those in UTF-8. Raises Refused."""
    with _one_at_a_time():
        return _embedder(place, fingerprint, words).ask(content, PATIENCE_SECONDS)


class Embedder:
    """The child with the model of one fingerprint, or its text side; its folder, if the store is elsewhere."""

    def __init__(self, place: Place, fingerprint: str, words: bool) -> None:
        self._copy = tempfile.TemporaryDirectory(prefix="image-features-model-")
        with store_state.reading(place):
            folder = catalog.model_folder(place.store, fingerprint, Path(self._copy.name), words)
        if folder is None:
            raise Refused(
                404,
                "no_model_artifact",
                "The store does not hold the model of this partition.",
                "It is kept by extract; run a partition again with this model.",
            )
        what = ("words", str(folder), "0") if words else ("model", str(folder), str(MAX_PIXELS))
        self.child = Child(*what, seconds=SECONDS)

    def close(self) -> None:
        self.child.close()
        self._copy.cleanup()


_current: tuple[tuple[Place, str, bool], Embedder] | None = None
_uploads = threading.Lock()


@contextmanager
def _one_at_a_time() -> Iterator[None]:
    if not _uploads.acquire(timeout=PATIENCE_SECONDS):
        raise busy()
    try:
        yield
    finally:
        _uploads.release()


def _embedder(place: Place, fingerprint: str, words: bool) -> Child:
    """The one child with a model; another model takes the place of the one before. Raises Refused."""
    global _current
    key = place, fingerprint, words
    if _current is None or _current[0] != key:
        fresh = Embedder(*key)
        if _current is not None:
            _current[1].close()
        _current = key, fresh
    return _current[1].child
