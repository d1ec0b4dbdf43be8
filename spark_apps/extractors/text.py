"""The extractor `text`: UTF-8 files to sentence embeddings, by a small model that its package brings along.

WordLlama (MIT): token embeddings taken from a large language model and trained as sentence embeddings, averaged over
the tokens of a text. About 16 MB, no GPU, no download.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from spark_apps.extractors import BadFile, Extractor

if TYPE_CHECKING:
    from numpy.typing import NDArray


MAX_CHARACTERS = 32_768
"""Of a longer text only the beginning is read: a batch is padded to its longest text, a kilobyte for each token."""


class Text(Extractor):
    """Texts to 256 floats of Euclidean length 1: the mean of their tokens' embeddings."""

    name = "wordllama_256"
    dim = 256

    def __init__(self) -> None:
        root = logging.getLogger()
        before = root.level, root.handlers[:]
        import wordllama

        root.level, root.handlers[:] = before  # its import makes everybody's notes appear
        package = Path(wordllama.__file__).parent
        # It looks for its tokenizer in a folder that its wheel names otherwise, so it is told where.
        self._model = wordllama.WordLlama.load(dim=self.dim, cache_dir=package, disable_download=True)
        self.fingerprint = f"wordllama {version('wordllama')}"

    def prepare(self, content: bytes) -> str:
        """The text. Raises BadFile: it is not UTF-8, or has no word."""
        try:
            text = content.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise BadFile("not_text", f"It is not UTF-8: {error.reason} at byte {error.start:,}.") from error
        if "\0" in text:
            raise BadFile("not_text", "It has a zero byte, as no text has.")
        if not any(character.isalnum() for character in text):
            raise BadFile("not_text", "It has neither a letter nor a digit.")
        return text[:MAX_CHARACTERS]

    def extract(self, items: Sequence[str]) -> NDArray[np.float32]:
        return np.asarray(self._model.embed(list(items), norm=True), np.float32)

    def reference(self, content: bytes) -> NDArray[np.float32]:
        """By the definition: tokens by the model's tokenizer, the mean of their rows, divided by its length."""
        tokens = self._model.tokenizer.encode(self.prepare(content), add_special_tokens=False).ids
        mean = self._model.embedding[tokens].astype(np.float64).mean(axis=0)
        unit: NDArray[np.float32] = (mean / np.linalg.norm(mean)).astype(np.float32)
        return unit
