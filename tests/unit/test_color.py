"""With `srgb`, colours are what a person sees, whatever a file names them by; without a profile nothing changes."""

from __future__ import annotations

import csv
import io
import struct
import zlib
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms

from spark_apps.contract import ModelSettings
from spark_apps.extractors.image import Photos
from spark_apps.media import color, icc, imaging, preview
from spark_apps.media.fitting import Preprocessing
from spark_apps.media.guard import Guard
from spark_apps.media.imaging import BadImage
from spark_apps.model import prepare
from tests.unit.test_optional_formats import heic

LIMIT = 10**7
CASES = Path(__file__).parents[2].parent / "shared/data/cases"
P3 = icc.of_numbers(12, 13)
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
OTHERS = {
    "Display P3": P3,
    "BT.2020": icc.of_numbers(9, 1),
    "gamma 1.8": icc.rgb(icc.SRGB, (1.8,)),
    "DCI-P3": icc.of_numbers(11, 4),
}


def scene(mode: str = "RGB") -> Image.Image:
    """64 x 48 of many colours."""
    slopes = np.mgrid[0:48, 0:64].astype(float)
    picture = np.dstack([slopes[0] * 5, slopes[1] * 4, 255 - slopes[0] * 3 - slopes[1]])
    return Image.fromarray(picture.clip(0, 255).astype(np.uint8)).convert(mode)


def encoded(image: Image.Image, format: str, profile: bytes | None, **options: Any) -> bytes:
    if format == "HEIF":
        return heic(image, quality=-1, chroma=444, **({"icc_profile": profile} if profile else {}), **options)
    target = io.BytesIO()
    image.save(target, format, **({"icc_profile": profile} if profile else {}), **options)
    return target.getvalue()


def shown(content: bytes, colors: str = "srgb") -> np.ndarray:
    return np.asarray(imaging.upright_rgb(content, LIMIT, colors=colors)).astype(int)


def light(levels: np.ndarray) -> np.ndarray:
    """Of sRGB's levels (IEC 61966-2-1), 0 to 1."""
    values = levels / 255
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def level(light: np.ndarray) -> np.ndarray:
    light = light.clip(0, 1)
    return 255 * np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)


P3_TO_SRGB = np.array([[1.2249, -0.2247, 0], [-0.0420, 1.0419, 0], [-0.0197, -0.0786, 1.0979]])
"""Both with white D65 (CSS Color 4, sample code)."""


def p3_seen(image: Image.Image) -> np.ndarray:
    return level(light(np.asarray(image.convert("RGB")).astype(float)) @ P3_TO_SRGB.T)


LOSSLESS = [
    ("PNG", {}),
    ("TIFF", {}),
    ("WEBP", {"lossless": True}),
    ("AVIF", {"quality": 100, "subsampling": "4:4:4"}),
    ("HEIF", {}),
    ("JPEG", {"quality": 100, "subsampling": 0}),
]
formats = pytest.mark.parametrize(("format", "options"), LOSSLESS, ids=[name for name, _ in LOSSLESS])


@formats
def test_display_p3_in_every_format_that_can_say_so(format: str, options: dict[str, Any]) -> None:
    content = encoded(scene(), format, P3, **options)
    stored = shown(content, "stored")
    assert np.abs(stored - np.asarray(scene())).max() <= 6, "the numbers themselves"
    wanted = p3_seen(Image.fromarray(stored.astype(np.uint8)))
    assert np.abs(shown(content) - wanted).max() <= 2
    assert np.abs(stored - wanted).max() > 20


@formats
@pytest.mark.parametrize("profile", [None, SRGB, b"not a profile", b"\0" * 200], ids=["none", "sRGB", "text", "zeros"])
def test_the_same_to_the_bit_without_a_profile_in_srgb_and_with_a_broken_one(
    format: str, options: dict[str, Any], profile: bytes | None
) -> None:
    if format == "HEIF" and profile not in (None, SRGB):
        profile = None  # its writer refuses them
    content = encoded(scene(), format, profile, **options)
    assert np.array_equal(shown(content), shown(content, "stored"))


@pytest.mark.parametrize("name", OTHERS)
def test_littlecms_reads_the_profiles_that_are_made_here_as_they_are_meant(name: str) -> None:
    """Against the matrices and curves themselves, without ICC."""
    profile = OTHERS[name]
    assert profile
    described = ImageCms.ImageCmsProfile(io.BytesIO(profile)).profile
    assert (described.xcolor_space.strip(), described.device_class) == ("RGB", "mntr")
    if name == "gamma 1.8":
        wanted = level((np.asarray(scene()) / 255) ** 1.8)
        assert np.abs(shown(encoded(scene(), "PNG", profile)) - wanted).max() <= 2
    white = shown(encoded(Image.new("RGB", (4, 4), "white"), "PNG", profile))
    assert white.min() >= 254, "white stays white whatever its temperature"


def test_a_profile_of_another_space_than_the_picture_is_ignored() -> None:
    for image, profile in ((scene("L"), P3), (scene("RGB"), icc.grey((1.0,))), (scene("CMYK"), P3)):
        content = encoded(image, "TIFF", profile)
        assert np.array_equal(shown(content), shown(content, "stored"))


def test_grey_by_its_own_curve() -> None:
    for format, options in (("PNG", {}), ("TIFF", {}), ("JPEG", {"quality": 100})):
        content = encoded(scene("L"), format, icc.grey((1.0,)), **options)
        wanted = level(shown(content, "stored") / 255)
        assert np.abs(shown(content) - wanted).max() <= 2


def test_cmyk_by_the_profile_of_a_press(tmp_path: Path) -> None:
    """A press whose inks are what it says: a table of 2 x 2 x 2 x 2 corners to Lab, made by hand (ICC.1:2001, lut8)."""
    profile = press()
    image = Image.merge("CMYK", [Image.new("L", (16, 16), ink) for ink in (255, 0, 0, 0)])
    for format in ("TIFF", "JPEG"):
        content = encoded(image, format, profile)
        stored, seen = shown(content, "stored")[8, 8], shown(content)[8, 8]
        assert stored.tolist() == [0, 255, 255]
        assert np.abs(seen - stored).max() > 60, "no press prints so bright a cyan"
        assert seen[0] < seen[1] < seen[2], "but a cyan it is"
    paper = encoded(Image.new("CMYK", (16, 16)), "TIFF", profile)
    assert shown(paper).min() >= 250


def press() -> bytes:
    lab = {0b0000: (255, 128, 128), 0b1000: (140, 92, 78)}  # paper, cyan; L of 255, a and b around 128
    corners = []
    for inks in range(16):
        dark = 255 * (4 - inks.bit_count()) // 4 // 2
        corners.append(lab.get(inks, (dark, 128, 128)))
    table = b"mft1" + bytes(4) + bytes((4, 3, 2, 0)) + struct.pack(">9i", *(65536 * (i % 4 == 0) for i in range(9)))
    table += bytes(range(256)) * 4 + b"".join(map(bytes, corners)) + bytes(range(256)) * 3
    head = struct.pack(">I4xI4s4s4s12x4s28x3i", 128 + 16 + len(table), 0x02400000, b"prtr", b"CMYK", b"Lab ", b"acsp",
                       63190, 65536, 54061)  # fmt: skip
    return head.ljust(128, b"\0") + struct.pack(">I4sII", 1, b"A2B0", 144, len(table)) + table


def test_transparency_is_laid_on_white_in_the_colours_that_are_seen() -> None:
    image = scene("RGBA")
    alpha = np.asarray(Image.linear_gradient("L").resize(image.size)).astype(float)[..., None] / 255
    image.putalpha(Image.linear_gradient("L").resize(image.size))
    wanted = p3_seen(scene()) * alpha + 255 * (1 - alpha)
    for format, options in (("PNG", {}), ("WEBP", {"lossless": True, "exact": True})):
        assert np.abs(shown(encoded(image, format, P3, **options)) - wanted).max() <= 3
    grey = scene("LA")
    grey.putalpha(Image.linear_gradient("L").resize(grey.size))
    wanted = level(np.asarray(scene("L"))[..., None] / 255) * alpha + 255 * (1 - alpha)
    assert np.abs(shown(encoded(grey, "PNG", icc.grey((1.0,)))) - wanted).max() <= 3


def test_a_palette_has_the_colours_of_the_profile() -> None:
    content = encoded(scene().quantize(64), "PNG", P3)
    wanted = p3_seen(Image.fromarray(shown(content, "stored").astype(np.uint8)))
    assert np.abs(shown(content) - wanted).max() <= 2


# --- PNG's own chunks -------------------------------------------------------------------------------------------------


def png(*chunks: tuple[bytes, bytes], mode: str = "RGB", spoilt: int = 0) -> bytes:
    content = encoded(scene(mode), "PNG", None)
    packed = b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data) ^ spoilt)
        for kind, data in chunks
    )
    return content[:33] + packed + content[33:]


def gamma(value: int) -> tuple[bytes, bytes]:
    return b"gAMA", struct.pack(">I", value)


def corners(*numbers: int) -> tuple[bytes, bytes]:
    return b"cHRM", struct.pack(">8I", *numbers)


LINEAR = gamma(100_000)
CICP_P3 = (b"cICP", bytes((12, 13, 0, 1)))
ICCP_P3 = (b"iCCP", b"p3\0\0" + zlib.compress(P3 or b""))
OF_P3 = corners(31270, 32900, 68000, 32000, 26500, 69000, 15000, 6000)
OF_SRGB = corners(31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000)


def test_the_colours_that_a_png_names_by_numbers() -> None:
    stored = np.asarray(scene()).astype(int)
    linear = level(stored / 255)
    for chunks, wanted in (
        ([LINEAR], linear),
        ([LINEAR, OF_SRGB], linear),
        ([gamma(45455), OF_P3], p3_seen(scene())),
        ([CICP_P3], p3_seen(scene())),
        ([ICCP_P3], p3_seen(scene())),
        ([CICP_P3, LINEAR], p3_seen(scene())),
        ([ICCP_P3, LINEAR], p3_seen(scene())),
        ([(b"cICP", bytes((1, 8, 0, 1))), ICCP_P3], linear),
    ):
        assert np.abs(shown(png(*chunks)) - wanted).max() <= 2, chunks
    assert np.abs(shown(png(LINEAR, mode="L")) - level(np.asarray(scene("L"))[..., None] / 255)).max() <= 2


def test_what_leaves_the_pixels_of_a_png_as_they_are() -> None:
    for chunks in (
        [gamma(45455)],
        [gamma(45455), OF_SRGB],
        [(b"sRGB", b"\0"), LINEAR],
        [(b"cICP", bytes((1, 13, 0, 1))), LINEAR, (b"sRGB", b"\0")],
        [OF_P3],
        [gamma(0)],
        [gamma(2**32 - 1)],
        [LINEAR, corners(*[0] * 8)],
        [(b"cICP", bytes((9, 16, 0, 1)))],  # HDR by PQ
        [(b"cICP", b"\x0c")],
        [(b"iCCP", b"p3\0\0" + zlib.compress(bytes(2**24)))],
        [(b"iCCP", b"p3")],
    ):
        assert np.array_equal(shown(png(*chunks)), shown(png())), chunks
    assert np.array_equal(shown(png(LINEAR, spoilt=1)), shown(png())), "a chunk with a wrong CRC does not count"


def test_the_colours_that_a_heic_and_an_avif_name_by_numbers() -> None:
    content = encoded(scene(), "HEIF", None, color_primaries=12, transfer_characteristics=13)
    assert b"nclx" in content
    wanted = p3_seen(Image.fromarray(shown(content, "stored").astype(np.uint8)))
    assert np.abs(shown(content) - wanted).max() <= 2
    plain = encoded(scene(), "AVIF", None, quality=100, subsampling="4:4:4")
    at = plain.index(b"colrnclx") + 8
    content = plain[:at] + struct.pack(">HH", 12, 13) + plain[at + 4 :]
    assert np.array_equal(shown(content, "stored"), shown(plain, "stored"))
    wanted = p3_seen(Image.fromarray(shown(plain, "stored").astype(np.uint8)))
    assert np.abs(shown(content) - wanted).max() <= 2


# --- the whole way ----------------------------------------------------------------------------------------------------


def test_a_jpeg_that_was_cut_is_found_whatever_its_colours() -> None:
    noise = np.random.default_rng(7).integers(0, 256, (112, 128, 3), np.uint8)
    for mode, profile in (("RGB", icc.rgb(icc.SRGB, (1.0,))), ("CMYK", press()), ("L", icc.grey((1.0,)))):
        whole = encoded(Image.fromarray(noise).convert(mode), "JPEG", profile)
        assert shown(whole[:-2]).shape == shown(whole).shape
        for cut in (whole[: len(whole) // 2] + b"\xff\xd9", whole[: len(whole) // 2]):
            with pytest.raises(BadImage) as caught:
                shown(cut)
            assert caught.value.code == "truncated"


def test_the_guarded_child_and_the_pages_see_the_same_colours() -> None:
    content = encoded(scene(), "JPEG", P3, quality=100, subsampling=0)
    preprocessing = Preprocessing(48, 48, color="srgb")
    pixels = imaging.decode(content, preprocessing, LIMIT)
    with Guard(partial(imaging.decoder, preprocessing, LIMIT)) as child:
        assert np.array_equal(child.decode(content), pixels)
    assert np.array_equal(preview.draw(content, 64, LIMIT), imaging.upright_rgb(content, LIMIT, colors="srgb"))
    assert not np.array_equal(pixels, imaging.decode(content, Preprocessing(48, 48), LIMIT))


def test_a_transform_is_made_once_for_a_profile(monkeypatch: pytest.MonkeyPatch) -> None:
    profile = icc.rgb(icc.SRGB, (1.7,))
    contents = [encoded(scene(), "JPEG", profile, quality=quality) for quality in (80, 90)]
    shown(contents[0])
    monkeypatch.setattr(ImageCms, "buildTransform", None)
    assert not np.array_equal(shown(contents[1]), shown(contents[1], "stored"))


def test_the_slow_way_sees_what_the_engine_sees() -> None:
    content = encoded(scene().resize((300, 260)), "PNG", OTHERS["BT.2020"])
    artifact = prepare(ModelSettings(model="resnet18", weights="random:0", engine="torch", color="srgb"))
    assert artifact.key.endswith("-srgb")
    photos = Photos(artifact.info, LIMIT, artifact.folder)
    pixels = photos.prepare(content)
    assert np.abs(pixels.astype(int) - imaging.decode(content, Preprocessing(), LIMIT)).mean() > 5
    (vector,), reference = photos.extract([pixels]), photos.reference(content)
    assert np.abs(vector - reference).max() < 1e-4 * np.abs(reference).max()


def test_hostile_profiles_are_ignored_or_used_but_stop_nothing() -> None:
    lot = np.random.default_rng(7)
    for profile in (press(), P3 or b""):
        for _ in range(50):
            changed = bytearray(profile)
            for at in lot.integers(0, len(changed), lot.integers(1, 6)):
                changed[at] = lot.integers(0, 256)
            image = scene("CMYK" if profile == press() else "RGB")
            found = color.conversion(with_profile(image, bytes(changed)), b"")
            if found:
                assert found.apply(image).mode == "RGB"


def with_profile(image: Image.Image, profile: bytes) -> Image.Image:
    image.info["icc_profile"] = profile
    return image


@pytest.mark.skipif(not CASES.exists(), reason="optional test data")
def test_every_picture_of_the_manifest_in_the_colours_that_are_seen() -> None:
    wrong = {}
    for row in csv.DictReader((CASES / "MANIFEST.csv").read_text().splitlines()):
        if row["right outcome"] != "the picture in `seen`":
            continue
        with Image.open(CASES / row["seen"]) as seen:
            wanted = np.asarray(seen.convert("RGB")).astype(int)
        found = shown((CASES / row["file"]).read_bytes())
        off = np.abs(found - wanted).mean() if found.shape == wanted.shape else 255
        if off > (3 if row["file"].endswith(".jpg") and row["file"].startswith("C05") else 1):
            wrong[row["file"]] = off
    assert not wrong
