"""HEIC, JPEG XL and RAW give the photo as a person sees it, or the reason why not; hostile ones end a child alone."""

from __future__ import annotations

import io
import random
import struct
import sys
import zlib
from functools import partial
from typing import Any

import numpy as np
import pillow_heif
import pillow_jxl
import pytest
from PIL import Image

from demo import dng
from spark_apps.contract import DECODERS, BadFile
from spark_apps.media import camera_raw, imaging, preview
from spark_apps.media.fitting import Preprocessing
from spark_apps.media.guard import Guard
from spark_apps.media.imaging import BadImage

LIMIT = 10**7
NEAR = 3
"""Mean difference of a lossy copy of `photo`."""


def photo(mode: str = "RGB") -> Image.Image:
    """96 x 64, each corner of another colour, so that no turned copy is like another."""
    corners = np.array([[(255, 0, 0), (0, 255, 0)], [(0, 0, 255), (250, 240, 20)]], np.uint8)
    return Image.fromarray(corners).resize((96, 64), Image.Resampling.BILINEAR).convert(mode)


def heic(image: Image.Image, **options: Any) -> bytes:
    target = io.BytesIO()
    pillow_heif.from_pillow(image).save(target, **{"quality": 90, **options})
    return target.getvalue()


def jxl(image: Image.Image, **options: Any) -> bytes:
    target = io.BytesIO()
    image.save(target, "JXL", **options)
    return target.getvalue()


MADE = {
    "heic": heic(photo()),
    "jxl": jxl(photo()),
    "jxl in a container": jxl(photo(), use_container=True),
    "raw": dng.made(photo(), photo()),
    "raw without a preview": dng.made(photo()),
}
each = pytest.mark.parametrize("content", MADE.values(), ids=MADE.keys())


def shown(content: bytes) -> np.ndarray:
    return np.asarray(imaging.upright_rgb(content, LIMIT)).astype(int)


def refusal(content: bytes, limit: int = LIMIT) -> BadImage:
    with pytest.raises(BadImage) as caught:
        imaging.upright_rgb(content, limit)
    return caught.value


def far(content: bytes, wanted: Image.Image) -> float:
    found = shown(content)
    assert found.shape == (wanted.height, wanted.width, 3)
    return float(np.abs(found - np.asarray(wanted.convert("RGB"))).mean())


@each
def test_a_photo(content: bytes) -> None:
    info = imaging.inspect(content, LIMIT)
    assert (info.width, info.height, info.mode) == (96, 64, "RGB")
    assert far(content, photo()) < NEAR


TURNS = [
    None,
    *(Image.Transpose(turn) for turn in (0, 3, 1, 5, 2, 6, 4)),
]
"""What undoes each EXIF orientation, from 1 on: the stored picture of a scene is the scene, turned like this."""


@pytest.mark.parametrize("orientation", range(1, 9))
def test_heic_is_turned_by_its_container_and_not_once_more_by_exif(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    turn = TURNS[orientation - 1]
    content = heic(photo().transpose(turn) if turn is not None else photo(), exif=exif.tobytes(), quality=95)
    assert (b"irot" in content or b"imir" in content) == (orientation > 1)
    tag = struct.pack(">HHIH", 0x0112, 3, 1, orientation)
    assert content.count(tag) == 1
    for tagged in (content, content.replace(tag, struct.pack(">HHIH", 0x0112, 3, 1, 9 - orientation))):
        assert far(tagged, photo()) < NEAR
        assert imaging.inspect(tagged, LIMIT).width == 96


def test_transparency_is_laid_on_white() -> None:
    image = photo("RGBA")
    image.putalpha(Image.linear_gradient("L").resize(image.size))
    wanted = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    assert far(heic(image, quality=95), wanted) < NEAR
    assert far(jxl(image, lossless=True), wanted) == 0


def test_grey() -> None:
    assert far(heic(photo("L"), quality=95), photo("L")) < NEAR
    for mode in ("L", "LA"):
        assert far(jxl(photo(mode), lossless=True), photo("L")) == 0
    deep = Image.fromarray(np.asarray(photo("L")).astype(np.uint16) * 257)
    assert far(jxl(deep, lossless=True), photo("L")) <= 1


def test_a_heic_of_ten_bits() -> None:
    deep = np.asarray(photo()).astype(np.uint16) * 257
    target = io.BytesIO()
    pillow_heif.from_bytes("RGB;16", photo().size, deep.tobytes()).save(target, quality=95)
    image = pillow_heif.open_heif(target.getvalue(), convert_hdr_to_8bit=False)
    assert image.info["bit_depth"] == 10
    assert far(target.getvalue(), photo()) < NEAR


def test_of_several_pictures_in_a_heic_the_primary_one() -> None:
    other = Image.new("RGB", (48, 48), "black")
    file = pillow_heif.from_pillow(other)
    file.add_from_pillow(photo())
    file.add_from_pillow(other)
    target = io.BytesIO()
    file.save(target, quality=90, primary_index=1)
    assert far(target.getvalue(), photo()) < NEAR


@pytest.mark.parametrize("codec", [b"vvc1", b"avc1", b"j2k1"])
def test_another_codec_inside_heif(codec: bytes) -> None:
    assert MADE["heic"].count(b"hvc1") == 1
    assert refusal(MADE["heic"].replace(b"hvc1", codec)).code == "unsupported_format"


def test_a_jpeg_that_was_packed_as_jpeg_xl_without_loss() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    target = io.BytesIO()
    photo().transpose(Image.Transpose.ROTATE_90).save(target, "JPEG", quality=95, exif=exif)
    make: Any = pillow_jxl.Encoder  # whose types are not those of the module
    encoder = make(mode="RGB", lossless=True, quality=100, use_container=True)
    content = encoder(target.getvalue(), 64, 96, jpeg_encode=True)
    assert np.array_equal(shown(content), shown(target.getvalue()))


@each
def test_the_limit_of_pixels_holds_before_anything_is_decoded(content: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    def decoded(*_: object, **__: object) -> None:
        raise AssertionError("decoded")

    monkeypatch.setattr(pillow_jxl, "Decoder", decoded)
    for module in (sys.modules.get(name) for name in DECODERS["heic"].values()):
        if module:
            monkeypatch.setattr(module.heif.HeifImage, "load", decoded)
    for way in ("preview", "developed"):
        monkeypatch.setattr(camera_raw.RawImage, way, decoded)
    assert refusal(content, 96 * 64 - 1).code == "too_many_pixels"
    imaging.inspect(content, LIMIT)
    with pytest.raises((BadImage, AssertionError), match="decoded"):
        imaging.upright_rgb(content, LIMIT)


def test_a_heic_that_claims_to_be_huge() -> None:
    size = struct.pack(">II", 96, 64)
    content = MADE["heic"]
    at = content.index(b"ispe") + 8
    assert content[at : at + 8] == size
    assert refusal(content[:at] + struct.pack(">II", 30_000, 30_000) + content[at + 8 :]).code == "too_many_pixels"


SIDES = [(1, 1), (8, 8), (12, 10), (40, 30), (48, 32), (160, 90), (100, 80), (20, 10), (600, 9), (9, 9000), (264, 256)]


@pytest.mark.parametrize("size", SIDES)
def test_every_form_of_the_size_of_a_jpeg_xl(size: tuple[int, int]) -> None:
    for container in (False, True):
        info = imaging.inspect(jxl(Image.new("RGB", size), effort=1, use_container=container), LIMIT)
        assert (info.width, info.height) == size


@each
def test_what_ends_early(content: bytes) -> None:
    if content == MADE["raw"]:
        content = content[: content.index(b"\xff\xd9") - 50]  # behind its preview it may end
    for length in (16, 40, 200, len(content) // 2, len(content) - 2):
        assert refusal(content[:length]).code in ("truncated", "corrupt")


@pytest.mark.parametrize("extra", DECODERS)
def test_a_decoder_that_is_not_installed_is_told(extra: str, monkeypatch: pytest.MonkeyPatch) -> None:
    contents = [content for name, content in MADE.items() if name.startswith(extra)]
    assert contents
    packages = DECODERS[extra]
    for module in packages.values():
        assert shown(contents[0]).shape, "one of them is enough"
        monkeypatch.setitem(sys.modules, module, None)
    for content in contents:
        for look in (imaging.inspect, imaging.upright_rgb):
            with pytest.raises(BadImage) as caught:
                look(content, LIMIT)
            assert caught.value.code == "decoder_missing"
            assert all(package in caught.value.message for package in packages)


@each
def test_the_pages_draw_it(content: bytes) -> None:
    assert preview.draw(content, 48, LIMIT).size == (48, 32)


def mutated(content: bytes, lot: random.Random) -> bytes:
    changed = bytearray(content)
    match lot.randrange(4):
        case 0:
            for _ in range(lot.randint(1, 8)):
                changed[lot.randrange(len(changed))] = lot.randrange(256)
        case 1:
            at = lot.randrange(len(changed))
            changed[at : at + lot.randint(1, 64)] = lot.randbytes(lot.randint(0, 64))
        case 2:  # numbers of the header
            for _ in range(lot.randint(1, 4)):
                changed[lot.randrange(min(600, len(changed)))] = lot.choice((0, 1, 127, 128, 255))
        case _:
            del changed[lot.randrange(1, len(changed)) :]
    return bytes(changed)


def survive(content: bytes, count: int) -> None:
    """Every one of `count` damaged copies gives pixels or a reason, and the child answers again after it."""
    lot = random.Random(zlib.crc32(content))
    preprocessing = Preprocessing(64, 48)
    wanted = imaging.decode(content, preprocessing, LIMIT)
    met = set()
    with Guard(partial(imaging.decoder, preprocessing, LIMIT), seconds=5) as child:
        for _ in range(count):
            found = child.decode(mutated(content, lot))
            met.add(found.code if isinstance(found, BadFile) else "pixels")
            assert isinstance(found, BadFile) or found.shape == wanted.shape
        assert np.array_equal(child.decode(content), wanted)
    assert len(met) > 1


@each
def test_some_hundred_damaged_copies(content: bytes) -> None:
    survive(content, 200)
