"""What is made of a model that was asked for by `contract.ModelSettings`, and by what it is known."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spark_apps.contract import PRECISIONS, ModelInfo

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from spark_apps.media.fitting import Preprocessing

LAYER = "avgpool"
"""Where a ResNet's features are taken: after global average pooling, before the classifier."""
PENULTIMATE = "penultimate"
"""The same place in other backbones: what enters the last layer of the classifier."""


Sides = int | tuple[int, int]
"""Pixels: of a square, or height and width."""


@dataclass(frozen=True)
class Preset:
    """How a photo becomes the model's input.

    Scaled to `resize` pixels (antialiased; see `fitting.Preprocessing` for `fit` and `fill`), the centre of `crop`
    pixels, then per RGB channel `(value / 255 - mean) / std`.
    """

    resize: Sides = 256
    crop: Sides = 224
    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    std: tuple[float, ...] = (0.229, 0.224, 0.225)
    interpolation: str = "bilinear"
    fit: str = "short"
    fill: tuple[int, ...] = (0, 0, 0)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the input."""
        return (self.crop, self.crop) if isinstance(self.crop, int) else self.crop

    def to_json(self) -> dict[str, Any]:
        values = {name: list(one) if isinstance(one, tuple) else one for name, one in vars(self).items()}
        # The usual goes without saying: fingerprints are older than the choice.
        usual = {"interpolation": "bilinear", "fit": "short", "fill": [0, 0, 0]}
        return {name: value for name, value in values.items() if name not in usual or value != usual[name]}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Preset:
        known = {item.name for item in fields(cls)} & set(values)
        given: dict[str, Any] = {name: tuple(v) if isinstance(v := values[name], list) else v for name in known}
        return cls(**given)


@dataclass(frozen=True)
class ModelArtifact:
    """A verified model, ready to be shipped.

    `files` lie in a cache folder of the driver; their names hold the fingerprint, so that files of several models can
    share one flat folder. `beside`: files that a store keeps with them and workers do not need. `sources`: Python
    modules that workers need and may lack.
    """

    info: ModelInfo
    files: tuple[Path, ...] = ()
    beside: tuple[Path, ...] = ()
    sources: tuple[Path, ...] = ()

    @property
    def key(self) -> str:
        """What its features are published under."""
        return self.info.key

    @property
    def fingerprint(self) -> str:
        """See `fingerprint`."""
        return self.info.fingerprint

    @property
    def folder(self) -> Path | None:
        """Where the files lie; None when there are none."""
        return self.files[0].parent if self.files else None


@dataclass(frozen=True)
class Calibration:
    """The photos that an int8 model is calibrated on.

    `photos` names them for the fingerprint, in any form. `pixels` decodes them, uint8 [n, height, width, 3]; it is
    called only when the model is not in the cache.
    """

    photos: str
    pixels: Callable[[Preprocessing], NDArray[np.uint8]]


def fingerprint(
    *,
    weights_sha256: str,
    backbone: str,
    variant: str,
    preprocessing: dict[str, Any],
    precision: str,
    engine: str,
    calibration: str = "",
    recipe: int = 0,
    layer: str = LAYER,
) -> str:
    """16 hex digits that differ whenever the vectors of one photo may differ.

    Below fp32 engines round differently, so the engine counts; at fp32 they agree to 1e-4 and it does not. At int8 the
    photos count that the model was calibrated on, and the version of the recipe. `recipe` 0: models of before there was
    a version, and `engines.uncalibrated`, which stores know the kin of a model by whatever its recipe.
    """
    identity = {
        "weights_sha256": weights_sha256.lower(),
        "backbone": backbone,
        "variant": variant,
        "layer": layer,
        "preprocessing": preprocessing,
        "precision": precision,
        "engine": "any" if PRECISIONS[precision].engines_agree else engine,
        **({"calibration": calibration} if PRECISIONS[precision].calibrated else {}),
        **({"recipe": recipe} if PRECISIONS[precision].calibrated and recipe else {}),
    }
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]
