"""The catalogue of backbones: how to build each, where its classifier sits, and how a photo is prepared for it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from spark_apps.contract import BACKBONES, BadSetting
from spark_apps.model.spec import Preset
from spark_apps.model.torchvision_import import torchvision

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class Backbone:
    """One entry of the catalogue.

    `name` is torchvision's own. `head` is the dotted path of the last linear layer; what enters it are the features.
    `preset` prepares photos for weights that bring no preset of their own.
    """

    name: str
    head: str = "fc"
    preset: Preset = field(default_factory=Preset)


CATALOGUE = {name: Backbone(name) for name in BACKBONES}
"""Another family is one more entry, for example `Backbone("efficientnet_b0", head="classifier.1")`."""


def get(name: str) -> Backbone:
    """The catalogue's entry.

    Raises:
        BadSetting: there is none.
    """
    if name not in CATALOGUE:
        raise BadSetting("bad_model", f"{name!r} is no model.", f"Choose one of: {', '.join(CATALOGUE)}.")
    return CATALOGUE[name]


def _stride_in_conv1(model: nn.Module) -> None:
    """The original ResNet-50 of He et al. (2015), which Keras ports: stages 2 to 4 stride in their first 1x1
    convolution, where torchvision strides in the 3x3 ("ResNet v1.5"). The shapes of the weights are the same."""
    for stage in ("layer2", "layer3", "layer4"):
        block = model.get_submodule(f"{stage}.0")
        for name, stride in (("conv1", (2, 2)), ("conv2", (1, 1))):
            block.get_submodule(name).stride = stride  # type: ignore[assignment]


VARIANTS: dict[str, Callable[[nn.Module], None]] = {"": lambda model: None, "stride-in-conv1": _stride_in_conv1}
"""Changes to torchvision's architecture that some weights ask for, by the name that `info["variant"]` records."""


def build(backbone: Backbone, classes: int, variant: str = "") -> nn.Module:
    """The whole classifier, in evaluation mode, without storage (on the meta device): load a state dict into it with
    `load_state_dict(state, assign=True)`."""
    import torch

    with torch.device("meta"):
        model: nn.Module = torchvision().models.get_model(backbone.name, weights=None, num_classes=classes)
    VARIANTS[variant](model)
    return model.eval().requires_grad_(False)


def imagenet_categories() -> list[str]:
    """The names of the 1000 ImageNet classes, in the order that all ImageNet weights share."""
    categories: list[str] = torchvision().models.ResNet50_Weights.IMAGENET1K_V1.meta["categories"]
    return list(categories)
