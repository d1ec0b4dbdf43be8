"""Engine `openvino`: OpenVINO on the CPU. A process that only runs it loads neither torch nor torchvision."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import openvino as ov

from spark_apps.contract import PRECISIONS, ModelInfo
from spark_apps.model import quantize
from spark_apps.model.engines import Outputs, check_pixels

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import nn

    from spark_apps.model.weights import ResolvedWeights

_TYPES = {"fp32": "f32", "bf16": "bf16"}
"""OpenVINO's names of `Precision.arithmetic`."""


def export(weights: ResolvedWeights, model: nn.Module, layer: str, precision: str, stem: Path) -> tuple[int, int]:
    """Writes `<stem>.xml` and `<stem>.bin`, in fp32 whatever the precision computed in; returns (dim, classes)."""
    import torch

    from spark_apps.model.network import Network, width

    crop = weights.preset.crop
    network = Network(weights.backbone, model, weights.preset, layer=layer).eval()
    example = torch.zeros(1, crop, crop, 3, dtype=torch.uint8)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # tracing; torch.export works too, slower and noisier
        converted = ov.convert_model(network, example_input=(example,))
    converted.inputs[0].get_node().set_element_type(ov.Type.u8)
    converted.reshape({0: [-1, crop, crop, 3]})
    ports = [*converted.inputs, *converted.outputs]
    for port, name in zip(ports, ("pixels", "features", "logits")[: len(ports)], strict=True):
        port.set_names({name})
    ov.save_model(converted, stem.with_suffix(".xml"), compress_to_fp16=False)
    return width(weights.backbone, weights.preset, weights.variant, layer), network.classes


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
    return OpenVinoEngine(compiled, info.preprocessing["crop"], info.dim, info.classes)


def _arithmetic(info: ModelInfo) -> str:
    if info.calibration:
        return quantize.arithmetic(info.calibration.get("recipe", 0))
    return _TYPES[PRECISIONS[info.precision].arithmetic]


class OpenVinoEngine:
    """See `engines.Engine`."""

    def __init__(self, compiled: ov.CompiledModel, crop: int, dim: int, classes: int) -> None:
        self._request, self._crop, self._dim, self._classes = compiled.create_infer_request(), crop, dim, classes

    def run(self, pixels: NDArray[np.uint8]) -> Outputs:
        pixels = check_pixels(pixels, self._crop)
        if not len(pixels):  # the CPU plugin refuses empty inputs
            return Outputs(np.empty((0, self._dim), np.float32), np.empty((0, self._classes), np.float32))
        results = self._request.infer([pixels], share_inputs=True)
        logits = results["logits"] if self._classes else np.empty((len(pixels), 0), np.float32)
        return Outputs(results["features"], logits)
