"""Every kind of file has a picture, and what is none of them has none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from demo import other_files
from spark_apps.contract import BadFile
from spark_apps.media import preview

PLENTY = 10**8


def ink(picture: Image.Image) -> float:
    """Share of the pixels that are not paper."""
    return float((np.asarray(picture) != preview.PAPER).any(axis=2).mean())


def test_a_photo_is_made_small_and_keeps_its_shape(photos: dict[str, Path]) -> None:
    content = photos["rocket.jpg"].read_bytes()
    with Image.open(photos["rocket.jpg"]) as photo:
        ratio = photo.width / photo.height
    drawn = preview.draw(content, 200, PLENTY)
    assert max(drawn.size) == 200
    assert drawn.width / drawn.height == pytest.approx(ratio, rel=0.02)


def test_a_text_is_written_out(tmp_path: Path) -> None:
    little = preview.draw(b"one line", 256, PLENTY)
    much = preview.draw(("many words " * 10_000).encode(), 256, PLENTY)
    assert little.size == much.size == (256, 256)
    assert 0 < ink(little) < ink(much)
    assert ink(preview.draw("ein Größtes, 漢字".encode() * 3000, 256, PLENTY)) > 0, "cut within a character"


def test_a_sound_is_drawn_over_time(tmp_path: Path) -> None:
    folder = other_files.prepare(tmp_path, "audio")
    tone, pluck = (
        preview.draw((folder / name).read_bytes(), 256, PLENTY) for name in ("tone-660.flac", "pluck-660.flac")
    )
    assert tone.size == (256, 128)
    halves = [ink(pluck.crop(box)) for box in ((0, 0, 128, 128), (128, 0, 256, 128))]
    assert halves[0] > 2 * halves[1], "a plucked string fades"
    assert ink(tone) > ink(pluck)


@pytest.mark.parametrize("content", [b"", b"\xff\xfe\0\1", b" . ", b"RIFF" + b"\xff" * 40, b"\x89PNG\r\n\x1a\n broken"])
def test_what_is_none_of_them_is_refused(content: bytes) -> None:
    with pytest.raises(BadFile):
        preview.draw(content, 256, PLENTY)
