"""What is no picture here is told apart: another format, a damaged picture, no image; and its row says what it is."""

from __future__ import annotations

import base64
import bz2
import csv
import gzip
import io
import lzma
import random
import struct
import tarfile
import time
import zipfile
from pathlib import Path

import numpy as np
import puremagic
import pytest
from PIL import Image

from spark_apps.media import imaging, signatures
from spark_apps.media.imaging import BadImage

CASES = Path(__file__).parents[2].parent / "shared/data/cases"
LIMIT = 10**7
UNSUPPORTED, NO_IMAGE, DAMAGED = "unsupported_format", "not_an_image", "corrupt"


def refusal(content: bytes) -> tuple[str, str]:
    with pytest.raises(BadImage) as caught:
        imaging.upright_rgb(content, LIMIT)
    return caught.value.code, caught.value.message


def encoded(format: str, **options: object) -> bytes:
    target = io.BytesIO()
    noise = np.random.default_rng(7).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(target, format, **options)
    return target.getvalue()


def with_frame(marker: int, bits: int = 8) -> bytes:
    """A JPEG whose frame says that it is of another kind."""
    content = bytearray(encoded("JPEG"))
    at = content.index(b"\xff\xc0")
    content[at + 1], content[at + 4] = marker, bits
    return bytes(content)


def brands(*names: bytes) -> bytes:
    box = b"ftyp" + names[0] + bytes(4) + b"".join(names[1:])
    return struct.pack(">I", len(box) + 4) + box + bytes(200)


def tiff(samples: int, bits: int, number: int, big: bool = False) -> bytes:
    """Of 4 x 4 pixels; `number` is the SampleFormat: 1 unsigned, 2 signed, 3 float."""
    count = struct.pack("<Q" if big else "<I", samples)
    values = struct.pack("<4H", *[bits] * min(samples, 4), *[0] * (4 - min(samples, 4)))[: 8 if big else 4]
    shorts = [(256, 4), (257, 4), (259, 1), (262, 2 if samples > 2 else 1), (277, samples), (278, 4), (339, number)]
    one = struct.pack("<Q" if big else "<I", 1)
    width = 8 if big else 4
    entries = [struct.pack("<HH", tag, 3) + one + struct.pack("<H", value).ljust(width, b"\0") for tag, value in shorts]
    first = (16 + 8 if big else 8 + 2) + (len(entries) + 3) * (20 if big else 12) + width
    inline = 2 * samples <= width
    place = values[:width] if inline else struct.pack("<Q" if big else "<I", first)
    entries.append(struct.pack("<HH", 258, 3) + count + place)
    strip = first + 2 * samples
    for tag, value in ((273, strip), (279, 16 * samples * bits // 8)):
        entries.append(struct.pack("<HH", tag, 4) + one + struct.pack("<I", value).ljust(width, b"\0"))
    entries.sort(key=lambda entry: struct.unpack("<H", entry[:2]))
    head = b"II+\0\x08\0\0\0" + struct.pack("<Q", 16) if big else b"II*\0\x08\0\0\0"
    listed = struct.pack("<Q" if big else "<H", len(entries)) + b"".join(entries) + bytes(width)
    return head + listed + struct.pack(f"<{samples}H", *[bits] * samples) + bytes(16 * samples * bits // 8)


def photoshop(version: int, bits: int) -> bytes:
    return b"8BPS" + struct.pack(">H6xHIIHH", version, 3, 4, 4, bits, 3) + bytes(200)


def zipped(name: str, content: bytes) -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        archive.writestr(name, content)
    return target.getvalue()


def tarred() -> bytes:
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("photo.jpg"))
    return target.getvalue()


def bmp(bits: int, compression: int) -> bytes:
    return (
        b"BM" + struct.pack("<IIIIiiHHIIiiII", 200, 0, 54, 40, 4, 4, 1, bits, compression, 0, 0, 0, 0, 0) + bytes(150)
    )


PHOTO = encoded("JPEG")

MADE: dict[str, tuple[bytes, str, str]] = {
    # an image format that is not decoded
    "CR3": (brands(b"crx ", b"isom"), UNSUPPORTED, "CR3"),
    "CRW": (b"II\x1a\0\0\0HEAPCCDR" + bytes(99), UNSUPPORTED, "CRW"),
    "ORF": (b"IIRO\x08\0\0\0" + bytes(99), UNSUPPORTED, "ORF"),
    "ORF, older": (b"MMOR\0\0\0\x08" + bytes(99), UNSUPPORTED, "ORF"),
    "RW2": (b"IIU\0\x18\0\0\0" + bytes(99), UNSUPPORTED, "RW2"),
    "RAF": (b"FUJIFILMCCD-RAW 0201" + bytes(99), UNSUPPORTED, "RAF"),
    "MRW": (b"\0MRM" + bytes(99), UNSUPPORTED, "MRW"),
    "X3F": (b"FOVb" + bytes(99), UNSUPPORTED, "X3F"),
    "EXR": (b"v/1\x01\x02\0\0\0" + bytes(99), UNSUPPORTED, "OpenEXR"),
    "HDR": (b"#?RADIANCE\nFORMAT=32-bit_rle_rgbe\n\n-Y 4 +X 4\n" + bytes(64), UNSUPPORTED, "Radiance"),
    "HDR, another name": (b"#?RGBE\n\n-Y 4 +X 4\n" + bytes(64), UNSUPPORTED, "Radiance"),
    "JPEG XR": (b"II\xbc\x01\x08\0\0\0" + bytes(99), UNSUPPORTED, "JPEG XR"),
    "JPEG XS": (b"\xff\x10\xff\x50" + bytes(99), UNSUPPORTED, "JPEG XS"),
    "DICOM": (bytes(128) + b"DICM" + bytes(99), UNSUPPORTED, "DICOM"),
    "FITS": (b"SIMPLE  =                    T".ljust(2880), UNSUPPORTED, "FITS"),
    "DjVu": (b"AT&TFORM\0\0\1\0DJVU" + bytes(99), UNSUPPORTED, "DjVu"),
    "DPX": (b"XPDS" + bytes(99), UNSUPPORTED, "DPX"),
    "XCF": (b"gimp xcf v011\0" + bytes(99), UNSUPPORTED, "GIMP"),
    "ILBM": (b"FORM\0\0\0\x40ILBM" + bytes(99), UNSUPPORTED, "IFF"),
    "ICNS": (b"icns\0\0\x08\0ic07" + bytes(99), UNSUPPORTED, "ICNS"),
    "CUR": (struct.pack("<HHHBBBBHHII", 0, 2, 1, 16, 16, 0, 0, 0, 0, 40, 22) + bytes(99), UNSUPPORTED, "cursor"),
    "WMF": (b"\xd7\xcd\xc6\x9a\0\0" + bytes(99), UNSUPPORTED, "metafile"),
    "EMF": (b"\1\0\0\0l\0\0\0" + bytes(32) + b" EMF" + bytes(99), UNSUPPORTED, "EMF"),
    "MNG": (b"\x8aMNG\r\n\x1a\n" + bytes(99), UNSUPPORTED, "MNG"),
    "Photo CD": (bytes(2048) + b"PCD_IPI" + bytes(99), UNSUPPORTED, "Photo CD"),
    "Krita": (zipped("mimetype", b"application/x-krita"), UNSUPPORTED, "Krita"),
    "EPS": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", UNSUPPORTED, "EPS"),
    "PDF": (b"%PDF-1.7\n", UNSUPPORTED, "PDF"),
    "SVG": (b'<svg xmlns="http://www.w3.org/2000/svg"/>', UNSUPPORTED, "SVG"),
    "SVG, declared": (
        b'\xef\xbb\xbf<?xml version="1.0"?>\n<!-- by hand -->\n<!DOCTYPE svg [ <!ENTITY a "b"> ]>\n<svg:svg>',
        UNSUPPORTED,
        "SVG",
    ),
    "XBM": (b"#define icon_width 16\n#define icon_height 7\n", UNSUPPORTED, "XBM"),
    "XPM": (b"/* XPM */\nstatic char *icon[] = {", UNSUPPORTED, "XPM"),
    # a kind of a decoded format that is not decoded
    **{
        f"JPEG, SOF{marker - 0xC0}": (with_frame(marker), UNSUPPORTED, "lossless")
        for marker in (0xC3, 0xC7, 0xCB, 0xCF)
    },
    "JPEG, hierarchical": (with_frame(0xC5), UNSUPPORTED, "hierarchical"),
    "JPEG, 12 bits": (with_frame(0xC1, 12), UNSUPPORTED, "12 bits"),
    "JPEG-LS": (with_frame(0xF7), UNSUPPORTED, "JPEG-LS"),
    "TIFF, RGB of floats": (tiff(3, 32, 3), UNSUPPORTED, "3 samples a pixel, floats of 32 bits"),
    "TIFF, five bands": (tiff(5, 16, 1), UNSUPPORTED, "5 samples a pixel, integers of 16 bits"),
    "TIFF, RGB of 12 bits": (tiff(3, 12, 1), UNSUPPORTED, "3 samples a pixel, integers of 12 bits"),
    "TIFF, 64 bits": (tiff(1, 64, 3), UNSUPPORTED, "floats of 64 bits"),
    "BigTIFF, RGB of floats": (tiff(3, 32, 3, big=True), UNSUPPORTED, "BigTIFF|floats of 32 bits"),
    "BigTIFF, its head alone": (b"MM\0+\0\x08\0\0" + struct.pack(">Q", 16) + bytes(99), UNSUPPORTED, "BigTIFF"),
    "PSD, 16 bits": (photoshop(1, 16), UNSUPPORTED, "16 bits"),
    "PSD, 32 bits": (photoshop(1, 32), UNSUPPORTED, "32 bits"),
    "PSB": (photoshop(2, 8), UNSUPPORTED, "PSB"),
    "BMP, 64 bits": (bmp(64, 0), UNSUPPORTED, "(?i)unsupported"),
    "BMP, a PNG inside": (bmp(24, 5), UNSUPPORTED, "(?i)unsupported"),
    # damage
    "JPEG behind a line break": (b"\r\n" + PHOTO, DAMAGED, "JPEG behind 2 bytes"),
    "JPEG behind a byte order mark": (b"\xef\xbb\xbf" + PHOTO, DAMAGED, "JPEG behind 3 bytes"),
    "PNG behind blanks": (b"  " + encoded("PNG"), DAMAGED, "PNG"),
    "JPEG copied as text": (PHOTO.decode("utf-8", "replace").encode(), DAMAGED, "as text"),
    "JPEG copied as Latin-1": (PHOTO.decode("latin-1").encode(), DAMAGED, "as text"),
    "PNG copied as text": (encoded("PNG").decode("utf-8", "replace").encode(), DAMAGED, "as text"),
    "PNG with other line breaks": (encoded("PNG").replace(b"\r\n", b"\n"), DAMAGED, "PNG"),
    "GIF": (b"GIF89a\x10\0", DAMAGED, "."),
    "TIFF without a directory": (b"II*\0\xff\xff\xff\x7f", DAMAGED, "TIFF"),
    "AVIF": (brands(b"avif", b"mif1"), DAMAGED, "AVIF"),
    **{
        f"HEIF, brand {name.decode()}": (brands(name, b"mif1", b"heic"), DAMAGED, "HEIF")
        for name in b"heic heix heim heis hevc hevx hevm hevs mif1 mif2 mif3 msf1 avci avcs vvic j2ki miaf".split()
    },
    "HEIF, by a brand that it is compatible with": (brands(b"Xyz1", b"heic"), DAMAGED, "HEIF"),
    "JPEG XL": (b"\0\0\0\x0cJXL \r\n\x87\n" + bytes(99), "truncated", "JPEG XL"),
    "JPEG XL, bare": (b"\xff\x0a" + bytes(99), DAMAGED, "JPEG XL"),
    "AVIF, second brand": (brands(b"mif1", b"avif"), DAMAGED, "AVIF"),
    "QOI": (b"qoif" + bytes(20), DAMAGED, "QOI|size"),
    # no image
    **{
        f"video, brand {name.decode()}": (brands(name.ljust(4), b"isom"), NO_IMAGE, "video")
        for name in b"isom iso5 mp41 mp42 M4V qt 3gp5 avc1 dash".split()
    },
    "sound, brand M4A": (brands(b"M4A ", b"isom"), NO_IMAGE, "sound"),
    "old QuickTime": (b"\0\0\x10\0moov" + bytes(99), NO_IMAGE, "video"),
    "AVI": (b"RIFF\x24\0\0\0AVI LIST" + bytes(99), NO_IMAGE, "video"),
    "Matroska": (b"\x1aE\xdf\xa3\x9fB\x86\x81\x01B\xf7\x81\x01" + bytes(99), NO_IMAGE, "video"),
    "MPEG": (b"\0\0\1\xba" + bytes(99), NO_IMAGE, "video"),
    "MP3": (b"ID3\x03" + bytes(99), NO_IMAGE, "sound"),
    "WAV": (b"RIFF\x24\0\0\0WAVEfmt " + bytes(99), NO_IMAGE, "sound"),
    "AIFF": (b"FORM\0\0\0\x40AIFF" + bytes(99), NO_IMAGE, "sound"),
    "gzip": (gzip.compress(PHOTO), NO_IMAGE, "compressed"),
    "bzip2": (bz2.compress(PHOTO), NO_IMAGE, "compressed"),
    "xz": (lzma.compress(PHOTO), NO_IMAGE, "compressed"),
    "zip": (zipped("photo.jpg", PHOTO), NO_IMAGE, "ZIP"),
    "tar": (tarred(), NO_IMAGE, "packed"),
    "7-Zip": (b"7z\xbc\xaf'\x1c" + bytes(99), NO_IMAGE, "packed"),
    "base64": (base64.b64encode(PHOTO), NO_IMAGE, "base64"),
    "base64 in lines": (base64.encodebytes(encoded("PNG")), NO_IMAGE, "base64"),
    "data URI": (b"data:image/jpeg;base64," + base64.b64encode(PHOTO), NO_IMAGE, "base64"),
    "Git LFS": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", NO_IMAGE, "Git LFS"),
    "HTML": (b"<!DOCTYPE html><html><body>Sign in</body></html>", NO_IMAGE, "web page"),
    "HTML, unpolished": (b"\n<HTML>\n<img src=svg><svg>", NO_IMAGE, "web page"),
    "XHTML": (b'<?xml version="1.0"?><!DOCTYPE html><html xmlns="x"/>', NO_IMAGE, "web page"),
    "XML": (b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>', NO_IMAGE, "XML"),
    "AppleDouble": (b"\0\x05\x16\x07\0\2\0\0Mac OS X" + bytes(99), NO_IMAGE, "AppleDouble"),
    "program": (b"\x7fELF\x02\x01\x01" + bytes(99), NO_IMAGE, "ELF"),
    # what a short signature would take for an image
    "text, BM": (b"BMW is a car.", NO_IMAGE, "text"),
    "text, P1": (b"P1 are you there?", NO_IMAGE, "text"),
    "text, GIMP": (b"This was written by: GIMP", NO_IMAGE, "text"),
    "text, DDS": (b"DDS is a degree.", NO_IMAGE, "text"),
    "text, free": (b"The free text of a file", NO_IMAGE, "text"),
    "source in C": (b"#define DEBUG 1\n", NO_IMAGE, "text"),
    "text in UTF-16": ("Grüße".encode("utf-16"), NO_IMAGE, "text"),
    "text, P5": (b"P5 is a road.", NO_IMAGE, "text"),
    "numbers": (struct.pack("<40I", *[1] * 40), NO_IMAGE, "not an image"),
    "zeros": (bytes(5000), NO_IMAGE, "not an image"),
    "RIFF of an unknown kind": (b"RIFF\x24\0\0\0XXXX" + bytes(99), NO_IMAGE, "not an image"),
    "FORM of an unknown kind": (b"FORM\0\0\0\x24XXXX" + bytes(99), NO_IMAGE, "not an image"),
}


@pytest.mark.parametrize("name", MADE)
def test_every_kind_has_its_code_and_its_name(name: str) -> None:
    content, code, word = MADE[name]
    found, message = refusal(content)
    assert found == code, message
    with pytest.raises(BadImage, match=word):
        imaging.upright_rgb(content, LIMIT)


@pytest.mark.parametrize("big", [False, True])
def test_the_tiffs_of_this_test_are_whole(big: bool) -> None:
    assert imaging.upright_rgb(tiff(3, 8, 1, big), LIMIT).size == (4, 4)


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP", "JPEG2000", "AVIF", "QOI"])
def test_a_damaged_header_is_no_unsupported_format(format: str) -> None:
    content = encoded(format)
    whole = imaging.upright_rgb(content, LIMIT).size
    rng = random.Random(format)
    for _ in range(200):
        spoilt = bytearray(content)
        for _ in range(8):
            spoilt[rng.randrange(12, 60)] = rng.randrange(256)
        try:
            assert imaging.upright_rgb(bytes(spoilt), LIMIT).size or whole
        except BadImage as bad:
            assert bad.code != NO_IMAGE, spoilt[:60]


def test_no_signature_makes_it_raise() -> None:
    rng = random.Random(0)
    for magic in puremagic.magic_header_array:
        content = rng.randbytes(min(magic.offset, 100)) + magic.byte_match + rng.randbytes(rng.randrange(200))
        assert signatures.told(content).code in (UNSUPPORTED, NO_IMAGE, DAMAGED)


SLOW = {
    "markers": b"\xff\xd8" + b"\xff\xe1\0\2" * 10**5,
    "a directory of nonsense": b"II*\0\x08\0\0\0" + b"\xff" * 10**6,
    "comments": b"<!--" * 2000,
    "declarations": b"<?a?> " * 700,
    "entities": b"<!doctype a[ " * 300 + b"]>" * 9,
    "blanks": b" " * 10**6,
    "almost base64": b"/9j/" + b"A \n" * 2000 + b"!",
    "brands": b"\xff\xff\xff\xffftyp" + b"abcd" * 10**5,
}


@pytest.mark.parametrize("name", SLOW)
def test_no_content_takes_long(name: str) -> None:
    begun = time.process_time()
    assert signatures.told(SLOW[name]).code in (DAMAGED, NO_IMAGE)
    assert time.process_time() - begun < 5


WORDS = {
    "b64": "base64",
    "bigtiff": "BigTIFF",
    "cr3": "CR3",
    "cur": "cursor",
    "dicom": "DICOM",
    "djvu": "DjVu",
    "emf": "EMF",
    "fits": "FITS",
    "gzip-jpg": "compressed",
    "hdr": "Radiance",
    "heic": "HEIF",
    "heif": "HEIF",
    "html": "web page",
    "icns": "ICNS",
    "jxr": "JPEG XR",
    "lfs": "Git LFS",
    "mov": "video",
    "mp4": "video",
    "orf": "RAW",
    "raf": "RAW",
    "space-jpg": "JPEG",
    "wmf": "metafile",
    "xhtml": "web page",
    "NEF": "RAW",
    "DNG": "RAW",
}
"""What the message of a case must say, by the ending of its name."""
DECIDED = {
    "C06-head.xhtml": NO_IMAGE,
    # where their decoder is there, as in these tests, they are what a decoder makes of a head without a picture
    **dict.fromkeys(("C06-head.heic", "C06-head.hevx.heic", "C06-head.mif2.heif"), DAMAGED),
} | dict.fromkeys(
    (
        "C02c-12bit-in-16.tif",
        "C03f-int16-signed.tif",
        "C08b-alpha0-8-attribute-bits.tga",
        "C08c-bmp32-plain.bmp",
        "C10i-gif-no-trailer.gif",
        "C14e-unknown-critical-chunk.png",
        "C14f-text-before-ihdr-apple-cgbi.png",
    ),
    "decoded",
)
"""Of the cases that the manifest leaves open: XHTML is a web page; the pictures are in test_corrections.py."""


@pytest.mark.skipif(not CASES.exists(), reason="optional test data")
def test_the_codes_of_the_manifest() -> None:
    """Each outcome but the pictures, which test_corrections.py compares."""
    wrong, met = {}, set()
    for row in csv.DictReader((CASES / "MANIFEST.csv").read_text().splitlines()):
        name, wanted, ending = row["file"], row["right outcome"], row["file"].rpartition(".")[2]
        if wanted.startswith("the picture"):
            continue
        try:
            imaging.upright_rgb((CASES / name).read_bytes(), LIMIT)
            found, message = "decoded", ""
        except BadImage as bad:
            found, message = bad.code, bad.message
        met.add(ending)
        if found not in DECIDED.get(name, wanted) or WORDS.get(ending, "").lower() not in message.lower():
            wrong[name] = (found, wanted, message)
    assert not wrong
    assert set(WORDS) <= met
