"""A day of small real photos that changes between runs, and the truth about it: what a run must make of every file."""

from __future__ import annotations

import hashlib
import random
import shutil
from dataclasses import dataclass
from pathlib import Path

import skimage
from PIL import Image

PHOTOS = Path(skimage.__file__).parent / "data"
NAMES = (
    "astronaut.png", "brick.png", "camera.png", "chelsea.png", "coffee.png", "coins.png", "grass.png", "gravel.png",
    "horse.png", "hubble_deep_field.jpg", "ihc.png", "logo.png", "moon.png", "motorcycle_left.png", "rocket.jpg",
)  # fmt: skip
PARTITION = "2026-11-22"
FOUND_BY_INGEST = ("empty", "not_an_image", "too_large")


@dataclass(frozen=True)
class Truth:
    """What one run must publish.

    `featured`: uri → sha256 of each good file. `quarantined`: uri → code of each bad one. `images`: uri → sha256 of
    each file that ingest takes: the good ones, and those that turn out bad only when they are decoded.
    """

    featured: dict[str, str]
    quarantined: dict[str, str]
    images: dict[str, str]


class Day:
    """A landing folder with one partition: 21 good photos, three of them copies of others, and three bad files."""

    def __init__(self, landing: Path) -> None:
        self.landing, self.folder = landing, landing / PARTITION
        self.folder.mkdir(parents=True)
        self._bad: dict[str, str] = {}
        self._late = 0
        for name in NAMES:
            save(Image.open(PHOTOS / name), self.folder / f"{Path(name).stem}.jpg")
        for name in ("coffee.png", "chelsea.png", "rocket.jpg"):
            save(Image.open(PHOTOS / name).rotate(180), self.folder / f"{Path(name).stem} turned.png")
            shutil.copy(self.folder / f"{Path(name).stem}.jpg", self.folder / f"{Path(name).stem} again.jpg")
        self.add_bad("cut.jpg", "truncated", (self.folder / "chelsea.jpg").read_bytes()[:4000])
        self.add_bad("empty.jpg", "empty", b"")
        self.add_bad("notes.jpg", "not_an_image", b"no photo at all, whatever the name says")

    @property
    def source(self) -> str:
        return f"{self.landing}/{{partition}}"

    def add_bad(self, name: str, code: str, content: bytes) -> None:
        """A file that must be quarantined with `code`."""
        (self.folder / name).write_bytes(content)
        self._bad[name] = code

    def change(self, chance: random.Random) -> None:
        """What happens to a folder between two runs: a photo comes late, one is replaced, now and then one goes."""
        self._late += 1
        picture = Image.open(PHOTOS / chance.choice(NAMES)).convert("RGB")
        shift = self._late % 100
        save(picture.crop((shift, shift, 200 + shift, 200 + shift)), self.folder / f"late {self._late:03}.jpg")
        save(picture.resize((211, 150 + shift)), self.folder / "replaced every time.jpg")
        if self._late > 3:
            (self.folder / f"late {self._late - 3:03}.jpg").unlink(missing_ok=True)

    def truth(self) -> Truth:
        """What a run that sees the folder as it is now must publish."""
        files = sorted(self.folder.iterdir())
        sha256 = {path.as_uri(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
        bad = {path.as_uri(): self._bad[path.name] for path in files if path.name in self._bad}
        return Truth(
            {uri: digest for uri, digest in sha256.items() if uri not in bad},
            bad,
            {uri: digest for uri, digest in sha256.items() if bad.get(uri) not in FOUND_BY_INGEST},
        )


def save(photo: Image.Image, path: Path) -> None:
    """Saves a small version of `photo`; jobs on it take seconds."""
    photo = photo.convert("RGB")
    photo.thumbnail((320, 320))
    photo.save(path)
