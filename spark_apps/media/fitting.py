"""How a photo is brought to the model's size, as torchvision's and timm's transforms do it. Free of torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from PIL import Image

from spark_apps.media import camera_raw, cropping
from spark_apps.media.cropping import Part, Size
from spark_apps.media.exif import Held

WIDEST_EXACT_SIDE = 8192
"""Pixels. A photo whose resized long side is longer is resampled within the crop alone (see `fit`)."""
SCALED_GAP = 2
"""How many times the needed short side a scaled decode keeps at least, as Pillow's `thumbnail` does. Measured on photos
of 2.5 and 12 megapixels with a resnet50: cosine to the exact vector at least 0.998, median 0.9999; with a gap of 1 they
are 0.996 and 0.999."""


@dataclass(frozen=True)
class Preprocessing:
    """How a photo is brought to the model's size. Pixels: one number for both sides, or height and width.

    `fit` short: the photo is scaled until it covers `resize`, with one number its short side is that long; squash: to
    just `resize`, whatever its proportions; pad: until it fits into `resize`. Then `crop` is cut from its centre, and
    what it lacks there has the colour `fill`.
    `interpolation`: a resampling of Pillow in lower case, antialiased.
    `scaled`: large JPEGs are decoded at a fraction of their size, and only the crop is resampled. Faster, not equal.
    `fast`: only the crop is resampled, by a library that is faster than Pillow; see `resampling`.
    `color`: stored, or srgb: as a person sees them, by what the file says of its colours.
    `raw`: of a camera's RAW photo, preview: that which lies in the file, if it is large enough; or developed.
    """

    resize: int | tuple[int, int] = 256
    crop: int | tuple[int, int] = 224
    scaled: bool = False
    interpolation: str = "bilinear"
    color: str = "stored"
    fast: bool = False
    fit: str = "short"
    fill: tuple[int, ...] = (0, 0, 0)
    raw: str = "preview"

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Preprocessing:
        """That of a model, from `ModelInfo.preprocessing`."""
        names = {"resize", "crop", *({"interpolation", "color", "fit", "fill", "raw"} & set(values))}
        given: dict[str, Any] = {name: tuple(v) if isinstance(v := values[name], list) else v for name in names}
        decode = values.get("decode")
        return cls(scaled=decode == "scaled", fast=decode == "fast", **given)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of what is cut out."""
        return (self.crop, self.crop) if isinstance(self.crop, int) else self.crop

    @property
    def least(self) -> int:
        """Pixels that a decoded photo's short side must have at least; 0: all there are."""
        return SCALED_GAP * self._longest if self.scaled else 0

    @property
    def of_raw(self) -> camera_raw.Wanted:
        """What is seen of a camera's RAW photo."""
        return camera_raw.Wanted(self._longest, developed=self.raw == "developed")

    @property
    def _longest(self) -> int:
        return self.resize if isinstance(self.resize, int) else max(self.resize)

    def resized(self, width: int, height: int) -> tuple[int, int]:
        """Width and height that a photo of this size is scaled to.

        Source of the formulas: torchvision/transforms/functional.py, `_compute_resized_output_size`, where one number
        says the short side; timm/data/transforms.py, `ResizeKeepRatio`, elsewhere.
        """
        if self.fit == "short" and isinstance(self.resize, int):
            short, long = sorted((width, height))
            scaled = int(self.resize * long / short)
            return (self.resize, scaled) if width <= height else (scaled, self.resize)
        rows, columns = (self.resize, self.resize) if isinstance(self.resize, int) else self.resize
        if self.fit == "squash":
            return columns, rows
        ratio = (max if self.fit == "pad" else min)(height / rows, width / columns)
        return max(1, round(width / ratio)), max(1, round(height / ratio))


def fit(photo: Held | Image.Image, preprocessing: Preprocessing) -> Image.Image:
    """Resize (antialiased) and centre crop, equal to torchvision's `Resize` and `CenterCrop`, and to timm's transforms.

    Source of the crop: torchvision/transforms/functional.py, `center_crop`; timm's `center_crop_or_pad`.
    Just the part below the crop is resampled, which may differ from torchvision by 1/255, when `scaled` or `fast` is
    asked for, and for photos more than about 30 times as long as wide, whose resized form would fill the memory.
    """
    photo = photo if isinstance(photo, Held) else Held(photo)
    rows, columns = preprocessing.size
    size = width, height = preprocessing.resized(*photo.size)
    if width >= columns and height >= rows:
        left, top = round((width - columns) / 2.0), round((height - rows) / 2.0)
        return _resampled(photo, size, (left, top, left + columns, top + rows), preprocessing)
    canvas = Image.new("RGB", (max(width, columns), max(height, rows)), preprocessing.fill)
    at = max(0, columns - width) // 2, max(0, rows - height) // 2
    canvas.paste(_resampled(photo, size, (0, 0, *size), preprocessing), at)
    left, top = round((canvas.width - columns) / 2.0), round((canvas.height - rows) / 2.0)
    return canvas.crop((left, top, left + columns, top + rows))


def _resampled(photo: Held, size: Size, part: Part, preprocessing: Preprocessing) -> Image.Image:
    """`part` of what the photo becomes at `size`."""
    if preprocessing.fast:
        from spark_apps.media import resampling as fast  # its package is needed for nothing else

        if preprocessing.interpolation in fast.FILTERS:
            return fast.resampled(photo, size, part, preprocessing.interpolation)
    resampling = Image.Resampling[preprocessing.interpolation.upper()]
    if preprocessing.scaled or max(size) > WIDEST_EXACT_SIDE:
        left, top, right, bottom = part
        x, y = photo.size[0] / size[0], photo.size[1] / size[1]
        box = (left * x, top * y, right * x, bottom * y)
        return photo.upright().resize((right - left, bottom - top), resampling, box=box)
    return cropping.resized(photo, size, part, resampling)
