"""From a file to a model that carries its weights: nothing in the file is ever executed, nothing is guessed."""

from __future__ import annotations

import argparse
import hashlib
import pickle
import re
import zipfile
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from spark_apps.contract import BadSetting
from spark_apps.model.backbones import CATALOGUE, Backbone, build

if TYPE_CHECKING:
    from torch import Tensor, nn

WRAPPERS = ("state_dict", "model")
"""Keys under which training scripts (Lightning, timm, torchvision's references) keep the state dict."""
PREFIXES = ("module.", "_orig_mod.")
"""What DistributedDataParallel and torch.compile put before every name."""
RENAMED = {
    "DenseNet": ((r"^(.*denselayer\d+\.(?:norm|relu|conv))\.([12])\.", r"\1\2."),),
    "ViT": ((r"\.mlp\.linear_1\.", ".mlp.0."), (r"\.mlp\.linear_2\.", ".mlp.3.")),
}
"""Family → (pattern of an old name, what it is today)."""


def read(path: Path, name: str, wrappers: Sequence[str] = WRAPPERS) -> dict[str, Tensor]:
    """The tensors of a checkpoint of torch or a safetensors file, by parameter name; `name` is what messages call it.

    Memory-mapped where the file's format allows it. Wrappers and prefixes of training scripts are taken off.

    Raises:
        BadSetting: the file is neither, holds more than plain data, or holds no state dict.
    """
    import torch

    content = _safetensors(path, name) if is_safetensors(path) else _checkpoint(path, name)
    for wrapper in wrappers:
        if isinstance(content, Mapping) and isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
    if (
        not isinstance(content, Mapping)
        or not content
        or not all(isinstance(v, torch.Tensor) for v in content.values())
    ):
        raise BadSetting(
            "weights_no_state_dict",
            f"{name} holds no state dict: {_describe(content)}.",
            "Save the model with torch.save(model.state_dict(), path).",
        )
    state = {str(key): value for key, value in content.items()}
    while prefix := next((prefix for prefix in PREFIXES if all(key.startswith(prefix) for key in state)), ""):
        state = {key.removeprefix(prefix): value for key, value in state.items()}
    return state


def is_safetensors(path: Path) -> bool:
    """By its first bytes: the length of a JSON document, which follows."""
    with path.open("rb") as file:
        return file.read(9)[8:] == b"{" and path.stat().st_size > 8


def _safetensors(path: Path, name: str) -> Any:
    try:
        from safetensors import SafetensorError
        from safetensors.torch import load_file
    except ImportError as error:
        raise BadSetting(
            "package_missing",
            f"{name} is a safetensors file, and the package safetensors cannot be imported: {error}.",
            "Run `pip install safetensors`, or save the weights with torch.save(model.state_dict(), path).",
        ) from error
    try:
        return load_file(path)
    except SafetensorError as error:
        raise _not_a_checkpoint(name) from error


def _checkpoint(path: Path, name: str) -> Any:
    import torch

    try:
        # Training scripts keep their arguments in the file, too: values that have no code.
        with torch.serialization.safe_globals([argparse.Namespace]):
            return torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except pickle.UnpicklingError as error:
        raise _refusal(name, error) from error
    except (OSError, MemoryError):
        raise
    except Exception as error:  # the unpickler fails in whatever way arbitrary bytes make it fail
        raise _not_a_checkpoint(name) from error


def check_finite(state: Mapping[str, Tensor], name: str) -> None:
    """Raises BadSetting when values of the weights are not finite numbers."""
    import torch

    broken = [key for key, value in state.items() if not torch.isfinite(value).all()]
    if broken:
        raise BadSetting(
            "weights_not_finite",
            f"The weights {name} hold values that are not finite numbers, first in {broken[0]}.",
            "Take a checkpoint from before the training diverged.",
        )


def fit(backbone: Backbone, variant: str, state: Mapping[str, Tensor], name: str) -> nn.Module:
    """The backbone as a classifier with these weights, in fp32 and evaluation mode. The number of classes follows them.

    Raises:
        BadSetting: the weights are those of another architecture, or some are not finite.
    """
    given = state
    state = _modern(backbone, given)
    model = build(backbone, _classes(backbone, state), variant)
    complaint = _misfit(model, state)
    if complaint:
        others = [other.name for other in CATALOGUE.values() if _fits(other, given)]
        hint = f"They fit {others[0]}: choose that model." if others else "They fit no model of the catalogue."
        raise BadSetting(
            "weights_mismatch", f"The weights {name} are not those of a {backbone.name}: {complaint}.", hint
        )
    values = OrderedDict((k, v.float() if v.is_floating_point() else v) for k, v in state.items())
    # MNASNet asks which version of its architecture wrote the file. The shapes have shown it: the present one.
    values._metadata = {"": {"version": getattr(model, "_version", 1)}}  # type: ignore[attr-defined]
    model.load_state_dict(values, assign=True)
    check_finite(model.state_dict(), name)
    return model.requires_grad_(False)


def sha256(state: Mapping[str, Tensor]) -> str:
    """The sha256 over names, types, shapes and values: equal for equal weights, however a file arranges them."""
    digest = hashlib.sha256()
    for key in sorted(state):
        values = state[key].contiguous().numpy()
        digest.update(f"{key} {values.dtype.str} {values.shape}\n".encode())
        digest.update(values.reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


def _modern(backbone: Backbone, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """`state` under the names that torchvision uses today, without what only training uses.

    torchvision renamed parts of DenseNet and ViT and left its own files as they were; see `_load_state_dict` in its
    densenet.py and `MLPBlock` in its vision_transformer.py.
    """
    renamed = {}
    for key, value in state.items():
        for old, new in RENAMED.get(backbone.family.title, ()):
            key = re.sub(old, new, key)
        if not key.startswith(backbone.family.training_only):
            renamed[key] = value
    return renamed


def _fits(backbone: Backbone, state: Mapping[str, Tensor]) -> bool:
    state = _modern(backbone, state)
    if f"{backbone.family.head}.weight" not in state:  # most differ in this, and building 80 models takes seconds
        return False
    return not _misfit(build(backbone, _classes(backbone, state)), state)


def _classes(backbone: Backbone, state: Mapping[str, Tensor]) -> int:
    head = state.get(f"{backbone.family.head}.weight")
    return head.shape[0] if head is not None and head.ndim in (2, 4) else 1000


def _misfit(model: nn.Module, state: Mapping[str, Tensor]) -> str:
    """What keeps `state` from fitting `model`, in words; empty when it fits."""
    wanted = {key: tuple(value.shape) for key, value in model.state_dict().items()}
    optional = {key for key in wanted if key.endswith("num_batches_tracked")}  # absent from checkpoints before 2018
    missing = [key for key in wanted if key not in state and key not in optional]
    unexpected = [key for key in state if key not in wanted]
    if missing or unexpected:
        parts = [f"{len(k)} {what} ({', '.join(k[:3])}{', …' if len(k) > 3 else ''})" for what, k in
                 (("tensors missing", missing), ("unexpected", unexpected)) if k]  # fmt: skip
        return " and ".join(parts)
    differing = [key for key, shape in wanted.items() if key in state and tuple(state[key].shape) != shape]
    if differing:
        key = differing[0]
        return f"{key} has shape {tuple(state[key].shape)} instead of {wanted[key]}"
    return ""


def _refusal(name: str, error: Exception) -> BadSetting:
    """torch raises one error for pickled code and for bytes that are not a pickle; only the former names a global."""
    code = re.search(r"GLOBAL (\S+)", str(error))
    if code is None:
        return _not_a_checkpoint(name)
    return BadSetting(
        "weights_unsafe",
        f"{name} holds more than tensors: it refers to {code[1]}, and loading that could run code.",
        "Save only the state dict: torch.save(model.state_dict(), path).",
    )


def _not_a_checkpoint(name: str) -> BadSetting:
    return BadSetting(
        "weights_unreadable",
        f"{name} is not a valid PyTorch checkpoint.",
        "Give a file written by torch.save(model.state_dict(), path), or a safetensors file.",
    )


def _describe(content: Any) -> str:
    if isinstance(content, Mapping):
        return f"a dictionary with the keys {', '.join(map(repr, list(content)[:4])) or '(none)'}"
    return f"an object of type {type(content).__name__}"
