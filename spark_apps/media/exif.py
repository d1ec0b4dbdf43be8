"""What is read of a photo's EXIF data: which way is up, when it was taken and by which camera. Never where.

Exif is that of CIPA DC-008. Its texts are of whoever wrote the file, so they are cleaned and bounded here.
"""

from __future__ import annotations

import re
import unicodedata
import warnings
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from PIL import Image

ORIENTATION, MAKE, MODEL, EXIF_IFD = 0x0112, 0x010F, 0x0110, 0x8769
TAKEN, TAKEN_OFFSET = 0x9003, 0x9011
"""DateTimeOriginal and OffsetTimeOriginal, of the Exif IFD."""
LONGEST = 64
"""Characters of a camera's make or model that are kept."""
_READ = 1024
"""Characters of a text that are looked at."""
_FLIPS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    6: Image.Transpose.FLIP_TOP_BOTTOM,
    7: Image.Transpose.ROTATE_180,
    8: Image.Transpose.FLIP_LEFT_RIGHT,
}
_SIDEWAYS = 5
"""From this tag on rows are columns, once the picture is flipped."""
_WESTMOST, _EASTMOST = -12 * 60, 14 * 60


@dataclass(frozen=True)
class Capture:
    """How a photo was taken, as far as its file says. `taken_at`: what the camera's clock showed, ISO 8601 without
    a zone, as text, since Delta's timestamps without one need a feature that not every reader has;
    `taken_offset_minutes`: how far that clock was ahead of UTC."""

    taken_at: str | None = None
    taken_offset_minutes: int | None = None
    camera_make: str | None = None
    camera_model: str | None = None


def orientation(image: Image.Image) -> int | None:
    """The tag, 1 to 8. Damaged EXIF data does not spoil the picture, so it counts as none."""
    value = None
    with suppress(Exception):
        value = _of(image).get(ORIENTATION)
    return value if isinstance(value, int) and 1 <= value <= 8 else None


@dataclass(frozen=True)
class Held:
    """A photo as it was held, but for its rows being columns if it is `sideways`: exchanging them takes as long as
    resizing the photo, and of what a model is shown little has to be exchanged."""

    picture: Image.Image
    sideways: bool = False

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the photo as it was held."""
        return self.picture.size[::-1] if self.sideways else self.picture.size

    def upright(self) -> Image.Image:
        return self.picture.transpose(Image.Transpose.TRANSPOSE) if self.sideways else self.picture


def held(image: Image.Image, orientation: int | None) -> Held:
    """The photo as it was held, from the picture that is stored."""
    flipped = image.transpose(_FLIPS[orientation]) if orientation in _FLIPS else image
    return Held(flipped, (orientation or 1) >= _SIDEWAYS)


def capture(image: Image.Image) -> Capture:
    """What the EXIF data of an opened photo says; what is missing, damaged or nonsense is None."""
    tags: dict[int, Any] = {}
    with suppress(Exception):
        exif = _of(image)
        tags = {tag: exif.get(tag) for tag in (MAKE, MODEL)}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tags |= exif.get_ifd(EXIF_IFD)
    taken = _time(_text(tags.get(TAKEN)))
    offset = _offset(_text(tags.get(TAKEN_OFFSET))) if taken else None
    return Capture(taken, offset, _name(tags.get(MAKE)), _name(tags.get(MODEL)))


def _of(image: Image.Image) -> Image.Exif:
    """Pillow would take XMP's orientation where EXIF has none; browsers and the EXIF standard know no such rule."""
    for key in ("XML:com.adobe.xmp", "xmp"):
        image.info.pop(key, None)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return Image.Image.getexif(image)  # a PNG's own method would decode all pixels first


def _text(value: Any) -> str:
    """EXIF says ASCII; cameras and programs write UTF-8 and Latin-1, too. Pillow gives bytes, or text as Latin-1."""
    if isinstance(value, str):
        value = value[:_READ].encode("latin-1", "replace")
    if not isinstance(value, bytes):
        return ""
    value = value[:_READ].partition(b"\0")[0]
    try:
        return str(value, "utf-8")
    except UnicodeDecodeError:
        return str(value, "latin-1")


def _name(value: Any) -> str | None:
    """Without what cannot be seen or steers the direction of writing: Unicode's categories C."""
    words = "".join(" " if unicodedata.category(letter)[0] in "CZ" else letter for letter in _text(value)).split()
    return " ".join(words)[:LONGEST].rstrip() or None


def _time(text: str) -> str | None:
    found = re.fullmatch(r"([0-9]{4}):([0-9]{2}):([0-9]{2}) ([0-9]{2}):([0-9]{2}):([0-9]{2})", text.strip())
    with suppress(ValueError):
        return datetime(*map(int, found.groups())).isoformat() if found else None  # type: ignore[arg-type]
    return None


def _offset(text: str) -> int | None:
    found = re.fullmatch(r"([+-])([0-9]{2}):([0-5][0-9])", text.strip())
    if not found:
        return None
    minutes = int(f"{found[1]}1") * (60 * int(found[2]) + int(found[3]))
    return minutes if _WESTMOST <= minutes <= _EASTMOST else None
