"""The demo's landing zone: three days of real photographs, and the odd and broken files that real days bring.

The photographs ship with scikit-image; crops and edits of each are spread over the days, so that every photo has
neighbours a person finds right. The days are fixed ones: the demo can be run again on any later day and reprocesses
the same three, and its results can be compared with the last run's.
"""

from __future__ import annotations

import hashlib
import io
import json
import struct
import zlib
from collections.abc import Callable, Iterator
from importlib import metadata, resources
from pathlib import Path

import numpy as np
from PIL import Image, ImageCms, ImageEnhance, ImageOps

from demo import dng
from spark_apps.media import icc

DAYS = ("2026-01-05", "2026-01-06", "2026-01-07")

PHOTOS = (
    "astronaut.png",
    "chelsea.png",
    "coffee.png",
    "rocket.jpg",
    "motorcycle_left.png",
    "motorcycle_right.png",
    "hubble_deep_field.jpg",
    "retina.jpg",
    "ihc.png",
    "camera.png",
    "coins.png",
    "moon.png",
    "horse.png",
    "page.png",
    "text.png",
    "brick.png",
    "grass.png",
    "gravel.png",
    "cell.png",
)
EDITED_TWICE = 12
"""The first so many photos come in two edits a day, the others in one."""

Recipe = Callable[[], bytes]


def prepare(root: Path) -> dict[str, Path]:
    """Makes `<root>/<day>/...` and returns the folder of each day. Files that are there already stay as they are.

    The same call makes the same bytes on every machine with the same libraries. A file that is missing
    is made again; after a change of the recipes or of a library all are. Files of others are left alone.
    """
    stamp = root / ".recipes.json"
    edition = _edition()
    current = stamp.is_file() and json.loads(stamp.read_text()).get("edition") == edition
    for day, recipes in plan().items():
        for name, recipe in recipes.items():
            path = root / day / name
            if not (current and path.is_file()):
                _write(path, recipe())
    _write(stamp, json.dumps({"edition": edition}).encode())
    return {day: root / day for day in DAYS}


def plan() -> dict[str, dict[str, Recipe]]:
    """What lies in the landing zone: for each day the file names (with subfolders) and how each is made."""
    days: dict[str, dict[str, Recipe]] = {day: dict(edits) for day, edits in zip(DAYS, _edits(), strict=True)}
    for day, odd in zip(DAYS, _odd_files(days), strict=True):
        days[day].update(odd)
    return days


# --- photographs and their edits --------------------------------------------------------------------------------------


def photo(name: str) -> Image.Image:
    """One of scikit-image's photographs as RGB, transparent parts on white."""
    with (resources.files("skimage") / "data" / name).open("rb") as file, Image.open(file) as image:
        if image.mode == "RGBA":
            return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
        return image.convert("RGB")


def _crop(image: Image.Image, left: float, top: float, right: float, bottom: float) -> Image.Image:
    """The part between fractions of the width and height."""
    width, height = image.size
    return image.crop((int(left * width), int(top * height), int(right * width), int(bottom * height)))


def _smaller(image: Image.Image) -> Image.Image:
    return image.resize((image.width // 2, image.height // 2), Image.Resampling.LANCZOS)


EDITS: tuple[tuple[tuple[str, Callable[[Image.Image], Image.Image]], ...], ...] = (
    (
        ("", lambda image: image),
        ("upper left", lambda image: _crop(image, 0, 0, 0.85, 0.85)),
    ),
    (
        ("mirrored", ImageOps.mirror),
        ("brighter", lambda image: ImageEnhance.Brightness(_crop(image, 0.05, 0.05, 1, 1)).enhance(1.25)),
    ),
    (
        ("smaller", _smaller),
        ("closer", lambda image: _crop(image, 0.07, 0.08, 0.92, 0.93)),
    ),
)
"""For each day, the edit that every photo comes in, and the second one of the first photos; all of the kinds that
`duplicates` finds."""


def _edits() -> Iterator[dict[str, Recipe]]:
    for first, second in EDITS:
        recipes: dict[str, Recipe] = {}
        for index, name in enumerate(PHOTOS):
            for label, edit in (first, second)[: 2 if index < EDITED_TWICE else 1]:
                subject = name.split(".")[0]
                recipes[f"{subject} {label}.jpg" if label else f"{subject}.jpg"] = _jpeg_recipe(name, edit)
        yield recipes


def _jpeg_recipe(name: str, edit: Callable[[Image.Image], Image.Image]) -> Recipe:
    return lambda: _encoded(edit(photo(name)), "JPEG")


def _encoded(image: Image.Image, format: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **({"quality": 90} if format == "JPEG" else {}), **options)
    return buffer.getvalue()


# --- odd and broken files ---------------------------------------------------------------------------------------------


def _odd_files(edits: dict[str, dict[str, Recipe]]) -> tuple[dict[str, Recipe], dict[str, Recipe], dict[str, Recipe]]:
    first, second, _ = (edits[day] for day in DAYS)
    return (
        {
            "copy of coffee.jpg": first["coffee.jpg"],
            "phone/IMG_0001.jpg": lambda: _sideways("chelsea.png", orientation=6),
            "phone/IMG_1001.HEIC": lambda: _heic("coffee.png", orientation=8),
            "Motorrad für den Druck (CMYK).jpg": lambda: _encoded(photo("motorcycle_left.png").convert("CMYK"), "JPEG"),
            "upload interrupted.jpg": lambda: first["rocket.jpg"]()[:30_000],
            "empty.jpg": lambda: b"",
            "notes.jpg": lambda: b"Shopping list: film, batteries, coffee.\n",
        },
        {
            "phone/astronaut again.jpg": second["astronaut mirrored.jpg"],
            "phone/IMG_0002.jpg": lambda: _sideways("rocket.jpg", orientation=8),
            "phone/IMG_1002.HEIC": lambda: _heic("chelsea.png", orientation=6),
            "phone/IMG_2002 (Display P3).jpg": lambda: _display_p3("coffee.png"),
            "camera 16 bit.png": lambda: _grey_16_bit("camera.png"),
            "café.gif": lambda: _encoded(photo("coffee.png").quantize(64), "GIF"),
            "замедленно.gif": lambda: _animation("chelsea.png", "GIF"),
            "half of moon.jpg": lambda: second["moon mirrored.jpg"]()[:9_000],
            "bomb.png": lambda: flat_png(20_000, 15_000),
        },
        {
            "coffee of the day before yesterday.jpg": first["coffee.jpg"],
            "phone/IMG_0003.jpg": lambda: _sideways("astronaut.png", orientation=3),
            "phone/IMG_1003.HEIC": lambda: _heic("rocket.jpg", orientation=1),
            "phone/IMG_2003 (Display P3).HEIC": lambda: _display_p3("astronaut.png", "HEIF"),
            "rocket.jxl": lambda: _jxl("rocket.jpg"),
            "camera/IMG_3003.DNG": lambda: _dng("coffee.png"),
            "cut out.png": lambda: _cut_out("rocket.jpg"),
            "猫.webp": lambda: _encoded(photo("chelsea.png"), "WEBP", quality=85),
            "motorcycle in motion.webp": lambda: _animation("motorcycle_right.png", "WEBP"),
            "empty again.png": lambda: b"",
            "readme.png": lambda: b"These photos belong to the demo.\n",
        },
    )


def _stored_turned(name: str, orientation: int) -> tuple[Image.Image, bytes]:
    """A photo as a phone stores it that is held like this, and the EXIF data that says so."""
    undo = {3: Image.Transpose.ROTATE_180, 6: Image.Transpose.ROTATE_90, 8: Image.Transpose.ROTATE_270}
    exif = Image.Exif()
    exif[0x0112] = orientation
    return photo(name).transpose(undo[orientation]) if orientation in undo else photo(name), exif.tobytes()


def _sideways(name: str, orientation: int) -> bytes:
    """A photo stored turned, as a phone does, with the EXIF tag that turns it upright again."""
    image, exif = _stored_turned(name, orientation)
    return _encoded(image, "JPEG", exif=exif)


def _heic(name: str, orientation: int) -> bytes:
    """The same as HEIC: turned by its container, and by the EXIF tag once more, which does not count there."""
    from pillow_heif import from_pillow

    image, exif = _stored_turned(name, orientation)
    buffer = io.BytesIO()
    from_pillow(image).save(buffer, quality=80, exif=exif)
    return buffer.getvalue()


def _display_p3(name: str, format: str = "JPEG") -> bytes:
    """A photo as a phone of today stores it: in Display P3, with its profile, time, camera and place."""
    from pillow_heif import from_pillow

    profile = icc.of_numbers(12, 13)
    assert profile
    image = ImageCms.profileToProfile(photo(name), ImageCms.createProfile("sRGB"), io.BytesIO(profile))
    assert image
    exif = Image.Exif()
    exif.update({0x010F: "Example", 0x0110: "Phone 3"})
    exif.get_ifd(0x8769).update({0x9003: "2026:01:06 08:30:00", 0x9011: "+01:00"})
    exif.get_ifd(0x8825).update({1: "N", 2: (52.0, 31.0, 12.0), 3: "E", 4: (13.0, 24.0, 18.0)})
    if format == "JPEG":
        return _encoded(image, format, icc_profile=profile, exif=exif)
    buffer = io.BytesIO()
    image.info["icc_profile"] = profile
    from_pillow(image).save(buffer, quality=80, exif=exif.tobytes())
    return buffer.getvalue()


def _jxl(name: str) -> bytes:
    import pillow_jxl  # noqa: F401  Pillow can write JPEG XL from now on

    return _encoded(photo(name), "JXL", quality=85)


def _dng(name: str) -> bytes:
    """A photo as a camera's RAW file, with its preview, time and camera."""
    image = photo(name)
    preview = image.resize((image.width // 2, image.height // 2))
    return dng.made(image, preview, taken="2026:01:07 11:00:00", offset="+01:00")


def _grey_16_bit(name: str) -> bytes:
    grey = np.asarray(photo(name).convert("L"), dtype=np.uint16)
    return _encoded(Image.fromarray(grey * 257), "PNG")


def _animation(name: str, format: str) -> bytes:
    """Three frames that move in on the middle of a photo."""
    image = photo(name)
    frames = [_crop(image, f, f, 1 - f, 1 - f).resize((320, 240)) for f in (0, 0.1, 0.2)]
    return _encoded(frames[0], format, save_all=True, append_images=frames[1:], duration=200, loop=0)


def _cut_out(name: str) -> bytes:
    """A photo with a soft transparent edge."""
    image = photo(name)
    mask = Image.radial_gradient("L").resize(image.size)
    image.putalpha(mask.point(lambda distance: max(0, min(255, 4 * (250 - distance)))))
    return _encoded(image, "PNG")


def flat_png(width: int, height: int) -> bytes:
    """A white 1-bit PNG of any size in a few kilobytes, made row by row: a decompression bomb."""
    row = b"\0" + b"\xff" * ((width + 7) // 8)
    packer = zlib.compressobj(9)
    packed = b"".join(packer.compress(row) for _ in range(height)) + packer.flush()

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", packed) + chunk(b"IEND", b"")


# --- files ------------------------------------------------------------------------------------------------------------


def _edition() -> str:
    """Changes with this module, that of the DNG, and with the libraries whose bytes the files are."""
    digest = hashlib.sha256(Path(__file__).read_bytes() + Path(dng.__file__).read_bytes())
    for library in ("pillow", "pillow-heif", "pillow-jxl-plugin", "scikit-image", "numpy"):
        digest.update(f"{library} {metadata.version(library)}\n".encode())
    return digest.hexdigest()


def _write(path: Path, content: bytes) -> None:
    """Whole or not at all, and untouched when it is right already; part files start with a dot: ingest skips those."""
    if path.is_file() and path.stat().st_size == len(content) and path.read_bytes() == content:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    part.write_bytes(content)
    part.replace(path)
