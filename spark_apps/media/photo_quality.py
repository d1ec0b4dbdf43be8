"""How good a photo is, in a few numbers that need no model: sharpness, brightness, contrast, whether it is blank."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageStat

from spark_apps.contract import photo_quality

SIDE = 512
"""Pixels of the long side of what is measured, at most: numbers of photos of different sizes can be compared, and the
cost is bounded. Averaging whole blocks of pixels leaves blur of less than a block unseen."""


@dataclass(frozen=True)
class PhotoQuality:
    """Of the grey picture, 0 to 255. `sharpness`: variance of its Laplacian; `brightness`, `contrast`: mean and
    standard deviation; `blank`: nothing can be told apart in it."""

    sharpness: float
    brightness: float
    contrast: float
    blank: bool


def measured(photo: Image.Image) -> PhotoQuality:
    """Of an upright photo in RGB, whatever its size.

    Source of the sharpness: Pech-Pacheco et al., Diatom autofocusing in brightfield microscopy, ICPR 2000, LAPV: the
    Laplacian with four neighbours, without the border. A picture less than three pixels wide or high has none, so 0.
    """
    factor = -(-max(photo.size) // SIDE)
    small = photo.reduce(factor) if factor > 1 else photo
    grey = small.convert("L")
    values = np.asarray(grey, np.int16)
    statistics = ImageStat.Stat(grey)
    sharpness = 0.0
    if min(values.shape) > 2:
        around = values[:-2, 1:-1] + values[2:, 1:-1] + values[1:-1, :-2] + values[1:-1, 2:]
        sharpness = float((around - 4 * values[1:-1, 1:-1]).astype(np.float32).var())
    contrast = statistics.stddev[0]
    return PhotoQuality(sharpness, statistics.mean[0], contrast, contrast < photo_quality.BLANK)
