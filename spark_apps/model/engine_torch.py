"""Engine `torch`: PyTorch on CPU or CUDA, with folded weights that all workers of a host map from one file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from spark_apps.contract import PRECISIONS, ModelInfo
from spark_apps.model import backbones
from spark_apps.model.engines import Outputs, check_pixels
from spark_apps.model.network import Network, width
from spark_apps.model.spec import Preset

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from spark_apps.model.weights import ResolvedWeights

_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
"""torch's types for `Precision.arithmetic`."""


def export(weights: ResolvedWeights, model: torch.nn.Module, layer: str, precision: str, stem: Path) -> tuple[int, int]:
    """Writes `<stem>.pt`, the folded weights in the memory order they are used in; returns (dim, classes)."""
    network = Network(weights.backbone, model, weights.preset, _DTYPES[PRECISIONS[precision].arithmetic], layer)
    state = network.to(memory_format=torch.channels_last).state_dict()  # type: ignore[call-overload]
    torch.save(dict(state), stem.with_suffix(".pt"))
    return width(weights.backbone, weights.preset, weights.variant, layer), network.classes


def open_engine(info: ModelInfo, folder: Path, threads: int, device: str) -> TorchEngine:
    """The model on `device`; on a CPU its weights stay in the file, mapped, and are shared by all processes."""
    path = folder / f"{info.fingerprint}.pt"
    state = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    backbone, preset = backbones.get(info.backbone), Preset.from_json(info.preprocessing)
    model = backbones.build(backbone, info.classes or 1000, info.variant)  # at 0 the classifier is cut off
    network = Network(backbone, model, preset, _DTYPES[PRECISIONS[info.precision].arithmetic], info.layer)
    network.load_state_dict(state, assign=True)
    if device.startswith("cuda"):
        torch.backends.cudnn.allow_tf32 = False  # on by default, and keeps 10 bits of fp32's 23
    return TorchEngine(network.eval().requires_grad_(False).to(device), preset.crop, threads, device)


class TorchEngine:
    """See `engines.Engine`."""

    def __init__(self, network: Network, crop: int, threads: int, device: str) -> None:
        self._network, self._crop, self._threads, self._device = network, crop, threads, device

    def run(self, pixels: NDArray[np.uint8]) -> Outputs:
        pixels = check_pixels(pixels, self._crop)
        torch.set_num_threads(self._threads)
        if not pixels.flags.writeable:  # Arrow's buffers are not, and torch knows no read-only tensors
            pixels = pixels.copy()
        with torch.inference_mode():
            features, *logits = (
                output.cpu().numpy() for output in self._network(torch.from_numpy(pixels).to(self._device))
            )
        return Outputs(features, logits[0] if logits else np.empty((len(pixels), 0), np.float32))
