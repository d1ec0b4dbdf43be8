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


def open_engine(info: ModelInfo, folder: Path, threads: int, device: str) -> OpenVinoEngine:
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
            "NUM_STREAMS": 1,
            "ENABLE_CPU_PINNING": False,  # pinning puts the workers of one host all on the same cores
            # The default is bf16 wherever that is fast.
            "INFERENCE_PRECISION_HINT": _arithmetic(info),
            "ENABLE_MMAP": True,
        },
    )
    return OpenVinoEngine(compiled, Preset.from_json(info.preprocessing).size, info.dim, info.classes)


def _arithmetic(info: ModelInfo) -> str:
    if info.calibration:
        return quantize.arithmetic(info.calibration.get("recipe", 0))
    return _TYPES[PRECISIONS[info.precision].arithmetic]


class OpenVinoEngine:
    """See `engines.Engine`."""

    def __init__(self, compiled: ov.CompiledModel, size: tuple[int, int], dim: int, classes: int) -> None:
        self._request, self._size, self._dim, self._classes = compiled.create_infer_request(), size, dim, classes
        photos = compiled.input("pixels").partial_shape[0]
        self._batch = photos.get_length() if photos.is_static else 0

    def run(self, pixels: NDArray[np.uint8]) -> Outputs:
        pixels = check_pixels(pixels, self._size)
        if not len(pixels):  # the CPU plugin refuses empty inputs
            return Outputs(np.empty((0, self._dim), np.float32), np.empty((0, self._classes), np.float32))
        if not self._batch:
            return self._infer(pixels)
        missing = -len(pixels) % self._batch
        padded = np.concatenate([pixels, np.zeros((missing, *pixels.shape[1:]), np.uint8)]) if missing else pixels
        parts = [self._infer(padded[first : first + self._batch]) for first in range(0, len(padded), self._batch)]
        features, logits = (
            np.concatenate([getattr(part, name) for part in parts])[: len(pixels)] for name in ("features", "logits")
        )
        return Outputs(features, logits)

    def _infer(self, pixels: NDArray[np.uint8]) -> Outputs:
        results = self._request.infer([pixels], share_inputs=True)
        logits = results["logits"] if self._classes else np.empty((len(pixels), 0), np.float32)
        return Outputs(results["features"], logits)
