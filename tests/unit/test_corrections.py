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
"""Cases of embedded profiles and gamma, which test_color.py has: they are not applied to colours as stored."""
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


@pytest.mark.parametrize("type", ["<i2", ">i2", "i1", "<i4", "<u4", "<f4"])
def test_a_tiff_of_numbers_with_a_sign_of_32_bits_or_of_floats(type: str) -> None:
    kind = np.dtype(type)
    most = 1 if kind.kind == "f" else np.iinfo(kind).max
    form = {"u": 1, "i": 2, "f": 3}[kind.kind]
    order = ">" if type.startswith(">") else "<"
    values = (RAMP / 255 * most).astype(kind)
    found = shown(tiff(order, 8 * kind.itemsize, 1, values.tobytes(), (339, form)))
    assert np.abs(found[..., 0] - RAMP).max() <= 2
    if kind.kind == "i":  # below 0: from the least to the greatest
        low = ((RAMP / 255 - 0.5) * most).astype(kind)
        found = shown(tiff(order, 8 * kind.itemsize, 1, low.tobytes(), (339, form)))
        assert np.abs(found[..., 0] - RAMP).max() <= 2


def test_floats_where_white_is_zero() -> None:
    found = shown(tiff("<", 32, 0, (RAMP / 255).astype("<f4").tobytes(), (339, 3)))
    assert np.abs(found[..., 0] - (255 - RAMP)).max() <= 1


@pytest.mark.parametrize("compression", ["tiff_lzw", "tiff_adobe_deflate", "packbits", "zstd", "lzma"])
@pytest.mark.parametrize("type", ["u1", "<u2", "<i4", "<f4"])
def test_tiffs_are_the_same_under_every_compression(compression: str, type: str) -> None:
    values = RAMP.astype(type) * (257 if type == "<u2" else 1)
    plain, packed = io.BytesIO(), io.BytesIO()
    Image.fromarray(values).save(plain, "TIFF")
    Image.fromarray(values).save(packed, "TIFF", compression=compression)
    assert np.array_equal(shown(packed.getvalue()), shown(plain.getvalue()))


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_the_transparent_grey_of_a_png_is_of_its_own_depth(bits: int) -> None:
    levels = 1 << bits
    row = np.packbits([int(bit) for level in range(levels) for bit in f"{level:0{bits}b}"])
    header = struct.pack(">IIBBBBB", levels, 1, bits, 0, 0, 0, 0)
    for key in range(min(levels, 16)):
        parts = (chunk(b"IHDR", header), chunk(b"tRNS", struct.pack(">H", key)))
        data = (chunk(b"IDAT", zlib.compress(b"\0" + row.tobytes())), chunk(b"IEND", b""))
        found = shown(b"\x89PNG\r\n\x1a\n" + b"".join(parts + data))[0, :, 0]
        wanted = [255 if level == key else level * 255 // (levels - 1) for level in range(levels)]
        assert found.tolist() == wanted


def test_a_transparent_colour_of_16_bits() -> None:
    rows = np.zeros((1, 6, 3), ">u2")
    rows[0, :, 0] = np.arange(6) * 20 * 257
    header = struct.pack(">IIBBBBB", 6, 1, 16, 2, 0, 0, 0)
    parts = (chunk(b"IHDR", header), chunk(b"tRNS", struct.pack(">HHH", 40 * 257, 0, 0)))
    data = (chunk(b"IDAT", zlib.compress(b"\0" + rows.tobytes())), chunk(b"IEND", b""))
    found = shown(b"\x89PNG\r\n\x1a\n" + b"".join(parts + data))[0]
    assert found[:, 0].tolist() == [0, 20, 255, 60, 80, 100]
    assert found[:, 1].tolist() == [0, 0, 255, 0, 0, 0]


def test_a_png_of_apple_s_own_kind_is_no_damage() -> None:
    packer = zlib.compressobj(wbits=-15)
    data = packer.compress(b"".join(b"\0" + bytes(4 * 16) for _ in range(16))) + packer.flush()
    header = struct.pack(">IIBBBBB", 16, 16, 8, 6, 0, 0, 0)
    parts = (chunk(b"CgBI", b"\x50\0\x20\x06"), chunk(b"IHDR", header), chunk(b"IDAT", data), chunk(b"IEND", b""))
    with pytest.raises(BadImage, match="CgBI") as caught:
        shown(b"\x89PNG\r\n\x1a\n" + b"".join(parts))
    assert caught.value.code == "unsupported_format"


def tga(bits: int, alpha: int, attributes: int | None = None) -> bytes:
    header = struct.pack("<BBBHHBHHHHBB", 0, 0, 2, 0, 0, 0, 0, 0, 16, 16, 32, 0x20 | bits)
    content = header + np.dstack([RAMP] * 3 + [np.full_like(RAMP, alpha)]).tobytes()
    if attributes is None:
        return content
    area = struct.pack("<H", 495) + bytes(492) + bytes([attributes])
    return content + area + struct.pack("<II", len(content), 0) + b"TRUEVISION-XFILE.\0"


def bmp(alpha: int) -> bytes:
    header = struct.pack("<IiiHHIIiiII", 108, 16, -16, 1, 32, 3, 0, 0, 0, 0, 0)
    header += struct.pack("<IIII", 0xFF0000, 0xFF00, 0xFF, 0xFF000000).ljust(108 - 40, b"\0")
    pixels = np.dstack([RAMP] * 3 + [np.full_like(RAMP, alpha)]).tobytes()
    return b"BM" + struct.pack("<IHHI", 14 + 108 + len(pixels), 0, 0, 14 + 108) + header + pixels


def ico(alpha: int) -> bytes:
    pixels = np.dstack([RAMP[::-1]] * 3 + [np.full_like(RAMP, alpha)]).tobytes()
    inner = struct.pack("<IiiHHIIiiII", 40, 16, 32, 1, 32, 0, 0, 0, 0, 0, 0) + pixels + bytes(16 * 4)
    return struct.pack("<HHHBBBBHHII", 0, 1, 1, 16, 16, 0, 0, 1, 32, len(inner), 22) + inner


def test_an_alpha_that_means_nothing_hides_nothing() -> None:
    for content in (tga(0, 0), tga(0, 100), tga(8, 0), tga(8, 100, attributes=2), bmp(0), ico(0)):
        assert np.array_equal(shown(content)[..., 0], RAMP)


def test_an_alpha_that_means_something_is_laid_on_white() -> None:
    wanted = (RAMP * 100.0 + 255 * 155) / 255
    for content in (tga(8, 100), tga(8, 100, attributes=3), bmp(100), ico(100)):
        assert np.abs(shown(content)[..., 0] - wanted).max() <= 1
    target = io.BytesIO()
    Image.new("RGBA", (16, 16), (9, 9, 9, 0)).save(target, "ICO", sizes=[(16, 16)])
    assert b"PNG" in target.getvalue()
    assert shown(target.getvalue()).min() == 255


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


PLAIN, GREY = "C00-plain.png.png", "C03d-16bit-black-is-zero.tif.png"
DECIDED: dict[str, tuple[str, float]] = {
    # its BitsPerSample says 16 and no tag says less, so it is as dark as viewers show it: 4,095 of 65,535
    "C02c-12bit-in-16.tif": (GREY, 1 / 16),
    # 16 bits with a sign hold 32,767; its brightest value is 25,500
    "C03f-int16-signed.tif": (GREY, 25500 / 32767),
    # an alpha of 0 throughout was never set: a picture that nobody can see is no photo
    "C08b-alpha0-8-attribute-bits.tga": (PLAIN, 1),
    # the fourth byte of a plain BMP is not used (BITMAPINFOHEADER)
    "C08c-bmp32-plain.bmp": (PLAIN, 1),
    # every pixel is there, in 256 colours; what is in `seen` has fewer
    "C10i-gif-no-trailer.gif": (PLAIN, 1),
    # the IDAT is whole, and what the unknown chunk would add is not known to any viewer
    "C14e-unknown-critical-chunk.png": (PLAIN, 1),
    # it is called Apple's own and is none: its data is that of any PNG. One that is, is unsupported_format
    "C14f-text-before-ihdr-apple-cgbi.png": (PLAIN, 1),
}
"""Cases that the manifest leaves open: the picture and the factor of its brightness."""


@pytest.mark.skipif(not CASES.exists(), reason="optional test data")
@pytest.mark.parametrize("name", DECIDED)
def test_a_case_that_the_manifest_leaves_open(name: str) -> None:
    seen, factor = DECIDED[name]
    wanted = np.asarray(Image.open(CASES / "seen" / seen).convert("RGB")).astype(int) * factor
    assert np.abs(shown((CASES / name).read_bytes()) - wanted).mean() < (3 if name.endswith(".gif") else 1)
