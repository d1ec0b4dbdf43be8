"""Colours as a person sees them: what a file says of its own colours, converted to sRGB by littleCMS.

A file that says nothing, or nothing that can be read, is taken for sRGB.
"""

from __future__ import annotations

import io
import re
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from PIL import Image, ImageCms

from spark_apps.media import corrections, icc

STRIP = 512
"""Rows that are converted at a time where the result is another picture."""
NEAR = 2
"""Levels of 255. A profile that moves no colour further is one of sRGB: its many editions round by 1."""
MOST_BYTES = 4 * 2**20
"""Of a profile. Those of presses have up to 3 MB."""
SRGB_GAMMA = 45455
"""PNG, 11.3.2.5: what `gAMA` says for sRGB."""
_GAMMAS = range(10_000, 1_000_000)
_HEAD = 2**16
"""Where an AVIF names its colours."""
_SPACES = {
    "GRAY": ("1", "L", "LA", "La", "I", "F", "I;16", "I;16B", "I;16L", "I;16N"),
    "RGB": ("RGB", "RGBA", "RGBa", "RGBX", "P", "PA", "YCbCr"),
    "CMYK": ("CMYK",),
}
"""The modes of pictures that a profile of each space can be meant for."""


@dataclass(frozen=True)
class Conversion:
    """From the colours of one profile to sRGB.

    `space`: GRAY, RGB or CMYK. `apply`: a picture in RGB or RGBA to the same with other colours, perhaps in place; of
    the space CMYK one in CMYK to one in RGB.
    """

    space: str
    apply: Callable[[Image.Image], Image.Image]


def conversion(image: Image.Image, content: bytes) -> Conversion | None:
    """What gives a loaded picture the colours that a person sees; None: it has them, as far as can be told."""
    profile = _profile(image, content)
    found = _conversion(profile) if profile and len(profile) <= MOST_BYTES else None
    return found if found and image.mode in _SPACES[found.space] else None


def _profile(image: Image.Image, content: bytes) -> bytes | None:
    if image.format == "PNG":
        return _of_png(content)
    if profile := image.info.get("icc_profile"):
        return bytes(profile)
    if image.format == "AVIF":
        return _of_avif(content)
    if nclx := image.info.get("nclx_profile"):  # of HEIF
        return icc.of_numbers(nclx["color_primaries"], nclx["transfer_characteristics"])
    return None


def _of_png(content: bytes) -> bytes | None:
    """PNG, third edition, 13.13: `cICP` before `iCCP` before `sRGB` before `gAMA` with `cHRM`."""
    said: dict[bytes, bytes] = {}
    for kind, named, crc in corrections.chunks(content):
        if kind == b"IDAT":
            break
        if kind in (b"IHDR", b"cICP", b"iCCP", b"sRGB", b"gAMA", b"cHRM") and zlib.crc32(named) == crc:
            said.setdefault(kind, bytes(named[4:]))
    if len(numbers := said.get(b"cICP", b"")) == 4 and numbers[3] and (made := icc.of_numbers(*numbers[:2])):
        return made
    if profile := _unpacked(said.get(b"iCCP", b"")):
        return profile
    gamma = int.from_bytes(said.get(b"gAMA", b""), "big")
    if b"sRGB" in said or gamma not in _GAMMAS:
        return None
    curve = icc.SRGB_CURVE if gamma == SRGB_GAMMA else (100_000 / gamma,)
    if not said.get(b"IHDR", bytes(10))[9] & 2:
        return icc.grey(curve)
    corners = struct.unpack(">8I", said[b"cHRM"]) if len(said.get(b"cHRM", b"")) == 32 else ()
    return icc.rgb(tuple(corner / 100_000 for corner in corners) or icc.SRGB, curve)


def _unpacked(chunk: bytes) -> bytes:
    """The profile in an `iCCP` chunk; nothing where it is damaged or too large."""
    unpacker = zlib.decompressobj()
    try:
        profile = unpacker.decompress(chunk[chunk.index(b"\0") + 2 :], MOST_BYTES)
    except (ValueError, zlib.error):
        return b""
    return profile if unpacker.eof else b""


def _of_avif(content: bytes) -> bytes | None:
    """Pillow does not say what a file without a profile does: colours by number (ISO/IEC 23008-12, 6.5.5, `nclx`).

    Several pictures may lie in a file, as a map of gains beside the photo: they count where all say the same.
    """
    said = {struct.unpack(">HH", found) for found in re.findall(rb"colrnclx(.{4})", content[:_HEAD], re.DOTALL)}
    said = {numbers for numbers in said if 2 not in numbers}  # unspecified
    return icc.of_numbers(*said.pop()) if len(said) == 1 else None


@lru_cache(maxsize=16)
def _conversion(profile: bytes) -> Conversion | None:
    """None: it is a profile of sRGB, broken, or of a kind that describes no picture."""
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        space = source.profile.xcolor_space.strip()
        if source.profile.device_class not in ("scnr", "mntr", "prtr", "spac"):
            return None
        if space == "GRAY":
            return _grey(_transform(source, "L", "RGB"))
        if space == "RGB":
            return _rgb({mode: _transform(source, mode, mode) for mode in ("RGB", "RGBA")})
        if space == "CMYK":
            transform = _transform(source, "CMYK", "RGB")
            return Conversion(space, lambda image: _in_strips(image, transform))
    except (ImageCms.PyCMSError, OSError, TypeError, ValueError):
        pass
    return None


def _transform(source: ImageCms.ImageCmsProfile, mode: str, result: str) -> ImageCms.ImageCmsTransform:
    """The perceptual rendering with black on black, as browsers and viewers show a picture."""
    target, flags = ImageCms.createProfile("sRGB"), ImageCms.Flags.BLACKPOINTCOMPENSATION
    return ImageCms.buildTransform(source, target, mode, result, ImageCms.Intent.PERCEPTUAL, flags)


def _rgb(transforms: dict[str, ImageCms.ImageCmsTransform]) -> Conversion | None:
    axis = np.linspace(0, 255, 17).round().astype(np.uint8)
    cube = np.stack(np.meshgrid(axis, axis, axis), -1).reshape(17, -1, 3)
    if _same(transforms["RGB"].apply(Image.fromarray(cube)), cube):
        return None

    def apply(image: Image.Image) -> Image.Image:
        transforms[image.mode].apply_in_place(image)
        return image

    return Conversion("RGB", apply)


def _grey(transform: ImageCms.ImageCmsTransform) -> Conversion | None:
    """By a table, since a grey stays a grey."""
    ramp = np.arange(256, dtype=np.uint8).reshape(16, 16)
    seen = transform.apply(Image.fromarray(ramp))
    if _same(seen, ramp[..., None]):
        return None
    levels = np.asarray(seen)[..., 1].ravel().tolist()

    def apply(image: Image.Image) -> Image.Image:
        return image.point(levels * 3 + (list(range(256)) if image.mode == "RGBA" else []))

    return Conversion("GRAY", apply)


def _same(seen: Image.Image, stored: np.ndarray) -> bool:
    return bool(np.abs(np.asarray(seen).astype(int) - stored).max() <= NEAR)


def _in_strips(image: Image.Image, transform: ImageCms.ImageCmsTransform) -> Image.Image:
    """Because a large picture has no room for more copies."""
    canvas = Image.new("RGB", image.size)
    for top in range(0, image.height, STRIP):
        strip = image.crop((0, top, image.width, min(top + STRIP, image.height)))
        canvas.paste(transform.apply(strip), (0, top))
    return canvas
