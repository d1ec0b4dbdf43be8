"""torchvision's classification models, by torchvision's own names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from spark_apps.contract import BACKBONES, ModelInfo, ModelSettings
from spark_apps.model import backbones, weights
from spark_apps.model.sources import Reference, Resolved
from spark_apps.model.spec import Preset
from spark_apps.model.torchvision_import import torchvision

if TYPE_CHECKING:
    import openvino as ov
    import torch
    from numpy.typing import NDArray
    from PIL import Image
    from torch import Tensor, nn


@dataclass(frozen=True, kw_only=True)
class Torchvision(Resolved):
    """`found`: the weights, with the backbone that they are for."""

    found: weights.ResolvedWeights

    def network(self, dtype: torch.dtype) -> nn.Module:
        from spark_apps.model.network import Network

        return Network(self.found.backbone, self.found.model(), self.preset, dtype, self.layer).eval()

    def graph(self) -> ov.Model:
        import torch

        from spark_apps.model.engine_openvino import traced

        return traced(self.network(torch.float32), self.preset)  # `make test-all` has compared every name

    def categories(self, classes: int) -> list[str] | None:
        return backbones.imagenet_categories() if self.found.knows_imagenet and classes == 1000 else None


def names() -> Sequence[str]:
    """See `Source`."""
    return BACKBONES


def knows(model: str) -> bool:
    """See `Source`."""
    return model in BACKBONES


def resolve(spec: ModelSettings) -> Torchvision:
    """See `Source`."""
    backbone = backbones.get(spec.model)
    layer = backbones.layer(backbone, spec.layer)  # a wrong one is refused before weights are fetched
    found = weights.resolve(spec)
    return Torchvision(
        found=found,
        model=spec.model,
        weights=found.name,
        names=(spec.model, found.label),
        sha256=found.sha256,
        preset=found.preset,
        variant=found.variant,
        layer=layer,
        named_layer="" if layer == backbone.family.output else spec.layer,
        transformer=backbone.family.transformer,
    )


def skeleton(info: ModelInfo, dtype: torch.dtype) -> nn.Module:
    """See `Source`."""
    from spark_apps.model.network import Network

    backbone, preset = backbones.get(info.backbone), Preset.from_json(info.preprocessing)
    model = backbones.build(backbone, info.classes or 1000, info.variant)  # at 0 the classifier is cut off
    return Network(backbone, model, preset, dtype, info.layer)


def reference(spec: ModelSettings) -> Reference:
    """See `Source`: plain torchvision, and its own transforms. No folding, no exported graph, no resizing of ours."""
    import torch

    found = weights.resolve(spec)
    network, preset = found.model(), found.preset
    taken: list[NDArray[np.float32]] = []
    place = backbones.layer(found.backbone, spec.layer)
    layout = backbones.layout(found.backbone, network, place)
    if place == found.backbone.family.output:
        head = network.get_submodule(found.backbone.family.head)
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
