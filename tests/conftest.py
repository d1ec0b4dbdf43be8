"""What all tests share."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def optional_data() -> Path:
    """The optional test data (reference weights, odd images); tests that want it are skipped without it."""
    folder = Path(os.environ.get("IMAGE_FEATURES_TEST_DATA") or REPOSITORY.parent / "shared" / "data")
    if not folder.is_dir():
        pytest.skip("the optional test data is not there; IMAGE_FEATURES_TEST_DATA names its folder")
    return folder


@pytest.fixture(autouse=True)
def _no_connection_is_left() -> Iterator[None]:
    """A process reads stores with one connection at a time: the next test is to begin without any."""
    yield
    from spark_apps.storage import filesystems

    filesystems.use({})
