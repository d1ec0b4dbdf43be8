"""How good a photo is, in a few numbers that need no model: sharpness, brightness, contrast, whether it is blank."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image

from spark_apps.contract import photo_quality

SIDE = 256
"""Pixels of the long side of what is measured, at most: numbers of photos of different sizes can be compared, and the
cost is bounded. Averaging whole blocks of pixels leaves blur of less than a block unseen."""
SAMPLES = 2
"""In each direction, of a block: of large blocks not every pixel is looked at, where a blurred photo changes little."""
_LEVELS = np.arange(256)


@dataclass(frozen=True)
class PhotoQuality:
    """Of the grey picture, 0 to 255. `sharpness`: variance of its Laplacian; `brightness`, `contrast`: mean and
    standard deviation; `blank`: nothing can be told apart in it."""

    sharpness: float
    brightness: float
    contrast: float
    blank: bool


def measured(photo: Image.Image) -> PhotoQuality:
    """Of a photo in RGB, whatever its size. The same if its rows are columns.

    Source of the sharpness: Pech-Pacheco et al., Diatom autofocusing in brightfield microscopy, ICPR 2000, LAPV: the
    Laplacian with four neighbours, without the border. A picture less than three pixels wide or high has none, so 0.
    """
    grey = _small(photo).convert("L")
    values = np.asarray(grey, np.int16)
    counts = np.array(grey.histogram())
    brightness = float(counts @ _LEVELS / counts.sum())
    contrast = float(counts @ (_LEVELS - brightness) ** 2 / counts.sum()) ** 0.5
    sharpness = 0.0
    if min(values.shape) > 2:
        around = values[:-2, 1:-1] + values[2:, 1:-1] + values[1:-1, :-2] + values[1:-1, 2:]
        # Doubles hold both sums exactly, in whatever order; a product by BLAS would run in threads of its own.
        laplacian = (around - 4 * values[1:-1, 1:-1]).astype(np.float64)
        sharpness = float(np.einsum("ij,ij->", laplacian, laplacian) / laplacian.size - laplacian.mean() ** 2)
    return PhotoQuality(sharpness, brightness, contrast, contrast < photo_quality.BLANK)


def _small(photo: Image.Image) -> Image.Image:
    if (step := max(photo.size) // (SIDE * SAMPLES)) > 1:
        width, height = (max(1, side // step) for side in photo.size)
        photo = photo.resize((width, height), Image.Resampling.NEAREST)
    factor = -(-max(photo.size) // SIDE)
    return photo.reduce(factor) if factor > 1 else photo
