"""The independent recomputation: plain torchvision, fp32, its own transforms; what every engine is measured against."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from spark_apps.contract import ModelSettings
from spark_apps.model import backbones
from spark_apps.model.torchvision_import import torchvision
from spark_apps.model.weights import resolve

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL import Image
    from torch import Tensor


def reference(model: ModelSettings) -> Callable[[Image.Image], NDArray[np.float32]]:
    """A function from an upright RGB photo to its features, float32 [dim].

    That of an artefact: `reference(artifact.info.settings())`, whose weights must have the same sha256 again.
    Shares no code with the engines: no folding, no exported graph, no resizing of ours.

    Raises:
        BadSetting, Unreachable: as `weights.resolve`.
    """
    import torch

    weights = resolve(model)
    network, preset = weights.model(), weights.preset
    taken: list[NDArray[np.float32]] = []
    place = backbones.layer(weights.backbone, model.layer)
    layout = backbones.layout(weights.backbone, network, place)
    if place == weights.backbone.family.output:
        head = network.get_submodule(weights.backbone.family.head)
        head.register_forward_pre_hook(lambda module, inputs: taken.append(_average(inputs[0], layout)))
    else:
        earlier = network.get_submodule(place)
        earlier.register_forward_hook(lambda module, inputs, output: taken.append(_average(output, layout)))
    transforms = torchvision().transforms
    interpolation = transforms.InterpolationMode(preset.interpolation)
    prepared = transforms.Compose(
        [
            transforms.Resize(preset.resize, interpolation),
            transforms.CenterCrop(preset.crop),
            transforms.ToTensor(),
            transforms.Normalize(preset.mean, preset.std),
        ]
    )

    def features(image: Image.Image) -> NDArray[np.float32]:
        with torch.inference_mode():
            network(prepared(image)[None])
        return taken.pop()

    return features


def _average(output: Tensor, layout: str) -> NDArray[np.float32]:
    """One photo's values at a layer, float32 [c]. A copy: the next module may work in place."""
    values = output[0].numpy()
    if layout == backbones.TOKENS:
        values = values[1:]
    axes = {backbones.VECTOR: (), backbones.IMAGE: (1, 2), backbones.GRID: (0, 1), backbones.TOKENS: (0,)}[layout]
    return np.array(values.mean(axes, dtype=np.float64), np.float32)
