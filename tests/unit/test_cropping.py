"""A part of a resized photo, alone or turned afterwards, has the very pixels that it has within the whole."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps
from PIL.Image import Resampling

from spark_apps.media import cropping, fitting, resampling
from spark_apps.media.cropping import Part, Size
from spark_apps.media.exif import Held, held
from spark_apps.media.fitting import Preprocessing

FILTERS = [filter for filter in Resampling if filter != Resampling.NEAREST]


def noise(width: int, height: int) -> Image.Image:
    """Black and white dots, where rounding shows most."""
    dots = np.random.default_rng([width, height]).integers(0, 2, (height, width, 3), np.uint8)
    return Image.fromarray(dots * np.uint8(255))


def centre(size: Size, side: int = 224) -> Part:
    left, top = round((size[0] - side) / 2), round((size[1] - side) / 2)
    return left, top, left + side, top + side


def sideways(photo: Image.Image) -> Held:
    return Held(photo.transpose(Image.Transpose.TRANSPOSE), sideways=True)


@pytest.mark.parametrize("method", FILTERS)
@pytest.mark.parametrize(
    ("photo", "size"),
    [
        ((500, 375), (341, 256)),
        ((375, 500), (256, 341)),
        ((1500, 1000), (384, 256)),
        ((1001, 1501), (256, 383)),
        ((777, 777), (256, 256)),
        ((256, 256), (256, 256)),
        ((640, 512), (320, 256)),
        ((437, 251), (445, 256)),  # columns first, but only if just these rows were asked for
        ((512, 879), (224, 384)),
        ((356, 788), (256, 566)),  # columns first in any case
        ((300, 900), (256, 768)),
        ((65_535, 16), (1024, 256)),
        ((65_552, 16), (1024, 256)),  # a side that single precision does not hold in 256ths
    ],
)
def test_a_part_alone_has_the_pixels_that_it_has_in_the_whole(photo: Size, size: Size, method: Resampling) -> None:
    whole = noise(*photo)
    for part in (centre(size), (0, 0, *size), (1, 3, size[0] - 2, 8)):
        wanted = whole.resize(size, method).crop(part)
        for photo_held in (Held(whole), sideways(whole)):
            assert np.array_equal(cropping.resized(photo_held, size, part, method), wanted), part


@pytest.mark.parametrize("method", FILTERS)
def test_so_it_is_for_photos_of_any_size(method: Resampling) -> None:
    random = np.random.default_rng(method)
    for _ in range(60):
        short = int(random.integers(2, 400))
        long = int(short * random.choice([1, 1.25, 4 / 3, 1.5, 16 / 9, 2, 2.5, 3]))
        photo = (long, short) if random.random() < 0.5 else (short, long)
        size = tuple(256 * side // short for side in photo)
        part = centre((size[0], size[1]), int(random.integers(1, 257)))
        whole = noise(*photo)
        wanted = whole.resize(size, method).crop(part)
        for photo_held in (Held(whole), sideways(whole)):
            found = cropping.resized(photo_held, (size[0], size[1]), part, method)
            assert np.array_equal(found, wanted), (photo, size, part)


@pytest.mark.parametrize(
    ("photo", "size", "resampled"),
    [
        ((4000, 3000), (341, 256), (341, 224)),
        ((3000, 4000), (256, 341), (224, 341)),
        ((6000, 4000), (384, 256), (224, 224)),
        ((2000, 2000), (256, 256), (224, 224)),
        ((1000, 2100), (256, 537), (256, 537)),
        ((2700, 2026), (309, 232), (309, 232)),
    ],
)
def test_only_what_is_needed_is_resampled(
    photo: Size, size: Size, resampled: Size, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Size] = []
    resize = Image.Image.resize

    def noted(image: Image.Image, size: Size, *options: object) -> Image.Image:
        asked.append(size)
        return resize(image, size, *options)  # type: ignore[arg-type]

    monkeypatch.setattr(Image.Image, "resize", noted)
    cropping.resized(Held(Image.new("RGB", photo)), size, centre(size), Resampling.BILINEAR)
    assert asked == [resampled]


@pytest.mark.parametrize("interpolation", resampling.FILTERS)
def test_a_photo_that_lies_sideways_is_resampled_fast_to_the_same_pixels(interpolation: str) -> None:
    for size in ((341, 256), (256, 341), (256, 256), (384, 256), (256, 900)):
        whole = noise(size[0] * 3 + 7, size[1] * 3 + 5)
        for part in (centre(size), (0, 0, *size)):
            wanted = resampling.resampled(Held(whole), size, part, interpolation)
            assert np.array_equal(resampling.resampled(sideways(whole), size, part, interpolation), wanted), part


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("changed", [{}, {"scaled": True}, {"fast": True}, {"fit": "pad", "resize": 224}])
def test_whichever_way_a_photo_was_held_it_is_fitted_as_if_it_had_been_turned(
    orientation: int, changed: dict[str, Any]
) -> None:
    stored = noise(640, 427)
    stored.getexif()[0x0112] = orientation
    upright = ImageOps.exif_transpose(stored)
    assert np.array_equal(held(stored, orientation).upright(), upright)
    preprocessing = Preprocessing(**changed)
    assert held(stored, orientation).size == upright.size
    assert np.array_equal(fitting.fit(held(stored, orientation), preprocessing), fitting.fit(upright, preprocessing))


def test_nothing_large_is_turned(monkeypatch: pytest.MonkeyPatch) -> None:
    turned: list[Size] = []
    transpose = Image.Image.transpose

    def noted(image: Image.Image, method: Image.Transpose) -> Image.Image:
        turned.append(image.size)
        return transpose(image, method)

    photo = sideways(Image.new("RGB", (3000, 4000)))
    monkeypatch.setattr(Image.Image, "transpose", noted)
    for preprocessing in (Preprocessing(), Preprocessing(fast=True)):
        fitting.fit(photo, preprocessing)
    assert len(turned) == 2 and max(max(size) for size in turned) < 400
