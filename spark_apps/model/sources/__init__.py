"""Where models come from: one module for each name of `contract.MODEL_SOURCES`, with the same five functions.

`names()` lists the models, `knows(model)` says whether there is one. `resolve(spec)` finds and verifies a model on the
driver. `skeleton(info, dtype)` makes the network of engine torch without its weights, in a worker. `reference(spec)`
gives the slow and independent way to compute a vector. A new source is a module here and a line there.
"""

from __future__ import annotations

import difflib
import importlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from spark_apps.contract import BadSetting, ModelInfo, ModelSettings, model_source

if TYPE_CHECKING:
    import numpy as np
    import openvino as ov
    import torch
    from numpy.typing import NDArray
    from PIL import Image
    from torch import nn

    from spark_apps.model.spec import Preset

POOLED = "pooled"
"""The place of the features of models that give one vector and no other."""
Reference = Callable[["Image.Image"], "NDArray[np.float32]"]
"""From an upright RGB photo to its features, float32 [dim]."""


@dataclass(frozen=True, kw_only=True)
class Resolved(ABC):
    """A model whose weights are found and verified, not yet loaded.

    `model`, `weights`: as in `ModelSettings`, and mean the same again later (DEFAULT has become a real name).
    `names`: what stands for both in the key. `sha256`: of the weights. `layer`: what `model.json` calls the place of
    the features; `named_layer`: what the key does, empty at the usual place. `details`: of the preprocessing, beside
    the preset. `transformer`: whether int8 quantises it as one; None: by the look of its graph.
    """

    model: str
    weights: str
    names: tuple[str, str]
    sha256: str
    preset: Preset
    variant: str = ""
    layer: str = POOLED
    named_layer: str = ""
    details: Mapping[str, Any] = field(default_factory=dict)
    transformer: bool | None = None

    @abstractmethod
    def network(self, dtype: torch.dtype) -> nn.Module:
        """For engine torch: uint8 pixels [n, height, width, 3] to float32 features [n, dim], and logits where the model
        has a classifier. In evaluation mode, on the CPU, with its weights.

        Raises:
            BadSetting: they are damaged, unsafe to load, or those of another architecture.
        """

    def graph(self) -> ov.Model:
        """For engine openvino: the same with float32 weights, inputs and outputs in the order of `network`.

        Raises:
            BadSetting: as `network`, or it cannot be converted.
        """
        import torch

        from spark_apps.model.engine_openvino import converted

        return converted(self.network(torch.float32), self.preset, self.model)

    def categories(self, classes: int) -> list[str] | None:
        """The names of the classes; None where they are not known."""
        return None

    def keep_beside(self, folder: Path, stem: str) -> Mapping[str, Any] | None:
        """Writes what a store keeps beside the engine's files into `folder`, each name beginning with `stem`, and says
        what `ModelInfo.text` is to hold."""
        return None


class Source(Protocol):
    """A module of this package."""

    def names(self) -> Sequence[str]:
        """Every `ModelSettings.model` that it takes; none where those are places."""
        ...

    def knows(self, model: str) -> bool:
        """Whether it has a model of this name, or any at a place. Nothing is fetched. Raises BadSetting."""
        ...

    def resolve(self, spec: ModelSettings) -> Resolved:
        """The model that `spec` names. Raises BadSetting, Unreachable."""
        ...

    def skeleton(self, info: ModelInfo, dtype: torch.dtype) -> nn.Module:
        """`Resolved.network` whose weights have no values yet."""
        ...

    def reference(self, spec: ModelSettings) -> Reference:
        """What every engine is measured against: the library itself in fp32, with transforms of its own. Shares no code
        with the engines. Raises BadSetting, Unreachable."""
        ...


def of(model: str) -> Source:
    """The source of the models with such a name. Raises BadSetting."""
    return source(model_source(model))


def source(name: str) -> Source:
    """The source of this name, one of `contract.MODEL_SOURCES`."""
    module: Any = importlib.import_module(f"{__name__}.{name}")
    return module  # type: ignore[no-any-return]


def check(model: str) -> None:
    """Refuses a name that its source does not have. Nothing is fetched.

    Raises:
        BadSetting: it names those that hold this one, or the nearest ones.
    """
    if not of(model).knows(model):
        names = of(model).names()
        word = model.partition(":")[2].lower()
        near = [name for name in names if word in name.lower()][:3] or difflib.get_close_matches(model, names, n=3)
        guess = f"Did you mean {' or '.join(near)}? " if near else ""
        raise BadSetting(
            "bad_model",
            f"{model_source(model)} has no model {model!r}.",
            f"{guess}python -m spark_apps.models lists all names.",
        )


def resolve(spec: ModelSettings) -> Resolved:
    """The model that `spec` names.

    Raises:
        BadSetting: there is no such model, weights or layer, their sha256 is not the one asked for, or a package is
            missing.
        Unreachable: the hub, the registry or the storage cannot be reached.
    """
    return of(spec.model).resolve(spec)


def package(name: str, extra: str) -> Any:
    """A package that only some models need.

    Raises:
        BadSetting: it is not installed.
    """
    from spark_apps.model.torchvision_import import torchvision

    try:
        if name in ("timm", "open_clip"):
            torchvision()  # which they import
        return importlib.import_module(name)
    except ImportError as error:
        raise BadSetting(
            "package_missing",
            f"This model needs the package {name}, which cannot be imported: {error}.",
            f"Run `pip install 'image-features[{extra}]'` where the jobs' drivers run.",
        ) from error
