"""From the bytes of a file to upright RGB pixels of the model's size, and every way an image can be bad.

Free of pyspark, Airflow and torch. The result equals torchvision's `Resize` and `CenterCrop` on the upright RGB photo.
"""

from __future__ import annotations

import io
import struct
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageCms, ImageFile, UnidentifiedImageError

from spark_apps.contract import BadFile
from spark_apps.contract.photo_quality import ODD_SHAPE
from spark_apps.media import camera_raw, color, corrections, exif, jpeg, optional, photo_quality, signatures
from spark_apps.media.exif import Held
from spark_apps.media.fitting import Preprocessing, fit
from spark_apps.media.signatures import FORMATS

JPEGS = ("JPEG", "MPO")
STRIP = 512
"""Rows."""
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
    return _held_rgb(content, max_pixels, least, colors, of_raw).upright()


def _held_rgb(content: bytes, max_pixels: int, least: int, colors: str, of_raw: camera_raw.Wanted) -> Held:
    if camera_raw.accepts(content):
        shown = _of_camera(content, max_pixels, of_raw)
        if isinstance(shown, Image.Image):
            return Held(shown)
        content = shown
    problem = BadImage("truncated", "It has an end marker, but the data before it ends too early.")
    try:
        photo, corners = _decoded_rgb(content, max_pixels, least, colors)
        if ImageFile.LOAD_TRUNCATED_IMAGES or not content.startswith(jpeg.START):
            return photo
        if not jpeg.may_be_cut(content, corners):
            return photo
        del photo
    except BadImage as bad:
        if bad.code != "truncated":
            raise
        problem = bad
    whole = jpeg.whole(content, lambda ended: _decoded_rgb(ended, max_pixels, least, colors)[0])
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


def _decoded_rgb(content: bytes, max_pixels: int, least: int, colors: str) -> tuple[Held, Corners]:
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
    return exif.held(rgb, exif.orientation(image)), corners


def _corners(image: Image.Image) -> Corners:
    right, below = image.width - 1, image.height - 1
    places = [(x, y) for x in (0, right) for y in (0, below)]
    if image.mode == "RGB":  # as nearly always, and without four pictures of a pixel, each of which takes a block
        return [image.getpixel(place) for place in places]  # type: ignore[misc]
    dots = (image.crop((x, y, x + 1, y + 1)).convert("RGB") for x, y in places)
    return [dot.getpixel((0, 0)) for dot in dots]  # type: ignore[misc]


def decoder(preprocessing: Preprocessing, max_pixels: int) -> Callable[[bytes], np.ndarray]:
    """`decode` for one model: a function of a file's bytes alone."""
    return lambda content: decode(content, preprocessing, max_pixels)


def decode(content: bytes, preprocessing: Preprocessing, max_pixels: int) -> np.ndarray:
    """Pixels for the model: uint8 [height, width, 3], RGB.

    Raises:
        BadImage: see `contract.QUARANTINE_CODES`.
    """
    photo = _held_rgb(content, max_pixels, preprocessing.least, preprocessing.color, preprocessing.of_raw)
    try:
        return np.asarray(fit(photo, preprocessing))
    except Exception as error:
        raise _as_bad_image(error) from error


def decode_and_measure(
    content: bytes, preprocessing: Preprocessing, max_pixels: int
) -> tuple[np.ndarray, photo_quality.PhotoQuality]:
    """The same, and how good the photo is, which is decoded once for both. Raises as `decode`."""
    photo = _held_rgb(content, max_pixels, preprocessing.least, preprocessing.color, preprocessing.of_raw)
    try:
        return np.asarray(fit(photo, preprocessing)), photo_quality.measured(photo.picture)
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
