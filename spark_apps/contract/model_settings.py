"""Which model makes the vectors: the settings that `extract`, the Python API and the model room share."""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass

from spark_apps.contract import photo_input
from spark_apps.contract.errors import BadSetting
from spark_apps.contract.fields import Checked, setting
from spark_apps.contract.model_sources import MODEL_HELP, MODEL_SOURCES, model_source
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
_OF_FILES = "Of a model in a file, how a photo is prepared, if no JSON document beside it says so"
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
        "the input of the classifier. An unknown name is refused with the list of those that the model has. Of a model "
        "in a file: the name of its output that is the vector.",
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
    resize: str = setting(
        f"{_OF_FILES}: pixels of the short side that it is scaled to, or height and width, 256x128, whatever its "
        "proportions. Empty: 256/224 of a square crop, just the crop of a rectangle.",
        "",
        check=photo_input.resize,
    )
    crop: str = setting(
        f"{_OF_FILES}: pixels of the square that is cut from its centre, or height and width, 256x128. Empty: what the "
        "model takes, else 224.",
        "",
        check=photo_input.crop,
    )
    mean: str = setting(
        f"{_OF_FILES}: what is subtracted from red, green and blue, which go from 0 to 1: 0.5,0.5,0.5. Empty: the "
        "means of ImageNet.",
        "",
        check=photo_input.mean,
    )
    std: str = setting(
        f"{_OF_FILES}: what they are divided by then: 0.5,0.5,0.5. Empty: the standard deviations of ImageNet.",
        "",
        check=photo_input.std,
    )
    interpolation: str = setting(
        f"{_OF_FILES}: how it is resampled; auto is bilinear.", "auto", choices=photo_input.INTERPOLATIONS
    )
    layout: str = setting(
        f"{_OF_FILES}: the order of the model's input, photos, channels, height, width; auto goes by its shape.",
        "auto",
        choices=photo_input.LAYOUTS,
    )
    raw: str = setting(
        "What is seen of a camera's RAW photo: preview, the JPEG that the camera has put into it, where its short side "
        "is at least what the model scales photos to, else what is developed of the sensor's data; developed, that "
        "always. developed has a model key of its own.",
        "preview",
        choices=("preview", "developed"),
    )

    @classmethod
    def of(cls, settings: ModelSettings) -> ModelSettings:
        """The part of a stage's settings that says which model."""
        return cls(**{spec.name: getattr(settings, spec.name) for spec in dataclasses.fields(cls)})

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.weights:
            raise BadSetting("bad_weights", "weights is empty.", f"Use {WEIGHTS_HELP}")
        source = MODEL_SOURCES[model_source(self.model)]
        if self.layer and not re.fullmatch(r"\S{1,200}" if source.by_place else LAYER_PATTERN, self.layer):
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
        if self.engine not in ("auto", *source.engines) or (self.device == "cuda" and "torch" not in source.engines):
            raise BadSetting(
                "contradiction",
                f"{self.model} runs on engine {' or '.join(source.engines)}.",
                "Use engine auto and device auto.",
            )
        chosen = [name for name in photo_input.FIELDS if getattr(self, name) not in ("", "auto")]
        if chosen and not source.by_place:
            raise BadSetting(
                "contradiction",
                f"{self.model} says itself how photos are prepared, and {' and '.join(chosen)} cannot.",
                f"Leave {' and '.join(chosen)} out.",
            )
        if source.by_place and self.weights.upper() != "DEFAULT":
            raise BadSetting(
                "contradiction", f"{self.model} holds its weights: it takes none from {self.weights}.", "Use DEFAULT."
            )
        if self.weights.lower() == "keras-v1" and self.model != "resnet50":
            raise BadSetting(
                "contradiction", f"weights keras-v1 are a resnet50, not a {self.model}.", "Set model to resnet50."
            )
