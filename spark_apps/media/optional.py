"""Formats that Pillow does not decode and packages of their own do, where they are installed: HEIC, JPEG XL, RAW.

Each package is imported at the first photo of its kind, so that a worker without such photos neither needs nor loads
it. They are called by hand and not through Pillow, which would pass over the reason of a refusal.
"""

from __future__ import annotations

import importlib
import io
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType

from PIL import Image

from spark_apps.contract import DECODERS, BadFile
from spark_apps.media import camera_raw, jxl, signatures


@dataclass(frozen=True)
class Format:
    """A format; `extra` is its key in `contract.DECODERS`. `accepts`: whether a file says that it is one. `open` reads
    the header alone, and decodes when it is loaded."""

    name: str
    what: str
    extra: str
    accepts: Callable[[bytes], bool]
    open: Callable[[ModuleType, bytes], Image.Image]


def _heif(module: ModuleType, content: bytes) -> Image.Image:
    """The primary picture, turned by its own `irot` and `imir`: its EXIF tag does not count (ISO/IEC 23008-12, 6.5.10).

    One thread: a task has the cores that it was given. The picture itself, not a thumbnail that lies beside it.
    """
    module.options.DECODE_THREADS = 1
    module.options.THUMBNAILS = module.options.DEPTH_IMAGES = module.options.AUX_IMAGES = False
    try:
        image: Image.Image = module.HeifImageFile(io.BytesIO(content))
    except SyntaxError as error:
        if "not identified" in str(error):  # how Pillow's base class says that the package left it without a size
            raise ValueError("unsupported: it holds no picture of a codec that is decoded here") from error
        raise
    return image


FORMATS = (
    Format("HEIF", "a HEIF image (HEIC), as telephones and cameras make them", "heic", signatures.heif, _heif),
    Format("JPEG XL", "a JPEG XL image", "jxl", jxl.accepts, jxl.JxlImage.of),
    Format("RAW", "a camera's RAW photo", "raw", camera_raw.accepts, camera_raw.RawImage.of),
)


def opened(content: bytes) -> Image.Image | None:
    """A picture of one of these formats, which is decoded when it is loaded; None: it is of none of them.

    Raises:
        BadFile: `decoder_missing`, no package that decodes it is installed.
        ValueError: its header is damaged, or of a kind that the package does not decode.
    """
    format = next((format for format in FORMATS if format.accepts(content)), None)
    if format is None:
        return None
    module = _module(format)
    try:
        return format.open(module, content)
    except (SyntaxError, ValueError, RuntimeError, OSError) as error:
        raise ValueError(f"{format.name}: {error}") from error


def _module(format: Format) -> ModuleType:
    packages = DECODERS[format.extra]
    for module in packages.values():
        try:
            return importlib.import_module(module)
        except ImportError:  # not installed, or its library does not load here
            continue
    raise BadFile(
        "decoder_missing",
        f"It is {format.what}, and the machine that read it has no {' and no '.join(packages)} to decode it.",
    )
