"""A photo as a camera keeps it: a DNG, with a mosaic of colours as its sensor sees them and a preview as JPEG.

Free of Airflow and Spark. Adobe's DNG specification 1.4, TIFF 6.0 and TIFF/EP name the tags.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Mapping

import numpy as np
from PIL import Image

_BYTES, _ASCII, _SHORT, _LONG, _RATIONAL, _SRATIONAL = 1, 2, 3, 4, 5, 10
_SIZES = {_BYTES: 1, _ASCII: 1, _SHORT: 2, _LONG: 4, _RATIONAL: 8, _SRATIONAL: 8}
Entry = tuple[int, bytes]
"""Type of a tag's values, and the values."""
Directory = dict[int, Entry]

XYZ_TO_SRGB = np.array([[3.2406, -1.5372, -0.4986], [-0.9689, 1.8758, 0.0415], [0.0557, -0.2040, 1.0570]])
"""IEC 61966-2-1: the camera of these files sees the primaries of sRGB."""
BRIGHTEST = 4095
"""Of 12 bits."""


def made(
    photo: Image.Image,
    preview: Image.Image | None = None,
    orientation: int = 1,
    taken: str = "",
    offset: str = "",
    camera: tuple[str, str] = ("Example", "Camera 1"),
) -> bytes:
    """A DNG of a photo in RGB as the sensor saw it, turned by `orientation` (EXIF) for whom it is shown to.

    `preview`: what lies in it as JPEG, None: nothing. `taken` and `offset`: EXIF's texts.
    """
    sensor = _mosaic(photo)
    pixels = sensor.astype("<u2").tobytes()
    width, height = sensor.shape[::-1]
    main: Directory = {
        254: _long(0), 256: _long(width), 257: _long(height), 258: _short(16), 259: _short(1), 262: _short(32803),
        277: _short(1), 278: _long(height), 279: _long(len(pixels)), 284: _short(1),
        33421: _short(2, 2), 33422: (_BYTES, bytes((0, 1, 1, 2))), 50714: _short(0), 50717: _short(BRIGHTEST),
    }  # fmt: skip
    exif: Directory = {}
    if taken:
        exif[36867] = _ascii(taken)
    if offset:
        exif[36881] = _ascii(offset)
    shown = _jpeg(preview) if preview else b""
    first: Directory = {
        271: _ascii(camera[0]), 272: _ascii(camera[1]), 274: _short(orientation),
        50706: (_BYTES, bytes((1, 4, 0, 0))), 50708: _ascii(" ".join(camera)),
        50721: _rationals(_SRATIONAL, *XYZ_TO_SRGB.ravel()), 50728: _rationals(_RATIONAL, 1, 1, 1), 50778: _short(21),
    }  # fmt: skip
    if not preview:
        return _file([first | main], [pixels], exif)
    first |= {
        254: _long(1), 256: _long(preview.width), 257: _long(preview.height), 258: _short(8, 8, 8), 259: _short(7),
        262: _short(6), 277: _short(3), 278: _long(preview.height), 279: _long(len(shown)), 284: _short(1),
    }  # fmt: skip
    return _file([first, main], [shown, pixels], exif)


def _mosaic(photo: Image.Image) -> np.ndarray:
    """Light of one colour for each pixel, uint16 [height, width], red left of green above green left of blue."""
    stored = np.asarray(photo, np.float64)[: photo.height // 2 * 2, : photo.width // 2 * 2] / 255
    light = np.where(stored <= 0.04045, stored / 12.92, ((stored + 0.055) / 1.055) ** 2.4)
    light = np.rint(light * BRIGHTEST).astype(np.uint16)
    sensor: np.ndarray = light[..., 1].copy()
    sensor[::2, ::2], sensor[1::2, 1::2] = light[::2, ::2, 0], light[1::2, 1::2, 2]
    return sensor


def _jpeg(image: Image.Image) -> bytes:
    target = io.BytesIO()
    image.save(target, "JPEG", quality=90)
    return target.getvalue()


def _short(*values: int) -> Entry:
    return _SHORT, struct.pack(f"<{len(values)}H", *values)


def _long(*values: int) -> Entry:
    return _LONG, struct.pack(f"<{len(values)}I", *values)


def _ascii(text: str) -> Entry:
    return _ASCII, text.encode() + b"\0"


def _rationals(kind: int, *values: float) -> Entry:
    return kind, b"".join(struct.pack("<ii", round(value * 10_000), 10_000) for value in values)


def _file(directories: list[Directory], pictures: list[bytes], exif: Directory) -> bytes:
    """The first directory leads to the others, and each to its picture."""
    if exif:
        directories = [directories[0] | {34665: _long(0)}, *directories[1:]]
    if len(directories) > 1:
        directories[0] = directories[0] | {330: _long(0)}
    directories = [directory | {273: _long(0)} for directory in directories]
    parts = [*directories, *([exif] if exif else [])]
    places, at = [], 8
    for part in parts:
        places.append(at)
        at += len(_written(part, at))
    for directory, picture in zip(directories, pictures, strict=True):
        directory[273] = _long(at)
        at += len(picture)
    if len(directories) > 1:
        directories[0][330] = _long(places[1])
    if exif:
        directories[0][34665] = _long(places[-1])
    written = [_written(part, place) for part, place in zip(parts, places, strict=True)]
    return b"".join([b"II*\0" + struct.pack("<I", 8), *written, *pictures])


def _written(directory: Mapping[int, Entry], at: int) -> bytes:
    """TIFF 6.0, section 2: the entries in order, none following, then the values that are longer than four bytes."""
    entries, behind = b"", b""
    end = at + 2 + 12 * len(directory) + 4
    for tag, (kind, values) in sorted(directory.items()):
        entries += struct.pack("<HHI", tag, kind, len(values) // _SIZES[kind])
        if len(values) <= 4:
            entries += values.ljust(4, b"\0")
        else:
            entries += struct.pack("<I", end + len(behind))
            behind += values + bytes(len(values) % 2)
    return struct.pack("<H", len(directory)) + entries + bytes(4) + behind
