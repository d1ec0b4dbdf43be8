"""From a torchvision classifier to the network that both engines run: pixels in, features and logits out."""

from __future__ import annotations

import torch
from torch import Tensor, fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from spark_apps.model.backbones import Backbone
from spark_apps.model.spec import Preset


class Network(nn.Module):
    """uint8 pixels [n, crop, crop, 3] (RGB) -> float32 features [n, dim] and logits [n, classes].

    Normalisation is inside, each batch norm is folded into the convolution before it, and the channel order in memory
    stays that of the pixels (channels last), which oneDNN and cuDNN prefer. `model` is taken over, not copied.
    """

    mean: Tensor
    scale: Tensor

    def __init__(
        self, backbone: Backbone, model: nn.Module, preset: Preset, dtype: torch.dtype = torch.float32
    ) -> None:
        super().__init__()
        head = model.get_submodule(backbone.head)
        assert isinstance(head, nn.Linear)
        model.set_submodule(backbone.head, nn.Identity())
        self.body, self.head = fold(model).to(dtype), head.to(dtype)
        self.dtype, self.dim, self.classes = dtype, head.in_features, head.out_features
        # (value / 255 - mean) / std with one subtraction and one multiplication. Kept out of the first convolution:
        # that pads with zeros after normalisation. On the CPU also when the weights are on the meta device.
        mean, std = (torch.tensor(values, device="cpu").view(3, 1, 1) for values in (preset.mean, preset.std))
        self.register_buffer("mean", 255 * mean, persistent=False)
        self.register_buffer("scale", 1 / (255 * std), persistent=False)

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        images = (pixels.permute(0, 3, 1, 2).to(torch.float32) - self.mean) * self.scale
        features = self.body(images.to(self.dtype)).flatten(1)
        return features.float(), self.head(features).float()


def fold(model: nn.Module) -> fx.GraphModule:
    """`model` with each batch norm folded into the convolution before it, where nothing else reads that convolution.

    W' = W * gamma / sqrt(var + eps), b' = (b - mean) * gamma / sqrt(var + eps) + beta. Works on the meta device too,
    so that a state dict of folded weights finds its place in a model that never had any.
    """
    traced = fx.symbolic_trace(model.eval())
    modules = dict(traced.named_modules())
    for node in list(traced.graph.nodes):
        before = node.args[0] if node.op == "call_module" and node.args else None
        if not isinstance(before, fx.Node) or before.op != "call_module" or len(before.users) > 1:
            continue
        norm, conv = modules[str(node.target)], modules[str(before.target)]
        if isinstance(norm, nn.BatchNorm2d) and isinstance(conv, nn.Conv2d):
            traced.set_submodule(str(before.target), fuse_conv_bn_eval(conv, norm))
            node.replace_all_uses_with(before)
            traced.graph.erase_node(node)
    traced.delete_all_unused_submodules()
    traced.recompile()
    return traced
