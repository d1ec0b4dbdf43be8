"""Weights out of a seed, for tests: the same on every machine, and features neither die nor explode in them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from spark_apps.model.backbones import Backbone, build

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

CLASSES = 1000


def random_state_dict(backbone: Backbone, seed: int) -> dict[str, Tensor]:
    """A state dict for `backbone` with 1000 classes.

    Kernels are normal with variance 1 / fan_in (LeCun et al., 1998, "Efficient BackProp"). With half of each signal
    cut by ReLU that shrinks what residual branches add, so that even 50 blocks in a row keep the signal's size. Batch
    norm gets statistics unlike its defaults (0 and 1), so that forgetting to apply or to fold them shows. Drawn by
    numpy, whose normal deviates, unlike torch's, do not depend on the processor's vector width.
    """
    import torch

    generator = np.random.Generator(np.random.PCG64(seed))
    state: dict[str, Tensor] = {}
    for key, tensor in build(backbone, CLASSES).state_dict().items():
        shape = tuple(tensor.shape)
        if key.endswith("num_batches_tracked"):
            state[key] = torch.tensor(0)
            continue
        values: NDArray[np.float32]
        if len(shape) > 1:
            values = generator.standard_normal(shape, np.float32)
            values *= np.float32(1 / np.sqrt(np.prod(shape[1:])))
        elif key.endswith(("weight", "running_var")):
            values = generator.random(shape, np.float32) / np.float32(2) + np.float32(0.75)
        else:
            values = generator.standard_normal(shape, np.float32) / np.float32(10)
        state[key] = torch.from_numpy(values)
    return state
