"""`--decode fast`: the resampling of the library fast_image_resize (package cykooz-resizer), with SIMD instructions.

Its filters are Pillow's, in other fixed-point numbers: in bilinear a pixel differs by 1/255 at most, in bicubic by more
where contrasts are hard, as what is cut off at black and white depends on whether columns or rows come first. They do
not differ from one processor to another.
"""

from __future__ import annotations

from cykooz_resizer import CropBox, FilterType, ResizeAlg, ResizeOptions, Resizer
from PIL import Image

FILTERS = {
    "box": FilterType.box,
    "bilinear": FilterType.bilinear,
    "bicubic": FilterType.catmull_rom,
    "lanczos": FilterType.lanczos3,
}
"""By Pillow's name in lower case; others stay with Pillow. Its bicubic is Catmull and Rom's, a = -0.5."""


MARGIN = 4
"""Pixels of the result beside what is wanted: the library takes nothing from outside of the box that it resamples, and
the widest filter, Lanczos', reaches three pixels of the result."""


def resampled(
    photo: Image.Image, size: tuple[int, int], square: tuple[int, int, int, int], interpolation: str
) -> Image.Image:
    """`square` (left, top, right, bottom) of what a photo in RGB becomes at `size`, with antialiasing."""
    (width, height), (left, top, right, bottom) = size, square
    x, y = photo.width / width, photo.height / height
    begin, above = max(0, left - MARGIN), max(0, top - MARGIN)
    end, below = min(width, right + MARGIN), min(height, bottom + MARGIN)
    options = ResizeOptions(
        ResizeAlg.convolution(FILTERS[interpolation]),
        crop_box=CropBox(begin * x, above * y, (end - begin) * x, (below - above) * y),
    )
    target = Image.new("RGB", (end - begin, below - above))
    Resizer().resize_pil(photo, target, options)
    return target.crop((left - begin, top - above, right - begin, bottom - above))
