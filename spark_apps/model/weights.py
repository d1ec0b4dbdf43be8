"""Which weights a name means: fetched, verified and described on the driver. Nothing falls back silently.

Features of different weights do not mix, so a name that cannot be had is an error that lists what else there is.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from spark_apps.contract import WEIGHTS_HELP, BadSetting, ModelSettings
from spark_apps.model import backbones, cache, fetching, keras_v1, state_dicts
from spark_apps.model.backbones import Backbone
from spark_apps.model.spec import Preset
from spark_apps.model.torchvision_import import torchvision

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True)
class ResolvedWeights:
    """Verified weights, not yet loaded.

    `name` resolves to the same weights again (DEFAULT has become a real name), `label` is its short form for a model
    key. `sha256` is that of the file, or, for weights made here (keras-v1, random), `state_dicts.sha256`.
    """

    backbone: Backbone
    name: str
    label: str
    sha256: str
    preset: Preset
    variant: str
    knows_imagenet: bool
    read: Callable[[], dict[str, Tensor]]

    def model(self) -> nn.Module:
        """torchvision's classifier with these weights, in fp32 and evaluation mode.

        Raises:
            BadSetting: they are damaged, unsafe to load, or those of another architecture.
        """
        return state_dicts.fit(self.backbone, self.variant, self.read(), self.name)


def resolve(spec: ModelSettings) -> ResolvedWeights:
    """The weights that `spec` names.

    Raises:
        BadSetting: there are no such weights, or their sha256 is not the one asked for.
        Unreachable: the hub, the registry or the storage cannot be reached.
    """
    backbone, name = backbones.get(spec.model), spec.weights
    if name.lower() == keras_v1.NAME:
        found = _keras_v1(backbone)
    elif name.lower().startswith("random:"):
        found = _random(backbone, name)
    elif re.fullmatch(r"\w+", name):
        found = _hub(backbone, name)
    else:
        found = _file(backbone, name, spec.weights_sha256.lower(), spec.weights_within.splitlines())
    fetching.expect(found.name, found.sha256, spec.weights_sha256)
    return found


def _keras_v1(backbone: Backbone) -> ResolvedWeights:
    path, name = keras_v1.fetch(), keras_v1.NAME
    return ResolvedWeights(
        backbone, name, name, keras_v1.SHA256, Preset(), keras_v1.VARIANT, True, lambda: keras_v1.read(path)
    )


def _random(backbone: Backbone, name: str) -> ResolvedWeights:
    from spark_apps.model.random_weights import random_state_dict, seed

    state = random_state_dict(backbone, seed(name))
    sha256, label = state_dicts.sha256(state), f"random_{seed(name)}"
    return ResolvedWeights(backbone, name.lower(), label, sha256, backbone.preset, "", False, lambda: state)


def _hub(backbone: Backbone, name: str) -> ResolvedWeights:
    """torchvision's own weights; the file stays where torch keeps it ($TORCH_HOME).

    What torchvision said of a name is noted in the cache: asking it again would take seconds of imports.
    """
    note = cache.folder("weights") / f"hub-{version('torchvision')}-{backbone.name}-{name.lower()}.json"
    known = _noted(note)
    if known is None:
        known = _ask_hub(backbone, name)
        with cache.staged(note) as staging:
            staging.write_text(json.dumps(known))
    path, real_name = Path(known["path"]), known["name"]
    sha256 = cache.sha256(path)
    prefix = re.search(r"-([0-9a-f]{8,})\.", path.name)
    if prefix and not sha256.startswith(prefix[1]):
        raise BadSetting(
            "weights_damaged", f"{path} has sha256 {sha256}, which contradicts its name.", "Delete it and run again."
        )
    return ResolvedWeights(
        backbone,
        real_name,
        real_name.lower(),
        sha256,
        Preset.from_json(known["preset"]),
        known.get("variant", ""),
        True,
        lambda: state_dicts.read(path, real_name),
    )


def _noted(note: Path) -> dict[str, Any] | None:
    """What was noted of weights whose file is still there."""
    try:
        known: dict[str, Any] = json.loads(note.read_text())
        return known if Path(known["path"]).exists() else None
    except (OSError, ValueError, KeyError):
        return None


def _ask_hub(backbone: Backbone, name: str) -> dict[str, Any]:
    """Name, file and preset of weights that torchvision knows, downloaded by its own loader where they are missing."""
    from torch.hub import get_dir

    known = torchvision().models.get_model_weights(backbone.name)
    if name.upper() not in known.__members__:
        names = ", ".join(known.__members__)
        raise BadSetting(
            "bad_weights", f"{backbone.name} has no weights {name!r}; it has {names}.", f"Use {WEIGHTS_HELP}"
        )
    entry = known[name.upper()]
    if entry.meta["categories"] is None:  # of vgg16 there are some for the features alone; the rest is NaN
        raise BadSetting(
            "bad_weights",
            f"The weights {entry.name} of {backbone.name} lack the classifier, so they are not usable here.",
            f"Use another of {', '.join(known.__members__)}.",
        )
    path = Path(get_dir(), "checkpoints", Path(urlsplit(entry.url).path).name)
    if not path.exists():
        with fetching.download(f"The weights {entry.name} of {backbone.name}", entry.url):
            # Loading is how torchvision downloads; check_hash compares the file with the hash in its name.
            entry.get_state_dict(progress=sys.stderr.isatty(), check_hash=True, map_location="cpu", weights_only=True)
    shown = entry.transforms()
    crop, interpolation = shown.crop_size[0], shown.interpolation.value
    preset = Preset(shown.resize_size[0], crop, tuple(shown.mean), tuple(shown.std), interpolation)
    variant = backbones.sized(backbone, crop)
    return {"name": entry.name, "path": str(path), "preset": preset.to_json(), "variant": variant}


def _file(backbone: Backbone, uri: str, expected: str, within: Sequence[str]) -> ResolvedWeights:
    """A state dict at a path or URI."""
    path, sha256 = fetching.file(uri, expected, within)
    label = fetching.label(uri, sha256)

    def read() -> dict[str, Tensor]:
        return state_dicts.read(path, uri)

    preset, variant = backbone.preset, ""
    if "image_size" in backbone.family.options:  # a ViT: the file says for which photos it is
        size = backbones.photo_size(backbone, read())
        variant = backbones.sized(backbone, size)
        preset = Preset(size, size, interpolation="bicubic") if variant else preset
    return ResolvedWeights(backbone, uri, label, sha256, preset, variant, True, read)
