"""The catalogue of backbones: how to build each, where features can be taken, and how a photo is prepared for it."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from spark_apps.contract import BACKBONES, BadSetting
from spark_apps.model.spec import LAYER, PENULTIMATE, Preset
from spark_apps.model.torchvision_import import torchvision

if TYPE_CHECKING:
    from torch import Tensor, nn

VECTOR = "vector"
"""[n, c]: taken as it is."""
IMAGE = "image"
"""[n, c, h, w]: averaged over h and w."""
GRID = "grid"
"""[n, h, w, c]: averaged over h and w."""
TOKENS = "tokens"
"""[n, 1 + patches, c]: averaged over the patches; the class token, which comes first, is left out."""


@dataclass(frozen=True)
class Family:
    """What backbones of one architecture share.

    `prefixes`: of torchvision's names. `head`: dotted path of the last layer of the classifier; what enters it are the
    features, in the layout `entering`. `layers`: pattern of the dotted paths that `--layer` may name → layout of what
    leaves them; `*` stands for no dot. `output`: what the place before the head is called in `model.json`. `options`:
    arguments of torchvision's constructor. `training_only`: prefixes of weights that only training uses.
    """

    title: str
    prefixes: tuple[str, ...]
    head: str
    layers: Mapping[str, str]
    entering: str = VECTOR
    output: str = PENULTIMATE
    options: Mapping[str, Any] = field(default_factory=dict)
    training_only: tuple[str, ...] = ()
    transformer: bool = False


_AS_WITH_ITS_OWN_WEIGHTS = {"aux_logits": False, "init_weights": False, "transform_input": True}
"""How torchvision builds GoogLeNet and Inception for its own weights: they see pixels from -1 to 1, and have lost the
side branches of the training."""

FAMILIES = (
    Family("ResNet", ("resnet", "wide_resnet", "resnext"), "fc", {"layer[1-4]": IMAGE}, output=LAYER),
    Family("EfficientNet", ("efficientnet",), "classifier.1", {"features.*": IMAGE}),
    Family("ConvNeXt", ("convnext",), "classifier.2", {"features.*": IMAGE}),
    Family("MobileNet v2", ("mobilenet_v2",), "classifier.1", {"features.*": IMAGE}),
    Family("MobileNet v3", ("mobilenet_v3",), "classifier.3", {"features.*": IMAGE}),
    Family("RegNet", ("regnet",), "fc", {"stem": IMAGE, "trunk_output.block*": IMAGE}),
    Family(
        "ViT",
        ("vit",),
        "heads.head",
        {"encoder.layers.*": TOKENS},
        options={"image_size": 224},
        transformer=True,
    ),
    Family("Swin", ("swin",), "head", {"features.*": GRID}, transformer=True),
    Family("MaxViT", ("maxvit",), "classifier.5", {"stem": IMAGE, "blocks.*": IMAGE}, transformer=True),
    Family("DenseNet", ("densenet",), "classifier", {"features.*": IMAGE}),
    Family(
        "GoogLeNet",
        ("googlenet",),
        "fc",
        {"conv[1-3]": IMAGE, "inception*": IMAGE},
        options=_AS_WITH_ITS_OWN_WEIGHTS,
        training_only=("aux1.", "aux2."),
    ),
    Family(
        "Inception v3",
        ("inception",),
        "fc",
        {"Conv2d_*": IMAGE, "Mixed_*": IMAGE},
        options=_AS_WITH_ITS_OWN_WEIGHTS,
        training_only=("AuxLogits.",),
    ),
    Family("MNASNet", ("mnasnet",), "classifier.1", {"layers.*": IMAGE}),
    Family("ShuffleNet v2", ("shufflenet",), "fc", {"conv[15]": IMAGE, "stage[2-4]": IMAGE}),
    Family("AlexNet", ("alexnet",), "classifier.6", {"features.*": IMAGE, "classifier.2": VECTOR}),
    # Its head is a convolution, and averages come after it: the features are the average of what enters.
    Family("SqueezeNet", ("squeezenet",), "classifier.1", {"features.*": IMAGE}, entering=IMAGE),
    Family("VGG", ("vgg",), "classifier.6", {"features.*": IMAGE, "classifier.1": VECTOR}),
)

_PRESETS = {
    **{
        f"efficientnet_{name}": Preset(resize, crop, interpolation="bicubic")
        for name, resize, crop in (
            ("b0", 256, 224), ("b1", 256, 240), ("b2", 288, 288), ("b3", 320, 300), ("b4", 384, 380), ("b5", 456, 456),
            ("b6", 528, 528), ("b7", 600, 600),
        )
    },
    "efficientnet_v2_s": Preset(384, 384),
    "efficientnet_v2_m": Preset(480, 480),
    "efficientnet_v2_l": Preset(480, 480, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5), "bicubic"),
    "convnext_tiny": Preset(236),
    "convnext_small": Preset(230),
    "convnext_base": Preset(232),
    "convnext_large": Preset(232),
    "regnet_y_128gf": Preset(224, interpolation="bicubic"),
    "vit_l_16": Preset(242),
    "vit_h_14": Preset(224, interpolation="bicubic"),
    "swin_t": Preset(232, interpolation="bicubic"),
    "swin_s": Preset(246, interpolation="bicubic"),
    "swin_b": Preset(238, interpolation="bicubic"),
    "swin_v2_t": Preset(260, 256, interpolation="bicubic"),
    "swin_v2_s": Preset(260, 256, interpolation="bicubic"),
    "swin_v2_b": Preset(272, 256, interpolation="bicubic"),
    "maxvit_t": Preset(224, interpolation="bicubic"),
    "inception_v3": Preset(342, 299),
    "mnasnet0_75": Preset(232),
    "mnasnet1_3": Preset(232),
    "shufflenet_v2_x1_5": Preset(232),
    "shufflenet_v2_x2_0": Preset(232),
}  # fmt: skip
"""The preset of a name, where it is not the usual one: torchvision's own for the first of the name's weights that the
model takes as it is built by default. All ResNets have the usual one, which published vectors depend on."""


@dataclass(frozen=True)
class Backbone:
    """One entry of the catalogue.

    `name` is torchvision's own. `preset` prepares photos for weights that bring no preset of their own.
    """

    name: str
    family: Family
    preset: Preset


CATALOGUE = {
    name: Backbone(
        name, next(family for family in FAMILIES if name.startswith(family.prefixes)), _PRESETS.get(name, Preset())
    )
    for name in BACKBONES
}


def get(name: str) -> Backbone:
    """The catalogue's entry.

    Raises:
        BadSetting: there is none.
    """
    if name not in CATALOGUE:
        raise BadSetting("bad_model", f"{name!r} is not a valid model.", f"Choose one of: {', '.join(CATALOGUE)}.")
    return CATALOGUE[name]


def layer(backbone: Backbone, name: str) -> str:
    """The place that `--layer name` means, as `model.json` calls it. Whether a number in it is too high, only building
    the model can tell: see `layout`.

    Raises:
        BadSetting: features cannot be taken there.
    """
    if name in ("", backbone.family.output):
        return backbone.family.output
    if _layout(backbone, name) is None:
        raise _no_layer(backbone, name)
    return name


def layout(backbone: Backbone, model: nn.Module, place: str) -> str:
    """How what leaves the place is laid out in memory: `VECTOR`, `IMAGE`, `GRID` or `TOKENS`.

    Raises:
        BadSetting: `model` has no such place.
    """
    if place == backbone.family.output:
        return backbone.family.entering
    found = _layout(backbone, place)
    if found is None or place not in dict(model.named_modules()):
        raise _no_layer(backbone, place)
    return found


def layers(backbone: Backbone) -> list[str]:
    """All that `--layer` may name, from the photo to the classifier."""
    return [name for name, _ in build(backbone, 1000).named_modules() if _layout(backbone, name) is not None]


def _layout(backbone: Backbone, name: str) -> str | None:
    for pattern, found in backbone.family.layers.items():
        if name.count(".") == pattern.count(".") and fnmatchcase(name, pattern):
            return found
    return None


def _no_layer(backbone: Backbone, name: str) -> BadSetting:
    return BadSetting(
        "bad_layer",
        f"{backbone.name} has no layer {name!r} to take features from.",
        f"Leave layer empty for what enters the classifier, or choose one of: {', '.join(layers(backbone))}.",
    )


def _stride_in_conv1(model: nn.Module) -> None:
    """The original ResNet-50 of He et al. (2015), which Keras ports: stages 2 to 4 stride in their first 1x1
    convolution, where torchvision strides in the 3x3 ("ResNet v1.5"). The shapes of the weights are the same."""
    for stage in ("layer2", "layer3", "layer4"):
        block = model.get_submodule(f"{stage}.0")
        for name, stride in (("conv1", (2, 2)), ("conv2", (1, 1))):
            block.get_submodule(name).stride = stride  # type: ignore[assignment]


VARIANTS: dict[str, Callable[[nn.Module], None]] = {"stride-in-conv1": _stride_in_conv1}
"""Changes to torchvision's architecture that some weights ask for, by the name that `info["variant"]` records. Another
is `image-size-N`, of a ViT whose position embeddings are those of photos of N pixels."""


def sized(backbone: Backbone, crop: int) -> str:
    """The variant for photos of `crop` pixels: only a ViT's table of positions depends on it."""
    return "" if backbone.family.options.get("image_size", crop) == crop else f"image-size-{crop}"


def photo_size(backbone: Backbone, state: Mapping[str, Tensor]) -> int:
    """The side in pixels of the photos that a ViT's weights are for; for other weights that of the preset."""
    positions, patches = state.get("encoder.pos_embedding"), state.get("conv_proj.weight")
    if "image_size" not in backbone.family.options or positions is None or patches is None:
        return backbone.preset.size[0]
    return math.isqrt(positions.shape[1] - 1) * patches.shape[-1]  # [1, 1 + side * side, c], [c, 3, patch, patch]


def build(backbone: Backbone, classes: int, variant: str = "") -> nn.Module:
    """The whole classifier, in evaluation mode, without storage (on the meta device): load a state dict into it with
    `load_state_dict(state, assign=True)`."""
    return unweighted(backbone, classes, variant).to("meta")


def unweighted(backbone: Backbone, classes: int, variant: str = "") -> nn.Module:
    """The same with real buffers: weights have no storage, the tables of positions have their values.

    `with torch.device("meta")` would take too much away: RegNet computes its widths with tensors.
    """
    import torch
    from torch.overrides import TorchFunctionMode

    class EmptyOnMeta(TorchFunctionMode):
        def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            kwargs = kwargs or {}
            return func(*args, **kwargs | ({"device": "meta"} if func is torch.empty else {}))

    size = re.fullmatch(r"image-size-(\d+)", variant)
    options = {**backbone.family.options, **({"image_size": int(size[1])} if size else {})}
    with EmptyOnMeta():
        model: nn.Module = torchvision().models.get_model(backbone.name, weights=None, num_classes=classes, **options)
    if variant and not size:
        VARIANTS[variant](model)
    return model.eval().requires_grad_(False)


def imagenet_categories() -> list[str]:
    """The names of the 1000 ImageNet classes, in the order that all ImageNet weights share."""
    categories: list[str] = torchvision().models.ResNet50_Weights.IMAGENET1K_V1.meta["categories"]
    return list(categories)
