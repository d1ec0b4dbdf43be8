"""Decoding one photo: Pillow as the pipeline uses it, beside other well-kept decoders and resizers.

`python -m benchmarks.decoders` prints, for photos of several sizes, the processor time of each way from the bytes of a
JPEG to uint8 [224, 224, 3], as medians of interleaved rounds, and how far its pixels are from torchvision's.
"""

from __future__ import annotations

import argparse
import importlib
import io
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from spark_apps import imaging
from spark_apps.imaging import Preprocessing

LIMIT = 1_000_000_000
SIZES = {"0.2 MP": (500, 375), "2 MP": (1632, 1224), "12 MP": (4000, 3000)}
Decoder = Callable[[bytes], np.ndarray]


def pillow(content: bytes) -> np.ndarray:
    return imaging.decode(content, Preprocessing(), LIMIT)


def pillow_scaled(content: bytes) -> np.ndarray:
    return imaging.decode(content, Preprocessing(scaled=True), LIMIT)


def simplejpeg(content: bytes) -> np.ndarray:
    """libjpeg-turbo's own binding, then Pillow's resize."""
    import simplejpeg

    return np.asarray(imaging.fit(Image.fromarray(simplejpeg.decode_jpeg(content, "RGB")), Preprocessing()))


def opencv(content: bytes) -> np.ndarray:
    """OpenCV decodes and averages areas: another filter than torchvision's, so other pixels."""
    import cv2

    cv2.setNumThreads(1)
    photo = cv2.cvtColor(cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
    height, width = photo.shape[:2]
    short = min(height, width)
    size = (256 * width // short, 256 * height // short)
    photo = cv2.resize(photo, size, interpolation=cv2.INTER_AREA)
    left, top = round((size[0] - 224) / 2), round((size[1] - 224) / 2)
    return np.ascontiguousarray(photo[top : top + 224, left : left + 224])


def libvips(content: bytes) -> np.ndarray:
    """libvips' thumbnail, which decodes a JPEG at a fraction of its size by itself."""
    import pyvips

    pyvips.cache_set_max(0)
    photo = pyvips.Image.thumbnail_buffer(content, 10_000, height=256, size="down")
    photo = photo.crop(round((photo.width - 224) / 2), round((photo.height - 224) / 2), 224, 224)
    return np.ndarray(buffer=photo.write_to_memory(), dtype=np.uint8, shape=(224, 224, 3))


def torchvision_v2(content: bytes) -> np.ndarray:
    """Pillow decodes, torchvision's transforms v2 resize the tensor with antialiasing."""
    import torch

    from spark_apps.model.torchvision_import import torchvision

    torchvision()
    functional = importlib.import_module("torchvision.transforms.v2.functional")
    torch.set_num_threads(1)
    photo = torch.from_numpy(np.array(imaging.upright_rgb(content, LIMIT))).permute(2, 0, 1)
    with torch.inference_mode():
        square = functional.center_crop(functional.resize(photo, [256], antialias=True), [224, 224])
    return np.ascontiguousarray(square.permute(1, 2, 0).numpy())


DECODERS: dict[str, Decoder] = {
    "Pillow, exact (ours)": pillow,
    "Pillow, scaled (ours)": pillow_scaled,
    "simplejpeg, then Pillow": simplejpeg,
    "Pillow, then torchvision v2": torchvision_v2,
    "OpenCV": opencv,
    "libvips": libvips,
}


def photos(folder: Path, size: tuple[int, int], count: int) -> list[bytes]:
    """JPEGs of one size, quality 90, from the photos of `folder`."""
    made = []
    for path in sorted(folder.iterdir()):
        try:
            photo = imaging.upright_rgb(path.read_bytes(), LIMIT)
        except (imaging.BadImage, OSError):
            continue
        target = io.BytesIO()
        photo.resize(size, Image.Resampling.LANCZOS).save(target, "JPEG", quality=90)
        made.append(target.getvalue())
        if len(made) == count:
            break
    return made


def milliseconds(decode: Decoder, contents: list[bytes]) -> float:
    """Processor time for one photo, the mean over `contents`."""
    begin = time.process_time()
    for content in contents:
        decode(content)
    return 1000 * (time.process_time() - begin) / len(contents)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--photos", type=Path, required=True, help="A folder of photos to make the JPEGs from.")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--out", type=Path, help="Where to write the numbers as JSON.")
    options = parser.parse_args()
    found: dict[str, dict[str, dict[str, float]]] = {}
    for label, size in SIZES.items():
        contents = photos(options.photos, size, 4 if size[0] > 2000 else 12)
        times: dict[str, list[float]] = {}
        for _ in range(options.rounds):
            for name, decode in DECODERS.items():
                try:
                    times.setdefault(name, []).append(milliseconds(decode, contents))
                except ImportError:
                    continue
        print(f"\n{label:32}{'ms':>8}{'spread':>16}{'mean |Δ|':>10}{'max |Δ|':>9}")
        for name, values in times.items():
            if not values:
                continue
            far = [abs(DECODERS[name](content).astype(int) - pillow(content).astype(int)) for content in contents]
            median = statistics.median(values)
            row = {
                "ms": round(median, 2),
                "ms_min": round(min(values), 2),
                "ms_max": round(max(values), 2),
                "mean_difference": round(float(np.mean([one.mean() for one in far])), 3),
                "max_difference": int(max(one.max() for one in far)),
            }
            found.setdefault(label, {})[name] = row
            spread = f"{row['ms_min']:.2f} to {row['ms_max']:.2f}"
            print(f"{name:32}{median:8.2f}{spread:>16}{row['mean_difference']:10.3f}{row['max_difference']:9}")
    if options.out:
        options.out.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
