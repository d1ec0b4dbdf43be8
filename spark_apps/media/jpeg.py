"""The segments of a JPEG, and whether its data is there to the end. Free of pyspark, Airflow and torch.

libjpeg shows a JPEG that was cut short and given an end marker, or filled up with zeros, without an error that Pillow
would pass on; and Pillow refuses one that lacks nothing but its end marker.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from hashlib import blake2b, shake_256

from PIL import Image

from spark_apps.media.exif import Held

START = b"\xff\xd8\xff"
_END = b"\xff\xd9"
_SCAN = 0xDA
_MISSING = (63, 64, 65, 127, 128, 129)
"""Level 128 in each channel as RGB; in CMYK it becomes 64."""
_MANY = b"\x55\xaa\x00\x0f\x3c"
"""Where data ends in zeros the picture may be white or black there, and two kinds of bits can look alike by chance."""
_PADDING = 64
"""So many zeros at the end of the data are a reason to look closer."""


def may_be_cut(content: bytes, corners: Sequence[Sequence[int]]) -> bool:
    """Whether there is a sign that a JPEG which was decoded ends too early, with an end marker or zeros put behind it.

    `corners`: of the picture, RGB as stored.

    libjpeg shows what is missing as level 128 in each channel, so a corner is of that; or the data ends in zeros, or a
    scan is missing. A healthy picture may have each of these: `whole` tells.
    """
    if any(max(corner) - min(corner) <= 1 and corner[0] in _MISSING for corner in corners):
        return True
    if content.endswith(bytes(_PADDING)) or content.endswith(bytes(_PADDING) + _END):
        return True
    frame = next((marker for _, marker, _ in segments(content) if marker in (0xC0, 0xC1, 0xC2)), 0)
    return frame == 0xC2 and not _all_scans(content)


def whole(content: bytes, show: Callable[[bytes], Held]) -> Held | None:
    """The photo in a JPEG which may be cut short; None: it is, or it is no JPEG. `show` decodes one with its end.

    ITU-T T.81, F.2.2.5: a decoder asks for bits as it needs them. So the pictures with different bits put at the end of
    the data are equal just when it needed none of them. Zeros at the end that no picture needs, while it does need some
    of them, were put there in place of the data.
    """
    if not content.startswith(START):
        return None
    end, markers = None, []
    for at, marker, _ in segments(content):
        markers.append(marker)
        end = at if marker == _END[1] else None
    if not _all_scans(content) and markers[-2:] != [_SCAN, _END[1]]:
        return None  # fewer scans may be meant, but then the end marker follows the last one
    data = content[:end]
    zeros = len(data) - len(data.rstrip(b"\0"))
    if zeros >= _PADDING:
        bare = data[:-zeros]
        photo = _same_with_any_end(bare + b"\0" if bare.endswith(b"\xff") else bare, show)
        if photo or _same_with_any_end(data[: -_PADDING // 2], show, _MANY):
            return photo
        return _same_with_any_end(data, show, _MANY)
    return _same_with_any_end(data, show)


def _same_with_any_end(data: bytes, show: Callable[[bytes], Held], first_bytes: bytes = b"\x55\xaa") -> Held | None:
    """The photo, if it is the same whatever follows the data: each bit of 55 differs from that of AA."""
    photo, first = None, None
    for byte in first_bytes:
        photo = None  # of 200 megapixels there is no room for two
        photo = show(data.rstrip(b"\xff") + _any_bits(byte) + _END)
        look = _digest(photo.picture)
        if first not in (None, look):
            return None
        first = look
    return photo


def _digest(picture: Image.Image) -> bytes:
    look = blake2b()
    for top in range(0, picture.height, 256):
        look.update(picture.crop((0, top, picture.width, min(top + 256, picture.height))).tobytes())
    return look.digest()


def _any_bits(byte: int) -> bytes:
    """Data to put behind a decoder's own, with each restart marker for the intervals that may be missing."""
    bits = bytes([byte]) * 8 + shake_256(bytes([byte])).digest(512).replace(b"\xff", b"\x7f")
    return bits + b"".join(bytes((0xFF, marker)) + bits[-64:] for marker in range(0xD0, 0xD8))


def _all_scans(content: bytes) -> bool:
    """Whether each coefficient of each component is in a scan, to its last bit (T.81, B.2.3 and G.1.1.1)."""
    missing: dict[int, set[int]] = {}
    for _, marker, segment in segments(content):
        if marker in (0xC0, 0xC1, 0xC2) and len(segment) > 6:
            missing = {number: set(range(64)) for number in segment[6::3]}
        if marker == _SCAN and len(segment) >= 6:
            first, last, bits = segment[-3:]
            if bits & 15 == 0:
                for number in segment[1 : 1 + 2 * segment[0] : 2]:
                    missing.get(number, set()).difference_update(range(first, last + 1))
    return bool(missing) and not any(missing.values())


def segments(content: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Place and second byte of the marker, and content, of each marker segment of a JPEG up to its end marker.

    ITU-T T.81, B.1.1: FF 00 is data, FF 01 and FF D0 to D8 stand alone, and FF may be repeated.
    """
    at = 2
    while 0 <= at < len(content) - 1:
        if content[at] != 0xFF:
            at = content.find(b"\xff", at)
            continue
        marker = content[at + 1]
        if marker == _END[1]:
            yield at, marker, b""
            return
        if marker in (0x00, 0x01, 0xFF) or 0xD0 <= marker <= 0xD8:
            at += 1 if marker == 0xFF else 2
            continue
        segment = content[at + 4 : at + 2 + int.from_bytes(content[at + 2 : at + 4], "big")]
        yield at, marker, segment
        at += 4 + len(segment)
