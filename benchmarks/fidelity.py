"""How far each precision and scaled decoding are from fp32, photo by photo: `python -m benchmarks.fidelity --help`.

Each picture is a scene, and crops of it are the photos. int8 is measured on scenes that its calibration has seen no
crop of: the scenes are dealt into parts, and those of each part are measured by a model calibrated on the others'.
Edits are the same photos with strong contrast, saturation or sharpening. A line tells of each precision and kind the
cosines to fp32 (smallest, quantiles of 0.1 %, 1 % and 5 %, median, share below 0.99), the same without what all photos
share (smallest, median: vectors of random weights are all alike), in how many of 100 the first category stays, how many
of the ten nearest neighbours stay, and the ratio of speed to fp32's by processor time, of int8 also to that of a model
quantised by NNCF's defaults, measured by turns on one core. Pictures that lie in folders named by the number of their
category also tell how often the first category is right.
"""

from __future__ import annotations

import argparse
import hashlib
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageEnhance

from benchmarks import photos
from demo import landing
from spark_apps.contract import ModelSettings
from spark_apps.media import fitting, imaging
from spark_apps.model import Calibration, Engine, ModelArtifact, load, machine, prepare, quantize
from spark_apps.model.engines import Outputs

NEIGHBOURS = 10
BATCH = 8
TURNS = 25
MAX_PIXELS = 10**9
EDITS = (
    ImageEnhance.Contrast,
    ImageEnhance.Color,
    ImageEnhance.Sharpness,
)
SAME_SCENE = ("motorcycle_right.png",)
"""Of scikit-image's photos, those of a scene that another one shows."""


@dataclass(frozen=True)
class Scene:
    """`category`: its number, -1 where it is not known."""

    name: str
    photo: Image.Image
    category: int = -1


@dataclass(frozen=True)
class Distance:
    """Of n photos: cosines [n] to fp32, and those of what is left without the mean vector in fp32 [n]; the first
    category in fp32 and here [n], and the right one [n] (-1: not known); how many of the `NEIGHBOURS` nearest in fp32
    are the nearest here [n]."""

    cosines: NDArray[np.float64]
    centred: NDArray[np.float64]
    exact: NDArray[np.int64]
    here: NDArray[np.int64]
    right: NDArray[np.int64]
    kept: NDArray[np.int64]

    @classmethod
    def between(cls, one: Outputs, other: Outputs, right: NDArray[np.int64]) -> Distance:
        a, b = unit(one.features), unit(other.features)
        kept = np.array([len({*x} & {*y}) for x, y in zip(nearest(a), nearest(b), strict=True)])
        mean = one.features.mean(0)
        centred = (unit(one.features - mean) * unit(other.features - mean)).sum(1)
        return cls((a * b).sum(1), centred, one.logits.argmax(1), other.logits.argmax(1), right, kept)

    @classmethod
    def pooled(cls, parts: Sequence[Distance]) -> Distance:
        return cls(*(np.concatenate([getattr(part, field.name) for part in parts]) for field in fields(cls)))

    def quantile(self, share: float) -> float:
        return float(np.quantile(self.cosines, share))

    @property
    def below(self) -> float:
        return float((self.cosines < quantize.LIMIT).mean())

    def __str__(self) -> str:
        quantiles = " ".join(f"{self.quantile(share):.4f}" for share in (0, 0.001, 0.01, 0.05, 0.5))
        known = self.right >= 0
        right = f", right of {known.sum()} known {np.mean((self.here == self.right)[known]):.1%}" if known.any() else ""
        if known.any():
            right += f" (fp32 {np.mean((self.exact == self.right)[known]):.1%})"
        return (
            f"{len(self.cosines)} photos, cosine min 0.1% 1% 5% median {quantiles}, below 0.99 {self.below:.2%}, "
            f"centred min median {self.centred.min():.4f} {np.median(self.centred):.4f}, "
            f"first category {(self.exact == self.here).mean():.1%}{right}, "
            f"neighbours {self.kept.mean():.2f} of {NEIGHBOURS}"
        )


class Fidelity:
    """Distances of one model from itself in fp32, over crops of `scenes`.

    `parts`: that the scenes are dealt into for int8. `calibration`: photos at most, a third of which are held out.
    """

    def __init__(
        self, backbone: str, weights: str, scenes: Sequence[Scene], crops: int, parts: int, calibration: int
    ) -> None:
        self._settings = partial(ModelSettings, backbone, weights, engine="openvino")
        self._scenes, self._parts, self._calibration = scenes, parts, calibration
        self._artifact = prepare(self._settings())
        self._exact = opened(self._artifact)
        self._crops = [  # of each scene
            decoded(
                [photos.crop(scene.photo, "0.2", np.random.default_rng([index, k])) for k in range(crops)],
                self._artifact,
            )
            for index, scene in enumerate(scenes)
        ]

    def bf16(self) -> tuple[dict[str, Distance], float]:
        """By kind of photo; and its speed against fp32."""
        half = opened(prepare(self._settings(precision="bf16")))
        return self._compared(half, range(len(self._scenes))), ratio(self._exact, half, self._crops[0])

    def int8(self) -> tuple[dict[str, Distance], float, float]:
        """By kind of photo; and its speed against fp32 and against NNCF's defaults. Each scene is measured by a model
        that was calibrated on the scenes of the other parts."""
        found: dict[str, list[Distance]] = {}
        speeds = 0.0, 0.0
        for part in range(self._parts):
            measured = range(part, len(self._scenes), self._parts)
            others = np.concatenate([self._crops[index] for index in range(len(self._scenes)) if index not in measured])
            seen = np.random.default_rng(part).permutation(others)[: self._calibration]
            named = Calibration(hashlib.sha256(seen.tobytes()).hexdigest(), partial(_whatever, seen))
            small = opened(prepare(self._settings(precision="int8"), calibration=named))
            for kind, distance in self._compared(small, measured).items():
                found.setdefault(kind, []).append(distance)
            if part == 0:
                plain = by_nncf(self._artifact, seen)
                speeds = ratio(self._exact, small, self._crops[0]), ratio(plain, small, self._crops[0])
        return {kind: Distance.pooled(parts) for kind, parts in found.items()}, *speeds

    def scaled(self) -> Distance:
        """Scaled decoding of one photo of 2 megapixels of each scene."""
        large = [photos.crop(one.photo, "2", np.random.default_rng(index)) for index, one in enumerate(self._scenes)]
        exact, scaled = (decoded(large, one) for one in (self._artifact, prepare(self._settings(decode="scaled"))))
        right = np.array([scene.category for scene in self._scenes])
        return Distance.between(outputs(self._exact, exact), outputs(self._exact, scaled), right)

    def _compared(self, other: Engine, scenes: Sequence[int]) -> dict[str, Distance]:
        ordinary = np.concatenate([self._crops[index] for index in scenes])
        right = np.repeat([self._scenes[index].category for index in scenes], len(self._crops[0]))
        edits = np.stack([edited(photo, index) for index, photo in enumerate(ordinary)])
        return {
            kind: Distance.between(outputs(self._exact, pixels), outputs(other, pixels), right)
            for kind, pixels in (("ordinary", ordinary), ("edits", edits))
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbone", default="resnet50")
    parser.add_argument("--weights", default="random:0", help="as of spark_apps.extract")
    parser.add_argument("--pictures", type=Path, help="a folder, each file a scene; by default scikit-image's photos")
    parser.add_argument("--crops", type=int, default=20, help="photos made of each scene")
    parser.add_argument("--parts", type=int, default=3, help="that the scenes are dealt into, for int8")
    parser.add_argument("--calibration", type=int, default=225, help="photos at most, a third of which are held out")
    options = parser.parse_args()
    found = scenes(options.pictures)
    print(f"{len(found)} scenes, {options.crops} photos of each", flush=True)
    model = Fidelity(options.backbone, options.weights, found, options.crops, options.parts, options.calibration)
    if machine.has_bf16(Path("/proc/cpuinfo")):
        kinds, speed = model.bf16()
        for kind, distance in kinds.items():
            print(f"bf16, {kind}: {distance}, speed x {speed:.2f}", flush=True)
    kinds, speed, share = model.int8()
    for kind, distance in kinds.items():
        print(f"int8, {kind}: {distance}, speed x {speed:.2f}, of NNCF's defaults x {share:.3f}", flush=True)
    print(f"scaled decode, 2 megapixels: {model.scaled()}")


def scenes(folder: Path | None) -> list[Scene]:
    """Those of `folder` and the folders in it, in an order that mixes them; of scikit-image without one."""
    if folder is None:
        names = [name for name in photos.NATURAL if name not in SAME_SCENE]
        return [Scene(name, landing.photo(name)) for name in names]
    found = []
    for path in sorted(
        filter(Path.is_file, folder.rglob("*")), key=lambda path: hashlib.sha256(path.name.encode()).digest()
    ):
        photo = imaging.upright_rgb(path.read_bytes(), MAX_PIXELS)
        found.append(Scene(path.name, photo, int(path.parent.name) if path.parent.name.isdigit() else -1))
    return found


def _whatever(pixels: NDArray[np.uint8], preprocessing: fitting.Preprocessing) -> NDArray[np.uint8]:
    return pixels


def opened(artifact: ModelArtifact) -> Engine:
    return load(artifact.info, artifact.files[0].parent, threads=1)


def by_nncf(exact: ModelArtifact, pixels: NDArray[np.uint8]) -> Engine:
    """The int8 model of NNCF's defaults, run in the same way, to compare the speed with."""
    import nncf
    import openvino as ov

    seen = pixels[: quantize.MAX_PHOTOS]
    model = nncf.quantize(
        quantize.simplified(exact.files[0].with_suffix(".xml")), nncf.Dataset([one[None] for one in seen])
    )
    with tempfile.TemporaryDirectory() as folder:
        ov.save_model(model, Path(folder) / f"{exact.info.fingerprint}.xml", compress_to_fp16=False)
        return load(replace(exact.info, calibration={"recipe": quantize.RECIPE}), Path(folder), threads=1)


def outputs(engine: Engine, pixels: NDArray[np.uint8]) -> Outputs:
    parts = [engine.run(pixels[start : start + BATCH]) for start in range(0, len(pixels), BATCH)]
    return Outputs(*(np.concatenate([getattr(part, name) for part in parts]) for name in ("features", "logits")))


def decoded(contents: Sequence[bytes], artifact: ModelArtifact) -> NDArray[np.uint8]:
    preprocessing = fitting.Preprocessing.of(artifact.info.preprocessing)
    return np.stack([imaging.decode(content, preprocessing, MAX_PIXELS) for content in contents])


def edited(photo: NDArray[np.uint8], index: int) -> NDArray[np.uint8]:
    strength = 2 + 2 * np.random.default_rng(index).random()
    return np.asarray(EDITS[index % len(EDITS)](Image.fromarray(photo)).enhance(strength))


def unit(vectors: NDArray[np.float32]) -> NDArray[np.float64]:
    wide = vectors.astype(np.float64)
    scaled: NDArray[np.float64] = wide / np.maximum(np.linalg.norm(wide, axis=1, keepdims=True), 1e-12)
    return scaled


def nearest(vectors: NDArray[np.float64]) -> NDArray[np.int64]:
    near = vectors @ vectors.T
    np.fill_diagonal(near, -np.inf)
    return np.argsort(-near, axis=1)[:, :NEIGHBOURS]


def ratio(one: Engine, other: Engine, pixels: NDArray[np.uint8]) -> float:
    """How many times as fast the second is: the median over turns of both."""
    batch = pixels[:BATCH]
    for engine in (one, other):
        engine.run(batch)
    found = []
    for _ in range(TURNS):
        spent = []
        for engine in (one, other):
            begin = time.process_time()
            engine.run(batch)
            spent.append(time.process_time() - begin)
        found.append(spent[0] / spent[1])
    return float(np.median(found))


if __name__ == "__main__":
    main()
