"""JPEG XL by pillow-jxl-plugin's decoder, with the size read first: the plugin decodes a picture when it is opened."""

from __future__ import annotations

import io
from types import ModuleType
from typing import Any

import numpy as np
from PIL import Image

from spark_apps.contract import BadFile

_CODESTREAM = b"\xff\x0a"
_RATIOS = ((1, 1), (12, 10), (4, 3), (3, 2), (16, 9), (5, 4), (2, 1))
_SIZE_BITS = (9, 13, 18, 30)


def accepts(head: bytes) -> bool:
    """Whether a file begins like JPEG XL: a bare codestream (ISO/IEC 18181-1) or a container (18181-2)."""
    return head.startswith(_CODESTREAM) or head[4:8] == b"JXL "


def size(content: bytes) -> tuple[int, int]:
    """Width and height in pixels. ISO/IEC 18181-1, SizeHeader: numbers of few bits, the lowest first.

    Raises ValueError where there is no such header.
    """
    codestream = _codestream(content)[:16]
    if not codestream.startswith(_CODESTREAM) or len(codestream) < 16:
        raise ValueError("truncated before the header of the JPEG XL picture")
    bits, at = int.from_bytes(codestream, "little"), 16

    def read(count: int) -> int:
        nonlocal at
        at += count
        return bits >> (at - count) & ((1 << count) - 1)

    small = read(1)

    def side() -> int:
        return 8 * (read(5) + 1) if small else read(_SIZE_BITS[read(2)]) + 1

    height, ratio = side(), read(3)
    if not ratio:
        return side(), height
    across, down = _RATIOS[ratio - 1]
    return height * across // down, height


def _codestream(content: bytes) -> bytes:
    """Its first part. ISO/IEC 18181-2: a box `jxlc`, or several `jxlp` that begin with their number."""
    if content.startswith(_CODESTREAM):
        return content
    at = 0
    while at + 8 <= len(content):
        length, kind, begin = int.from_bytes(content[at : at + 4], "big"), content[at + 4 : at + 8], at + 8
        if length == 1:
            length, begin = int.from_bytes(content[begin : begin + 8], "big"), begin + 8
        if kind in (b"jxlc", b"jxlp"):
            return content[begin + (4 if kind == b"jxlp" else 0) :][:64]
        if length < 8:  # to the end of the file, or damaged
            break
        at += length
    return b""


class JxlImage(Image.Image):
    """One that is decoded when it is loaded. Its mode is known then, and called RGB before."""

    format = "JXL"

    @classmethod
    def of(cls, module: ModuleType, content: bytes) -> JxlImage:
        """See `optional.Format.open`."""
        image = cls()
        image._size, image._mode = size(content), "RGB"
        image._undecoded = (module, content)
        return image

    _undecoded: tuple[ModuleType, bytes] | None = None

    def load(self) -> Any:
        """Decodes it, in this thread alone. Turned as the codestream says, or as the EXIF tag of a repacked JPEG does;
        another picture's EXIF tag does not count (ISO/IEC 18181-2, 9.3)."""
        if self._undecoded:
            (module, content), self._undecoded = self._undecoded, None
            try:
                repacked, facts, data, profile, _ = module.Decoder(num_threads=0)(content)
            except RuntimeError as error:  # it says no more than that
                raise BadFile("corrupt", "Its JPEG XL data is damaged or ends too early.") from error
            if repacked:
                image: Image.Image = Image.open(io.BytesIO(data), formats=("JPEG",))
                image.load()
            elif facts.mode == "F;16":  # of which Pillow has no mode
                grey = np.frombuffer(data, np.float16).reshape(facts.height, facts.width)
                image = Image.fromarray(grey.astype(np.float32))
            else:
                image = Image.frombytes(facts.mode, (facts.width, facts.height), data)
            if profile:
                image.info.setdefault("icc_profile", profile)
            self.im, self._mode, self._size, self.info = image.im, image.mode, image.size, image.info
        return super().load()
