"""A part of what Pillow makes of a photo at another size, to the bit, without most of the work for the rest.

Pillow resamples rows and columns one after the other. The weights of output pixel i are those at (i + 0.5) * step of
its input, step being input pixels for an output pixel, so a box that begins at output pixel k gives the same weights,
if k * step is not rounded on its way. Pillow takes a box in single precision (src/_imaging.c, `_resize`).
"""

from __future__ import annotations

from math import gcd

from PIL import Image

from spark_apps.media.exif import Held

Size = tuple[int, int]
"""Width and height, in pixels."""
Part = tuple[int, int, int, int]
"""Left, top, right and bottom, in pixels of the photo at its new size."""

FRACTIONS, LONGEST = 2**8, 2**16
"""Single precision holds any multiple of 1/256 below 65,536."""


def resized(photo: Held, size: Size, part: Part, resampling: Image.Resampling) -> Image.Image:
    """`photo.upright().resize(size, resampling).crop(part)`.

    A side is resampled just as far as it is wanted if its step is a whole number of 256ths: that of the short side is
    with a `resize` of 256, and that of the long one in photos whose sides are as 3 to 2, as cameras make them, or
    equal; not in those of 4 to 3. Of a photo that lies sideways nothing but the result is turned.
    """
    (width, height), (left, top, right, bottom) = photo.size, part
    begin, end = _alone(width, size[0], (left, right))
    above, below = _alone(height, size[1], (top, bottom))
    smaller = columns, rows = end - begin, below - above
    if _columns_first(photo.size, size) or _columns_first(photo.size, smaller):
        return photo.upright().resize(size, resampling).crop(part)
    x, y = (begin * width / size[0], end * width / size[0]), (above * height / size[1], below * height / size[1])
    part = left - begin, top - above, right - begin, bottom - above
    if not photo.sideways:
        return photo.picture.resize(smaller, resampling, (x[0], y[0], x[1], y[1])).crop(part)
    picture = photo.picture.resize((height, columns), resampling, (0, x[0], height, x[1]))
    picture = picture.resize((rows, columns), resampling, (y[0], 0, y[1], columns))
    return Held(picture, sideways=True).upright().crop(part)


def _alone(pixels: int, resized: int, wanted: tuple[int, int]) -> tuple[int, int]:
    """Begin and end of what has to be resampled of a side for the pixels `wanted` of it: these, or all `resized`."""
    denominator = resized // gcd(pixels, resized)
    return wanted if FRACTIONS % denominator == 0 and pixels < LONGEST else (0, resized)


def _columns_first(photo: Size, size: Size) -> bool:
    """Whether Pillow resamples columns before rows, which are rounded in between: then a part has other pixels.

    Source: Pillow 13, src/libImaging/Resample.c; older versions begin with the rows always.
    """
    return photo[1] - size[1] > 2 * (photo[0] - size[0])
