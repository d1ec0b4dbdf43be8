"""Where the models come from that `--model` takes: what their names look like, and which sources there are."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass

from spark_apps.contract.backbones import BACKBONES
from spark_apps.contract.errors import BadSetting


@dataclass(frozen=True)
class ModelSource:
    """Models of one library. `pattern`: of their names; `form`: how the help writes them; `examples`: for a form to
    propose. `engines`: what runs them. `by_place`: the name is a path or URI, so that a place is read which the caller
    chooses; settings say how photos are prepared."""

    pattern: str
    form: str
    examples: tuple[str, ...]
    engines: tuple[str, ...] = ("openvino", "torch")
    by_place: bool = False


MODEL_SOURCES: Mapping[str, ModelSource] = {
    "torchvision": ModelSource("|".join(BACKBONES), "a classification model of torchvision by its name", BACKBONES),
    "timm": ModelSource(r"timm:\w+(\.\w+)?", "timm:NAME", ("timm:vit_base_patch16_dinov3.lvd1689m",)),
    "open_clip": ModelSource(
        r"open_clip:[\w.-]+(/[\w.-]+)?", "open_clip:NAME/PRETRAINED", ("open_clip:ViT-B-32/laion2b_s34b_b79k",)
    ),
    "onnx": ModelSource(
        r"(?!\w+:[^/]).+\.(onnx|xml)", "/path/or/uri/model.onnx (or .xml)", ("/models/model.onnx",), ("openvino",), True
    ),
}
"""Name → source; `spark_apps/model/sources/NAME.py` loads its models. The order in which a name is looked for."""
MODEL_HELP = (
    f"Model: {', '.join(source.form for source in MODEL_SOURCES.values())}. python -m spark_apps.models lists them."
)
_FORMS = (
    f"Use {', or '.join(source.form for source in MODEL_SOURCES.values())}. "
    "python -m spark_apps.models lists the names, and with a word those that hold it."
)


def model_source(model: str) -> str:
    """The source that a model's name belongs to.

    Raises:
        BadSetting: none has such names; the hint says what may be meant and where the names are.
    """
    found = next((name for name, source in MODEL_SOURCES.items() if re.fullmatch(source.pattern, model)), None)
    if found is None:
        raise BadSetting("bad_model", f"{model!r} is not a valid model.", f"{_guess(model)}{_FORMS}")
    return found


def _guess(model: str) -> str:
    """What somebody may have meant who wrote this, as a sentence with a blank behind it; empty: no idea."""
    if re.fullmatch(r".+\.(pt|pth|bin|ckpt|safetensors)", model):
        return (
            "This looks like a file of weights: name its architecture as the model, and give the file as the weights. "
        )
    prefix, _, name = re.sub("[:/]", ":", model, count=1).partition(":")
    sources = difflib.get_close_matches(prefix.lower(), MODEL_SOURCES, n=1)
    written = [(f"{source}:{name}", MODEL_SOURCES[source].pattern) for source in sources]
    meant = [one for one, pattern in written if re.fullmatch(pattern, one)]
    near = meant or difflib.get_close_matches(model.lower(), BACKBONES, n=1)
    return f"Did you mean {near[0]}? " if near else ""


def is_at_a_place(model: str) -> bool:
    """Whether a model's name is a path or URI, so that a place is read which the caller chooses. Raises BadSetting."""
    return MODEL_SOURCES[model_source(model)].by_place
