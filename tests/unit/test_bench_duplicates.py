"""The figures about duplicates: what counts as right, wrong, and as a scene from two places."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from benchmarks import duplicates
from benchmarks.duplicates import FIRST, Copy


@pytest.fixture
def copies() -> list[Copy]:
    """Three photos, two of one scene, with an edit of each kind, and the halves of one."""
    found = []
    for photo in ("motorcycle_left", "motorcycle_right", "cup"):
        found += [Copy(photo, edit, b"") for edit in ("", *FIRST, "turned")]
    return [*found, Copy("cup", "half", b""), Copy("cup", "half", b"")]


def told(copies: list[Copy], found: np.ndarray) -> str:
    return duplicates._line("way", copies, [place for place, copy in enumerate(copies) if not copy.edit], found)


def test_who_finds_all_copies_and_nothing_else_is_right(copies: list[Copy]) -> None:
    found = np.array([[one.photo == other.photo for other in copies] for one in copies])
    found[-2:, -2:] = False
    line = told(copies, found)
    assert "precision 1.0000 (0 wrong; with one scene from two places 1.0000, 0 more)" in line
    assert "recall of the first five 1.000" in line and "turned 1.00" in line


def test_what_is_missed_and_what_is_wrong_is_told(copies: list[Copy]) -> None:
    found = np.zeros((len(copies), len(copies)), bool)
    assert "precision 0.0000" in told(copies, found) and "first five 0.000" in told(copies, found)
    everything = np.ones((len(copies), len(copies)), bool)
    line = told(copies, everything)
    right, scenes = 3 * 6, 2 * 7
    wrong = 2 * (7 + 2) + 2 * 7 + 1  # each motorcycle and the cup's files, the cup and the motorcycles', the halves
    assert f"precision {right / (right + wrong):.4f} ({wrong} wrong" in line and f"{scenes} more" in line


def test_copies_are_made_anew_the_same() -> None:
    picture = Image.fromarray(np.random.default_rng(1).integers(0, 255, (300, 400, 3), np.uint8))
    first, again = (list(duplicates._copies("x", picture, 5)) for _ in range(2))
    assert first == again and {copy.edit for copy in first} >= {"", "half", "mirrored", *FIRST}
    sizes = [Image.open(io.BytesIO(copy.content)).size for copy in first if copy.edit == "cropped 15 %"]
    assert sizes == [(340, 255)]
