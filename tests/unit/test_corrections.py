"""Healthy pictures that Pillow refuses or shows otherwise than their format says are taken as a person sees them."""

from __future__ import annotations

import csv
import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageFile

from spark_apps.media import imaging
from spark_apps.media.imaging import BadImage

LIMIT = 10**7
CASES = Path(__file__).parents[2].parent / "shared/data/cases"
COLOUR_MANAGED = ("C05", "C19")
"""Cases of embedded profiles and gamma, which are not applied."""
RAMP = np.arange(256, dtype=np.uint8).reshape(16, 16)


def shown(content: bytes) -> np.ndarray:
    return np.asarray(imaging.upright_rgb(content, LIMIT)).astype(int)


def code(content: bytes) -> str:
    with pytest.raises(BadImage) as caught:
        imaging.upright_rgb(content, LIMIT)
    return caught.value.code


def png(*extra: bytes, bits: int = 8, rows: np.ndarray = RAMP) -> bytes:
    data = b"".join(b"\0" + row.tobytes() for row in rows)
    header = struct.pack(">IIBBBBB", rows.shape[1], rows.shape[0], bits, 0, 0, 0, 0)
    parts = (chunk(b"IHDR", header), *extra, chunk(b"IDAT", zlib.compress(data)), chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def chunk(kind: bytes, data: bytes, spoilt: int = 0) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data) ^ spoilt)


def tiff(order: str, bits: int, photometric: int, data: bytes, *more: tuple[int, int]) -> bytes:
    """A grey TIFF of 16 x 16 in one strip; `order` is < or >; `more` are further tags of one short."""
    tags = sorted([(256, 16), (257, 16), (258, bits), (259, 1), (262, photometric), (277, 1), (278, 16), *more])
    strip = 8 + 2 + 12 * (len(tags) + 2) + 4
    entries = [(tag, 3, 1, struct.pack(order + "HH", value, 0)) for tag, value in tags]
    entries += [(273, 4, 1, struct.pack(order + "I", strip)), (279, 4, 1, struct.pack(order + "I", len(data)))]
    packed = [struct.pack(order + "HHI", *entry[:3]) + entry[3] for entry in sorted(entries)]
    head = (b"II" if order == "<" else b"MM") + struct.pack(order + "HI", 42, 8)
    return head + struct.pack(order + "H", len(packed)) + b"".join(packed) + bytes(4) + data


def packed(values: np.ndarray, bits: int, order: str) -> bytes:
    if bits == 16:
        return values.astype(order + "u2").tobytes()
    digits = "".join(f"{value:0{bits}b}" for value in values.ravel())
    return int(digits, 2).to_bytes(len(digits) // 8, "big")


def jpeg(mode: str = "RGB", **options: Any) -> bytes:
    target = io.BytesIO()
    noise = np.random.default_rng(7).integers(0, 60, (112, 128, 3))
    slopes = np.add.outer(np.arange(112), np.arange(128))[..., None] * (0.8, 0.5, 0.3)
    Image.fromarray((noise + slopes).astype(np.uint8)).convert(mode).save(target, "JPEG", **options)
    return target.getvalue()


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("photometric", [0, 1])
@pytest.mark.parametrize("bits", [1, 2, 4, 8, 12, 16])
def test_grey_tiffs_of_every_depth(bits: int, photometric: int, order: str) -> None:
    most = 2**bits - 1
    values = RAMP.astype(int) * most // 255
    wanted = np.rint((most - values if photometric == 0 else values) * (255 / most))
    found = shown(tiff(order, bits, photometric, packed(values, bits, order)))
    assert np.abs(found - wanted[..., None]).max() <= 1


def test_the_largest_sample_value_of_a_tiff() -> None:
    values = RAMP.astype(int) * 4095 // 255
    found = shown(tiff("<", 16, 1, packed(values, 16, "<"), (281, 4095)))
    assert np.abs(found - RAMP[..., None].astype(int)).max() <= 1


@pytest.mark.parametrize("tags", [[(330, 8), (254, 1)], [(50706, 1)]], ids=["NEF, ARW", "DNG"])
def test_a_raw_file_does_not_pass_as_its_preview(tags: list[tuple[int, int]]) -> None:
    content = tiff("<", 8, 1, RAMP.tobytes(), *tags)
    assert code(content) == "unsupported_format"
    with pytest.raises(BadImage, match="RAW"):
        imaging.inspect(content, LIMIT)


@pytest.mark.parametrize(
    "extra",
    [
        chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(2**21))),
        chunk(b"iTXt", b"Comment\0\1\0\0\0" + zlib.compress(bytes(2**21))),
        chunk(b"iCCP", b"profile\0\0" + zlib.compress(bytes(2**21))),
        chunk(b"tEXt", b"Comment\0" + b"x" * 2**21),
        chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(2**20 - 9))) * 70,
        *(chunk(kind, bytes(9), spoilt=1) for kind in (b"pHYs", b"tEXt", b"tIME", b"gAMA", b"eXIf")),
    ],
)
def test_ancillary_chunks_do_not_spoil_a_png(extra: bytes) -> None:
    assert np.array_equal(shown(png(extra))[..., 0], RAMP)


def test_a_transparent_grey_of_16_bits() -> None:
    rows = np.repeat(RAMP, 1).reshape(16, 16).astype(">u2") * 257
    found = shown(png(chunk(b"tRNS", struct.pack(">H", 100 * 257)), bits=16, rows=rows))
    assert np.array_equal(found[..., 0], np.where(RAMP == 100, 255, RAMP))


KINDS_OF_JPEG: list[dict[str, Any]] = [
    {},
    {"optimize": True},
    {"progressive": True},
    {"restart_marker_rows": 1},
    {"restart_marker_blocks": 3, "optimize": True},
]
END = b"\xff\xd9"


@pytest.mark.parametrize("options", KINDS_OF_JPEG)
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_a_jpeg_without_its_end_marker(options: dict[str, Any], mode: str) -> None:
    whole = jpeg(mode, **options)
    for cut in (2, 1):
        assert np.array_equal(shown(whole[:-cut]), shown(whole))
    assert np.array_equal(shown(whole[:-2] + bytes(500)), shown(whole))
    for cut in (10, len(whole) // 3):
        assert code(whole[:-cut]) == "truncated"


@pytest.mark.parametrize("options", KINDS_OF_JPEG)
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("share", [0.4, 0.6, 0.85])
def test_a_jpeg_that_was_cut_and_then_closed_or_filled_up(options: dict[str, Any], mode: str, share: float) -> None:
    whole = jpeg(mode, **options)
    # behind the last start of a scan a progressive JPEG lacks no pixel, but the last bit of some coefficients
    begin = whole[: int(share * (whole.rindex(b"\xff\xda") if options.get("progressive") else len(whole)))]
    rest = len(whole) - len(begin)
    for filled in (END, bytes(rest), bytes(rest - 2) + END, bytes(20) + END, bytes(5 * rest), b"\xff" * rest + END):
        assert code(begin + filled) in ("truncated", "corrupt"), filled[:30]  # zeros may fill a table up


@pytest.mark.parametrize("options", KINDS_OF_JPEG)
@pytest.mark.parametrize("grey", [0, 64, 127, 128, 255])
def test_a_jpeg_of_one_colour_is_whole_though_its_data_may_be_zeros(options: dict[str, Any], grey: int) -> None:
    for mode in ("L", "RGB"):
        target = io.BytesIO()
        Image.new(mode, (400, 300), grey if mode == "L" else (grey,) * 3).save(target, "JPEG", **options)
        assert abs(shown(target.getvalue()) - grey).max() <= 1


def test_a_jpeg_cut_short_is_still_drawn_where_that_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    whole = jpeg()
    assert shown(whole[: len(whole) // 2] + END).shape == shown(whole).shape


def test_a_progressive_jpeg_that_lacks_a_whole_scan() -> None:
    whole = jpeg(progressive=True)
    lacking = whole[: whole.rindex(b"\xff\xc4")]
    assert code(lacking) == "truncated"
    assert shown(lacking + END).shape == shown(whole).shape, "fewer scans may be meant, when the last one is complete"


@pytest.mark.parametrize("bits", [0, 8])
def test_the_fourth_channel_of_a_tga_means_what_its_header_says(bits: int) -> None:
    header = struct.pack("<BBBHHBHHHHBB", 0, 0, 2, 0, 0, 0, 0, 0, 16, 16, 32, 0x20 | bits)
    found = shown(header + np.dstack([RAMP] * 3 + [np.zeros_like(RAMP)]).tobytes())
    assert np.array_equal(found[..., 0], RAMP if bits == 0 else np.full_like(RAMP, 255))


def test_what_the_first_frame_of_a_gif_leaves_free_is_white() -> None:
    target = io.BytesIO()
    Image.fromarray(np.full((8, 8), 40, np.uint8)).save(target, "GIF")
    content = bytearray(target.getvalue())
    content[6:10] = struct.pack("<HH", 16, 12)
    start = content.index(b",\0\0\0\0")
    content[start + 1 : start + 5] = struct.pack("<HH", 3, 2)
    wanted = np.full((12, 16), 255)
    wanted[2:10, 3:11] = 40
    assert np.array_equal(shown(bytes(content))[..., 0], wanted)


@pytest.mark.parametrize(("grey", "alpha"), [(0, 0), (50, 100), (200, 255)])
def test_premultiplied_grey(grey: int, alpha: int) -> None:
    pixels = np.full((16, 16, 2), (grey * alpha // 255, alpha), np.uint8)
    target = io.BytesIO()
    Image.fromarray(pixels, "LA").save(target, "TIFF")
    unpremultiplied, premultiplied = (struct.pack("<HHIH", 338, 3, 1, kind) for kind in (2, 1))
    assert target.getvalue().count(unpremultiplied) == 1
    content = target.getvalue().replace(unpremultiplied, premultiplied)
    wanted = (grey * alpha + 255 * (255 - alpha)) / 255
    assert np.abs(shown(content) - wanted).max() <= 2


def test_orientation_counts_in_exif_alone() -> None:
    target = io.BytesIO()
    packet = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><d tiff:Orientation="6"/></x:xmpmeta>'
    Image.fromarray(RAMP[:8]).save(target, "JPEG", xmp=packet)
    assert imaging.inspect(target.getvalue(), LIMIT).exif_orientation is None
    assert shown(target.getvalue()).shape[:2] == (8, 16)


@pytest.mark.skipif(not CASES.exists(), reason="optional test data")
def test_the_pictures_of_the_manifest() -> None:
    wrong = {}
    for row in csv.DictReader((CASES / "MANIFEST.csv").read_text().splitlines()):
        name = row["file"]
        if row["right outcome"] != "the picture in `seen`" or name.startswith(COLOUR_MANAGED):
            continue
        with Image.open(CASES / row["seen"]) as seen:
            wanted = np.asarray(seen.convert("RGB")).astype(int)
        found = shown((CASES / name).read_bytes())
        if found.shape != wanted.shape or np.abs(found - wanted).mean() > 1:
            wrong[name] = found.shape
    assert not wrong
