"""Eager torch as its documentation shows: what the peers compute with. A pickled torchvision module without its
classifier, and torchvision's own transforms."""

from __future__ import annotations

import io
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image

from spark_apps.model.torchvision_import import torchvision

if TYPE_CHECKING:
    from collections.abc import Sequence

torchvision()  # beside a CPU build of torch, torchvision can only be imported through this door


def load(path: str) -> Any:
    """The module, in evaluation mode, computing in this process on one thread."""
    torch.set_num_threads(1)
    return torch.load(path, weights_only=False).eval()


@lru_cache(maxsize=1)
def transform() -> Any:
    """Resize, centre crop, to a tensor, normalise: ImageNet's usual preparation."""
    transforms = torchvision().transforms
    return transforms.Compose(
        [
            transforms.Resize(256),
            transforms.CenterCrop(224),
            transforms.ToTensor(),
            transforms.Normalize(mean=[0.485, 0.456, 0.406], std=[0.229, 0.224, 0.225]),
        ]
    )


def prepare(content: bytes) -> torch.Tensor:
    """float32 [3, 224, 224]."""
    tensor: torch.Tensor = transform()(Image.open(io.BytesIO(content)).convert("RGB"))
    return tensor


def features(model: Any, contents: Sequence[bytes]) -> np.ndarray:
    """float32 [n, 2048] for a batch of JPEGs."""
    with torch.no_grad():
        found: np.ndarray = model(torch.stack([prepare(content) for content in contents])).numpy()
    return found
