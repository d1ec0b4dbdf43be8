"""The one door to torchvision: every import of it goes through `torchvision()`.

torchvision's registry wheel is built against CUDA. Beside a CPU-only torch its compiled extension cannot load, and
torchvision then fails while it registers Python code for the operators that the extension would have brought. Their
schemas are all it asks for: with them declared, models, weights and transforms work (its C++ operators do not).
"""

from __future__ import annotations

import importlib
import importlib.util
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

_NMS = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
_declared: list[Any] = []  # the operators vanish when the Library object is collected


@cache
def torchvision() -> ModuleType:
    """The torchvision package. Raises ImportError when it is not installed."""
    import torch

    spec = importlib.util.find_spec("torchvision")
    if spec is None:
        raise ImportError("torchvision is not installed")
    if not _extension_loads(spec) and not hasattr(torch.ops.torchvision, "nms"):
        library = torch.library.Library("torchvision", "FRAGMENT")  # type: ignore[no-untyped-call]
        library.define("nms" + _NMS)  # type: ignore[no-untyped-call]
        library.define("qnms" + _NMS)  # type: ignore[no-untyped-call]
        _declared.append(library)
    return importlib.import_module("torchvision")


def _extension_loads(spec: Any) -> bool:
    import torch

    for folder in spec.submodule_search_locations or ():
        for extension in Path(folder).glob("_C*.so"):
            try:
                torch.ops.load_library(extension)  # type: ignore[no-untyped-call]
            except OSError:
                return False
            return True
    return False
