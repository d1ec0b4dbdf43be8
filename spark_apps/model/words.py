"""The text side of a model with two towers, as a store keeps it: words to vectors in the space of the photos'.

OpenVINO runs the tower, and the tokenizer is a document of the package tokenizers. torch and open_clip are not needed.
"""

from __future__ import annotations

import html
import importlib
import json
import string
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from spark_apps.contract import BadSetting, ModelInfo

if TYPE_CHECKING:
    from numpy.typing import NDArray

AS_THEY_ARE = "none"
"""No template."""


@dataclass(frozen=True)
class TextSide:
    """What `words.json` holds. `clean`: a name of `CLEANINGS`. `replaced`: tokens that become 0. `templates`: sentences
    with {} in them, by name."""

    clean: str
    replaced: tuple[int, ...]
    templates: Mapping[str, Sequence[str]]


@dataclass(frozen=True)
class Names:
    """The files of the text side of a model."""

    fingerprint: str

    @property
    def tower(self) -> str:
        return f"{self.fingerprint}.words.xml"

    @property
    def tokenizer(self) -> str:
        return f"{self.fingerprint}.tokenizer.json"

    @property
    def description(self) -> str:
        return f"{self.fingerprint}.words.json"


class Words:
    """A text side, opened. Not thread-safe."""

    def __init__(self, side: TextSide, tokenizer: Any, compiled: Any) -> None:
        self._side, self._tokenizer, self._compiled = side, tokenizer, compiled

    def vector(self, text: str, template: str = AS_THEY_ARE) -> NDArray[np.float32]:
        """float32 [dim]. With a template: the mean of the unit vectors of its sentences, as open_clip's
        `build_zero_shot_classifier` makes it.

        Raises:
            BadSetting: the text is empty, or there is no such template.
        """
        if not text.strip():
            raise BadSetting("empty_text", "There are no words to search by.", "Write what the photo shows.")
        if template == AS_THEY_ARE:
            found: NDArray[np.float32] = self.vectors([text])[0]
            return found
        if template not in self._side.templates:
            known = ", ".join([AS_THEY_ARE, *self._side.templates])
            raise BadSetting("bad_template", f"There is no template {template!r}.", f"Choose one of: {known}.")
        sentences = self.vectors([one.replace("{}", text) for one in self._side.templates[template]])
        mean = (sentences / np.linalg.norm(sentences, axis=1, keepdims=True)).mean(axis=0)
        return np.asarray(mean / np.linalg.norm(mean), np.float32)

    def vectors(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """float32 [n, dim], of n texts as they are."""
        found: NDArray[np.float32] = self._compiled([self.tokens(texts)])[0]
        return found

    def tokens(self, texts: Sequence[str]) -> NDArray[np.int64]:
        """int64 [n, context length], as open_clip's tokenizer of the model gives them."""
        cleaned = list(map(CLEANINGS[self._side.clean], texts))
        tokens = np.array([one.ids for one in self._tokenizer.encode_batch(cleaned)], np.int64)
        return np.where(np.isin(tokens, self._side.replaced), 0, tokens)


def opened(info: ModelInfo, folder: Path, threads: int) -> Words:
    """The text side of a model whose files lie in `folder`.

    Raises:
        BadSetting: the model has none, or a package is missing here.
    """
    missing = "It has no text side." if info.text is None else info.text.get("missing")
    if missing:
        what = f"The model {info.key} cannot be searched by words. {missing}"
        raise BadSetting("no_words", what, "Search by a photo.")
    names = Names(info.fingerprint)
    side = json.loads((folder / names.description).read_text())
    tokenizer = _package("tokenizers").Tokenizer.from_file(str(folder / names.tokenizer))
    _package("ftfy")
    import openvino as ov

    core = ov.Core()
    hints = {"INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": "f32"}
    compiled = core.compile_model(core.read_model(folder / names.tower), "CPU", hints)
    return Words(TextSide(side["clean"], tuple(side["replaced"]), side["templates"]), tokenizer, compiled)


def _package(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise BadSetting(
            "package_missing",
            f"Searching by words needs the package {name}, which cannot be imported: {error}.",
            "Run `pip install 'image-features[words]'` where it is searched.",
        ) from error


def _plain(text: str) -> str:
    return html.unescape(html.unescape(str(_package("ftfy").fix_text(text)))).strip()


def _whitespace(text: str) -> str:
    return " ".join(_plain(text).split())


def _lower(text: str) -> str:
    return _whitespace(text).lower()


def _canonicalize(text: str) -> str:
    bare = _plain(text).replace("_", " ").translate(str.maketrans("", "", string.punctuation))
    return " ".join(bare.lower().split())


CLEANINGS: Mapping[str, Callable[[str], str]] = {
    "whitespace": _whitespace,
    "lower": _lower,
    "canonicalize": _canonicalize,
}
"""What open_clip does to a text before it is split into tokens, by open_clip's names (open_clip/tokenizer.py)."""
