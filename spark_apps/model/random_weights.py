"""Weights out of a seed, for tests: the same on every machine, and features neither die nor explode in them."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import TYPE_CHECKING

import numpy as np

from spark_apps.contract import BadSetting
from spark_apps.model.backbones import Backbone, unweighted

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor, nn

CLASSES = 1000
GAINS = {
    "AlexNet": 1.4,
    "VGG": 1.4,
    "SqueezeNet": 1.4,
    "GoogLeNet": 1.4,
    "Inception v3": 1.4,
    "MobileNet v2": 1.4,
    "MobileNet v3": 1.4,
    "MNASNet": 1.2,
    "ShuffleNet v2": 1.3,
    "EfficientNet": 1.5,
}
"""Standard deviation of a kernel's values, times the square root of fan_in, by family; 1 where none is given. The
square root of 2 (He et al., 2015) where little or nothing passes by the ReLUs; the others were found by trying."""
BRANCH = 0.2
"""What a residual branch of an inverted bottleneck adds is scaled by this: there is no ReLU to shrink it."""
_BATCH_NORM = ("running_mean", "running_var", "num_batches_tracked")


def seed(name: str) -> int:
    """That of `random:SEED`. Raises BadSetting."""
    found = re.fullmatch(r"random:(\d{1,9})", name.lower())
    if found is None:
        raise BadSetting("bad_weights", f"{name!r} has no seed.", "Write random: and a whole number: random:0.")
    return int(found[1])


def random_state_dict(backbone: Backbone, seed: int) -> dict[str, Tensor]:
    """A state dict for `backbone` with 1000 classes; see `drawn`."""
    model = unweighted(backbone, CLASSES)
    return drawn(model, seed, GAINS.get(backbone.family.title, 1), _ends_of_branches(model))


def drawn(model: nn.Module, seed: int, gain: float = 1, branches: Collection[str] = ()) -> dict[str, Tensor]:
    """A state dict for `model`, whose tables have their values already. `branches`: names of scales that get `BRANCH`.

    Kernels are normal with variance 1 / fan_in (LeCun et al., 1998, "Efficient BackProp"). With half of each signal
    cut by ReLU that shrinks what residual branches add, so that even 50 blocks in a row keep the signal's size. Batch
    norm gets statistics unlike its defaults (0 and 1), so that forgetting to apply or to fold them shows. Drawn by
    numpy, whose normal deviates, unlike torch's, do not depend on the processor's vector width.
    """
    import torch

    generator = np.random.Generator(np.random.PCG64(seed))
    # What nobody trains: which entry of a table belongs to which pair of positions.
    state = {name: values for name, values in model.named_buffers() if not name.endswith(_BATCH_NORM)}
    for key, tensor in model.state_dict().items():
        shape = tuple(tensor.shape)
        if key in state:
            continue
        if key.endswith("num_batches_tracked"):
            state[key] = torch.tensor(0)
            continue
        values: NDArray[np.float32]
        if len(shape) > 1 and key.endswith("weight"):
            values = generator.standard_normal(shape, np.float32)
            values *= np.float32(gain / np.sqrt(np.prod(shape[1:])))
        elif len(shape) > 1:  # class tokens, position embeddings, layer scales
            values = generator.standard_normal(shape, np.float32) / np.float32(2)
        elif key.endswith(("weight", "running_var")):
            values = generator.random(shape, np.float32) / np.float32(2) + np.float32(0.75)
            if key in branches:
                values *= np.float32(BRANCH)
        else:
            values = generator.standard_normal(shape, np.float32) / np.float32(10)
        state[key] = torch.from_numpy(np.asarray(values))
    return state


def _ends_of_branches(model: nn.Module) -> set[str]:
    """The scale of the last batch norm of each inverted bottleneck that has a residual connection."""
    from torch import nn

    ends = set()
    for name, block in model.named_modules():
        if getattr(block, "use_res_connect", False) or getattr(block, "apply_residual", False):
            norms = [inner for inner, module in block.named_modules() if isinstance(module, nn.BatchNorm2d)]
            ends.add(f"{name}.{norms[-1]}.weight")
    return ends
