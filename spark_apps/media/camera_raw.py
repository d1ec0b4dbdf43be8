"""Camera RAW by rawpy, which is LibRaw: the preview that lies in the file, or what is developed of the sensor's data.

A preview is the JPEG that the camera itself has made. Which of both is shown belongs to a model's preprocessing.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Literal

from PIL import Image

from spark_apps.contract import BadFile

GAP = 2
"""How many times the needed side the picture keeps at least when four pixels of the sensor become one of it."""
SRGB_CURVE = (2.4, 12.92)
"""IEC 61966-2-1, for LibRaw: the power, and the slope near black."""
MOST_TAGS = 1_000
"""Of a TIFF's first directory, that it is read for what it says."""

_OTHERS = {
    b"FUJIFILMCCD-RAW": "RAF",
    **dict.fromkeys((b"IIRO", b"IIRS", b"MMOR"), "ORF"),
    b"IIU\0": "RW2",
    b"\0MRM": "MRW",
    b"FOVb": "X3F",
    b"II\x1a\0\0\0HEAPCCDR": "CRW",
}
"""How those begin that are no TIFF. CR3 is a file of boxes."""
_TIFFS = (b"II*\0", b"MM\0*")
_LIKE_TIFFS = (b"IIRO", b"IIRS", b"MMOR", b"IIU\0")
"""A TIFF, but for these four bytes."""
_SUBFILE, _PHOTOMETRIC, _SUB_IFDS, _DNG_VERSION = 254, 262, 330, 50706
_COLOUR_FILTER_ARRAY = 32803

_CODES = {
    "LibRawFileUnsupportedError": "unsupported_format",
    "LibRawNotImplementedError": "unsupported_format",
    "LibRawIOError": "truncated",
    "LibRawUnsufficientMemoryError": "out_of_memory",
    "LibRawMemPoolOverflowError": "out_of_memory",
    "LibRawTooBigError": "out_of_memory",
}
"""By the names of rawpy's errors; any other is `corrupt`."""
_MESSAGES = {
    "unsupported_format": ", of a rare kind that LibRaw does not decode",
    "truncated": " that ends too early",
    "out_of_memory": ", and LibRaw needs more memory for it than there is",
    "corrupt": ", and damaged",
}


@dataclass(frozen=True)
class Wanted:
    """What is to be seen of a RAW photo: its preview, where it has one whose short side is `side` pixels or more; else,
    or where it is to be `developed`, the sensor's data."""

    side: int = 0
    developed: bool = False


PREVIEW = Wanted()
"""Of any size."""


def kind(content: bytes) -> str | None:
    """The name of the kind of RAW photo that a file says it is; None: it says nothing of the sort.

    DNG specification, chapter 4 (DNGVersion; the first directory holds a preview, the photo is in a sub-directory) and
    TIFF/EP (ISO 12234-2), which NEF, ARW and their like follow; CR2 says so in its ninth and tenth byte.
    """
    if content[4:12] == b"ftypcrx ":
        return "CR3"
    if not content.startswith(_TIFFS):
        return next((name for magic, name in _OTHERS.items() if content.startswith(magic)), None)
    if content[8:10] == b"CR":
        return "CR2"
    tags = _tags(content)
    if _DNG_VERSION in tags:
        return "DNG"
    reduced = tags.get(_SUBFILE, 0) & 1 and _SUB_IFDS in tags
    return "TIFF/EP" if reduced or tags.get(_PHOTOMETRIC) == _COLOUR_FILTER_ARRAY else None


def accepts(content: bytes) -> bool:
    """Whether a file says that it is a camera's RAW photo."""
    return kind(content) is not None


def _tags(content: bytes) -> dict[int, int]:
    """Those that tell, of the first directory: their first value, or where it lies. TIFF 6.0, section 2."""
    order: Literal["little", "big"] = "little" if content.startswith(b"II") else "big"
    at = int.from_bytes(content[4:8], order)
    count = min(int.from_bytes(content[at : at + 2], order), MOST_TAGS)
    found: dict[int, int] = {}
    for entry in range(at + 2, at + 2 + 12 * count, 12):
        tag, form = (int.from_bytes(content[start : start + 2], order) for start in (entry, entry + 2))
        if tag in (_SUBFILE, _PHOTOMETRIC, _SUB_IFDS, _DNG_VERSION):
            found.setdefault(tag, int.from_bytes(content[entry + 8 : entry + (10 if form == 3 else 12)], order))
    return found


class RawImage(Image.Image):
    """One whose header has been read. Width and height are those of the sensor's picture, before it is turned."""

    format = "RAW"

    @classmethod
    def of(cls, module: ModuleType, content: bytes) -> RawImage:
        """See `optional.Format.open`."""
        image = cls()
        image._module, image._kind = module, kind(content) or ""
        with _told(image._kind):
            image._photo = module.imread(io.BytesIO(content))
        image._size, image._mode = (image._photo.sizes.width, image._photo.sizes.height), "RGB"
        if content.startswith(_LIKE_TIFFS):
            content = content[:2] + _TIFFS[content.startswith(b"MM")][2:] + content[4:]
        if content.startswith(_TIFFS):
            image.info["exif"] = content
        elif shown := image.preview(0):
            with suppress(Exception), Image.open(io.BytesIO(shown), formats=("JPEG",)) as jpeg:
                image.info["exif"] = jpeg.info["exif"]
        return image

    _module: ModuleType
    _photo: Any
    _kind: str

    def preview(self, side: int) -> bytes | None:
        """The largest JPEG in the file, with EXIF data that turns it; None: its short side has less than `side` pixels,
        or there is none."""
        try:
            found = self._photo.extract_thumb()
            if found.format != self._module.ThumbFormat.JPEG:
                return None
            with Image.open(io.BytesIO(found.data), formats=("JPEG",)) as jpeg:
                return bytes(found.data) if min(jpeg.size) >= side else None
        except (self._module.LibRawError, OSError, SyntaxError, ValueError):
            return None

    def developed(self, side: int) -> Image.Image:
        """The sensor's picture in sRGB, upright, as it was exposed: with the camera's white balance, no brighter.

        Four pixels of the sensor become one, without any guess at colours, where that leaves `GAP` times `side` pixels
        on the short side; 0: they never do.

        Raises:
            BadFile: the data is damaged, ends too early, or is of a kind that LibRaw does not decode.
        """
        with _told(self._kind):
            pixels = self._photo.postprocess(
                use_camera_wb=True,
                no_auto_bright=True,
                output_color=self._module.ColorSpace.sRGB,
                output_bps=8,
                gamma=SRGB_CURVE,
                half_size=bool(side) and min(self.size) // 2 >= GAP * side,
            )
        return Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels).convert("RGB")

    def close(self) -> None:
        """Lets go of LibRaw's memory."""
        self._photo.close()
        super().close()


@contextmanager
def _told(kind: str) -> Iterator[None]:
    """rawpy's errors, whose texts are bytes, as `BadFile`."""
    try:
        yield
    except Exception as error:
        names = [one.__name__ for one in type(error).__mro__]
        if "LibRawError" not in names:
            raise
        code = next((_CODES[name] for name in names if name in _CODES), "corrupt")
        reason = error.args[0] if error.args else ""
        reason = reason.decode("utf-8", "replace") if isinstance(reason, bytes) else str(reason)
        raise BadFile(code, f"It is a camera's RAW photo ({kind}){_MESSAGES[code]}: {reason}.") from error
