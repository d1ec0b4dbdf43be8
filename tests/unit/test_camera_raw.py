"""Of a camera's RAW photo its preview is shown, where it is large enough, or what is developed of its sensor's data."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from skimage import data

from demo import dng
from spark_apps.contract import ModelSettings
from spark_apps.extractors.image import Photos
from spark_apps.media import camera_raw, fitting, imaging, likeness, preview
from spark_apps.media.camera_raw import Wanted
from spark_apps.media.fitting import Preprocessing
from spark_apps.media.imaging import BadImage
from spark_apps.model import prepare
from tests.model_numbers import assert_close
from tests.unit.test_optional_formats import TURNS, photo

LIMIT = 10**7
DEVELOPED = Wanted(developed=True)
NEAR = 3
"""Mean difference of what is developed, or was compressed, from the photo."""


def shown(content: bytes, wanted: Wanted = camera_raw.PREVIEW) -> np.ndarray:
    return np.asarray(imaging.upright_rgb(content, LIMIT, of_raw=wanted)).astype(int)


def far(found: np.ndarray, wanted: Image.Image) -> float:
    assert found.shape == (wanted.height, wanted.width, 3)
    return float(np.abs(found - np.asarray(wanted)).mean())


@pytest.mark.parametrize("orientation", range(1, 9))
def test_both_are_upright(orientation: int) -> None:
    turn = TURNS[orientation - 1]
    stored = photo().transpose(turn) if turn is not None else photo()
    content = dng.made(stored, stored, orientation)
    info = imaging.inspect(content, LIMIT)
    assert (info.format, info.mode, info.width, info.height) == ("RAW", "RGB", *stored.size)
    assert info.exif_orientation == orientation
    for wanted in (camera_raw.PREVIEW, DEVELOPED):
        assert far(shown(content, wanted), photo()) < NEAR


WHITE = Image.new("RGB", (48, 32), "white")
"""A preview that is told from the photo at once."""


def test_the_preview_counts_where_it_is_as_large_as_the_model_needs() -> None:
    content = dng.made(photo(), WHITE)
    assert shown(content).min() == shown(content, Wanted(32)).min() == 255
    for wanted in (Wanted(33), DEVELOPED, Wanted(32, developed=True)):
        assert far(shown(content, wanted), photo()) < NEAR


def test_a_model_says_which_it_takes() -> None:
    content = dng.made(photo(), WHITE)
    small, developed, large = Preprocessing(32, 24), Preprocessing(32, 24, raw="developed"), Preprocessing(33, 24)
    assert imaging.decode(content, small, LIMIT).min() == 255
    for other in (developed, large):
        wanted = fitting.fit(photo(), other)
        found, _ = imaging.decode_and_measure(content, other, LIMIT)
        assert far(found.astype(int), wanted) < NEAR
        assert np.array_equal(found, imaging.decode(content, other, LIMIT))
    assert Preprocessing.of({"resize": 32, "crop": 24, "raw": "developed"}) == developed
    assert Preprocessing.of({"resize": 32, "crop": 24}) == small


def test_without_a_preview_it_is_developed() -> None:
    cat = Image.fromarray(data.chelsea()).resize((440, 300))
    content = dng.made(cat)
    assert far(shown(content), cat) < NEAR
    assert preview.draw(content, 48, LIMIT).width == 48
    assert likeness.distance(likeness.look(content, LIMIT), likeness.look(dng.made(cat, cat), LIMIT)) < 8


def test_a_large_photo_is_developed_at_half_its_size() -> None:
    cat = Image.fromarray(data.chelsea()).resize((440, 300))
    content = dng.made(cat)
    half = shown(content, Wanted(75))
    assert far(half, cat.reduce(2)) < NEAR
    assert shown(content, Wanted(76)).shape == (300, 440, 3)


def test_it_is_as_bright_as_it_was_exposed() -> None:
    dark = photo().point(lambda level: level // 4)
    assert far(shown(dng.made(dark)), dark) < NEAR


@pytest.mark.parametrize("magic", [b"II*\0", b"IIRO", b"IIU\0"], ids=["TIFF", "as ORF", "as RW2"])
def test_its_facts(magic: bytes) -> None:
    """ORF and RW2 are TIFFs but for their first bytes."""
    content = dng.made(photo(), photo(), 1, "2026:01:06 08:30:00", "+01:00", ("Example", "Camera 1"))
    info = imaging.inspect(magic + content[4:], LIMIT)
    assert (info.taken_at, info.taken_offset_minutes) == ("2026-01-06T08:30:00", 60)
    assert (info.camera_make, info.camera_model) == ("Example", "Camera 1")


def test_a_grey_sensor() -> None:
    content = dng.made(photo())
    tag, filtered = struct.pack("<HHIH", 262, 3, 1, 32803), struct.pack("<HHIH", 262, 3, 1, 34892)
    assert content.count(tag) == 1
    found = shown(content.replace(tag, filtered))
    assert found.shape == (64, 96, 3)
    assert np.ptp(found, axis=2).max() == 0


def test_one_that_says_it_is_huge() -> None:
    content = dng.made(photo())
    for tag, value in ((256, 96), (257, 64)):
        entry = struct.pack("<HHII", tag, 4, 1, value)
        assert content.count(entry) == 1
        content = content.replace(entry, struct.pack("<HHII", tag, 4, 1, 30_000))
    with pytest.raises(BadImage) as caught:
        imaging.inspect(content, LIMIT)
    assert caught.value.code == "too_many_pixels"


def test_a_kind_that_is_not_decoded_is_told_by_its_name() -> None:
    with pytest.raises(BadImage, match="RAF") as caught:
        imaging.inspect(b"FUJIFILMCCD-RAW 0201" + bytes(999), LIMIT)
    assert caught.value.code == "unsupported_format"


def test_the_recomputation_sees_the_picture_that_the_vector_was_made_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The preview shows another scene, so that nobody can take one for the other."""
    monkeypatch.setenv("IMAGE_FEATURES_CACHE", str(tmp_path))
    cat, coffee = (Image.fromarray(scene).resize((440, 300)) for scene in (data.chelsea(), data.coffee()))
    content, vectors = dng.made(cat, coffee), []
    for raw in ("preview", "developed"):
        artifact = prepare(ModelSettings("resnet18", "random:0", engine="torch", raw=raw))
        photos = Photos(artifact.info, LIMIT, artifact.files[0].parent)
        vectors.append(photos.extract([photos.prepare(content)])[0])
        assert_close(vectors[-1], photos.reference(content))
    camera, developed = vectors
    assert np.abs(camera - developed).max() > 0.01 * np.abs(camera).max()
