"""timm's image models, `timm:NAME`: the pooled vector that they give with `num_classes=0`.

timm itself builds them, loads their weights and says how a photo is prepared. What it said of a name is noted in the
cache: asking it again takes seconds of imports.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from spark_apps.contract import BadSetting, ModelInfo, ModelSettings
from spark_apps.model import cache, fetching, hub, state_dicts
from spark_apps.model.sources import POOLED, Reference, Resolved, check, package
from spark_apps.model.spec import Preset

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray
    from PIL import Image
    from torch import Tensor, nn

    from spark_apps.model.network import Pooled

PREFIX = "timm:"
WRAPPERS = ("state_dict_ema", "model_ema", *state_dicts.WRAPPERS)
"""timm's own training script keeps averaged weights beside the last ones, and timm prefers them."""
GAINS = dict.fromkeys(("EfficientNet", "MobileNetV3", "InceptionV4"), 1.4)
"""As `random_weights.GAINS`, by the class of timm's model."""
Weights = Mapping[str, Any]
"""What tells timm where the weights are: fields of its `PretrainedCfg`."""


@dataclass(frozen=True)
class Known:
    """What timm says of a name: with its tag, how photos are prepared, where the weights are (see `_hub`), and the
    number of classes of its default weights."""

    name: str
    preset: Preset
    hub: Mapping[str, Any]
    classes: int


@dataclass(frozen=True, kw_only=True)
class Timm(Resolved):
    """`load`: reads the weights; `named`: whether they have the classes of timm's own."""

    name: str
    load: Callable[[], Weights]
    named: bool

    def network(self, dtype: torch.dtype) -> nn.Module:
        from spark_apps.model.network import Normalised, Pooled

        weights = self.load()
        headless = _built(self.name, weights, classified=False)
        classifier = _built(self.name, weights, classified=True)
        same = _same(headless, Pooled(classifier, True), self.preset)
        body = Pooled(classifier if same else headless, same)
        return Normalised(body, self.preset, dtype).eval().requires_grad_(False)

    def categories(self, classes: int) -> list[str] | None:
        if not self.named:
            return None
        from spark_apps.model import backbones

        data: Any = package("timm", "timm").data
        subset = data.infer_imagenet_subset({"num_classes": classes})
        if subset == "imagenet-1k":
            return backbones.imagenet_categories()
        return list(data.ImageNetInfo(subset).label_descriptions()) if subset else None


def names() -> Sequence[str]:
    """See `Source`: each architecture, and with a tag each of the weights that timm has for it."""
    timm = package("timm", "timm")
    return [PREFIX + name for name in sorted({*timm.list_models(), *timm.list_pretrained()})]


def knows(model: str) -> bool:
    """See `Source`."""
    timm, name = package("timm", "timm"), model.removeprefix(PREFIX)
    try:
        return timm.is_model(name) and timm.get_pretrained_cfg(name) is not None
    except RuntimeError:  # the architecture has no such tag
        return False


def resolve(spec: ModelSettings) -> Timm:
    """See `Source`."""
    if spec.layer not in ("", POOLED):
        raise BadSetting(
            "bad_layer", "Models of timm give their pooled vector alone, and no earlier layer.", "Leave layer empty."
        )
    known = _known(spec.model.removeprefix(PREFIX))
    name, weights = known.name, spec.weights
    load: Callable[[], Weights]
    if weights.lower().startswith("random:"):
        from spark_apps.model.random_weights import seed

        state = _random(name, seed(weights))
        weights, label, sha256 = weights.lower(), f"random_{seed(weights)}", state_dicts.sha256(state)

        def load() -> Weights:
            return {"state_dict": state}
    elif weights.upper() == "DEFAULT":
        path = _hub(known)
        weights, label, sha256 = "DEFAULT", "default", cache.sha256(path)

        def load() -> Weights:
            if known.hub["custom"]:
                return {"file": str(path), "custom_load": True}
            return {"state_dict": _read(path, name)}

    elif weights.lower() == "keras-v1" or weights.isidentifier():
        raise BadSetting(
            "bad_weights",
            f"{spec.model} has no weights {weights!r}.",
            "Name other weights of timm in the model, as in timm:NAME.TAG, and use DEFAULT, a path or URI of a "
            "safetensors file or state dict, or random:SEED.",
        )
    else:
        path, sha256 = fetching.file(weights, spec.weights_sha256.lower(), spec.weights_within.splitlines())
        label = fetching.label(weights, sha256)

        def load() -> Weights:
            return {"state_dict": _read(path, weights)}

    fetching.expect(weights, sha256, spec.weights_sha256)
    return Timm(
        name=name,
        load=load,
        named=not weights.startswith("random:"),
        model=PREFIX + name,
        weights=weights,
        names=(PREFIX + name, label),
        sha256=sha256,
        preset=known.preset,
    )


def skeleton(info: ModelInfo, dtype: torch.dtype) -> nn.Module:
    """See `Source`. A tag counts: it says which of its sizes a model is built for."""
    from spark_apps.model.network import Normalised, Pooled

    model = package("timm", "timm").create_model(info.backbone.removeprefix(PREFIX), num_classes=info.classes)
    return Normalised(Pooled(model, info.classes > 0), Preset.from_json(info.preprocessing), dtype)


def reference(spec: ModelSettings) -> Reference:
    """See `Source`: plain timm with `num_classes=0`, and timm's own transform."""
    import torch

    found = resolve(spec)
    network = _built(found.name, found.load(), classified=False)
    data = package("timm", "timm").data
    prepared = data.create_transform(**data.resolve_model_data_config(network), is_training=False)

    def features(image: Image.Image) -> NDArray[np.float32]:
        with torch.inference_mode():
            return np.array(network(prepared(image)[None])[0].numpy(), np.float32)

    return features


def _known(name: str) -> Known:
    try:
        installed = version("timm")
    except PackageNotFoundError:
        installed = "none"
    note = cache.folder("weights") / f"timm-{installed}-{name}.json"
    try:
        noted = json.loads(note.read_text())
        return Known(noted["name"], Preset.from_json(noted["preset"]), noted["hub"], noted["classes"])
    except (OSError, ValueError, KeyError):
        pass
    known = _asked(name)
    with cache.staged(note) as staging:
        staging.write_text(json.dumps({**vars(known), "preset": known.preset.to_json()}))
    return known


def _asked(name: str) -> Known:
    """What timm itself says of a name. Raises BadSetting: it knows none such, or its input is not a photo."""
    check(PREFIX + name)
    timm = package("timm", "timm")
    cfg = timm.get_pretrained_cfg(name)
    data = timm.data.resolve_data_config(pretrained_cfg=cfg.to_dict())
    if data["input_size"][0] != 3:
        raise BadSetting("bad_model", f"timm's {name} does not take photos of three colours.", "Choose another model.")
    where = {
        "repository": cfg.hf_hub_id,
        "url": cfg.url,
        "file": cfg.hf_hub_filename,
        "custom": bool(cfg.custom_load),
    }
    architecture = name.partition(".")[0]
    return Known(f"{architecture}.{cfg.tag}" if cfg.tag else architecture, _preset(data), where, cfg.num_classes)


def _preset(data: Mapping[str, Any]) -> Preset:
    """What timm's own transform does, after timm/data/transforms_factory.py, `transforms_imagenet_eval`."""
    sides = [int(side) for side in data["input_size"][-2:]]
    scaled = [math.floor(side / data["crop_pct"]) for side in sides]
    fit = {"squash": "squash", "border": "pad"}.get(data["crop_mode"], "short")
    fill = tuple(round(255 * value) for value in data["mean"]) if fit == "pad" else (0, 0, 0)
    resize, crop = ((two[0] if two[0] == two[1] else (two[0], two[1])) for two in (scaled, sides))
    return Preset(resize, crop, tuple(data["mean"]), tuple(data["std"]), data["interpolation"], fit, fill)


def _hub(known: Known) -> Path:
    """The file with timm's own weights, fetched where it is missing. Raises BadSetting, Unreachable."""
    what, where = f"The weights of timm's {known.name}", known.hub
    if where["repository"]:
        names = [where["file"]] if where["file"] else ["model.safetensors", "pytorch_model.bin"]
        return hub.file(where["repository"], names, what)
    if where["url"]:
        return fetching.file(where["url"])[0]
    raise BadSetting(
        "no_weights",
        f"timm has no weights of {known.name}.",
        "Give a path or URI of a safetensors file or state dict, or random:SEED for tests.",
    )


def _read(path: Path, name: str) -> dict[str, Tensor]:
    state = state_dicts.read(path, name, WRAPPERS)
    state_dicts.check_finite(state, name)
    return state


def _random(name: str, seed: int) -> dict[str, Tensor]:
    from spark_apps.model import random_weights

    model = package("timm", "timm").create_model(name).eval()
    drawn = random_weights.drawn(model, seed, GAINS.get(type(model).__name__, 1))
    return {key: drawn[key] for key in model.state_dict()}


def _built(name: str, weights: Weights, classified: bool) -> nn.Module:
    """timm's model with the weights, in fp32 and evaluation mode. With `classified` it has as many classes as they.

    Raises:
        BadSetting: they are those of another architecture.
    """
    timm = package("timm", "timm")
    cfg = timm.get_pretrained_cfg(name)
    heads = [cfg.classifier] if isinstance(cfg.classifier, str) else list(cfg.classifier or ())
    found = cfg.num_classes
    if state := weights.get("state_dict"):
        rows = [len(state[f"{head}.weight"]) for head in heads if f"{head}.weight" in state]
        found = rows[0] - (cfg.label_offset or 0) if rows else 0
        weights = {"state_dict": dict(state)}  # timm takes out of it what it does not want
    try:
        model: nn.Module = timm.create_model(
            name,
            pretrained=True,
            pretrained_cfg_overlay={**weights, "num_classes": found},
            num_classes=found if classified else 0,
        )
    except (RuntimeError, ValueError, KeyError, AssertionError) as error:
        text = " ".join(str(error).split())
        raise BadSetting(
            "weights_mismatch",
            f"The weights are not those of timm's {name}: {text[:300]}.",
            "Name the model that they were trained as, with the tag whose size they are for.",
        ) from error
    model.pretrained_cfg.pop("state_dict", None)  # type: ignore[operator, union-attr]
    return model.eval().requires_grad_(False)


def _same(headless: nn.Module, classifier: Pooled, preset: Preset) -> bool:
    """Whether what enters the classifier is what the model gives without one; else the latter counts, and there are no
    labels. Raises BadSetting: what it gives is not one vector for each photo."""
    import torch

    noise = torch.from_numpy(np.random.default_rng(0).standard_normal((2, 3, *preset.size), np.float32))
    with torch.inference_mode():
        expected = headless(noise)
        if not isinstance(expected, torch.Tensor) or expected.ndim != 2:
            shape = list(expected.shape) if isinstance(expected, torch.Tensor) else type(expected).__name__
            raise BadSetting(
                "no_vector", f"This model gives no vector for a photo, but {shape} for two.", "Choose another model."
            )
        if not getattr(classifier.model, "num_classes", 0):
            return False
        try:
            found, logits = classifier(noise)
        except (AttributeError, TypeError, RuntimeError):  # it has no such head
            return False
    same: bool = logits.ndim == 2 and torch.equal(found, expected)
    return same
