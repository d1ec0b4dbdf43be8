"""The photos that every system gets: crops and edits of real photographs, the same bytes on every machine.

A set is a folder: `jpeg/` holds the files, as ingest reads them; `parquet/` holds the same bytes with their names, as
the others read them. All crops come from scikit-image's photographs, at the size asked for, JPEG quality 90.
"""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from importlib import metadata
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image, ImageEnhance

from benchmarks import places
from demo import landing

EDITION = 2
"""Raised when the photos are made differently, so that sets of before are made again."""
NATURAL = tuple(name for name in landing.PHOTOS if name not in ("horse.png", "page.png", "text.png", "cell.png"))
SIZES = {"0.2": (500, 375), "2": (1632, 1224), "12": (4000, 3000)}
"""Width and height in pixels by nominal megapixels."""
DISTINCT = {"0.2": 200, "2": 60, "12": 8}
"""So many different pictures; a larger set repeats them with other trailing bytes, which make each file its own."""
PARQUET_FILES = 8


@dataclass(frozen=True)
class PhotoSet:
    """`count` photos of one size. Ours reads `jpeg` through ingest, everybody else `parquet`."""

    megapixels: str
    count: int

    @property
    def name(self) -> str:
        return f"{self.megapixels}mp-{self.count}"

    @property
    def folder(self) -> Path:
        return places.PHOTOS / self.name

    @property
    def jpeg(self) -> Path:
        return self.folder / "jpeg"

    @property
    def parquet(self) -> Path:
        return self.folder / "parquet"


def make(photos: PhotoSet, parquet: bool = True) -> PhotoSet:
    """Makes the set unless it is there. `parquet=False` leaves that form out: large sets only serve ours."""
    note = photos.folder / "made.json"
    made = {"edition": EDITION, "parquet": parquet, **{name: metadata.version(name) for name in ("pillow", "numpy")}}
    if note.is_file() and json.loads(note.read_text()) == made:
        return photos
    shutil.rmtree(photos.folder, ignore_errors=True)
    photos.jpeg.mkdir(parents=True)
    for name, content in files(photos):
        (photos.jpeg / name).write_bytes(content)
    if parquet:
        _pack(photos)
    note.write_text(json.dumps(made))
    return photos


def files(photos: PhotoSet) -> Iterator[tuple[str, bytes]]:
    """Name and bytes of each photo. Bytes behind the end of a JPEG change its hash and nothing else."""
    for index in range(photos.count):
        content = picture(photos.megapixels, index % DISTINCT[photos.megapixels])
        round_ = index // DISTINCT[photos.megapixels]
        yield f"{index:06}.jpg", content + (round_.to_bytes(8, "big") if round_ else b"")


@lru_cache(maxsize=256)
def picture(megapixels: str, index: int) -> bytes:
    """JPEG number `index` of a size: a random crop of a photograph, mirrored or brightened, deterministic."""
    random = np.random.default_rng([index, EDITION])
    return crop(_photo(NATURAL[index % len(NATURAL)]), megapixels, random)


def crop(photo: Image.Image, megapixels: str, random: np.random.Generator) -> bytes:
    """JPEG of a size: a part of `photo`, mirrored or brightened, as `random` says."""
    width, height = SIZES[megapixels]
    share = random.uniform(0.55, 1.0)
    side = min(photo.width, photo.height * width / height) * share
    left, top = (
        random.uniform(0, photo.width - side),
        random.uniform(0, photo.height - side * height / width),
    )
    box = (left, top, left + side, top + side * height / width)
    part = photo.resize((width, height), Image.Resampling.LANCZOS, box=box)
    if random.random() < 0.5:
        part = part.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    part = ImageEnhance.Brightness(part).enhance(random.uniform(0.85, 1.15))
    if megapixels != "0.2":
        part = _grained(part, random)
    buffer = io.BytesIO()
    part.save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def _grained(photo: Image.Image, random: np.random.Generator) -> Image.Image:
    """With a sensor's fine noise: enlarged photographs are smoother, and smaller as JPEG, than a camera's."""
    pixels = np.asarray(photo)
    noise = random.standard_normal((*pixels.shape[:2], 1), np.float32) * 4
    return Image.fromarray((pixels + noise).clip(0, 255).astype(np.uint8))


@lru_cache(maxsize=len(NATURAL))
def _photo(name: str) -> Image.Image:
    return landing.photo(name)


def _pack(photos: PhotoSet) -> None:
    """The files as Parquet, uri and content, in `PARQUET_FILES` files of the same number of rows."""
    photos.parquet.mkdir()
    paths = sorted(photos.jpeg.iterdir())
    for number, share in enumerate(np.array_split(np.arange(len(paths)), PARQUET_FILES)):
        chosen = [paths[index] for index in share]
        rows = {"uri": [path.name for path in chosen], "content": [path.read_bytes() for path in chosen]}
        table = pa.table(rows, pa.schema([("uri", pa.string()), ("content", pa.binary())]))
        pq.write_table(table, photos.parquet / f"{number:02}.parquet", compression="none")
