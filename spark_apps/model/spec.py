"""What a model is asked to be (`ModelSpec`) and what was made of it (`ModelArtifact`)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spark_apps.contract import ExtractSettings

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from spark_apps.media.imaging import Preprocessing

LAYER = "avgpool"
"""Where a ResNet's features are taken: after global average pooling, before the classifier."""
PENULTIMATE = "penultimate"
"""The same place in other backbones: what enters the last layer of the classifier."""


@dataclass(frozen=True)
class ModelSpec:
    """Which model to run and how; the fields mean what they mean in `contract.ExtractSettings`.

    Raises:
        BadSetting: `ExtractSettings` refuses one of the values.
    """

    backbone: str = "resnet50"
    weights: str = "DEFAULT"
    weights_sha256: str = ""
    engine: str = "auto"
    precision: str = "fp32"
    device: str = "auto"
    decode: str = "exact"
    layer: str = ""

    def __post_init__(self) -> None:
        # A value refused by the command is refused here, with the same words: build its settings and drop them.
        ExtractSettings(
            store="/",
            partition="any",
            run_id="any",
            model=self.backbone,
            weights=self.weights,
            weights_sha256=self.weights_sha256,
            engine=self.engine,
            precision=self.precision,
            device=self.device,
            decode=self.decode,
            layer=self.layer,
        )

    @classmethod
    def of(cls, settings: ExtractSettings) -> ModelSpec:
        """The model that the command's settings ask for."""
        return cls(
            backbone=settings.model,
            weights=settings.weights,
            weights_sha256=settings.weights_sha256,
            engine=settings.engine,
            precision=settings.precision,
            device=settings.device,
            decode=settings.decode,
            layer=settings.layer,
        )


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
    def from_json(cls, values: dict[str, Any]) -> Preset:
        mean, std = tuple(values["mean"]), tuple(values["std"])
        return cls(values["resize"], values["crop"], mean, std, values.get("interpolation", "bilinear"))


@dataclass(frozen=True)
class ModelArtifact:
    """A verified model, ready to be shipped.

    `files` lie in a cache folder of the driver; their names hold the fingerprint, so that files of several models can
    share one flat folder. `info` is JSON-able and becomes `model.json`: backbone, variant, weights, weights_sha256,
    preprocessing, layer, engine, precision, calibration, device, dim, classes, categories, fingerprint, key, and the
    sha256 of each file by its name. `sources`: Python modules that workers need and may lack.
    """

    key: str
    fingerprint: str
    files: tuple[Path, ...]
    info: dict[str, Any]
    sources: tuple[Path, ...] = ()

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
    layer: str = LAYER,
) -> str:
    """16 hex digits that differ whenever the vectors of one photo may differ.

    Below fp32 engines round differently, so the engine counts; at fp32 they agree to 1e-4 and it does not. At int8 the
    photos count that the model was calibrated on.
    """
    identity = {
        "weights_sha256": weights_sha256.lower(),
        "backbone": backbone,
        "variant": variant,
        "layer": layer,
        "preprocessing": preprocessing,
        "precision": precision,
        "engine": "any" if precision == "fp32" else engine,
        **({"calibration": calibration} if precision == "int8" else {}),
    }
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]
