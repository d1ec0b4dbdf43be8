"""Engine `torch`: PyTorch on CPU or CUDA, with folded weights that all workers of a host map from one file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from spark_apps.contract import PRECISIONS, ModelInfo
from spark_apps.model import sources
from spark_apps.model.engines import Outputs, check_pixels
from spark_apps.model.spec import Preset

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import nn

    from spark_apps.model.sources import Resolved

_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
"""torch's types for `Precision.arithmetic`."""


def export(model: Resolved, precision: str, stem: Path) -> tuple[int, int]:
    """Writes `<stem>.pt`, the weights in the memory order they are used in; returns (dim, classes)."""
    network = model.network(_DTYPES[PRECISIONS[precision].arithmetic])
    state = network.to(memory_format=torch.channels_last).state_dict()  # type: ignore[call-overload]
    torch.save(dict(state), stem.with_suffix(".pt"))
    with torch.inference_mode():
        found = network(torch.zeros(1, *model.preset.size, 3, dtype=torch.uint8))
    return found[0].shape[1], found[1].shape[1] if len(found) > 1 else 0


def open_engine(info: ModelInfo, folder: Path, threads: int, device: str, streams: int) -> TorchEngine:
    """The model on `device`, one batch at a time; on a CPU its weights stay in the file, mapped, and are shared by all
    processes. `streams`: of no concern here."""
    path = folder / f"{info.fingerprint}.pt"
    state = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    network = sources.of(info.backbone).skeleton(info, _DTYPES[PRECISIONS[info.precision].arithmetic])
    network.load_state_dict(state, assign=True)
    if device.startswith("cuda"):
        torch.backends.cudnn.allow_tf32 = False  # on by default, and keeps 10 bits of fp32's 23
    size = Preset.from_json(info.preprocessing).size
    return TorchEngine(network.eval().requires_grad_(False).to(device), size, threads, device)


class TorchEngine:
    """See `engines.Engine`."""

    def __init__(self, network: nn.Module, size: tuple[int, int], threads: int, device: str) -> None:
        self._network, self._size, self._threads, self._device = network, size, threads, device

    def run(self, pixels: NDArray[np.uint8]) -> Outputs:
        pixels = check_pixels(pixels, self._size)
        torch.set_num_threads(self._threads)
        if not pixels.flags.writeable:  # Arrow's buffers are not, and torch knows no read-only tensors
            pixels = pixels.copy()
        with torch.inference_mode():
            features, *logits = (
                output.cpu().numpy() for output in self._network(torch.from_numpy(pixels).to(self._device))
            )
        return Outputs(features, logits[0] if logits else np.empty((len(pixels), 0), np.float32))
