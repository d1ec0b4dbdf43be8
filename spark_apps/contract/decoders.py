"""The packages that decode what Pillow does not: none must be there, and each adds a format where it is."""

from __future__ import annotations

from collections.abc import Mapping

DECODERS: Mapping[str, Mapping[str, str]] = {
    "heic": {"pi-heif": "pi_heif", "pillow-heif": "pillow_heif"},
    "jxl": {"pillow-jxl-plugin": "pillow_jxl"},
    "raw": {"rawpy": "rawpy"},
}
"""By the extra of image-features that brings the first: names for pip, each with its module. One of them is enough; the
first that is there is taken."""
DECODER_PACKAGES = tuple(package for packages in DECODERS.values() for package in packages)
"""All of them."""
