"""One wheel and one day of photos for all environments."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.install.environments import build_wheel

DAY = "2026-11-01"
PHOTOS = 5


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_wheel(tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="session")
def source(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A source with five photos on one day, and a file that is none."""
    root = tmp_path_factory.mktemp("photos")
    (root / DAY).mkdir()
    noise = np.random.default_rng(0)
    for number in range(PHOTOS):
        Image.fromarray(noise.integers(0, 255, (240, 320, 3), dtype=np.uint8)).save(root / DAY / f"{number}.jpg")
    (root / DAY / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 and no more")
    return f"{root}/{{partition}}"
