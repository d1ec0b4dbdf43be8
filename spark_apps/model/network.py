"""The networks that both engines run: pixels in, features and logits out. How one is made of torchvision's models."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from spark_apps.model import backbones
from spark_apps.model.backbones import Backbone
from spark_apps.model.spec import Preset


class Normalised(nn.Module):
    """uint8 pixels [n, height, width, 3] (RGB) -> what `body` makes of them, float32 each.

    Normalisation is inside, and the channel order in memory stays that of the pixels (channels last), which oneDNN and
    cuDNN prefer. `body`: images [n, 3, height, width] to a tuple of tensors, the features first; computed in `dtype`.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, body: nn.Module, preset: Preset, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.body, self.dtype = body.to(dtype), dtype
        # (value / 255 - mean) / std with one subtraction and one multiplication. Kept out of the first convolution:
        # that pads with zeros after normalisation. On the CPU also when the weights are on the meta device.
        mean, std = (torch.tensor(values, device="cpu").view(3, 1, 1) for values in (preset.mean, preset.std))
        self.register_buffer("mean", 255 * mean, persistent=False)
        self.register_buffer("scale", 1 / (255 * std), persistent=False)

    def forward(self, pixels: Tensor) -> tuple[Tensor, ...]:
        images = (pixels.permute(0, 3, 1, 2).to(torch.float32) - self.mean) * self.scale
        return tuple(one.float() for one in self.body(images.to(self.dtype)))


class Network(Normalised):
    """A model of torchvision: uint8 pixels [n, crop, crop, 3] -> float32 features [n, dim] and logits [n, classes].

    Each batch norm is folded into the convolution before it. `model` is taken over, not copied.

    `layer` is a place as `backbones.layer` names it; empty: before the classifier. At an earlier one the network ends,
    and there are no logits: `classes` is 0 and only the features are returned.
    """

    def __init__(
        self,
        backbone: Backbone,
        model: nn.Module,
        preset: Preset,
        dtype: torch.dtype = torch.float32,
        layer: str = "",
    ) -> None:
        layer = layer or backbone.family.output
        layout = backbones.layout(backbone, model, layer)
        head = _head(backbone, model)
        ends_early = layer != backbone.family.output
        classes = 0 if ends_early else head.weight.shape[0]
        super().__init__(fold(_cut(model, head, model.get_submodule(layer) if ends_early else None)), preset, dtype)
        self.layout, self.classes = layout, classes

    def forward(self, pixels: Tensor) -> tuple[Tensor, ...]:
        features, *logits = super().forward(pixels)
        return (_average(features, self.layout), *logits)


class Pooled(nn.Module):
    """A model of timm: images [n, 3, height, width] to what enters its classifier, [n, dim], and with `classified` to
    logits, [n, classes]."""

    def __init__(self, model: Any, classified: bool) -> None:
        super().__init__()
        self.model, self.classified = model, classified

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        if not self.classified:
            return (self.model(images),)
        maps = self.model.forward_features(images)
        return self.model.forward_head(maps, pre_logits=True), self.model.forward_head(maps)


class Visual(nn.Module):
    """The image side of open_clip's models: images [n, 3, height, width] to features [n, dim]."""

    def __init__(self, visual: Any) -> None:
        super().__init__()
        self.visual = visual

    def forward(self, images: Tensor) -> tuple[Tensor]:
        found = self.visual(images)
        return (found[0] if isinstance(found, tuple) else found,)  # CoCa gives its tokens, too


class Text(nn.Module):
    """The text side: tokens [n, context length] to features [n, dim]."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, tokens: Tensor) -> Tensor:
        found: Tensor = self.model.encode_text(tokens, normalize=False)
        return found


def width(backbone: Backbone, preset: Preset, variant: str = "", layer: str = "") -> int:
    """Length of the feature vectors. Nothing is computed: the photo and the weights have shapes and no values."""
    model = backbones.build(backbone, 1000, variant)
    if layer in ("", backbone.family.output):
        return _head(backbone, model).weight.shape[1]
    network = Network(backbone, model, preset, layer=layer).to("meta")
    pixels = torch.empty(1, *preset.size, 3, dtype=torch.uint8, device="meta")
    return int(network(pixels)[0].shape[1])


def _head(backbone: Backbone, model: nn.Module) -> nn.Linear | nn.Conv2d:
    head = model.get_submodule(backbone.family.head)
    assert isinstance(head, nn.Linear | nn.Conv2d)
    return head


def fold(model: fx.GraphModule) -> fx.GraphModule:
    """`model` with each batch norm folded into the convolution before it, where nothing else reads that convolution.

    W' = W * gamma / sqrt(var + eps), b' = (b - mean) * gamma / sqrt(var + eps) + beta. Works on the meta device too,
    so that a state dict of folded weights finds its place in a model that never had any. A batch norm that follows
    something else (in a DenseNet, say) stays.
    """
    modules = dict(model.named_modules())
    for node in list(model.graph.nodes):
        before = node.args[0] if node.op == "call_module" and node.args else None
        if not isinstance(before, fx.Node) or before.op != "call_module" or len(before.users) > 1:
            continue
        norm, conv = modules[str(node.target)], modules[str(before.target)]
        if isinstance(norm, nn.BatchNorm2d) and isinstance(conv, nn.Conv2d):
            model.set_submodule(str(before.target), fuse_conv_bn_eval(conv, norm))
            node.replace_all_uses_with(before)
            model.graph.erase_node(node)
    model.delete_all_unused_submodules()
    model.recompile()
    return model


class _Tracer(fx.Tracer):
    """Finds the node that enters `head`, or the one that leaves `layer`."""

    def __init__(self, head: nn.Module, layer: nn.Module | None) -> None:
        super().__init__()
        self._head, self._layer = head, layer
        self.found: list[fx.Node] = []

    def call_module(
        self, m: nn.Module, forward: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        output = super().call_module(m, forward, args, kwargs)
        if m is self._layer:
            self.found.append(output.node)
        elif m is self._head and self._layer is None:
            self.found.append(args[0].node)
        return output


def _cut(model: nn.Module, head: nn.Module, layer: nn.Module | None) -> fx.GraphModule:
    """`model` as a graph that gives what enters `head` and what `model` gives, or else only what leaves `layer`."""
    tracer = _Tracer(head, layer)
    graph = tracer.trace(model.eval())
    (found,) = tracer.found
    output = graph.output_node()
    output.args = ((found,) if layer is not None else (found, output.args[0]),)
    # Only outputs count: torchvision's assertions about shapes do not, and dropout does nothing here.
    graph.eliminate_dead_code(is_impure_node=lambda node: node.op in ("placeholder", "output"))
    return fx.GraphModule(tracer.root, graph)


def _average(values: Tensor, layout: str) -> Tensor:
    """float32 [n, c] of values in one of the layouts of `backbones`."""
    if layout == backbones.IMAGE:
        return values.mean((2, 3))
    if layout == backbones.GRID:
        return values.mean((1, 2))
    if layout == backbones.TOKENS:
        return values[:, 1:].mean(1)
    return values
