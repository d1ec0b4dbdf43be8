"""How far each precision and scaled decoding are from fp32, photo by photo: `python -m benchmarks.fidelity --help`.

Ordinary photos are those of the benchmarks; edits are the same with strong contrast, saturation or sharpening. int8 is
calibrated on photos of its own. A line tells of each the cosines to fp32 (smallest, quantiles of 0.1 %, 1 % and 5 %,
median, share below 0.99), in how many of 100 the first category stays, how many of the ten nearest neighbours stay, and
the speed against fp32 as the ratio of processor time, measured by turns on one core.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageEnhance

from benchmarks.photos import picture
from spark_apps.contract import ModelSettings
from spark_apps.media import imaging
from spark_apps.model import Calibration, Engine, load, machine, prepare

CALIBRATION_FROM = 10_000
"""Numbers of the pictures from here on are for calibration alone."""
NEIGHBOURS = 10
TURNS = 15
EDITS = (
    ImageEnhance.Contrast,
    ImageEnhance.Color,
    ImageEnhance.Sharpness,
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbone", default="resnet50")
    parser.add_argument("--weights", default="random:0", help="as of spark_apps.extract")
    parser.add_argument("--photos", type=int, default=300, help="of each kind")
    parser.add_argument("--calibration", type=int, default=225, help="photos, a third of which are held out")
    options = parser.parse_args()
    photos = [picture("0.2", index) for index in range(options.photos)]
    calibration = [picture("0.2", CALIBRATION_FROM + index) for index in range(options.calibration)]

    def engine(**wanted: str) -> tuple[Engine, imaging.Preprocessing]:
        settings = ModelSettings(options.backbone, options.weights, engine="openvino", **wanted)
        calibrated = Calibration("benchmark", lambda preprocessing: decoded(calibration, preprocessing))
        made = prepare(settings, calibration=calibrated if wanted.get("precision") == "int8" else None)
        return load(made.info, made.files[0].parent, threads=1), imaging.Preprocessing.of(made.info.preprocessing)

    full, exact = engine()
    ordinary = decoded(photos, exact)
    kinds = {"ordinary": ordinary, "edits": np.stack([edited(photo, index) for index, photo in enumerate(ordinary)])}
    for precision in ("bf16", "int8"):
        if precision == "bf16" and not machine.has_bf16(Path("/proc/cpuinfo")):
            continue
        other, _ = engine(precision=precision)
        speed = ratio(full, other, ordinary[:4])
        for kind, pixels in kinds.items():
            print(f"{precision} {kind}: {compared(full, pixels, other, pixels)}, speed x {speed:.2f}", flush=True)
    scaled = engine(decode="scaled")[1]
    large = [picture("2", index) for index in range(min(options.photos, 60))]
    print(f"scaled decode, 2 megapixels: {compared(full, decoded(large, exact), full, decoded(large, scaled))}")


def decoded(photos: list[bytes], preprocessing: imaging.Preprocessing) -> NDArray[np.uint8]:
    return np.stack([imaging.decode(photo, preprocessing, 10**9) for photo in photos])


def edited(photo: NDArray[np.uint8], index: int) -> NDArray[np.uint8]:
    strength = 2 + 2 * np.random.default_rng(index).random()
    return np.asarray(EDITS[index % len(EDITS)](Image.fromarray(photo)).enhance(strength))


def compared(one: Engine, pixels: NDArray[np.uint8], other: Engine, others: NDArray[np.uint8]) -> str:
    left, right = one.run(pixels), other.run(others)
    a, b = unit(left.features), unit(right.features)
    cosines = (a * b).sum(1)
    quantiles = " ".join(f"{value:.4f}" for value in np.quantile(cosines, (0, 0.001, 0.01, 0.05, 0.5)))
    same = (left.logits.argmax(1) == right.logits.argmax(1)).mean()
    kept = np.mean([len({*x} & {*y}) for x, y in zip(nearest(a), nearest(b), strict=True)])
    return (
        f"{len(cosines)} photos, cosine min 0.1% 1% 5% median {quantiles}, below 0.99 {(cosines < 0.99).mean():.2%}, "
        f"first category {same:.1%}, neighbours {kept:.2f} of {NEIGHBOURS}"
    )


def unit(vectors: NDArray[np.float32]) -> NDArray[np.float64]:
    wide = vectors.astype(np.float64)
    scaled: NDArray[np.float64] = wide / np.linalg.norm(wide, axis=1, keepdims=True)
    return scaled


def nearest(vectors: NDArray[np.float64]) -> NDArray[np.int64]:
    near = vectors @ vectors.T
    np.fill_diagonal(near, -np.inf)
    return np.argsort(-near, axis=1)[:, :NEIGHBOURS]


def ratio(one: Engine, other: Engine, pixels: NDArray[np.uint8]) -> float:
    """How many times as fast the second is: the median over turns of both."""
    found = []
    for _ in range(TURNS):
        spent = []
        for engine in (one, other):
            begin = time.process_time()
            engine.run(pixels)
            spent.append(time.process_time() - begin)
        found.append(spent[0] / spent[1])
    return float(np.median(found))


if __name__ == "__main__":
    main()
