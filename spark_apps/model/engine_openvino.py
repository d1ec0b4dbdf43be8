"""Engine `openvino`: OpenVINO on the CPU. A process that only runs it loads neither torch nor torchvision."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import openvino as ov

from spark_apps.contract import PRECISIONS, BadSetting, ModelInfo
from spark_apps.model import quantize
from spark_apps.model.engines import Outputs, check_pixels
from spark_apps.model.spec import Preset

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import nn

    from spark_apps.model.sources import Resolved

TRACED_TOLERANCE = 1e-3
"""Share of the largest value; engines agree to 1e-4 where a model is well-conditioned."""
_TYPES = {"fp32": "f32", "bf16": "bf16"}
"""OpenVINO's names of `Precision.arithmetic`."""


def traced(network: nn.Module, preset: Preset) -> ov.Model:
    """A torch network (see `Resolved.network`) as a graph for any number of photos, in fp32."""
    import torch

    rows, columns = preset.size
    example = torch.zeros(1, rows, columns, 3, dtype=torch.uint8)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # tracing; torch.export works too, slower and noisier
        converted = ov.convert_model(network, example_input=(example,))
    converted.inputs[0].get_node().set_element_type(ov.Type.u8)
    converted.reshape({0: [-1, rows, columns, 3]})
    return converted


def converted(network: nn.Module, preset: Preset, name: str) -> ov.Model:
    """`traced`, and compared with the network on two photos of noise: tracing can freeze what depends on its example.

    Raises:
        BadSetting: it cannot be traced, or what comes out differs by more than 1e-3 of the largest value.
    """
    import torch

    try:
        graph = traced(network, preset)
        noise = np.random.default_rng(0).integers(0, 256, (2, *preset.size, 3), np.uint8)
        found = ov.Core().compile_model(graph, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})([noise])
        with torch.inference_mode():
            expected = [output.numpy() for output in network(torch.from_numpy(noise))]
        for one, other in zip(found.values(), expected, strict=True):
            if one.shape != other.shape or not abs(one - other).max() <= TRACED_TOLERANCE * abs(other).max():
                raise ValueError("what comes out is not what torch computes")
    except Exception as error:  # of torch's tracer, OpenVINO's converter or the model's own code
        raise BadSetting(
            "not_convertible",
            f"{name} cannot be converted to OpenVINO: {' '.join(str(error).split())[:300] or type(error).__name__}.",
            "Use engine torch with this model.",
        ) from error
    return graph


def export(model: Resolved, precision: str, stem: Path) -> tuple[int, int]:
    """Writes `<stem>.xml` and `<stem>.bin`, in fp32 whatever the precision computed in; returns (dim, classes)."""
    graph = model.graph()
    ports = [*graph.inputs, *graph.outputs]
    for port, name in zip(ports, ("pixels", "features", "logits")[: len(ports)], strict=True):
        port.set_names({name})
    ov.save_model(graph, stem.with_suffix(".xml"), compress_to_fp16=False)
    widths = [port.partial_shape[1].get_length() for port in graph.outputs]
    return widths[0], widths[1] if len(widths) > 1 else 0


def open_engine(info: ModelInfo, folder: Path, threads: int, device: str, streams: int) -> OpenVinoEngine:
    """The compiled model. `device` is "cpu": nothing else reaches this engine.

    The .bin file is mapped and shared by all processes; on the first run OpenVINO adds a private copy of the
    convolutions' weights in the memory layout that this processor likes best (for a resnet50 some 100 MB).
    """
    core = ov.Core()
    compiled = core.compile_model(
        core.read_model(folder / f"{info.fingerprint}.xml"),
        "CPU",
        {
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": streams,
            "ENABLE_CPU_PINNING": False,  # pinning puts the workers of one host all on the same cores
            # The default is bf16 wherever that is fast.
            "INFERENCE_PRECISION_HINT": _arithmetic(info),
            "ENABLE_MMAP": True,
        },
    )
    return OpenVinoEngine(compiled, streams, Preset.from_json(info.preprocessing).size, info.dim, info.classes)


def _arithmetic(info: ModelInfo) -> str:
    if info.calibration:
        return quantize.arithmetic(info.calibration.get("recipe", 0))
    return _TYPES[PRECISIONS[info.precision].arithmetic]


class OpenVinoEngine:
    """See `engines.Engine`. A batch is divided among the streams."""

    def __init__(self, compiled: ov.CompiledModel, streams: int, size: tuple[int, int], dim: int, classes: int) -> None:
        self._size, self._widths = size, {"features": dim} | ({"logits": classes} if classes else {})
        self._streams = ov.AsyncInferQueue(compiled, streams)
        self._streams.set_callback(_keep)
        photos = compiled.input("pixels").partial_shape[0]
        self._batch = photos.get_length() if photos.is_static else 0

    def run(self, pixels: NDArray[np.uint8]) -> Outputs:
        pixels = check_pixels(pixels, self._size)
        count = len(pixels)
        share = self._batch or -(-count // len(self._streams))
        found = {name: np.empty((count, width), np.float32) for name, width in self._widths.items()}
        if self._batch and count % share:
            pixels = np.concatenate([pixels, np.zeros((-count % share, *pixels.shape[1:]), np.uint8)])
        for first in range(0, count, share or 1):  # none of no photos: the CPU plugin refuses empty inputs
            into = {name: rows[first : first + share] for name, rows in found.items()}
            self._streams.start_async([pixels[first : first + share]], into, share_inputs=True)
        self._streams.wait_all()
        return Outputs(found["features"], found.get("logits", np.empty((count, 0), np.float32)))


def _keep(request: ov.InferRequest, into: dict[str, NDArray[np.float32]]) -> None:
    for name, rows in into.items():
        rows[:] = request.get_tensor(name).data[: len(rows)]
