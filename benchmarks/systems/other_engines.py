"""Engines of others on the pixels that ours is measured on: ONNX Runtime, and torch.compile.

The network is that of our engine torch, the weights are the same. ONNX Runtime: fp32, and int8 by its own static
quantization (QDQ, per channel), calibrated on photos of the set; its CPU provider has no bf16. torch.compile: fp32 and
bf16 by its default compiler with frozen weights, for the shape of one batch; it has no int8 of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks import places
from benchmarks.photos import PhotoSet
from benchmarks.protocol import Job, NotPossible
from spark_apps.contract import ModelSettings
from spark_apps.media import imaging
from spark_apps.media.fitting import Preprocessing

CALIBRATION_PHOTOS = 64
MAX_PIXELS = 100_000_000

Run = Callable[[NDArray[np.uint8]], NDArray[np.float32]]
"""Pixels, uint8 [n, crop, crop, 3], to features, float32 [n, dim]."""


def make(engine: str, precision: str, weights: str, chosen: PhotoSet) -> Path:
    """What `load` opens: a file of ONNX Runtime; torch.compile needs none, and gets a name alone."""
    folder = places.BENCH / "engines" / weights.replace(":", "-")
    file = folder / f"{precision}.onnx"
    if engine == "onnxruntime" and not file.exists():
        folder.mkdir(parents=True, exist_ok=True)
        plain = folder / "fp32.onnx"
        if not plain.exists():
            _export(weights, plain)
        if precision == "int8":
            _quantize(plain, file, chosen)
    return file


def load(job: Job, threads: int = 1) -> Run:
    """The engine that `job` names, on `threads` cores. Raises NotPossible."""
    return (_onnxruntime if job.engine == "onnxruntime" else _compiled)(job, threads)


def pixels(chosen: Path, count: int) -> tuple[list[str], NDArray[np.uint8]]:
    """The first photos of a set as they enter the model, with their names."""
    files = sorted(chosen.iterdir())[:count]
    decoded = [imaging.decode(file.read_bytes(), Preprocessing(), MAX_PIXELS) for file in files]
    return [file.name for file in files], np.stack(decoded)


def _network(weights: str, precision: str) -> Any:
    import torch

    from spark_apps.model import sources

    spec = ModelSettings(weights=weights)
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    return sources.resolve(spec).network(dtype).eval().requires_grad_(False)


def _export(weights: str, file: Path) -> None:
    import torch

    part = file.with_suffix(".part")
    torch.onnx.export(
        _network(weights, "fp32"),
        (torch.zeros(1, 224, 224, 3, dtype=torch.uint8),),
        str(part),
        dynamo=False,
        dynamic_axes={"pixels": {0: "n"}},
        input_names=["pixels"],
        output_names=["features", "logits"],
    )
    part.rename(file)


def _quantize(plain: Path, file: Path, chosen: PhotoSet) -> None:
    from onnxruntime import quantization

    class Photos(quantization.CalibrationDataReader):
        def __init__(self) -> None:
            _, found = pixels(chosen.jpeg, CALIBRATION_PHOTOS)
            self._left: Iterator[NDArray[np.uint8]] = iter(found)

        def get_next(self) -> dict[str, NDArray[np.uint8]] | None:
            photo = next(self._left, None)
            return None if photo is None else {"pixels": photo[None]}

    shaped, part = file.with_suffix(".shaped"), file.with_suffix(".part")
    quantization.quant_pre_process(plain, shaped, skip_symbolic_shape=True)  # it leaves alone what has no known shape
    whole = quantization.QuantType.QUInt8  # with signed activations a third of the convolutions stay in fp32
    quantization.quantize_static(shaped, part, Photos(), per_channel=True, activation_type=whole)
    shaped.unlink()
    part.rename(file)


def _onnxruntime(job: Job, threads: int) -> Run:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(job.model, options, providers=["CPUExecutionProvider"])
    return lambda photos: session.run(["features"], {"pixels": photos})[0]


def _compiled(job: Job, threads: int) -> Run:
    import torch
    import torch._inductor.config

    torch.set_num_threads(threads)
    torch._inductor.config.freezing = True
    network: Any = torch.compile(_network(job.weights, job.precision), dynamic=False)

    def run(photos: NDArray[np.uint8]) -> NDArray[np.float32]:
        with torch.inference_mode():
            features: NDArray[np.float32] = network(torch.from_numpy(photos))[0].numpy()
        return features

    try:
        run(np.zeros((job.batch_size, 224, 224, 3), np.uint8))
    except Exception as failed:  # of any part of its compiler; most often there is no g++
        raise NotPossible(f"torch.compile cannot compile here: {' '.join(str(failed).split())[:200]}") from failed
    return run
