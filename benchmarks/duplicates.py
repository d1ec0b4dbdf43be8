"""How well duplicates are told, on edited copies of real photos: `python -m benchmarks.duplicates --help`.

Each photo is resized, recompressed, cropped, brightened, greyed, watermarked, mirrored and turned, and each original is
paired with every copy: with its own it is a duplicate, with all others it is not, and neither are the two halves of a
photo, or a scene that two of the photos show. One line for each way of telling: precision over all pairs, and recall by
edit. The ways: ours (candidates by vector, confirmed by the hashes of parts), our hashes alone, the vector alone at the
threshold of the candidates, a plain pHash, and imagededup's, where it is installed; all at their defaults.
"""

from __future__ import annotations

import argparse
import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageEnhance, ImageFont, ImageOps

from demo import landing
from spark_apps.contract import BadFile, DuplicatesSettings
from spark_apps.media import imaging, likeness
from spark_apps.model.torchvision_import import torchvision
from spark_apps.vectorizer import ImageVectorizer

MAX_PIXELS = 50_000_000
LONGEST, SHORTEST = 900, 120
"""Pixels of a photo's longer side at most, and of the shorter at least."""
SAME_SCENE = {"motorcycle_right": "motorcycle_left"}
"""Photos of one moment from two places: said to be different ones, and reported apart."""
PLAIN_BITS = 10
"""The threshold that imagededup proposes, and that plain pHash gets too."""
FIRST = ("resized", "recompressed", "cropped 5 %", "cropped 15 %", "brightened")


@dataclass(frozen=True)
class Copy:
    """A file: of which `photo`, by which `edit` (empty for the original, `half` for a half of it)."""

    photo: str
    edit: str
    content: bytes


def main() -> int:
    options = _options()
    copies = [copy for place, found in enumerate(_photos(options.photos)) for copy in _copies(*found, place)]
    originals = [place for place, copy in enumerate(copies) if not copy.edit]
    print(f"{len(originals)} photos, {len(copies)} files", flush=True)
    vectors = _vectors(copies, options.weights)
    cosines = vectors @ vectors.T
    looks = [likeness.look(copy.content, MAX_PIXELS) for copy in copies]
    plain = np.stack([look.whole[0] for look in looks])
    settings = DuplicatesSettings(store="/none", model="none")
    parts = _matrix(len(copies), originals, lambda one, other: likeness.distance(looks[one], looks[other]))
    near, candidates = parts <= settings.max_distance, cosines >= settings.min_similarity
    ways = {
        "ours": near & candidates,
        "our hashes alone": near,
        "vectors alone": candidates,
        "plain pHash": _bits(plain) <= PLAIN_BITS,
    }
    try:
        ways["imagededup PHash"] = _imagededup(copies) <= PLAIN_BITS
    except ImportError as error:
        print(f"imagededup is not measured: {error}")
    for name, found in ways.items():
        print(_line(name, copies, originals, found), flush=True)
    return 0


def _line(name: str, copies: list[Copy], originals: list[int], found: Any) -> str:
    right = wrong = scenes = 0
    hits: dict[str, list[bool]] = {}
    for one in originals:
        for other, copy in enumerate(copies):
            if other == one or (copy.edit == "half" and copy.photo == copies[one].photo):
                continue  # a half is a part of its photo: neither a copy nor another photo
            if copy.photo == copies[one].photo:
                hits.setdefault(copy.edit, []).append(bool(found[one, other]))
                right += bool(found[one, other])
            elif found[one, other]:
                same = SAME_SCENE.get(copy.photo, copy.photo) == SAME_SCENE.get(copies[one].photo, copies[one].photo)
                scenes, wrong = scenes + same, wrong + (not same)
    halves = [place for place, copy in enumerate(copies) if copy.edit == "half"]
    wrong += sum(bool(found[one, two]) for one, two in zip(halves[::2], halves[1::2], strict=True))
    first = [hit for edit in FIRST for hit in hits[edit]]
    recalls = ", ".join(f"{edit} {np.mean(values):.2f}" for edit, values in hits.items())
    return (
        f"{name}: precision {right / max(right + wrong, 1):.4f} ({wrong} wrong; with one scene from two places "
        f"{right / max(right + wrong + scenes, 1):.4f}, {scenes} more), recall of the first five {np.mean(first):.3f}; "
        f"{recalls}"
    )


def _photos(places: list[Path]) -> Iterator[tuple[str, Image.Image]]:
    """scikit-image's and scikit-learn's photos, and those at `places`."""
    import sklearn

    for name in landing.PHOTOS:
        yield name.split(".")[0], landing.photo(name)
    for path in sorted((Path(sklearn.__file__).parent / "datasets" / "images").glob("*.jpg")):
        yield path.stem, imaging.upright_rgb(path.read_bytes(), MAX_PIXELS)
    for path in sorted(path for place in places for path in [place, *place.rglob("*")] if path.is_file()):
        try:
            photo = imaging.upright_rgb(path.read_bytes(), MAX_PIXELS)
        except BadFile:
            continue
        if min(photo.size) >= SHORTEST:
            yield path.name, photo


def _copies(photo: str, picture: Image.Image, seed: int) -> Iterator[Copy]:
    random = np.random.default_rng(seed)
    picture = picture.copy()
    picture.thumbnail((LONGEST, LONGEST))
    width, height = picture.size

    def part(share: float) -> Image.Image:
        left, top = random.uniform(0, 1 - share, 2) * picture.size
        return picture.crop((round(left), round(top), round(left + share * width), round(top + share * height)))

    edits: list[tuple[str, Image.Image, int]] = [
        ("", picture, 92),
        ("resized", picture.resize((width // 2, height // 2), Image.Resampling.LANCZOS), 90),
        ("resized", picture.resize((width * 3 // 2, height * 3 // 2), Image.Resampling.LANCZOS), 90),
        ("recompressed", picture, 30),
        ("recompressed", picture, 95),
        ("cropped 5 %", part(0.95), 90),
        ("cropped 15 %", part(0.85), 90),
        ("brightened", ImageEnhance.Brightness(picture).enhance(1.25), 90),
        ("greyed", picture.convert("L"), 90),
        ("watermarked", _marked(picture), 90),
        ("mirrored", ImageOps.mirror(picture), 90),
        ("turned", picture.transpose(Image.Transpose.ROTATE_90), 90),
    ]
    if min(picture.size) >= 2 * SHORTEST:
        edits += [
            ("half", picture.crop(box), 90) for box in ((0, 0, width // 2, height), (width // 2, 0, width, height))
        ]
    for edit, edited, quality in edits:
        buffer = io.BytesIO()
        edited.convert("RGB").save(buffer, "JPEG", quality=quality)
        yield Copy(photo, edit, buffer.getvalue())


def _marked(picture: Image.Image) -> Image.Image:
    marked = picture.copy()
    font = ImageFont.load_default(max(12, picture.width // 10))
    ImageDraw.Draw(marked, "RGBA").text(
        (0.2 * picture.width, 0.45 * picture.height), "SAMPLE", (255, 255, 255, 150), font
    )
    return marked


def _vectors(copies: list[Copy], weights: str) -> Any:
    vectorizer = ImageVectorizer(weights=weights)
    found = np.array([vectorizer.extract_features(copy.content) for copy in copies], np.float32)
    return found / np.linalg.norm(found, axis=1, keepdims=True)


def _matrix(count: int, originals: list[int], measure: Callable[[int, int], int]) -> Any:
    """[count, count] of the pairs that are judged: originals with all, and neighbours with each other (halves)."""
    found, first = np.full((count, count), likeness.BITS), set(originals)
    for one in range(count):
        for other in range(count) if one in first else [min(one + 1, count - 1)]:
            found[one, other] = measure(one, other)
    return found


def _bits(hashes: Any) -> Any:
    return np.bitwise_count(hashes[:, None] ^ hashes[None]).sum(axis=2)


def _imagededup(copies: list[Copy]) -> Any:
    torchvision()  # it imports torchvision, which beside a torch for the CPU alone wants help
    from imagededup.methods import PHash

    method = PHash(verbose=False)
    hashes = []
    for copy in copies:
        pixels = np.asarray(Image.open(io.BytesIO(copy.content)).convert("RGB"))
        hashes.append(np.frombuffer(bytes.fromhex(method.encode_image(image_array=pixels)), np.uint8))
    return _bits(np.stack(hashes))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser("benchmarks.duplicates", description=(__doc__ or "").split("\n")[0])
    parser.add_argument(
        "photos", nargs="*", type=Path, help="more photos, or folders of them; each has to show something else"
    )
    parser.add_argument("--weights", default="keras-v1", help="of the resnet50 that makes the vectors")
    return parser.parse_args()


if __name__ == "__main__":
    raise SystemExit(main())
