"""Thousands of damaged HEIC, JPEG XL and RAW files: each gives pixels or a reason, and the decoding child goes on."""

from __future__ import annotations

import pytest

from tests.unit.test_optional_formats import MADE, survive


@pytest.mark.slow_faults
@pytest.mark.parametrize("content", MADE.values(), ids=MADE.keys())
def test_thousands_of_damaged_copies(content: bytes) -> None:
    survive(content, 5_000)
