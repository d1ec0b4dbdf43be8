"""From the bytes of a file to upright RGB pixels of the model's size, and every way an image can be bad.

Free of pyspark, Airflow and torch. The result equals torchvision's `Resize` and `CenterCrop` on the upright RGB photo.
"""

from __future__ import annotations

import io
import struct
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image, ImageCms, ImageFile, UnidentifiedImageError

from spark_apps.contract import BadFile
from spark_apps.contract.photo_quality import ODD_SHAPE
from spark_apps.media import camera_raw, color, corrections, cropping, exif, jpeg, optional, photo_quality, signatures
from spark_apps.media.signatures import FORMATS

JPEGS = ("JPEG", "MPO")
STRIP = 512
"""Rows."""
WIDEST_EXACT_SIDE = 8192
"""Pixels. A photo whose resized long side is longer is resampled within the crop alone (see `fit`)."""
SCALED_GAP = 2
"""How many times the needed short side a scaled decode keeps at least, as Pillow's `thumbnail` does. Measured on photos
of 2.5 and 12 megapixels with a resnet50: cosine to the exact vector at least 0.998, median 0.9999; with a gap of 1 they
are 0.996 and 0.999."""

KEPT_BLOCKS = 4
"""Of memory, at most 16 MiB each, that Pillow keeps from one photo to the next. It keeps none by itself, so that of a
photo of 12 megapixels, which takes three, an eighth of the time goes into fresh pages from the system."""
Image.core.set_blocks_max(KEPT_BLOCKS)  # type: ignore[attr-defined]  # documented there as its block allocator

PILLOW_PIXELS = Image.MAX_IMAGE_PIXELS or 0
"""Half of Pillow's own limit, which stays for what a header does not tell, as the pictures within an icon."""


class BadImage(BadFile):
    """A file that gives no pixels."""


@dataclass(frozen=True, kw_only=True)
class ImageInfo(exif.Capture):
    """What the header says. Width and height in pixels as stored; orientation is the EXIF tag, 1 to 8, or None.

    `odd_shape`: more than `ODD_SHAPE` times as long as wide.
    """

    format: str
    mode: str
    width: int
    height: int
    exif_orientation: int | None
    odd_shape: bool = False


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


def inspect(content: bytes, max_pixels: int) -> ImageInfo:
    """Format, mode and size from the header; no pixel is decoded.

    Raises:
        BadImage: the content is empty, no image, or larger than `max_pixels`.
    """
    with _open(content, max_pixels) as image:
        return ImageInfo(
            format=image.format or "",
            mode=image.mode,
            width=image.width,
            height=image.height,
            exif_orientation=exif.orientation(image),
            odd_shape=max(image.size) > ODD_SHAPE * min(image.size),
            **vars(exif.capture(image)),
        )


def upright_rgb(
    content: bytes,
    max_pixels: int,
    least: int = 0,
    colors: str = "stored",
    of_raw: camera_raw.Wanted = camera_raw.PREVIEW,
) -> Image.Image:
    """The photo as a person sees it: turned by its EXIF tag, in RGB, transparency on white, first frame.

    `least`: a JPEG is decoded at the smallest of 1/2, 1/4 and 1/8 of its size that leaves so many pixels on its short
    side (the decoder then computes fewer frequencies); 0: at its full size. `colors`: stored, or srgb, see `color`.
    `of_raw`: what is seen of a camera's RAW photo.

    Raises:
        BadImage: see `contract.QUARANTINE_CODES`.
    """
    if camera_raw.accepts(content):
        shown = _of_camera(content, max_pixels, of_raw)
        if isinstance(shown, Image.Image):
            return shown
        content = shown
    problem = BadImage("truncated", "It has an end marker, but the data before it ends too early.")
    try:
        photo, corners = _upright_rgb(content, max_pixels, least, colors)
        if ImageFile.LOAD_TRUNCATED_IMAGES or not content.startswith(jpeg.START):
            return photo
        if not jpeg.may_be_cut(content, corners):
            return photo
        del photo
    except BadImage as bad:
        if bad.code != "truncated":
            raise
        problem = bad
    whole = jpeg.whole(content, lambda ended: _upright_rgb(ended, max_pixels, least, colors)[0])
    if whole is None:
        raise problem
    return whole


def _of_camera(content: bytes, max_pixels: int, wanted: camera_raw.Wanted) -> Image.Image | bytes:
    """What is developed of a camera's RAW photo, or the preview in it, a JPEG."""
    with _open(content, max_pixels) as photo:
        assert isinstance(photo, camera_raw.RawImage)
        try:
            return (None if wanted.developed else photo.preview(wanted.side)) or photo.developed(wanted.side)
        except Exception as error:
            raise _as_bad_image(error) from error


Corners = list[tuple[int, ...]]
"""RGB of each, as stored."""


def _upright_rgb(content: bytes, max_pixels: int, least: int, colors: str) -> tuple[Image.Image, Corners]:
    """The photo, and of a JPEG its corners."""
    corners: Corners = []
    image = _open(content, max_pixels)
    covered = corrections.covered(image)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if least:
                image.draft(None, (least, least))
            if isinstance(image, ImageFile.ImageFile) and image.format in JPEGS:
                image.decodermaxblock = len(content)  # at once: between two blocks libjpeg forgets a row of the picture
            image.load()
            if image.width * image.height > max_pixels:  # an icon's inner image may be larger than its header says
                raise BadImage("too_many_pixels", _too_many(image.width, image.height, max_pixels))
            if image.format in JPEGS:
                corners = _corners(image)
            corrections.set_key(image, content)
            seen = color.conversion(image, content) if colors == "srgb" else None
            rgb = image.convert("RGB") if corrections.opaque(image, content) else _to_rgb(image, seen)
            if covered:
                canvas = Image.new("RGB", rgb.size, "white")
                canvas.paste(rgb.crop(covered), covered)
                rgb = canvas
    except Exception as error:
        undecoded = signatures.undecoded(content)
        raise BadImage(undecoded.code, undecoded.message) if undecoded else _as_bad_image(error) from error
    # The tag is asked for after loading: Pillow turns a TIFF by itself and then drops it.
    return exif.turned(rgb, exif.orientation(image)), corners


def _corners(image: Image.Image) -> Corners:
    right, below = image.width - 1, image.height - 1
    places = [(x, y) for x in (0, right) for y in (0, below)]
    if image.mode == "RGB":  # as nearly always, and without four pictures of a pixel, each of which takes a block
        return [image.getpixel(place) for place in places]  # type: ignore[misc]
    dots = (image.crop((x, y, x + 1, y + 1)).convert("RGB") for x, y in places)
    return [dot.getpixel((0, 0)) for dot in dots]  # type: ignore[misc]


def fit(photo: Image.Image, preprocessing: Preprocessing) -> Image.Image:
    """Resize (antialiased) and centre crop, equal to torchvision's `Resize` and `CenterCrop`, and to timm's transforms.

    Source of the crop: torchvision/transforms/functional.py, `center_crop`; timm's `center_crop_or_pad`.
    Just the part below the crop is resampled, which may differ from torchvision by 1/255, when `scaled` or `fast` is
    asked for, and for photos more than about 30 times as long as wide, whose resized form would fill the memory.
    """
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


def _resampled(
    photo: Image.Image, size: tuple[int, int], part: tuple[int, int, int, int], preprocessing: Preprocessing
) -> Image.Image:
    """`part` (left, top, right, bottom) of what the photo becomes at `size`."""
    if preprocessing.fast:
        from spark_apps.media import resampling as fast  # its package is needed for nothing else

        if preprocessing.interpolation in fast.FILTERS:
            return fast.resampled(photo, size, part, preprocessing.interpolation)
    resampling = Image.Resampling[preprocessing.interpolation.upper()]
    if preprocessing.scaled or max(size) > WIDEST_EXACT_SIDE:
        left, top, right, bottom = part
        x, y = photo.width / size[0], photo.height / size[1]
        box = (left * x, top * y, right * x, bottom * y)
        return photo.resize((right - left, bottom - top), resampling, box=box)
    return cropping.resized(photo, size, part, resampling)


def decoder(preprocessing: Preprocessing, max_pixels: int) -> Callable[[bytes], np.ndarray]:
    """`decode` for one model: a function of a file's bytes alone."""
    return lambda content: decode(content, preprocessing, max_pixels)


def decode(content: bytes, preprocessing: Preprocessing, max_pixels: int) -> np.ndarray:
    """Pixels for the model: uint8 [height, width, 3], RGB.

    Raises:
        BadImage: see `contract.QUARANTINE_CODES`.
    """
    photo = upright_rgb(content, max_pixels, preprocessing.least, preprocessing.color, preprocessing.of_raw)
    try:
        return np.asarray(fit(photo, preprocessing))
    except Exception as error:
        raise _as_bad_image(error) from error


def decode_and_measure(
    content: bytes, preprocessing: Preprocessing, max_pixels: int
) -> tuple[np.ndarray, photo_quality.PhotoQuality]:
    """The same, and how good the photo is, which is decoded once for both. Raises as `decode`."""
    photo = upright_rgb(content, max_pixels, preprocessing.least, preprocessing.color, preprocessing.of_raw)
    try:
        return np.asarray(fit(photo, preprocessing)), photo_quality.measured(photo)
    except Exception as error:
        raise _as_bad_image(error) from error


def _open(content: bytes, max_pixels: int) -> Image.Image:
    if not content:
        raise BadImage("empty", "The file has no bytes.")
    try:
        Image.MAX_IMAGE_PIXELS = max(PILLOW_PIXELS, max_pixels // 2)  # Pillow refuses what has more than twice as many
        if camera_raw.accepts(content):
            raise UnidentifiedImageError  # Pillow would take it for the small preview that a TIFF begins with
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            image: Image.Image = Image.open(io.BytesIO(corrections.readable(content)), formats=FORMATS)
    except UnidentifiedImageError:
        image = _open_optional(content)
    except Exception as error:
        bad = _as_bad_image(error)
        if bad.code in ("corrupt", "truncated", "unsupported_format"):
            # Two letters of a text can be enough for a decoder to take it for its own.
            kind = signatures.told(content)
            if kind.code == "not_an_image" and kind is not signatures.UNKNOWN:
                bad = BadImage(kind.code, kind.message)
        raise bad from error
    if image.width * image.height > max_pixels:
        raise BadImage("too_many_pixels", _too_many(image.width, image.height, max_pixels))
    if image.width < 1 or image.height < 1:
        raise BadImage("corrupt", f"The header gives a size of {image.width} x {image.height} pixels.")
    return image


def _open_optional(content: bytes) -> Image.Image:
    """What Pillow does not know."""
    try:
        image = optional.opened(content)
    except Exception as error:
        raise _as_bad_image(error) from error
    if image is None:
        kind = signatures.told(content)
        raise BadImage(kind.code, kind.message) from None
    return image


def _too_many(width: int, height: int, max_pixels: int) -> str:
    return f"{width} x {height} pixels are more than the limit of {max_pixels:,}."


def _to_rgb(image: Image.Image, seen: color.Conversion | None) -> Image.Image:
    if image.mode.startswith("I;16"):
        return _converted(Image.fromarray(corrections.grey_16(image)).convert("RGB"), seen)
    if image.mode in ("I", "F") or corrections.signed(image):
        deep = np.rint(corrections.grey_deep(image)).clip(0, 255)
        return _converted(Image.fromarray(deep.astype(np.uint8)).convert("RGB"), seen)
    if image.mode == "LAB":
        lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
        converted = ImageCms.profileToProfile(image, lab, srgb, outputMode="RGB")
        assert converted is not None  # only inPlace=True returns None
        return converted
    if image.mode == "CMYK" and seen:
        return seen.apply(image)
    if image.mode == "La":
        image = image.convert("LA")
    if image.has_transparency_data:
        return _on_white(image, seen)
    return _converted(image if image.mode == "RGB" else image.convert("RGB"), seen)


def _converted(image: Image.Image, seen: color.Conversion | None) -> Image.Image:
    return seen.apply(image) if seen else image


def _on_white(image: Image.Image, seen: color.Conversion | None) -> Image.Image:
    """In strips, because a large picture has no room for the copies that this takes."""
    canvas = Image.new("RGB", image.size)
    for top in range(0, image.height, STRIP):
        rgba = image.crop((0, top, image.width, min(top + STRIP, image.height))).convert("RGBA")
        rgba = _converted(rgba, seen)
        canvas.paste(Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB"), (0, top))
    return canvas


_ENDS_EARLY = ("truncated", "not enough data", "eof", "end of file", "insufficient input data", "cannot read full")
"""How Pillow, libheif and others say it."""


def _as_bad_image(error: Exception) -> BadImage:
    """The quarantine code of whatever a decoder raised. Decoders raise almost anything on hostile bytes."""
    if isinstance(error, BadFile):
        return error if isinstance(error, BadImage) else BadImage(error.code, error.message)
    text = " ".join(str(error).split())[:300] or type(error).__name__
    if isinstance(error, Image.DecompressionBombError):
        return BadImage("too_many_pixels", text)
    if isinstance(error, MemoryError):
        return BadImage("out_of_memory", "Decoding needed more memory than there is.")
    if isinstance(error, NotImplementedError) or signatures.refused(text):
        return BadImage("unsupported_format", text)
    if isinstance(error, EOFError) or any(words in text.lower() for words in _ENDS_EARLY):
        return BadImage("truncated", text)
    if isinstance(error, OSError | ValueError | TypeError | IndexError | KeyError | SyntaxError | struct.error):
        return BadImage("corrupt", text)
    return BadImage("decode_error", f"{type(error).__name__}: {text}")
