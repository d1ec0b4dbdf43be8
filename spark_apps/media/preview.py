"""A picture of any file that the pipeline takes: the photo itself, the beginning of a text, the loudness of a sound."""

from __future__ import annotations

import io
import textwrap

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from spark_apps.contract import BadFile
from spark_apps.media import imaging
from spark_apps.media.camera_raw import Wanted
from spark_apps.media.imaging import BadImage

PAPER, INK, WAVE = (250, 250, 247), (40, 42, 46), (64, 105, 170)
CHARACTERS = 4_000
SOUND_SECONDS = 300


def draw(content: bytes, side: int, max_pixels: int) -> Image.Image:
    """At most `side` pixels wide and high, in RGB.

    Raises:
        BadFile: it is neither a photo that can be decoded, nor a text or a sound.
    """
    try:
        photo = imaging.upright_rgb(content, max_pixels, least=side, colors="srgb", of_raw=Wanted(side))
        photo.thumbnail((side, side), Image.Resampling.BILINEAR)
        return photo
    except BadImage as bad:
        if bad.code != "not_an_image":
            raise
        drawn = _text(content, side) or _sound(content, side)
        if drawn is None:
            raise BadFile(bad.code, bad.message) from bad
        return drawn


def _text(content: bytes, side: int) -> Image.Image | None:
    """The first lines of UTF-8 text, or None."""
    beginning = content[: 4 * CHARACTERS]
    try:
        text = beginning.decode("utf-8-sig", "strict" if len(beginning) == len(content) else "ignore")[:CHARACTERS]
    except UnicodeDecodeError:
        return None
    if "\0" in text or not any(character.isalnum() for character in text):
        return None
    size = max(side // 16, 8)
    columns, rows = int(side / (0.52 * size)) - 2, int(side / (1.35 * size)) - 1
    lines = [part for line in text.splitlines() for part in textwrap.wrap(line, columns) or [""]][:rows]
    page = Image.new("RGB", (side, side), PAPER)
    ImageDraw.Draw(page).text((size, size), "\n".join(lines), INK, ImageFont.load_default(size), spacing=size // 4)
    return page


def _sound(content: bytes, side: int) -> Image.Image | None:
    """The loudest moment of each stretch of a sound, from left to right, or None."""
    import soundfile

    try:
        with soundfile.SoundFile(io.BytesIO(content)) as sound:
            samples = sound.read(SOUND_SECONDS * sound.samplerate, dtype="float32", always_2d=True)
    except (soundfile.SoundFileError, ValueError, TypeError):
        return None
    loudness = np.abs(np.nan_to_num(samples)).max(axis=1)
    if not len(loudness):
        return None
    page = Image.new("RGB", (side, side // 2), PAPER)
    pen = ImageDraw.Draw(page)
    middle, top = side // 4, max(float(loudness.max()), 1e-6)
    for x, stretch in enumerate(np.array_split(loudness, side)):
        half = max(1, round((middle - 4) * float(stretch.max()) / top)) if len(stretch) else 1
        pen.line((x, middle - half, x, middle + half), WAVE)
    return page
