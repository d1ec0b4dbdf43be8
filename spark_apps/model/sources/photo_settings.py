"""How photos become the input of a model in a file: by settings, else by the document beside it, else as is usual."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from spark_apps.contract import BadSetting, ModelSettings, photo_input
from spark_apps.model.spec import Preset
from spark_apps.model.torchvision_import import torchvision

if TYPE_CHECKING:
    from PIL import Image

KEYS = (*photo_input.FIELDS, "output")
"""What the document may hold; `output` is what `--layer` names."""
USUAL_SHARE = 256 / 224
"""Of the short side to the side of the square, where nothing says it."""
AS_THEY_ARE = (0.0, 0.0, 0.0), (1 / 255, 1 / 255, 1 / 255)
"""Mean and standard deviation that give values from 0 to 255: what a model that takes whole numbers sees."""


@dataclass(frozen=True)
class Asked:
    """What settings and document say, as settings write it; empty: nothing."""

    resize: str = ""
    crop: str = ""
    mean: str = ""
    std: str = ""
    interpolation: str = ""
    layout: str = ""
    output: str = ""


@dataclass(frozen=True)
class PhotoSettings:
    """`layout`: NCHW or NHWC. `output`: which of the model's; empty: its only one."""

    preset: Preset
    layout: str
    output: str

    def transform(self) -> Callable[[Image.Image], Any]:
        """From an upright RGB photo to float32 [3, height, width], by torchvision: no resizing of ours."""
        transforms, preset = torchvision().transforms, self.preset
        resize = preset.resize
        if preset.fit == "squash":
            resize = (resize, resize) if isinstance(resize, int) else resize
        steps = transforms.Compose(
            [
                transforms.Resize(resize, transforms.InterpolationMode(preset.interpolation)),
                transforms.CenterCrop(preset.crop),
                transforms.ToTensor(),
                transforms.Normalize(preset.mean, preset.std),
            ]
        )
        return lambda image: steps(image).numpy()


def asked(spec: ModelSettings, document: Mapping[str, Any], where: str) -> Asked:
    """The settings of `spec`, and what the document says where they say nothing.

    Raises:
        BadSetting: the document has other keys, or a value of another form.
    """
    unknown = sorted(set(document) - set(KEYS))
    if unknown:
        raise BadSetting(
            "bad_model_document", f"{where} has unknown keys: {', '.join(unknown)}.", f"It may have {', '.join(KEYS)}."
        )
    said = {name: _written(value) for name, value in document.items()}
    for name in ("resize", "crop", "mean", "std"):
        try:
            getattr(photo_input, name)(said.get(name, ""))
        except BadSetting as error:
            raise BadSetting("bad_model_document", f"{where}: {error.message}", error.hint) from None
    for name, choices in (("interpolation", photo_input.INTERPOLATIONS), ("layout", photo_input.LAYOUTS)):
        if said.get(name, "auto") not in choices:
            raise BadSetting(
                "bad_model_document", f"{where}: {said[name]!r} is not a valid {name}.", f"Choose {', '.join(choices)}."
            )
    given = {"output": spec.layer, **{name: getattr(spec, name) for name in photo_input.FIELDS}}
    chosen = {name: value for name, value in given.items() if value not in ("", "auto")}
    return Asked(**{**{name: value for name, value in said.items() if value != "auto"}, **chosen})


def of(asked: Asked, shape: Sequence[int], takes_floats: bool, name: str) -> PhotoSettings:
    """The whole of it, for a model whose input has this shape, with 0 for a side that is not fixed.

    Without a word: the size of the input, 224 where it is not fixed; a short side of 256/224 of that for a square, just
    that for a rectangle; bilinear; mean and standard deviation of ImageNet. Whole numbers are taken as they are.

    Raises:
        BadSetting: the input is not a photo of three colours, or has another size than asked for.
    """
    if len(shape) != 4:
        raise BadSetting("bad_model_file", f"The model {name} takes {list(shape)}, not photos.", "Give another model.")
    layout = asked.layout or ("NHWC" if shape[3] == 3 and shape[1] != 3 else "NCHW")
    colours, *fixed = (shape[3], shape[1], shape[2]) if layout == "NHWC" else (shape[1], shape[2], shape[3])
    if colours not in (0, 3):
        raise BadSetting(
            "bad_model_file",
            f"The model {name} takes {list(shape)} in {layout}, not photos of three colours.",
            "Give another model, or the right --layout.",
        )
    crop = photo_input.crop(asked.crop) or ((fixed[0] or 224, fixed[1] or 224) if any(fixed) else (224, 224))
    if any(want and have != want for have, want in zip(crop, fixed, strict=True)):
        raise BadSetting(
            "bad_crop",
            f"The model {name} takes photos of {fixed[0]} x {fixed[1]} pixels, not {crop[0]} x {crop[1]}.",
            "Leave crop empty.",
        )
    square = crop[0] == crop[1]
    resize = photo_input.resize(asked.resize) or ((round(USUAL_SHARE * crop[0]),) if square else crop)
    if any(have < want for have, want in zip(resize * (3 - len(resize)), crop, strict=True)):
        raise BadSetting(
            "bad_resize",
            f"A photo of {' x '.join(map(str, resize))} pixels has not the {crop[0]} x {crop[1]} to be cut out.",
            "Give a larger resize.",
        )
    usual = Preset()
    mean, std = photo_input.mean(asked.mean) or usual.mean, photo_input.std(asked.std) or usual.std
    if not takes_floats:
        if (asked.mean or asked.std) and (mean, std) != AS_THEY_ARE:
            raise BadSetting(
                "contradiction", f"The model {name} takes whole numbers, as pixels are.", "Leave mean and std empty."
            )
        mean, std = AS_THEY_ARE
    preset = Preset(
        resize[0] if len(resize) == 1 or resize[0] == resize[1] else (resize[0], resize[1]),
        crop[0] if square else (crop[0], crop[1]),
        mean,
        std,
        asked.interpolation or usual.interpolation,
        "squash" if len(resize) == 2 else "short",
    )
    return PhotoSettings(preset, layout, asked.output)


def _written(value: Any) -> str:
    """A value of the document as settings write it: [256, 128] as 256x128 or 256,128, by who reads it."""
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)
