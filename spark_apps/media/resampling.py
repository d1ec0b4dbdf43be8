"""`--decode fast`: the resampling of the library fast_image_resize (package cykooz-resizer), with SIMD instructions.

Its filters are Pillow's, in other fixed-point numbers: in bilinear a pixel differs by 1/255 at most, in bicubic by more
where contrasts are hard, as what is cut off at black and white depends on whether columns or rows come first. They do
not differ from one processor to another.
"""

from __future__ import annotations

from cykooz_resizer import CropBox, FilterType, ResizeAlg, ResizeOptions, Resizer
from PIL import Image

from spark_apps.media.cropping import Part, Size
from spark_apps.media.exif import Held

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


def resampled(photo: Held, size: Size, part: Part, interpolation: str) -> Image.Image:
    """`part` of what a photo in RGB becomes at `size`, with antialiasing."""
    (width, height), (left, top, right, bottom) = size, part
    x, y = photo.size[0] / width, photo.size[1] / height
    begin, above = max(0, left - MARGIN), max(0, top - MARGIN)
    end, below = min(width, right + MARGIN), min(height, bottom + MARGIN)
    columns, rows = end - begin, below - above
    part = left - begin, top - above, right - begin, bottom - above
    if not photo.sideways:
        box = CropBox(begin * x, above * y, columns * x, rows * y)
        return _convolved(photo.picture, (columns, rows), box, interpolation).crop(part)
    # The library goes down the columns first, so along the rows of what lies sideways.
    picture = _convolved(
        photo.picture, (rows, photo.size[0]), CropBox(above * y, 0, rows * y, photo.size[0]), interpolation
    )
    picture = _convolved(picture, (rows, columns), CropBox(0, begin * x, rows, columns * x), interpolation)
    return Held(picture, sideways=True).upright().crop(part)


def _convolved(picture: Image.Image, size: Size, box: CropBox, interpolation: str) -> Image.Image:
    target = Image.new("RGB", size)
    options = ResizeOptions(ResizeAlg.convolution(FILTERS[interpolation]), crop_box=box)
    Resizer().resize_pil(picture, target, options)
    return target
