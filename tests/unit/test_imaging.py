"""Pixels are torchvision's, on the photo as a person sees it; whatever gives no pixels gets a code."""

from __future__ import annotations

import csv
import io
import random
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cykooz_resizer
import numpy as np
import pytest
from PIL import Image, ImageCms

from demo.landing import flat_png
from spark_apps.contract import MAX_PIXELS, PHOTO_PIXELS
from spark_apps.media import exif as exif_data
from spark_apps.media import imaging, resampling, signatures
from spark_apps.media.fitting import Preprocessing
from spark_apps.media.imaging import BadImage
from spark_apps.model.torchvision_import import torchvision
from tests.odd_files import HEALTHY_THOUGH_PILLOW_REFUSES

Pixels = np.ndarray[Any, np.dtype[Any]]


def encoded(picture: Image.Image | Pixels, format: str = "PNG", **options: Any) -> bytes:
    image = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
    target = io.BytesIO()
    image.save(target, format, **options)
    return target.getvalue()


def upright(content: bytes) -> Pixels:
    return np.asarray(imaging.upright_rgb(content, MAX_PIXELS))


def decoded(content: bytes) -> Pixels:
    return imaging.decode(content, Preprocessing(), MAX_PIXELS)


def by_torchvision(photo: Image.Image) -> Pixels:
    torchvision()
    from torchvision.transforms import CenterCrop, Resize

    return np.asarray(CenterCrop(224)(Resize(256)(photo)))


def refusal(content: bytes, max_pixels: int = MAX_PIXELS) -> str:
    with pytest.raises(BadImage) as caught:
        imaging.decode(content, Preprocessing(), max_pixels)
    return caught.value.code


def noise(width: int, height: int) -> Pixels:
    return np.random.default_rng(width * height).integers(0, 256, (height, width, 3), dtype=np.uint8)


GREYS = np.arange(0, 256, dtype=np.uint8).reshape(16, 16)


# --- size and crop ----------------------------------------------------------------------------------------------------


def test_pixels_of_real_photos_are_exactly_those_of_torchvision(photos: dict[str, Path]) -> None:
    compared = 0
    for name, path in photos.items():
        with Image.open(path) as photo:
            if photo.mode != "RGB":
                continue
            compared += 1
            assert np.array_equal(decoded(path.read_bytes()), by_torchvision(photo)), name
    assert compared >= 8


@pytest.mark.parametrize(
    ("width", "height"),
    [
        *((1, 1), (1, 7), (7, 1), (1, 32), (32, 1), (2, 3), (223, 224), (224, 223), (224, 224), (225, 224)),
        *((255, 256), (256, 256), (257, 256), (256, 300), (333, 1000), (1001, 335), (3000, 100), (100, 3199)),
        *((256, 257), (256, 258), (256, 259), (256, 261), (256, 263), (257, 256), (258, 256), (259, 256), (263, 256)),
    ],
)
def test_pixels_of_any_size_are_exactly_those_of_torchvision(width: int, height: int) -> None:
    pixels = noise(width, height)
    assert np.array_equal(decoded(encoded(pixels)), by_torchvision(Image.fromarray(pixels)))


@pytest.mark.parametrize(("width", "height"), [(4000, 10), (10, 4000), (33, 1), (1, 33), (2001, 30)])
def test_pixels_of_extreme_panoramas_are_those_of_torchvision_to_one_step(width: int, height: int) -> None:
    pixels = noise(width, height)
    difference = decoded(encoded(pixels)).astype(int) - by_torchvision(Image.fromarray(pixels))
    assert np.abs(difference).max() <= 1


def test_another_preprocessing_is_also_that_of_torchvision() -> None:
    torchvision()
    from torchvision.transforms import CenterCrop, Resize

    pixels = noise(500, 375)
    expected = CenterCrop(176)(Resize(232)(Image.fromarray(pixels)))
    assert np.array_equal(imaging.decode(encoded(pixels), Preprocessing(232, 176), MAX_PIXELS), np.asarray(expected))


# --- as a person sees it ----------------------------------------------------------------------------------------------

STORED_AS = {
    1: lambda upright: upright,
    2: lambda upright: upright[:, ::-1],
    3: lambda upright: upright[::-1, ::-1],
    4: lambda upright: upright[::-1],
    5: lambda upright: upright.transpose(1, 0, 2),
    6: lambda upright: np.rot90(upright),
    7: lambda upright: upright[::-1, ::-1].transpose(1, 0, 2),
    8: lambda upright: np.rot90(upright, -1),
}
"""How a camera stores an upright picture under each EXIF orientation (EXIF 2.32, tag 274)."""


@pytest.mark.parametrize("orientation", STORED_AS)
@pytest.mark.parametrize("format", ["PNG", "TIFF", "WEBP"])
def test_every_orientation_gives_the_same_upright_picture(orientation: int, format: str) -> None:
    picture = noise(37, 23)
    exif = Image.Exif()
    exif[exif_data.ORIENTATION] = orientation
    stored = np.ascontiguousarray(STORED_AS[orientation](picture))
    content = encoded(stored, format, exif=exif, **({"lossless": True} if format == "WEBP" else {}))
    assert np.array_equal(upright(content), picture)
    info = imaging.inspect(content, MAX_PIXELS)
    assert (info.exif_orientation, info.format) == (orientation, format)


def test_turned_portraits_of_the_optional_data_show_the_same(optional_data: Path) -> None:
    folder = optional_data / "dev-pack" / "images" / "exif-orientation-examples"
    first, *others = (decoded(path.read_bytes()).astype(int) for path in sorted(folder.glob("Portrait_*.jpg")))
    assert len(others) == 8
    assert [np.abs(other - first).mean() < 6 for other in others] == [True] * 8


def test_a_png_is_turned_by_a_tag_behind_its_pixels_too() -> None:
    picture = noise(37, 23)
    exif = Image.Exif()
    exif[exif_data.ORIENTATION] = 6
    content = encoded(np.ascontiguousarray(np.rot90(picture)), exif=exif)
    start = content.index(b"eXIf") - 4
    end = start + 12 + struct.unpack(">I", content[start : start + 4])[0]
    last = content.index(b"IEND") - 4
    moved = content[:start] + content[end:last] + content[start:end] + content[last:]
    assert np.array_equal(upright(moved), picture)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_an_avif_is_turned_upright(photos: dict[str, Path], orientation: int) -> None:
    picture = np.asarray(Image.open(photos["chelsea.png"]))
    exif = Image.Exif()
    exif[exif_data.ORIENTATION] = orientation
    content = encoded(np.ascontiguousarray(STORED_AS[orientation](picture)), "AVIF", exif=exif, speed=10)
    assert upright(content).shape == picture.shape
    assert np.abs(upright(content).astype(int) - picture).mean() < 6


@pytest.mark.parametrize("orientation", [0, 9, 99])
def test_an_orientation_that_does_not_exist_turns_nothing(orientation: int) -> None:
    exif = Image.Exif()
    exif[exif_data.ORIENTATION] = orientation
    picture = noise(9, 5)
    content = encoded(picture, exif=exif)
    assert np.array_equal(upright(content), picture)
    assert imaging.inspect(content, MAX_PIXELS).exif_orientation is None


def test_damaged_exif_does_not_spoil_the_picture() -> None:
    content = encoded(noise(40, 30), "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\x7fgarbage")
    assert upright(content).shape == (30, 40, 3)


@pytest.mark.parametrize(("format", "kind"), [("PNG", "<u2"), ("TIFF", "<u2"), ("TIFF", ">u2")])
def test_16_bit_greys_are_scaled_not_clipped(format: str, kind: str) -> None:
    content = encoded((GREYS.astype(kind) * 257).astype(kind), format)
    assert imaging.inspect(content, MAX_PIXELS).mode.startswith("I;16")
    assert np.array_equal(upright(content), np.stack([GREYS] * 3, axis=2))


@pytest.mark.parametrize(
    ("values", "brightness"),
    [
        (np.array([[0, 257, 65535]], np.int32), [0, 1, 255]),
        (np.array([[-100, 0, 155]], np.int32), [0, 100, 255]),
        (np.array([[0, 1_000_000, 2_550_000]], np.int32), [0, 100, 255]),
        (np.array([[5, 5, 5]], np.int32), [0, 0, 0]),
        (np.array([[0, 0.2, 1]], np.float32), [0, 51, 255]),
        (np.array([[0, 51, 255]], np.float32), [0, 51, 255]),
        (np.array([[-1, 0, 4]], np.float32), [0, 51, 255]),
        (np.array([[0, 200, 1000]], np.float32), [0, 51, 255]),
        (np.array([[0, np.nan, 1]], np.float32), [0, 0, 255]),
        (np.array([[0, np.inf, -np.inf]], np.float32), [0, 0, 0]),
    ],
)
def test_32_bit_greys_are_scaled_to_what_can_be_seen(values: Pixels, brightness: list[int]) -> None:
    content = encoded(values, "TIFF")
    assert imaging.inspect(content, MAX_PIXELS).mode == ("I" if values.dtype == np.int32 else "F")
    assert upright(content)[0, :, 0].tolist() == brightness


@pytest.mark.parametrize("format", ["PNG", "TIFF", "WEBP"])
def test_transparency_is_laid_on_white(format: str) -> None:
    red_fading = np.zeros((1, 3, 4), np.uint8)
    red_fading[..., 0] = 255
    red_fading[..., 3] = [0, 51, 255]
    lossless = {"lossless": True, "exact": True} if format == "WEBP" else {}
    assert upright(encoded(red_fading, format, **lossless)).tolist() == [
        [[255, 255, 255], [255, 204, 204], [255, 0, 0]]
    ]


def test_grey_with_transparency_is_laid_on_white() -> None:
    picture = Image.fromarray(np.array([[[0, 0], [0, 102], [0, 255]]], np.uint8))
    assert picture.mode == "LA"
    assert upright(encoded(picture))[..., 0].tolist() == [[255, 153, 0]]


@pytest.mark.parametrize("format", ["PNG", "GIF"])
def test_a_palette_with_transparency_is_laid_on_white(format: str) -> None:
    picture = Image.fromarray(np.array([[0, 1, 2]], np.uint8)).convert("P")
    picture.putpalette([10, 20, 30, 200, 0, 0, 0, 0, 200])
    content = encoded(picture, format, transparency=0)
    assert upright(content).tolist() == [[[255, 255, 255], [200, 0, 0], [0, 0, 200]]]


def test_a_single_transparent_colour_is_white() -> None:
    picture = np.array([[[1, 2, 3], [4, 5, 6]]], np.uint8)
    assert upright(encoded(picture, transparency=(1, 2, 3))).tolist() == [[[255, 255, 255], [4, 5, 6]]]


def test_black_and_white_becomes_black_and_white() -> None:
    content = encoded(Image.fromarray(GREYS >= 128))
    assert imaging.inspect(content, MAX_PIXELS).mode == "1"
    assert np.array_equal(upright(content)[..., 1], np.where(GREYS >= 128, 255, 0))


@pytest.mark.parametrize(("format", "options"), [("JPEG", {"quality": 95}), ("TIFF", {})])
def test_print_colours_keep_their_look(photos: dict[str, Path], format: str, options: dict[str, int]) -> None:
    original = Image.open(photos["coffee.png"]).convert("RGB")
    content = encoded(original.convert("CMYK"), format, **options)
    assert imaging.inspect(content, MAX_PIXELS).mode == "CMYK"
    assert np.abs(upright(content).astype(int) - np.asarray(original)).mean() < 3


def test_lab_colours_keep_their_look(photos: dict[str, Path]) -> None:
    original = Image.open(photos["coffee.png"]).convert("RGB")
    lab = ImageCms.profileToProfile(
        original, ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), outputMode="LAB"
    )
    assert lab is not None
    content = encoded(lab, "TIFF")
    assert imaging.inspect(content, MAX_PIXELS).mode == "LAB"
    assert np.abs(upright(content).astype(int) - np.asarray(original)).mean() < 3


@pytest.mark.parametrize("format", ["GIF", "WEBP", "PNG", "TIFF"])
def test_the_first_frame_of_an_animation_counts(format: str) -> None:
    frames = [Image.new("RGB", (20, 10), colour) for colour in ("red", "lime", "blue")]
    lossless = {"lossless": True} if format == "WEBP" else {}
    content = encoded(frames[0], format, save_all=True, append_images=frames[1:], **lossless)
    with Image.open(io.BytesIO(content)) as animation:
        assert animation.n_frames == 3
    assert np.array_equal(upright(content), np.asarray(frames[0]))


@pytest.mark.parametrize("format", ["WEBP", "AVIF", "JPEG2000", "BMP", "TGA", "PPM", "QOI"])
def test_many_formats_are_decoded(photos: dict[str, Path], format: str) -> None:
    original = Image.open(photos["chelsea.png"])
    content = encoded(original, format)
    assert imaging.inspect(content, MAX_PIXELS).format == format
    assert np.abs(upright(content).astype(int) - np.asarray(original)).mean() < 6


def test_the_header_is_read_as_stored() -> None:
    exif = Image.Exif()
    exif[exif_data.ORIENTATION] = 6
    info = imaging.inspect(encoded(noise(40, 30), "JPEG", exif=exif), MAX_PIXELS)
    assert (info.format, info.mode, info.width, info.height, info.exif_orientation) == ("JPEG", "RGB", 40, 30, 6)


# --- what gives no pixels ---------------------------------------------------------------------------------------------


def test_no_bytes() -> None:
    assert refusal(b"") == "empty"


@pytest.mark.parametrize("content", [b"\0", b"hello", b"PK\x03\x04 a zip", b"\x7fELF" + bytes(200), bytes(5000)])
def test_no_image(content: bytes) -> None:
    assert refusal(content) == "not_an_image"


@pytest.mark.parametrize(
    "content",
    [
        b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>',
        b'\n  <?xml version="1.0"?>\n<svg width="9" height="9"/>',
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n",
        b"%PDF-1.7\n",
    ],
    ids=["svg", "svg after xml", "eps", "pdf"],
)
def test_an_image_format_that_is_not_decoded_here(content: bytes) -> None:
    assert refusal(content) == "unsupported_format"


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP", "JPEG2000", "PPM", "TGA"])
def test_half_a_photo(photos: dict[str, Path], format: str) -> None:
    content = encoded(Image.open(photos["chelsea.png"]), format)
    code = refusal(content[: len(content) // 2])
    # WebP and JPEG 2000 decoders do not tell an early end from damage
    assert code in (("truncated",) if format not in ("WEBP", "JPEG2000") else ("truncated", "corrupt"))


def test_a_damaged_header_and_damaged_data() -> None:
    content = encoded(np.tile(GREYS, (20, 20)))
    assert refusal(content[:12] + bytes(30) + content[42:]) == "corrupt"
    middle = len(content) // 2
    assert refusal(content[:middle] + bytes(16) + content[middle + 16 :]) == "corrupt"
    assert refusal(b"\xff\xd8\xff\xe0" + bytes(50)) == "corrupt"


def test_a_png_without_its_pixels_is_not_taken_for_a_black_picture() -> None:
    content = encoded(np.full((32, 32), 200, np.uint8))
    start = content.index(b"IDAT") - 4
    assert refusal(content[:start] + content[content.index(b"IEND") - 4 :]) == "corrupt"
    assert refusal(content[: start + 12]) == "truncated"


def test_more_pixels_than_allowed() -> None:
    content = encoded(noise(30, 20))
    assert decoded(content).shape == (224, 224, 3)
    assert refusal(content, max_pixels=599) == "too_many_pixels"
    assert imaging.decode(content, Preprocessing(), 600).shape == (224, 224, 3)
    with pytest.raises(BadImage, match="30 x 20"):
        imaging.inspect(content, 599)


def test_an_icon_that_hides_more_pixels_than_its_header_says() -> None:
    inner = flat_png(400, 300)
    entry = struct.pack("<BBBBHHII", 16, 16, 0, 0, 1, 32, len(inner), 22)
    assert refusal(struct.pack("<HHH", 0, 1, 1) + entry + inner, max_pixels=1000) == "too_many_pixels"


MEMORY_PROBE = """
import re, sys
from pathlib import Path
from spark_apps.media import fitting, imaging

def peak():  # MiB; unlike getrusage's, that of this program alone, not of the one that started it
    return int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) // 1024

def attempt(content):
    if sys.argv[1] == "inspect":
        return imaging.inspect(content, 100_000_000).width
    return imaging.decode(content, fitting.Preprocessing(), 100_000_000).shape[0]

attempt(Path(sys.argv[2]).read_bytes())  # what the first picture loads does not count
content = sys.stdin.buffer.read()
before = peak()
try:
    outcome = attempt(content)
except imaging.BadImage as bad:
    outcome = bad.code
print(outcome, peak() - before)
"""


@pytest.fixture
def in_fresh_process(photos: dict[str, Path]) -> Callable[[str, bytes], tuple[str, int]]:
    """What becomes of a content that is to `inspect` or `decode`, and how many MiB the process grew by."""

    def run(action: str, content: bytes) -> tuple[str, int]:
        command = [sys.executable, "-c", MEMORY_PROBE, action, str(photos["chelsea.png"])]
        done = subprocess.run(command, input=content, capture_output=True, check=True, cwd=Path(__file__).parents[2])
        outcome, grown = done.stdout.decode().split()
        return outcome, int(grown)

    return run


def test_the_measure_of_memory_notices_a_large_picture(
    in_fresh_process: Callable[[str, bytes], tuple[str, int]],
) -> None:
    outcome, grown = in_fresh_process("decode", flat_png(6_000, 5_000))
    assert (outcome, grown > 64) == ("224", True), grown


def test_a_bomb_is_refused_before_its_pixels_take_memory(
    in_fresh_process: Callable[[str, bytes], tuple[str, int]],
) -> None:
    outcome, grown = in_fresh_process("decode", flat_png(20_000, 15_000))  # 286 MiB at one byte a pixel
    assert (outcome, grown < 32) == ("too_many_pixels", True), grown


def test_reading_a_header_decodes_no_pixel(in_fresh_process: Callable[[str, bytes], tuple[str, int]]) -> None:
    outcome, grown = in_fresh_process("inspect", flat_png(10_000, 9_000))
    assert (outcome, grown < 32) == ("10000", True), grown


def test_memory_is_kept_from_one_photo_to_the_next_up_to_a_limit(photos: dict[str, Path]) -> None:
    with Image.open(next(iter(photos.values()))) as photo:
        large = encoded(photo.convert("RGB").resize((4000, 3000)), "JPEG")
    imaging.upright_rgb(large, MAX_PIXELS)
    before = blocks()
    for _ in range(5):
        imaging.upright_rgb(large, MAX_PIXELS)
    assert blocks()["allocated_blocks"] - before["allocated_blocks"] < 5, "less than one of three a photo"
    assert 3 <= blocks()["blocks_cached"] <= imaging.KEPT_BLOCKS


def blocks() -> dict[str, int]:
    """What Pillow tells of its memory."""
    return Image.core.get_stats()  # type: ignore[attr-defined,no-any-return]


def test_a_panorama_as_thin_as_a_thread_takes_little_memory(
    in_fresh_process: Callable[[str, bytes], tuple[str, int]],
) -> None:
    # resized whole, as torchvision does it, to 256 pixels across, it would take 190 GiB
    outcome, grown = in_fresh_process("decode", flat_png(1, 1_000_000))
    assert (outcome, grown < 64) == ("224", True), grown


def test_no_bytes_whatever_raise_anything_but_a_bad_image(photos: dict[str, Path]) -> None:
    rng = random.Random(0)
    small = Image.open(photos["chelsea.png"]).resize((48, 32))
    originals = [encoded(small, format) for format in ("JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP", "JPEG2000", "ICO")]
    tables = (signatures._DECODED, signatures._NOT_DECODED, signatures._NO_IMAGE, signatures._REWRITTEN)
    originals += [bytes(at) + magic + bytes(20) for table in tables for at, magic, _ in table if at < 100]
    outcomes = set()
    for _ in range(600):
        content = bytearray(rng.choice(originals)[: rng.choice((None, None, rng.randrange(1, 60)))])
        for _ in range(rng.randrange(4)):
            content[rng.randrange(len(content))] = rng.randrange(256)
        try:
            outcomes.add(str(imaging.decode(bytes(content), Preprocessing(), 1_000_000).shape))
        except BadImage as bad:
            outcomes.add(bad.code)
    assert {"(224, 224, 3)", "corrupt", "truncated", "not_an_image"} <= outcomes


def test_the_list_of_formats_names_decoders_that_exist() -> None:
    Image.init()
    assert set(imaging.FORMATS) <= set(Image.OPEN)
    assert not {"EPS", "WMF", "GRIB", "HDF5", "BUFR"} & set(imaging.FORMATS), "they run programs or parse headers only"


def test_the_optional_images_come_out_as_their_manifest_says(optional_data: Path) -> None:
    folder = optional_data / "dev-pack"
    with (folder / "MANIFEST.csv").open(newline="") as file:
        expected = {row["file"]: row for row in csv.DictReader(file)}
    assert len(expected) == 469
    surprises, readable = [], 0
    for name, row in expected.items():
        try:
            imaging.upright_rgb((folder / "images" / name).read_bytes(), 2 * imaging.PILLOW_PIXELS)
            code = "ok"
        except BadImage as bad:
            code = bad.code
        readable += code == "ok"
        # asked for a PNG's EXIF, Pillow decodes the pixels; where that failed, a second try "succeeds" without them
        blank = row["format"] == "PNG" and row["exif_orientation"] in ("OSError", "SyntaxError")
        right = row["pillow13_open"] == row["pillow13_convert_rgb"] == "ok" and not blank
        right = right or name in HEALTHY_THOUGH_PILLOW_REFUSES
        bomb = row["pillow13_open"] == "DecompressionBombError"
        if (code == "ok") != right or (code == "too_many_pixels") != bomb:
            surprises.append((name, code, row["pillow13_open"], row["pillow13_convert_rgb"]))
    assert surprises == []
    assert readable == 267


# --- scaled decoding --------------------------------------------------------------------------------------------------


def mosaic(photos: dict[str, Path], width: int, height: int) -> Image.Image:
    """A photo of many pixels and much detail, from smaller ones side by side."""
    tiles = [Image.open(photos[name]).convert("RGB") for name in ("astronaut.png", "coffee.png", "rocket.jpg")]
    whole = Image.new("RGB", (width, height))
    for number, (x, y) in enumerate((x, y) for x in range(0, width, 400) for y in range(0, height, 400)):
        whole.paste(tiles[number % len(tiles)].crop((0, 0, 400, 400)), (x, y))
    return whole


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((4000, 3000), (1000, 750)),  # 1/4: 1/8 would leave 375, less than twice the 256 needed
        ((3000, 4100), (750, 1025)),
        ((1023, 1500), (1023, 1500)),
        ((1024, 1500), (512, 750)),
    ],
)
def test_a_scaled_decode_keeps_twice_the_pixels_that_are_needed(
    size: tuple[int, int], expected: tuple[int, int]
) -> None:
    content = encoded(Image.new("RGB", size, "teal"), "JPEG")
    assert imaging.upright_rgb(content, MAX_PIXELS, Preprocessing(scaled=True).least).size == expected
    assert imaging.upright_rgb(content, MAX_PIXELS).size == size


def test_a_scaled_decode_looks_the_same_and_is_turned_the_same(photos: dict[str, Path]) -> None:
    exif = Image.Exif()
    exif[exif_data.ORIENTATION] = 6
    content = encoded(mosaic(photos, 2400, 1600), "JPEG", quality=90, exif=exif.tobytes())
    exact = imaging.decode(content, Preprocessing(), MAX_PIXELS).astype(int)
    scaled = imaging.decode(content, Preprocessing(scaled=True), MAX_PIXELS).astype(int)
    difference = abs(exact - scaled)
    assert 0 < difference.mean() < 4
    assert np.corrcoef(exact.ravel(), scaled.ravel())[0, 1] > 0.99


@pytest.mark.parametrize("mode", ["L", "CMYK"])
def test_other_kinds_of_jpeg_are_scaled_too(mode: str) -> None:
    content = encoded(Image.new("RGB", (2400, 1600), "white").convert(mode), "JPEG")
    assert imaging.decode(content, Preprocessing(scaled=True), MAX_PIXELS).min() >= 250


def test_what_is_no_jpeg_is_only_resampled_within_the_crop(photos: dict[str, Path]) -> None:
    content = photos["coffee.png"].read_bytes()
    difference = abs(decoded(content).astype(int) - imaging.decode(content, Preprocessing(scaled=True), MAX_PIXELS))
    assert difference.max() <= 1


@pytest.mark.parametrize(("interpolation", "most"), [("bilinear", 1), ("bicubic", 16)])
@pytest.mark.parametrize(("width", "height"), [(500, 375), (225, 900), (4000, 3000)])
def test_a_fast_decode_differs_by_one_at_most_in_bilinear(
    photos: dict[str, Path], width: int, height: int, interpolation: str, most: int
) -> None:
    content = encoded(mosaic(photos, width, height), "JPEG", quality=90)
    exact = imaging.decode(content, Preprocessing(interpolation=interpolation), MAX_PIXELS).astype(int)
    fast = imaging.decode(content, Preprocessing(interpolation=interpolation, fast=True), MAX_PIXELS)
    difference = abs(exact - fast)
    assert 0 < difference.max() <= most
    assert difference.mean() < 0.4


def test_a_filter_that_only_pillow_has_stays_pillow_s(photos: dict[str, Path]) -> None:
    content = photos["coffee.png"].read_bytes()
    exact, fast = (
        imaging.decode(content, Preprocessing(interpolation="hamming", fast=fast), MAX_PIXELS) for fast in (False, True)
    )
    assert (exact == fast).all()


def test_a_fast_decode_gives_the_same_pixels_on_every_processor(
    photos: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or a fingerprint would not say what the vectors were made of."""
    content = encoded(mosaic(photos, 1200, 900), "JPEG", quality=90)

    def plain() -> cykooz_resizer.Resizer:
        resizer = cykooz_resizer.Resizer()
        resizer.cpu_extensions = cykooz_resizer.CpuExtensions.none
        return resizer

    best = imaging.decode(content, Preprocessing(fast=True), MAX_PIXELS)
    monkeypatch.setattr(resampling, "Resizer", plain)
    assert (imaging.decode(content, Preprocessing(fast=True), MAX_PIXELS) == best).all()


@pytest.mark.parametrize(("width", "height"), [(12000, 9000), (16320, 12240)])
def test_the_photos_of_today_s_telephones_are_within_the_default_limit(width: int, height: int) -> None:
    content = encoded(Image.new("L", (width, height), 128), "JPEG")
    assert imaging.inspect(content, PHOTO_PIXELS).width == width
    assert (imaging.decode(content, Preprocessing(scaled=True), PHOTO_PIXELS) == 128).all()


def test_the_limit_of_pixels_can_be_raised_beyond_pillow_s_own_and_holds_below_it() -> None:
    content = encoded(Image.new("1", (20_000, 20_000)), "PNG")
    assert imaging.inspect(content, MAX_PIXELS).width == 20_000
    assert refusal(content, 399_999_999) == "too_many_pixels"
    assert refusal(content, 100) == "too_many_pixels"
