"""Real photos, and an empty store, for the unit tests."""

from __future__ import annotations

from pathlib import Path

import pytest
import skimage

from tests.shelf import Shelf


@pytest.fixture(scope="session")
def photos() -> dict[str, Path]:
    """The photos that scikit-image ships, by file name."""
    folder = Path(skimage.__file__).parent / "data"
    return {path.name: path for path in sorted(folder.iterdir()) if path.suffix in (".png", ".jpg")}


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    """An empty store. Its path has a blank and a letter outside ASCII, as a person's folder may."""
    return Shelf(str(tmp_path / "my störe"))
