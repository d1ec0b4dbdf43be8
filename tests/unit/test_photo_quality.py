"""The measures of a photo order photos as a person would, whatever their size."""

from __future__ import annotations

import io

import numpy as np
import pytest
import skimage.data
from PIL import Image, ImageFilter

from spark_apps.contract.photo_quality import BLURRED, DARK
from spark_apps.media import imaging, photo_quality
from spark_apps.media.fitting import Preprocessing
from spark_apps.media.photo_quality import measured


def scene(width: int = 640, height: int = 480) -> Image.Image:
    """Blocks of many greys, with edges at every scale."""
    blocks = np.random.default_rng(7).integers(0, 256, (12, 16), dtype=np.uint8)
    return Image.fromarray(blocks).resize((width, height), Image.Resampling.NEAREST).convert("RGB")


def test_a_flat_step_has_the_sharpness_that_the_formula_gives() -> None:
    pixels = np.zeros((5, 6, 3), np.uint8)
    pixels[:, 3:] = 100
    quality = measured(Image.fromarray(pixels))
    assert quality.sharpness == pytest.approx(np.var([0, 100, -100, 0] * 3))
    assert (quality.brightness, quality.contrast, quality.blank) == (50, 50, False)


@pytest.mark.parametrize("size", [(320, 240), (640, 480), (4000, 3000)])
def test_blur_is_seen_at_every_size(size: tuple[int, int]) -> None:
    photo = scene(*size)
    values = [measured(photo.filter(ImageFilter.GaussianBlur(part * size[0]))).sharpness for part in (0, 0.004, 0.02)]
    assert values == sorted(values, reverse=True)
    assert values[0] > 20 * BLURRED
    assert values[-1] < BLURRED


PHOTOS = ["astronaut", "camera", "chelsea", "coffee", "coins", "rocket", "brick", "grass", "gravel"]


@pytest.mark.parametrize("name", PHOTOS)
def test_real_photos_are_told_from_blurred_copies(name: str) -> None:
    photo = Image.fromarray(getattr(skimage.data, name)()).convert("RGB")
    side = max(photo.size)
    sharp, soft, blurred = (
        measured(photo.filter(ImageFilter.GaussianBlur(part * side))).sharpness for part in (0, 0.002, 0.008)
    )
    assert sharp > 5 * BLURRED and soft > 2 * BLURRED
    assert blurred < BLURRED


def test_a_moving_camera_blurs() -> None:
    """scikit-image's example of motion blur, and its photo of the moon, which is sharp and smooth."""
    photos = skimage.data.clock(), skimage.data.moon()
    moving, still = (measured(Image.fromarray(photo).convert("RGB")).sharpness for photo in photos)
    assert moving < BLURRED < still


def test_a_lens_cap_and_a_night_are_dark_and_only_the_cap_is_blank() -> None:
    noise = np.random.default_rng(1).normal(4, 1, (300, 400, 3)).clip(0, 255).astype(np.uint8)
    cap, night = measured(Image.fromarray(noise)), measured(scene().point(lambda value: value // 12))
    assert cap.blank and not night.blank
    assert cap.brightness < DARK > night.brightness
    assert measured(scene()).brightness > DARK
    assert measured(Image.new("RGB", (800, 600), "white")).blank


@pytest.mark.parametrize("size", [(1, 1), (2, 900), (70_000, 1), (3, 3)])
def test_every_size_has_a_measure(size: tuple[int, int]) -> None:
    quality = measured(Image.new("RGB", size, "grey"))
    assert (quality.sharpness, quality.blank) == (0, True)


def test_a_photo_is_decoded_once_for_pixels_and_measures(monkeypatch: pytest.MonkeyPatch) -> None:
    buffer = io.BytesIO()
    scene().save(buffer, "JPEG")
    opened, decode = [], imaging._decoded_rgb
    monkeypatch.setattr(imaging, "_decoded_rgb", lambda *given: opened.append(1) or decode(*given))
    pixels, quality = imaging.decode_and_measure(buffer.getvalue(), Preprocessing(), 10**6)
    assert len(opened) == 1
    assert np.array_equal(pixels, imaging.decode(buffer.getvalue(), Preprocessing(), 10**6))
    assert quality == photo_quality.measured(imaging.upright_rgb(buffer.getvalue(), 10**6))


def test_a_photo_that_lies_sideways_measures_the_same() -> None:
    for photo in (scene(), scene().resize((1500, 701))):
        assert measured(photo.transpose(Image.Transpose.TRANSPOSE)) == measured(photo)


@pytest.mark.parametrize(("size", "odd"), [((400, 100), False), ((401, 100), True), ((30, 200), True)])
def test_an_odd_shape_is_told_by_the_header(size: tuple[int, int], odd: bool) -> None:
    buffer = io.BytesIO()
    Image.new("RGB", size).save(buffer, "PNG")
    assert imaging.inspect(buffer.getvalue(), 10**6).odd_shape is odd
