"""What is made of a model that was asked for by `contract.ModelSettings`, and by what it is known."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spark_apps.contract import PRECISIONS, ModelInfo

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from spark_apps.media.imaging import Preprocessing

LAYER = "avgpool"
"""Where a ResNet's features are taken: after global average pooling, before the classifier."""
PENULTIMATE = "penultimate"
"""The same place in other backbones: what enters the last layer of the classifier."""


@dataclass(frozen=True)
class Preset:
    """How a photo becomes the model's input.

    Short side scaled to `resize` pixels (bilinear or bicubic, antialiased), centre square of `crop` pixels, then per
    RGB channel `(value / 255 - mean) / std`.
    """

    resize: int = 256
    crop: int = 224
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    interpolation: str = "bilinear"

    def to_json(self) -> dict[str, Any]:
        values = {"resize": self.resize, "crop": self.crop, "mean": list(self.mean), "std": list(self.std)}
        # Bilinear goes without saying: fingerprints are older than the choice.
        return values | ({} if self.interpolation == "bilinear" else {"interpolation": self.interpolation})

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Preset:
        mean, std = tuple(values["mean"]), tuple(values["std"])
        return cls(values["resize"], values["crop"], mean, std, values.get("interpolation", "bilinear"))


@dataclass(frozen=True)
class ModelArtifact:
    """A verified model, ready to be shipped.

    `files` lie in a cache folder of the driver; their names hold the fingerprint, so that files of several models can
    share one flat folder. `sources`: Python modules that workers need and may lack.
    """

    info: ModelInfo
    files: tuple[Path, ...] = ()
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

    `photos` names them for the fingerprint, in any form. `pixels` decodes them, uint8 [n, crop, crop, 3]; it is called
    only when the model is not in the cache.
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
