"""Which model makes the vectors: the settings that `extract`, the Python API and the model room share."""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass

from spark_apps.contract.errors import BadSetting
from spark_apps.contract.fields import Checked, setting
from spark_apps.contract.model_sources import MODEL_HELP, model_source
from spark_apps.contract.precisions import PRECISIONS

LAYER_PATTERN = r"[A-Za-z0-9_]+(\.[A-Za-z0-9_]+)*"
WEIGHTS_HELP = (
    "IMAGENET1K_V1, IMAGENET1K_V2 or DEFAULT (torchvision's hub); keras-v1 (a pretrained ResNet-50 from the npm "
    "registry, for places without the hub); a path or URI of a state dict; random:SEED for tests."
)
WEIGHTS_WITHIN_HELP = (
    "Folders and URIs, one a line, that no link and no redirect of the weights' location may lead out of; empty: they "
    "are followed anywhere."
)
_DEVICES = {"cpu": "a CPU", "cuda": "a GPU"}


@dataclass(frozen=True)
class ModelSettings(Checked):
    """A model and how to run it.

    Raises:
        BadSetting: a value is not among the choices, of the wrong form, or contradicts another.
    """

    model: str = setting(MODEL_HELP, "resnet50", check=model_source)
    weights: str = setting(WEIGHTS_HELP, "DEFAULT")
    weights_sha256: str = setting("Expected sha256 of the weights file, 64 hex digits; empty to skip the check.", "")
    engine: str = setting(
        "What runs the model; auto takes OpenVINO on a CPU when it is installed.",
        "auto",
        choices=("auto", "torch", "openvino"),
    )
    precision: str = setting(
        "Number format of the computation; int8 is calibrated once in a store, on its first partition at int8.",
        "fp32",
        choices=tuple(PRECISIONS),
    )
    device: str = setting(
        "Where the model runs; auto takes a GPU when there is one.", "auto", choices=("auto", *_DEVICES)
    )
    decode: str = setting(
        "exact equals torchvision; fast resamples with a faster library, whose pixels differ by 1/255 or so; "
        "scaled decodes a JPEG at 1/2, 1/4 or 1/8 while that keeps twice the pixels needed: several times faster for "
        "photos of many megapixels. The vectors of fast and scaled differ a little and have model keys of their own.",
        "exact",
        choices=("exact", "fast", "scaled"),
    )
    layer: str = setting(
        "An earlier layer to take the features from, averaged over the photo, for example layer3 of a resnet50. Empty: "
        "the input of the classifier. An unknown name is refused with the list of those that the model has.",
        "",
    )
    weights_within: str = setting(WEIGHTS_WITHIN_HELP, "")
    color: str = setting(
        "stored takes the numbers of a photo's colours as they are, like torchvision; srgb converts them by its "
        "profile to what a person sees. A photo without a profile, or in sRGB, is the same both ways. srgb has a model "
        "key of its own.",
        "stored",
        choices=("stored", "srgb"),
    )

    @classmethod
    def of(cls, settings: ModelSettings) -> ModelSettings:
        """The part of a stage's settings that says which model."""
        return cls(**{spec.name: getattr(settings, spec.name) for spec in dataclasses.fields(cls)})

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.weights:
            raise BadSetting("bad_weights", "weights is empty.", f"Use {WEIGHTS_HELP}")
        if self.layer and not re.fullmatch(LAYER_PATTERN, self.layer):
            raise BadSetting(
                "bad_layer", f"{self.layer!r} is not a valid layer.", "Write its dotted name, for example layer3."
            )
        if self.weights_sha256 and not re.fullmatch(r"[0-9a-fA-F]{64}", self.weights_sha256):
            raise BadSetting("bad_weights_sha256", f"{self.weights_sha256!r} is not a sha256.", "Give 64 hex digits.")
        if self.engine == "openvino" and self.device == "cuda":
            raise BadSetting(
                "contradiction", "engine openvino does not run on device cuda.", "Use engine torch or auto."
            )
        precision = PRECISIONS[self.precision]
        if self.engine not in ("auto", *precision.engines) or self.device not in ("auto", *precision.devices):
            others = [name for name, other in PRECISIONS.items() if other.engines != precision.engines]
            raise BadSetting(
                "contradiction",
                f"precision {self.precision} runs on engine {' or '.join(precision.engines)}, on "
                f"{' or '.join(map(_DEVICES.__getitem__, precision.devices))}.",
                f"Use engine auto and device auto, or precision {' or '.join(others)}.",
            )
        if self.weights.lower() == "keras-v1" and self.model != "resnet50":
            raise BadSetting(
                "contradiction", f"weights keras-v1 are a resnet50, not a {self.model}.", "Set model to resnet50."
            )
