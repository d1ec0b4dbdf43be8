"""Whether two photos show the same picture: perceptual hashes of the whole and of parts of it, turned and mirrored.

The hash is ImageHash's `phash`: the signs of the lowest frequencies of the grey picture. It stays the same when a photo
is resized, compressed or brightened, and changes with what is shown. A cropped photo shows a part of the other, so each
whole is compared with parts of the other on a grid.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
from PIL import Image

from spark_apps.contract import BadSetting
from spark_apps.media import imaging
from spark_apps.media.camera_raw import Wanted

EDITION = 1
"""Raised when the same bytes give another `Look`."""
SIDE = 256
"""Pixels of the picture's long side that the hashes are made of."""
BITS = 64
SHARES = (0.95, 0.9, 0.85, 0.8)
"""Parts of the picture, as shares of its width and height."""
STEP = 0.05
"""Between the places of these parts, as a share of the width and height."""
TURNS = (None, *Image.Transpose)


@dataclass(frozen=True)
class Look:
    """What a photo looks like: hashes, uint8 [n, BITS / 8], of the `whole` in its eight positions, and of its `parts`,
    the whole first."""

    whole: Any
    parts: Any


def look(content: bytes, max_pixels: int) -> Look:
    """The look of a photo. Raises BadImage."""
    import imagehash  # an extra: only who looks for duplicates needs it, and SciPy with it

    photo = imaging.upright_rgb(content, max_pixels, least=SIDE, of_raw=Wanted(SIDE)).convert("L")
    photo.thumbnail((SIDE, SIDE))

    def of(picture: Image.Image) -> Any:
        return np.packbits(imagehash.phash(picture).hash.ravel())

    whole = [of(photo if turn is None else photo.transpose(turn)) for turn in TURNS]
    parts = [of(photo.crop(box)) for box in _boxes(*photo.size)]
    return Look(np.stack(whole), np.stack([whole[0], *parts]))


def check_installed() -> None:
    """Raises BadSetting when ImageHash is not there, before anything is read."""
    try:
        import imagehash  # noqa: F401
    except ImportError as error:
        raise BadSetting(
            "imagehash_missing", f"Photos cannot be compared: {error}.", "Install the extra image-features[duplicates]."
        ) from None


def looker(max_pixels: int) -> Callable[[bytes], Look]:
    """`look` as a `guard.Decode`: a function of a file's bytes alone."""
    return lambda content: look(content, max_pixels)


def distance(one: Look, other: Look) -> int:
    """In how many of `BITS` bits the hashes differ, at best: one's whole, however turned, and a part of the other."""
    return min(_nearest(one.whole, other.parts), _nearest(other.whole, one.parts))


def _nearest(wholes: Any, parts: Any) -> int:
    return int(np.bitwise_count(wholes[:, None] ^ parts[None]).sum(axis=2, dtype=np.int64).min())


def _boxes(width: int, height: int) -> Iterator[tuple[int, int, int, int]]:
    for share in SHARES:
        places = np.linspace(0, 1 - share, 1 + round((1 - share) / STEP))
        for left, top in product(places, places):
            yield (
                round(left * width),
                round(top * height),
                round((left + share) * width),
                round((top + share) * height),
            )
