"""Where Pillow refuses a healthy picture or shows it otherwise than its format says: what the format's rule gives.

Free of pyspark, Airflow and torch. Healthy files that Pillow shows rightly pass unchanged.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator

import numpy as np
from PIL import Image, TiffImagePlugin

_PNG = b"\x89PNG\r\n\x1a\n"
_PNG_KEPT = (b"tRNS", b"eXIf", b"CgBI")
_EXIF_TEXT = b"Raw profile type exif\0"
_MOST_TEXT = 2**20

_BITS, _PHOTOMETRIC, _MAX_SAMPLE, _SAMPLE_FORMAT = 258, 262, 281, 339
_SIGNED = 2

for _order, _photometric, _bits, _mode, _raw in (
    (b"II", 0, 12, "I;16", "I;12"),
    (b"MM", 0, 12, "I;16", "I;12"),
    (b"MM", 1, 12, "I;16", "I;12"),
    (b"MM", 0, 16, "I;16B", "I;16B"),
):  # what Pillow can unpack but does not list; 12 bits are packed alike in both byte orders (TIFF 6.0, p. 32)
    TiffImagePlugin.OPEN_INFO.setdefault((_order, _photometric, (1,), 1, (_bits,), ()), (_mode, _raw))


def readable(content: bytes) -> bytes:
    """The content as Pillow is to read it: a PNG without the chunks that do not change its picture.

    PNG specification, 4.3 and 13.3: a decoder may ignore any ancillary chunk, so neither a size above Pillow's limit
    for text nor a wrong CRC in one spoils the picture. Kept are transparency and orientation, when their CRC is right.
    """
    if not content.startswith(_PNG):
        return content
    kept, end = [memoryview(content)[:8]], 8
    whole = True
    for kind, named, crc in chunks(content):
        start, end = end, end + 8 + len(named)
        if kind[:1].isupper() or _wanted(kind, named, crc):
            kept.append(memoryview(content)[start:end])
        else:
            whole = False
    if whole:
        return content
    kept.append(memoryview(content)[end:])
    return b"".join(kept)


def chunks(content: bytes) -> Iterator[tuple[bytes, memoryview, int]]:
    """The chunks of a PNG that are there in full: kind, kind and data together, and the CRC that is given for these."""
    view, at = memoryview(content), 8
    while at + 12 <= len(content):
        end = at + 12 + int.from_bytes(view[at : at + 4], "big")
        if end > len(content):
            return
        yield bytes(view[at + 4 : at + 8]), view[at + 4 : end - 4], int.from_bytes(view[end - 4 : end], "big")
        at = end


def _wanted(kind: bytes, named: memoryview, crc: int) -> bool:
    if kind not in (*_PNG_KEPT, b"tEXt", b"zTXt") or zlib.crc32(named) != crc:
        return False
    if kind in _PNG_KEPT:
        return True
    if len(named) > _MOST_TEXT or bytes(named[4 : 4 + len(_EXIF_TEXT)]) != _EXIF_TEXT:
        return False
    if kind == b"tEXt":
        return True
    unpacker = zlib.decompressobj()
    try:
        unpacker.decompress(named[5 + len(_EXIF_TEXT) :], _MOST_TEXT)
    except zlib.error:
        return False
    return unpacker.eof


def opaque(image: Image.Image, content: bytes) -> bool:
    """Whether the alpha of a loaded picture means nothing.

    TGA 2.0: the header counts no attribute bits (field 5.6), or the extension area calls them undefined (field 24). In
    TGA, BMP and the BMPs within an ICO the fourth byte is often not set at all: where it is 0 throughout, browsers take
    it for no alpha.
    """
    if image.format not in ("TGA", "BMP", "DIB", "ICO") or image.mode not in ("RGBA", "LA"):
        return False
    if image.format == "TGA" and (content[17] & 15 == 0 or _attributes(content) in (0, 1, 2)):
        return True
    return image.getchannel("A").getextrema()[1] == 0 and not (image.format == "ICO" and _PNG in content)


def _attributes(content: bytes) -> int | None:
    """What the extension area of a TGA says of its alpha; None: it has none."""
    if not content.endswith(b"TRUEVISION-XFILE.\0"):
        return None
    area = int.from_bytes(content[-26:-22], "little")
    return content[area + 494] if 0 < area <= len(content) - 495 else None


def set_key(image: Image.Image, content: bytes) -> None:
    """Makes the transparent colour of a loaded PNG one of the levels that Pillow gives its pixels.

    PNG, 11.3.2.1: tRNS names it by samples of the PNG's own depth. Pillow widens 2 and 4 bits to 8 and cuts 16 bits of
    RGB to 8, but not the colour: of those 16 bits, all that share the upper 8 are taken for it.
    """
    key = image.info.get("transparency")
    if image.format != "PNG" or not content.startswith(_PNG) or b"IHDR" not in content[:64]:
        return
    bits = content[content.index(b"IHDR") + 12]
    if image.mode == "L" and bits in (2, 4) and isinstance(key, int):
        image.info["transparency"] = key % (1 << bits) * 255 // ((1 << bits) - 1)
    if image.mode == "RGB" and bits == 16 and isinstance(key, tuple):
        image.info["transparency"] = tuple(level >> 8 for level in key)


def covered(image: Image.Image) -> tuple[int, int, int, int] | None:
    """What the first frame of a GIF covers of its canvas, before loading; None: all of it, or no GIF.

    GIF89a, 23: browsers leave the rest transparent, whatever the background colour says.
    """
    if image.format != "GIF" or not getattr(image, "tile", None):
        return None
    box = image.tile[0][1]  # type: ignore[attr-defined]
    return None if box is None or tuple(box) == (0, 0, *image.size) else box


def signed(image: Image.Image) -> bool:
    """Whether a TIFF has one channel of 8 bits with a sign, which Pillow takes for none (TIFF 6.0, SampleFormat 2)."""
    return isinstance(image, TiffImagePlugin.TiffImageFile) and image.mode == "L" and _format(image) == _SIGNED


def _format(image: TiffImagePlugin.TiffImageFile) -> int:
    return int(max(image.tag_v2.get(_SAMPLE_FORMAT, (1,))))


def grey_deep(image: Image.Image) -> np.ndarray:
    """Brightness 0 to 255, float [height, width], of a picture with one channel of 32 bits, floats, or a sign.

    By the largest usual value that holds all: 65,535, of floats 1 or 255, of integers with a sign that of their depth
    (TIFF 6.0, SampleFormat); else from minimum to maximum. WhiteIsZero as in `grey_16`.
    """
    values, ceilings, inverted = np.asarray(image), (1, 255) if image.mode == "F" else (65535,), False
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        bits, kind = image.tag_v2.get(_BITS, (1,))[0], _format(image)
        inverted = image.tag_v2.get(_PHOTOMETRIC) == 0
        if kind == _SIGNED and bits in (8, 16):
            values, ceilings = values.astype(np.uint8).view(np.int8) if bits == 8 else values, ((1 << bits - 1) - 1,)
        elif image.mode == "I" and bits == 32 and kind != _SIGNED:
            values = values.view(np.uint32)  # Pillow has no mode for them
    brightness = _scaled(values.astype(np.float64), ceilings)
    return 255 - brightness if inverted else brightness


def _scaled(values: np.ndarray, ceilings: tuple[int, ...]) -> np.ndarray:
    """Brightness 0 to 255: by the smallest of the usual `ceilings` that holds all values, else from min to max."""
    values = np.nan_to_num(values, nan=0.0, posinf=0.0, neginf=0.0)
    low, high = float(values.min()), float(values.max())
    ceiling = next((ceiling for ceiling in ceilings if low >= 0 and high <= ceiling), None)
    if ceiling is not None:
        return values * (255 / ceiling)
    return (values - low) * (255 / ((high - low) or 1))


def grey_16(image: Image.Image) -> np.ndarray:
    """Brightness, uint8 [height, width], of a picture with one channel of up to 16 bits.

    TIFF 6.0: the brightest value is that of BitsPerSample, or MaxSampleValue where that is less; at photometric
    interpretation 0, WhiteIsZero, the least value is the brightest. Elsewhere 65,535. PNG, 11.3.2.1: pixels of the grey
    named by tRNS are transparent, so white.
    """
    values, ceiling, inverted = np.asarray(image), 65535, False
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        tags = image.tag_v2
        bits, most = tags.get(_BITS, (16,))[0], tags.get(_MAX_SAMPLE, 65535)
        most = most[0] if isinstance(most, tuple) else most
        ceiling = min((1 << bits) - 1, 65535)
        if 0 < most < ceiling and values.max(initial=0) <= most:
            ceiling = most
        inverted = tags.get(_PHOTOMETRIC) == 0
    shades = np.rint(np.arange(65536) * (255 / ceiling)).clip(0, 255).astype(np.uint8)
    if inverted:
        shades = 255 - shades
    key = image.info.get("transparency")
    if image.format == "PNG" and isinstance(key, int):
        shades[key] = 255
    brightness = np.empty(values.shape, np.uint8)
    for row, shade in zip(values, brightness, strict=True):  # at once, the indices would take eight bytes a pixel
        np.take(shades, row, out=shade)
    return brightness
