"""open_clip's models, `open_clip:NAME/PRETRAINED`: the image side; the text side is kept beside it (`two_towers`).

open_clip itself builds them, loads their weights and says how a photo is prepared. What it said of a name is noted in
the cache.
"""

from __future__ import annotations

import json
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
    from torch import nn

PREFIX = "open_clip:"


@dataclass(frozen=True)
class Known:
    """What open_clip says of a name and the tag of its weights, which may be empty: how photos are prepared, in its own
    words (`preprocess`), and where the weights are."""

    name: str
    tag: str
    preprocess: Mapping[str, Any]
    weights: Mapping[str, str]

    @property
    def model(self) -> str:
        return f"{PREFIX}{self.name}{'/' + self.tag if self.tag else ''}"

    @property
    def preset(self) -> Preset:
        """What open_clip's own transform does, after open_clip/transform.py, `image_transform`."""
        said = self.preprocess
        size = said["size"]
        rows, columns = (size, size) if isinstance(size, int) else size
        sides = rows if rows == columns else (rows, columns)
        fit = {"squash": "squash", "longest": "pad"}.get(said["resize_mode"], "short")
        interpolation = "bilinear" if said["interpolation"] == "bilinear" else "bicubic"
        mean, std, fill = tuple(said["mean"]), tuple(said["std"]), (said["fill_color"],) * 3
        return Preset(sides, sides, mean, std, interpolation, fit, fill)


@dataclass(frozen=True, kw_only=True)
class OpenClip(Resolved):
    """`load`: open_clip's model with its weights, both towers, in fp32 and evaluation mode."""

    known: Known
    load: Callable[[], Any]

    def network(self, dtype: torch.dtype) -> nn.Module:
        from spark_apps.model.network import Normalised, Visual

        return Normalised(Visual(self.load().visual), self.preset, dtype).eval().requires_grad_(False)

    def keep_beside(self, folder: Path, stem: str) -> Mapping[str, Any]:
        from spark_apps.model.sources import two_towers

        return two_towers.keep(self.load(), self.known.name, folder, stem)


def names() -> Sequence[str]:
    """See `Source`: each architecture, and with a tag each of the weights that open_clip has for it."""
    library = package("open_clip", "open_clip")
    pairs = [f"{name}/{tag}" for name, tag in library.list_pretrained()]
    return [PREFIX + name for name in sorted({*library.list_models(), *pairs})]


def knows(model: str) -> bool:
    """See `Source`."""
    library = package("open_clip", "open_clip")
    name, _, tag = model.removeprefix(PREFIX).partition("/")
    return name in library.list_models() and (not tag or bool(library.get_pretrained_cfg(name, tag)))


def resolve(spec: ModelSettings) -> OpenClip:
    """See `Source`."""
    if spec.layer not in ("", POOLED):
        raise BadSetting("bad_layer", "Models of open_clip give one image vector, of no layer.", "Leave layer empty.")
    known = _known(spec.model)
    weights = spec.weights
    load: Callable[[], Any]
    if weights.lower().startswith("random:"):
        from spark_apps.model.random_weights import seed

        weights, label = weights.lower(), f"random_{seed(weights)}"
        drawn = _random(known, seed(weights))
        sha256 = state_dicts.sha256(drawn.state_dict())

        def load() -> Any:
            return drawn
    elif weights.upper() == "DEFAULT":
        path = _hub(known)
        weights, label, sha256 = "DEFAULT", "default", cache.sha256(path)

        def load() -> Any:
            return _built(known, path, known.model)
    elif weights.lower() == "keras-v1" or weights.isidentifier():
        raise BadSetting(
            "bad_weights",
            f"{spec.model} has no weights {weights!r}.",
            "Name open_clip's own in the model, as in open_clip:NAME/PRETRAINED, and use DEFAULT, a path or URI of a "
            "safetensors file or state dict, or random:SEED.",
        )
    else:
        path, sha256 = fetching.file(weights, spec.weights_sha256.lower(), spec.weights_within.splitlines())
        label = fetching.label(weights, sha256)

        def load() -> Any:
            return _built(known, path, weights)

    fetching.expect(weights, sha256, spec.weights_sha256)
    return OpenClip(
        known=known,
        load=load,
        model=known.model,
        weights=weights,
        names=(known.model, label),
        sha256=sha256,
        preset=known.preset,
    )


def skeleton(info: ModelInfo, dtype: torch.dtype) -> nn.Module:
    """See `Source`."""
    from spark_apps.model.network import Normalised, Visual

    model = _created(_known(info.backbone))
    return Normalised(Visual(model.visual), Preset.from_json(info.preprocessing), dtype)


def reference(spec: ModelSettings) -> Reference:
    """See `Source`: open_clip's `encode_image`, and its own transform."""
    import torch

    model = resolve(spec).load()
    transform = package("open_clip", "open_clip").transform
    prepared = transform.image_transform_v2(transform.PreprocessCfg(**model.visual.preprocess_cfg), is_train=False)

    def features(image: Image.Image) -> NDArray[np.float32]:
        with torch.inference_mode():
            return np.array(model.encode_image(prepared(image)[None], normalize=False)[0].numpy(), np.float32)

    return features


def _known(model: str) -> Known:
    try:
        installed = version("open_clip_torch")
    except PackageNotFoundError:
        installed = "none"
    note = cache.folder("weights") / f"open_clip-{installed}-{model.removeprefix(PREFIX).replace('/', '--')}.json"
    try:
        return Known(**json.loads(note.read_text()))
    except (OSError, ValueError, TypeError):
        pass
    known = _asked(model)
    with cache.staged(note) as staging:
        staging.write_text(json.dumps(vars(known)))
    return known


def _asked(model: str) -> Known:
    """What open_clip itself says of a name. Raises BadSetting: it knows none such, or they do not go together."""
    check(model)
    library = package("open_clip", "open_clip")
    name, _, tag = model.removeprefix(PREFIX).partition("/")
    cfg = library.get_model_config(name)
    trained = library.get_pretrained_cfg(name, tag) if tag else {}
    if tag and bool(trained.get("quick_gelu")) != bool(cfg.get("quick_gelu")):
        other = name.removesuffix("-quickgelu") if cfg.get("quick_gelu") else f"{name}-quickgelu"
        raise BadSetting(
            "bad_model",
            f"The weights {tag} were trained with another activation than {name} has.",
            f"Use {PREFIX}{other}/{tag}.",
        )
    usual = vars(library.transform.PreprocessCfg(size=cfg["vision_cfg"]["image_size"]))
    preprocess = library.transform.merge_preprocess_dict(usual, {**trained, "size": usual["size"]})
    where = {key: trained[key] for key in ("hf_hub", "url") if trained.get(key)}
    return Known(name, tag, preprocess, where)


def _hub(known: Known) -> Path:
    """The file with open_clip's own weights, fetched where it is missing. Raises BadSetting, Unreachable."""
    what = f"The weights {known.tag} of open_clip's {known.name}"
    if "hf_hub" in known.weights:
        repository, _, name = known.weights["hf_hub"].rpartition("/")
        usual = ["open_clip_model.safetensors", "open_clip_pytorch_model.bin"]
        safe = [f"{name.rpartition('.')[0]}.safetensors", name] if name.endswith((".bin", ".pth", ".pt")) else [name]
        return hub.file(repository, safe if name else usual, what)
    if "url" in known.weights:
        return fetching.file(known.weights["url"])[0]
    raise BadSetting(
        "no_weights",
        f"{known.model} names no weights.",
        f"Name open_clip's own, {PREFIX}{known.name}/PRETRAINED, or give a path or URI of a safetensors file or state "
        "dict as weights, or random:SEED for tests.",
    )


def _created(known: Known, **weights: Any) -> Any:
    """open_clip's model, in fp32 and evaluation mode. Raises BadSetting: a package is missing that it needs."""
    library = package("open_clip", "open_clip")
    said = {key: value for key, value in known.preprocess.items() if key != "size"}
    try:
        model = library.create_model(
            known.name, force_preprocess_cfg=said, pretrained_text=False, weights_only=True, **weights
        )
    except RuntimeError as error:
        if "transformers" not in str(error):
            raise
        raise BadSetting(
            "package_missing",
            f"{known.name} needs the package transformers for its texts.",
            "Run `pip install transformers`.",
        ) from error
    return model.eval().requires_grad_(False)


def _built(known: Known, path: Path, name: str) -> Any:
    """The model with the weights of a file. Raises BadSetting: they are unsafe, damaged, or those of another one."""
    if path.suffix not in (".npz", ".npy"):
        state_dicts.check_finite(state_dicts.read(path, name), name)
    if state_dicts.is_safetensors(path) and path.suffix != ".safetensors":  # open_clip goes by the name
        named = cache.folder("weights") / f"{cache.sha256(path)}.safetensors"
        if not named.exists():
            with cache.staged(named) as staging:
                staging.symlink_to(path.resolve())
        path = named
    try:
        return _created(known, pretrained=str(path))
    except (RuntimeError, KeyError, ValueError, AttributeError) as error:
        text = " ".join(str(error).split())
        raise BadSetting(
            "weights_mismatch",
            f"The weights {name} are not those of open_clip's {known.name}: {text[:300]}.",
            "Name the model that they were trained as.",
        ) from error


def _random(known: Known, seed: int) -> Any:
    from spark_apps.model import random_weights

    model = _created(known)
    drawn = random_weights.drawn(model, seed)
    model.load_state_dict({key: drawn[key] for key in model.state_dict()})
    return model
