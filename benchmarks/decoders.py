"""Decoding one photo: Pillow as the pipeline uses it, beside other well-kept decoders and resizers.

`python -m benchmarks.decoders` prints, for photos of several sizes, the processor time of each way from the bytes of a
JPEG to uint8 [224, 224, 3], as medians of interleaved rounds, and how far its pixels (0 to 255) are from torchvision's.
"""

from __future__ import annotations

import argparse
import importlib
import statistics
import sys
import time
from collections.abc import Callable

import numpy as np
from PIL import Image

from benchmarks import places, report
from benchmarks.photos import picture
from spark_apps.media import fitting, imaging
from spark_apps.media.fitting import Preprocessing

LIMIT = 1_000_000_000
SIZES = {"0.2": 30, "2": 12, "12": 4}
"""Photos that are decoded in a round, by megapixels."""
Decoder = Callable[[bytes], np.ndarray]


def pillow(content: bytes) -> np.ndarray:
    return imaging.decode(content, Preprocessing(), LIMIT)


def pillow_scaled(content: bytes) -> np.ndarray:
    return imaging.decode(content, Preprocessing(scaled=True), LIMIT)


def fast(content: bytes) -> np.ndarray:
    return imaging.decode(content, Preprocessing(fast=True), LIMIT)


def simplejpeg(content: bytes) -> np.ndarray:
    """libjpeg-turbo's own binding, then Pillow's resize."""
    import simplejpeg

    return np.asarray(fitting.fit(Image.fromarray(simplejpeg.decode_jpeg(content, "RGB")), Preprocessing()))


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
    "Pillow, then fast_image_resize (ours, fast)": fast,
    "Pillow, scaled (ours)": pillow_scaled,
    "simplejpeg, then Pillow": simplejpeg,
    "Pillow, then torchvision v2": torchvision_v2,
    "OpenCV": opencv,
    "libvips": libvips,
}


def milliseconds(decode: Decoder, contents: list[bytes]) -> float:
    """Processor time for one photo, the mean over `contents`."""
    begin = time.process_time()
    for content in contents:
        decode(content)
    return 1000 * (time.process_time() - begin) / len(contents)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--docs", action="store_true", help="put the table into docs/benchmarks.md")
    options = parser.parse_args()
    lines: dict[str, list[str]] = {name: [name] for name in DECODERS}
    for size, count in SIZES.items():
        contents = [picture(size, index) for index in range(count)]
        exact = [pillow(content).astype(int) for content in contents]
        times: dict[str, list[float]] = {name: [] for name in DECODERS}
        for _ in range(options.rounds):
            for name, decode in DECODERS.items():
                times[name].append(milliseconds(decode, contents))
        for name, decode in DECODERS.items():
            far = [abs(decode(content) - pixels) for content, pixels in zip(contents, exact, strict=True)]
            ratio = statistics.median(times["Pillow, exact (ours)"]) / statistics.median(times[name])
            lines[name] += [
                f"{statistics.median(times[name]):.1f} ({min(times[name]):.1f} to {max(times[name]):.1f})",
                f"{ratio:.2f}",
                f"{np.mean([one.mean() for one in far]):.2f} / {max(one.max() for one in far)}",
            ]
        print(f"{size} megapixels: measured", file=sys.stderr)
    columns = [column for size in SIZES for column in (f"{size} MP: ms", "times as fast", "pixels differ: mean / most")]
    head = ("", *columns)
    rows = [tuple(line) for line in lines.values()]
    print(report.table(head, rows))
    if options.docs:
        report.put(places.DOCS, "python -m benchmarks.decoders", report.markdown(head, rows))


if __name__ == "__main__":
    main()
