"""What a GPU gives: `python -m benchmarks.gpu` on a machine that has one, with this project's packages; no Java needed.

The table has the engine on pixels that lie on the card (as it stands, compiled by torch.compile, and as a CUDA graph;
fp32, bf16 and fp16), the same with pixels that come from the host and features that go back, overlapped by two streams;
what the host's cores decode and what the card decodes (nvJPEG by torchvision); and the whole way from JPEGs to features
by either. Each line has its ratio to what bounds it: 88,000 images a second, MLPerf Inference's offline result for one
H100 (ResNet-50, pixels in memory, int8), and for the whole way the lower of engine and decoding. Every way is checked
against fp32: the smallest cosine stands beside it.

`--device cpu` runs what needs no GPU, to try the script (`tests/unit/test_bench_gpu.py`).
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import cycle, islice
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks import report
from benchmarks.photos import picture
from spark_apps.contract import ModelSettings
from spark_apps.media import imaging
from spark_apps.media.fitting import Preprocessing
from spark_apps.model import load, prepare

MLPERF = 88_000
"""Images a second."""
CROP = 224
LIMIT = 10**9
TYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
cuda: Any = torch.cuda
Run = Callable[[Tensor], Tensor]
"""uint8 [n, crop, crop, 3] on the device to float32 [n, dim] there."""


@dataclass(frozen=True)
class Line:
    """One row of the table. `bound`: images/s that it is compared with, 0 where there is none."""

    name: str
    rate: float
    bound: float = 0.0
    cosine: float | None = None

    def cells(self) -> tuple[str, ...]:
        ratio = f"{self.rate / self.bound:.2f}" if self.bound else ""
        return self.name, f"{self.rate:,.0f}", ratio, "" if self.cosine is None else f"{self.cosine:.5f}"


class Features(nn.Module):
    """The network of engine `torch` with its features alone, in one number format."""

    def __init__(self, weights: str, precision: str) -> None:
        super().__init__()
        artifact = prepare(ModelSettings(weights=weights, engine="torch", device="cpu"))
        engine: Any = load(artifact.info, artifact.files[0].parent, 1)
        self.network = engine._network
        self.network.body.to(TYPES[precision], memory_format=torch.channels_last)
        self.network.dtype = TYPES[precision]

    def forward(self, pixels: Tensor) -> Tensor:
        features: Tensor = self.network(pixels)[0]
        return features


class Bench:
    """What all measurements share: the device, the photos, and how long each one takes."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.device, self.seconds = torch.device(options.device), options.seconds
        self.batch: int = options.batch
        self.weights, self.cores = options.weights, options.cores
        distinct = [picture(options.megapixels, index) for index in range(min(options.photos, 64))]
        self.jpegs = list(islice(cycle(distinct), options.photos))
        square = [imaging.decode(content, Preprocessing(), LIMIT) for content in distinct]
        self.pixels = torch.from_numpy(np.stack(list(islice(cycle(square), self.batch))))
        with torch.inference_mode():
            self.exact = self.model("fp32")(self.pixels.to(self.device)).cpu()

    @property
    def cuda(self) -> bool:
        return self.device.type == "cuda"

    def model(self, precision: str) -> Features:
        return Features(self.weights, precision).eval().to(self.device)

    def rate(self, step: Callable[[], int]) -> float:
        """images/s of `step`, which gives how many it did, for `seconds` after one that is not counted."""
        step()
        self.wait()
        begin, done = time.perf_counter(), 0
        while time.perf_counter() - begin < self.seconds:
            done += step()
        self.wait()
        return done / (time.perf_counter() - begin)

    def wait(self) -> None:
        if self.cuda:
            torch.cuda.synchronize()

    def cosine(self, features: Tensor) -> float:
        """The smallest to fp32 of a batch."""
        similar = nn.functional.cosine_similarity(features.float().cpu(), self.exact[: len(features)], dim=1)
        return float(similar.min())


def ways(bench: Bench, precision: str) -> Iterator[tuple[str, Run]]:
    """How the network can be run."""
    model = bench.model(precision)
    yield "as it stands", model
    if bench.cuda:
        yield "torch.compile", torch.compile(model, mode="max-autotune-no-cudagraphs")
        yield "CUDA graph", graph(model, bench.pixels.to(bench.device))


def graph(model: Features, pixels: Tensor) -> Run:
    """The launches of one batch, recorded and played again (PyTorch's documentation, CUDA graphs)."""
    aside = cuda.Stream()
    aside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(aside):
        for _ in range(3):
            model(pixels)
    torch.cuda.current_stream().wait_stream(aside)
    recorded = cuda.CUDAGraph()
    with torch.cuda.graph(recorded):
        features: Tensor = model(pixels)

    def run(batch: Tensor) -> Tensor:
        if batch.data_ptr() != pixels.data_ptr():
            pixels.copy_(batch, non_blocking=True)
        recorded.replay()
        return features

    return run


def engine_lines(bench: Bench) -> tuple[list[Line], Run, float]:
    """Of the engine on pixels; with the fastest way and its rate."""
    lines: list[Line] = []
    best: tuple[float, Run] = 0.0, bench.model("fp32")
    resident = bench.pixels.to(bench.device)
    for precision in TYPES:
        for name, run in ways(bench, precision):
            rate = bench.rate(lambda run=run: len(run(resident)))  # type: ignore[misc]
            lines.append(Line(f"engine, {precision}, {name}", rate, MLPERF, bench.cosine(run(resident))))
            best = max(best, (rate, run), key=lambda one: one[0])
            say(lines[-1])
    rate = bench.rate(copying(bench, best[1]))
    lines.append(Line("the fastest, pixels from the host, features back", rate, MLPERF))
    say(lines[-1])
    return lines, best[1], rate


def copying(bench: Bench, run: Run) -> Callable[[], int]:
    """Pixels from pinned memory and features into it, by two streams: one copies while the other computes."""
    pinned = [bench.pixels.pin_memory() if bench.cuda else bench.pixels for _ in range(2)]
    streams = [cuda.Stream() if bench.cuda else None for _ in range(2)]
    back: list[Tensor | None] = [None, None]

    def step() -> int:
        for turn in (0, 1):
            with torch.cuda.stream(streams[turn]) if bench.cuda else nullcontext():
                features = run(pinned[turn].to(bench.device, non_blocking=True))
                if back[turn] is None:
                    empty = torch.empty(features.shape, dtype=features.dtype)
                    back[turn] = empty.pin_memory() if bench.cuda else empty
                back[turn].copy_(features, non_blocking=True)  # type: ignore[union-attr]
        return 2 * len(pinned[0])

    return step


def decoded(contents: Sequence[bytes]) -> np.ndarray:
    """A share of a host's process: uint8 [n, crop, crop, 3]."""
    return np.stack([imaging.decode(content, Preprocessing(fast=True), LIMIT) for content in contents])


def decoded_on_card(contents: Sequence[bytes], device: torch.device) -> Tensor:
    """The same by nvJPEG, and resampled there: close to `decoded`, not equal."""
    from torchvision.io import ImageReadMode, decode_jpeg
    from torchvision.transforms.v2 import functional

    raw = [torch.frombuffer(bytearray(content), dtype=torch.uint8) for content in contents]
    photos = decode_jpeg(raw, mode=ImageReadMode.RGB, device=device)
    resized = [functional.resize(photo, [256], antialias=True) for photo in photos]
    squares = [functional.center_crop(photo, [CROP, CROP]) for photo in resized]
    return torch.stack(squares).permute(0, 2, 3, 1).contiguous()


def way_lines(bench: Bench, run: Run, engine: float) -> list[Line]:
    """Of decoding, and from JPEGs to features."""
    lines: list[Line] = []
    batches = [bench.jpegs[at : at + bench.batch] for at in range(0, len(bench.jpegs), bench.batch)]
    batches = [batch for batch in batches if len(batch) == bench.batch]
    with ProcessPoolExecutor(bench.cores) as pool:
        shares = [bench.jpegs[at :: bench.cores] for at in range(bench.cores)]
        host = bench.rate(lambda: sum(len(found) for found in pool.map(decoded, shares)))
        lines.append(Line(f"decoding on {bench.cores} cores of the host", host))
        say(lines[-1])

        def by_host() -> int:
            for found in pool.map(decoded, batches):
                pixels = torch.from_numpy(found)
                run((pixels.pin_memory() if bench.cuda else pixels).to(bench.device, non_blocking=True)).cpu()
            return bench.batch * len(batches)

        lines.append(Line("whole way, decoded on the host", bench.rate(by_host), min(engine, host)))
        say(lines[-1])
    if bench.cuda:
        card = bench.rate(lambda: sum(len(decoded_on_card(batch, bench.device)) for batch in batches))
        lines.append(Line("decoding on the card", card))
        say(lines[-1])

        def by_card() -> int:
            return sum(len(run(decoded_on_card(batch, bench.device)).cpu()) for batch in batches)

        there = run(decoded_on_card(batches[0], bench.device))
        lines.append(
            Line("whole way, decoded on the card", bench.rate(by_card), min(engine, card), bench.cosine(there))
        )
        say(lines[-1])
    return lines


def say(line: Line) -> None:
    print(*line.cells(), sep="  ", file=sys.stderr, flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda", help="cuda, cuda:1 or cpu (default: %(default)s)")
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--seconds", type=float, default=5.0, help="for each measurement (default: %(default)s)")
    parser.add_argument("--photos", type=int, default=4096, help="JPEGs of the whole way (default: %(default)s)")
    parser.add_argument(
        "--megapixels", default="0.2", choices=("0.2", "2", "12"), help="of each (default: %(default)s)"
    )
    parser.add_argument("--weights", default="random:0", help="as of extract (default: %(default)s)")
    parser.add_argument("--cores", type=int, default=len(os.sched_getaffinity(0)), help="that decode (default: all)")
    options = parser.parse_args()
    if options.device.startswith("cuda") and not torch.cuda.is_available():
        print(
            "torch sees no CUDA device here. Run this where a GPU, its driver and a CUDA build of torch are installed, "
            "or try the script with --device cpu --batch 4 --photos 8 --seconds 0.1.",
            file=sys.stderr,
        )
        return 2
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False  # fp32 means fp32
    bench = Bench(options)
    with torch.inference_mode():
        lines, run, rate = engine_lines(bench)
        lines += way_lines(bench, run, rate)
    card = torch.cuda.get_device_name(bench.device) if bench.cuda else "no GPU"
    print(f"{card}, {bench.cores} cores, batches of {bench.batch}, torch {torch.__version__}, weights {bench.weights}")
    head = ("", "images/s", "of its bound", "smallest cosine to fp32")
    print(report.table(head, [line.cells() for line in lines]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
