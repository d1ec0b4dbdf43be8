"""What is kept of how a photo was taken, what is made of hostile EXIF data, and that its place is not read."""

from __future__ import annotations

import io
from typing import Any

import pillow_heif
import pytest
from PIL import Image

from spark_apps.media import exif, imaging

GPS_IFD = 0x8825
HERE = {1: "N", 2: (52.0, 30.0, 59.04), 3: "E", 4: (13.0, 22.0, 39.36), 18: "WGS-84-at-home"}
"""GPSLatitudeRef and GPSLatitude, GPSLongitudeRef and GPSLongitude, GPSMapDatum."""


def photo(tags: dict[int, Any], taken: dict[int, Any], kind: str = "JPEG", **gps: Any) -> bytes:
    """A small photo with these tags in its first directory, in its Exif one, and with a position in its GPS one."""
    data = Image.Exif()
    data.update(tags)
    data.get_ifd(exif.EXIF_IFD).update(taken)
    if gps:
        data.get_ifd(GPS_IFD).update(gps["place"])
    buffer = io.BytesIO()
    picture = Image.new("RGB", (40, 30), "teal")
    if kind == "HEIF":
        pillow_heif.from_pillow(picture).save(buffer, exif=data.tobytes())
    else:
        picture.save(buffer, kind, exif=data)
    return buffer.getvalue()


def read(content: bytes) -> exif.Capture:
    info = imaging.inspect(content, 10**6)
    return exif.Capture(info.taken_at, info.taken_offset_minutes, info.camera_make, info.camera_model)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "HEIF"])
def test_time_offset_and_camera_are_kept_of_every_format_that_has_them(kind: str) -> None:
    tags = {exif.MAKE: "Canon", exif.MODEL: "Canon EOS R6"}
    content = photo(tags, {exif.TAKEN: "2026:11:22 08:30:59", exif.TAKEN_OFFSET: "-03:30"}, kind)
    assert read(content) == exif.Capture("2026-11-22T08:30:59", -210, "Canon", "Canon EOS R6")


def test_a_photo_without_such_data_says_nothing() -> None:
    assert read(photo({}, {})) == exif.Capture()


@pytest.mark.parametrize(
    ("taken", "offset", "kept"),
    [
        ("2026:11:22 08:30:59", "", ("2026-11-22T08:30:59", None)),
        ("2026:11:22 08:30:59", "+14:00", ("2026-11-22T08:30:59", 840)),
        ("2026:11:22 08:30:59", "+23:00", ("2026-11-22T08:30:59", None)),
        ("2026:11:22 08:30:59", "Z", ("2026-11-22T08:30:59", None)),
        ("2026-11-22T08:30:59", "+01:00", (None, None)),
        ("0000:00:00 00:00:00", "+01:00", (None, None)),
        ("2026:02:30 08:30:59", "", (None, None)),
        ("    :  :     :  :  ", "", (None, None)),
        ("٢٠٢٦:11:22 08:30:59", "", (None, None)),
        (b"\xff" * 20, b"\xff\0", (None, None)),
    ],
)
def test_a_time_that_is_none_is_not_kept(taken: Any, offset: Any, kept: Any) -> None:
    found = read(photo({}, {exif.TAKEN: taken, exif.TAKEN_OFFSET: offset}))
    assert (found.taken_at, found.taken_offset_minutes) == kept


@pytest.mark.parametrize(
    ("written", "kept"),
    [
        ("  NIKON   CORPORATION ", "NIKON CORPORATION"),
        ("Möbius 寫真".encode(), "Möbius 寫真"),
        ("Möbius".encode("latin-1"), "Möbius"),
        (b"Cam\0hidden behind", "Cam"),
        (b"\x1b[31mred\x07\r\nnext", "[31mred next"),
        ("left\u202eright\ud800".encode("utf-8", "surrogatepass")[:15], None),
        ("a\u202eb\u200bc".encode(), "a b c"),
        ("x" * 500_000, "x" * exif.LONGEST),
        ("é".encode() * 2000, None),
        (" \0", None),
        (7, None),
    ],
)
def test_a_cameras_name_is_cleaned_and_bounded(written: Any, kept: str | None) -> None:
    make = exif._name(written)
    if kept is not None or not written or written in (" \0", 7):
        assert make == kept
    assert make is None or (len(make) <= exif.LONGEST and make.isprintable())


def test_what_is_no_exif_data_spoils_no_photo() -> None:
    content = photo({exif.MAKE: "Canon"}, {exif.TAKEN: "2026:11:22 08:30:59"})
    begin = content.index(b"Exif\0\0") + 6
    end = begin - 8 + int.from_bytes(content[begin - 8 : begin - 6], "big")
    for at in range(begin, end):
        for value in (0x00, 0x7F, 0xFF):
            info = imaging.inspect(content[:at] + bytes([value]) + content[at + 1 :], 10**6)
            assert (info.width, info.height) == (40, 30)


def test_where_a_photo_was_taken_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    get_ifd = Image.Exif.get_ifd

    def noted(self: Image.Exif, tag: int) -> dict[int, Any]:
        asked.append(tag)
        return get_ifd(self, tag)

    content = photo({exif.MAKE: "Canon"}, {}, place=HERE)
    assert Image.open(io.BytesIO(content)).getexif().get_ifd(GPS_IFD)[18] == "WGS-84-at-home"
    monkeypatch.setattr(Image.Exif, "get_ifd", noted)
    info = imaging.inspect(content, 10**6)
    assert info.camera_make == "Canon"
    assert asked == [exif.EXIF_IFD]
    assert "WGS" not in repr(info)
    assert "52" not in repr(info)
