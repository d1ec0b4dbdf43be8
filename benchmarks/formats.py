"""Decoding one photo in each of the formats that telephones and cameras write, and by its colour profile.

`python -m benchmarks.formats` prints, for photos of several sizes, the processor time from the bytes of a file to uint8
[224, 224, 3] as the pipeline does it, as medians of interleaved rounds, and how many times that of JPEG it is.
"""

from __future__ import annotations

import argparse
import io
import statistics
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

from PIL import Image

from benchmarks import places, report
from benchmarks.decoders import LIMIT, milliseconds
from benchmarks.photos import picture
from spark_apps.media import icc, imaging
from spark_apps.media.fitting import Preprocessing

SIZES = {"0.2": 10, "2": 2}
"""Photos that are decoded in a round, by megapixels."""
P3 = icc.of_numbers(12, 13)
Encode = Callable[[Image.Image], bytes]


def saved(image: Image.Image, format: str, **options: Any) -> bytes:
    target = io.BytesIO()
    image.save(target, format, **options)
    return target.getvalue()


def heic(image: Image.Image) -> bytes:
    from pillow_heif import from_pillow

    target = io.BytesIO()
    from_pillow(image).save(target, quality=80)
    return target.getvalue()


def jxl(image: Image.Image) -> bytes:
    import pillow_jxl  # noqa: F401  registers itself

    return saved(image, "JXL", quality=90, effort=3)


STORED, SEEN = Preprocessing(), Preprocessing(color="srgb")
WAYS: dict[str, tuple[Encode, Preprocessing]] = {
    "JPEG": (partial(saved, format="JPEG", quality=90), STORED),
    "JPEG, colours as seen": (partial(saved, format="JPEG", quality=90), SEEN),
    "JPEG in Display P3, as stored": (partial(saved, format="JPEG", quality=90, icc_profile=P3), STORED),
    "JPEG in Display P3, as seen": (partial(saved, format="JPEG", quality=90, icc_profile=P3), SEEN),
    "WebP": (partial(saved, format="WEBP", quality=85), STORED),
    "AVIF": (partial(saved, format="AVIF", quality=75, speed=10), STORED),
    "HEIC": (heic, STORED),
    "JPEG XL": (jxl, STORED),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--docs", action="store_true", help="put the table into docs/benchmarks.md")
    options = parser.parse_args()
    lines: dict[str, list[str]] = {name: [name] for name in WAYS}
    for size, count in SIZES.items():
        photos = [Image.open(io.BytesIO(picture(size, index))) for index in range(count)]
        contents = {name: [encode(photo) for photo in photos] for name, (encode, _) in WAYS.items()}
        times: dict[str, list[float]] = {name: [] for name in WAYS}
        for _ in range(options.rounds):
            for name, (_, preprocessing) in WAYS.items():
                decode = imaging.decoder(preprocessing, LIMIT)
                times[name].append(milliseconds(decode, contents[name]))
        for name, found in times.items():
            median = statistics.median(found)
            lines[name] += [
                f"{median:.1f} ({min(found):.1f} to {max(found):.1f})",
                f"{median / statistics.median(times['JPEG']):.2f}",
            ]
        print(f"{size} megapixels: measured", file=sys.stderr)
    head = ("", *(column for size in SIZES for column in (f"{size} MP: ms", "times that of JPEG")))
    rows = [tuple(line) for line in lines.values()]
    print(report.table(head, rows))
    if options.docs:
        report.put(places.DOCS, "python -m benchmarks.formats", report.markdown(head, rows))


if __name__ == "__main__":
    main()
