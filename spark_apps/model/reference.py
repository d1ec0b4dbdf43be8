"""The independent recomputation: plain torchvision, fp32, its own transforms; what every engine is measured against."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from spark_apps.model.spec import ModelSpec
from spark_apps.model.torchvision_import import torchvision
from spark_apps.model.weights import resolve

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL import Image


def reference(model: ModelSpec | dict[str, Any]) -> Callable[[Image.Image], NDArray[np.float32]]:
    """A function from an upright RGB photo to its features, float32 [dim].

    `model` is a spec, or the `info` of an artefact: then its weights are resolved again and must have the same sha256.
    Shares no code with the engines: no folding, no exported graph, no resizing of ours.

    Raises:
        BadSetting, Unreachable: as `weights.resolve`.
    """
    import torch

    if isinstance(model, dict):
        model = ModelSpec(model["backbone"], model["weights"], model["weights_sha256"])
    weights = resolve(model)
    network = weights.model()
    network.set_submodule(weights.backbone.head, torch.nn.Identity())
    preset = weights.preset
    transforms = torchvision().transforms
    prepared = transforms.Compose(
        [
            transforms.Resize(preset.resize),
            transforms.CenterCrop(preset.crop),
            transforms.ToTensor(),
            transforms.Normalize(preset.mean, preset.std),
        ]
    )

    def features(image: Image.Image) -> NDArray[np.float32]:
        with torch.inference_mode():
            found: NDArray[np.float32] = network(prepared(image)[None])[0].numpy()
        return found

    return features
