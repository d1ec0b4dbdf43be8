"""Engines: `prepare` makes a verified artefact on the driver, `load` opens it in a worker, `Engine.run` computes.

An engine is a module with `export` and `open_engine` (see `_ENGINES`). Importing this module loads neither of them.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from spark_apps.contract import BadSetting, model_key
from spark_apps.model import backbones, cache, machine
from spark_apps.model.spec import LAYER, ModelArtifact, ModelSpec, fingerprint
from spark_apps.model.weights import ResolvedWeights, resolve

FORMAT = 1
"""Version of the artefacts in the cache; raised when an engine writes them differently."""
_ENGINES = {"torch": "spark_apps.model.engine_torch", "openvino": "spark_apps.model.engine_openvino"}


@dataclass(frozen=True)
class Outputs:
    """float32 arrays: features [n, dim], and logits [n, classes] where the model has a classifier."""

    features: NDArray[np.float32]
    logits: NDArray[np.float32] | None


class Engine(Protocol):
    """A loaded model. Not thread-safe: one caller at a time."""

    def run(self, pixels: NDArray[np.uint8]) -> Outputs:
        """Features of n photos, given as uint8 RGB of shape [n, crop, crop, 3], any n.

        Raises:
            ValueError: another type or shape.
        """
        ...


def prepare(spec: ModelSpec, *, here: bool = True) -> ModelArtifact:
    """Resolves and verifies the weights and writes the engine's artefact into the cache, or finds it there, intact.

    `here`: the workers run on this machine too, so what it cannot run is refused now and not first by `load`.

    Raises:
        BadSetting: no such weights, wrong sha256 or architecture, engine not installed, or not runnable here.
        Unreachable: the weights cannot be fetched at the moment.
    """
    if spec.precision == "int8":
        raise BadSetting(
            "no_int8",
            "Precision int8 needs a model calibrated on your photos, which this version does not make.",
            "Use bf16 where the processor has it, else fp32.",
        )
    engine, device = machine.choose(spec.engine, spec.device)
    if here:
        machine.require(engine, device, spec.precision)
    weights = resolve(spec)
    identity = fingerprint(
        weights_sha256=weights.sha256,
        backbone=spec.backbone,
        variant=weights.variant,
        preset=weights.preset,
        precision=spec.precision,
        engine=engine,
    )
    folder = cache.folder("engines", f"{engine}-{version(engine)}-{FORMAT}") / identity
    made = _intact(folder) or _make(folder, weights, engine, spec.precision, identity)
    info = {
        "backbone": spec.backbone,
        "variant": weights.variant,
        "weights": weights.name,
        "weights_sha256": weights.sha256,
        "preprocessing": weights.preset.to_json(),
        "layer": LAYER,
        "engine": engine,
        "precision": spec.precision,
        "device": device,
        "dim": made["dim"],
        "classes": made["classes"],
        "categories": made["categories"],
        "fingerprint": identity,
        "key": model_key(spec.backbone, weights.label, spec.precision),
        "files": sorted(made["files"]),
    }
    return ModelArtifact(info["key"], identity, tuple(folder / name for name in info["files"]), info)


def load(info: dict[str, Any], folder: Path, threads: int, device: str | None = None) -> Engine:
    """Opens the artefact that `info` describes from `folder` (which may hold others), to run on `threads` cores.

    `device` overrides the one in `info`, for example `cuda:1` for a task that was given the second GPU.

    Raises:
        BadSetting: this machine lacks the device or the number format.
    """
    device = device or info["device"]
    machine.require(info["engine"], device, info["precision"])
    engine: Engine = importlib.import_module(_ENGINES[info["engine"]]).open_engine(info, Path(folder), threads, device)
    return engine


def labels(info: dict[str, Any], logits: NDArray[np.float32]) -> list[tuple[str | None, float | None]]:
    """For each row of logits the most likely category and its softmax score; (None, None) where none has a name."""
    categories: Sequence[str] | None = info["categories"]
    if categories is None:
        return [(None, None)] * len(logits)
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True), dtype=np.float64)
    best = logits.argmax(axis=1)
    scores = shifted[np.arange(len(best)), best] / shifted.sum(axis=1)
    return [(categories[index], float(score)) for index, score in zip(best, scores, strict=True)]


def check_pixels(pixels: NDArray[np.uint8], crop: int) -> NDArray[np.uint8]:
    """`pixels`, contiguous. Raises ValueError unless they are uint8 of shape [n, crop, crop, 3]."""
    if pixels.dtype != np.uint8 or pixels.ndim != 4 or pixels.shape[1:] != (crop, crop, 3):
        raise ValueError(f"pixels are {pixels.dtype} {pixels.shape}, not uint8 (n, {crop}, {crop}, 3)")
    return np.ascontiguousarray(pixels)


def _make(folder: Path, weights: ResolvedWeights, engine: str, precision: str, identity: str) -> dict[str, Any]:
    """Exports the model into `folder`, whole or not at all, with a note of what was made."""
    model = weights.model()
    with cache.staged(folder) as staging:
        staging.mkdir()
        dim, classes = importlib.import_module(_ENGINES[engine]).export(
            weights.backbone, model, weights.preset, precision, staging / identity
        )
        made = {
            "dim": dim,
            "classes": classes,
            "categories": backbones.imagenet_categories() if weights.knows_imagenet and classes == 1000 else None,
            "files": {path.name: cache.sha256(path) for path in staging.iterdir()},
        }
        (staging / "made.json").write_text(json.dumps(made))
    return made


def _intact(folder: Path) -> dict[str, Any] | None:
    """What `_make` noted, if all its files are still as they were written; otherwise the folder is removed."""
    if not folder.exists():
        return None
    try:
        made: dict[str, Any] = json.loads((folder / "made.json").read_text())
        if all(cache.sha256(folder / name) == digest for name, digest in made["files"].items()):
            return made
    except (OSError, ValueError, KeyError, AttributeError):
        pass
    cache.remove(folder)
    return None
