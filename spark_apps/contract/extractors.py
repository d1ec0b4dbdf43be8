"""The extractors that `--extractor` takes: those built in, and the form of a user's own."""

from __future__ import annotations

import re

from spark_apps.contract.errors import BadSetting

PHOTOS = "image"
"""The extractor whose model is chosen by settings of its own."""
EXTRACTORS = {
    PHOTOS: "",
    "text": "spark_apps.extractors.text:Text",
    "audio": "spark_apps.extractors.audio:Audio",
}
"""What is built in, and the class to load: none for `PHOTOS`."""
EXTRACTOR_HELP = (
    "What makes a vector of a file: image (a backbone of torchvision), text, audio, or your own, as module:factory or "
    "/path/file.py:factory."
)
EXTRACTOR_PATTERN = r"[A-Za-z_][\w.]*:[A-Za-z_]\w*|/.+\.py:[A-Za-z_]\w*"


def check_extractor(name: str) -> None:
    """Raises BadSetting when `name` is neither a registered extractor nor of the form `EXTRACTOR_PATTERN`."""
    if name not in EXTRACTORS and not re.fullmatch(EXTRACTOR_PATTERN, name):
        raise BadSetting(
            "bad_extractor",
            f"{name!r} is not a valid extractor.",
            f"Choose {', '.join(EXTRACTORS)}, or your own: package.module:factory or /path/file.py:factory.",
        )
