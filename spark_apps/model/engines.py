"""Engines: `prepare` makes a verified artefact on the driver, `load` opens it in a worker, `Engine.run` computes.

An engine is a module with `export` and `open_engine` (see `_ENGINES`). Importing this module loads neither of them.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from spark_apps.contract import (
    MODEL_SOURCES,
    PRECISIONS,
    BadSetting,
    ModelInfo,
    ModelSettings,
    model_key,
    model_source,
)
from spark_apps.media.fitting import Preprocessing
from spark_apps.model import cache, machine, quantize, sources
from spark_apps.model.sources import Resolved
from spark_apps.model.spec import Calibration, ModelArtifact, fingerprint

FORMAT = 3
"""Version of the artefacts in the cache; raised when an engine writes them differently."""
MIN_CALIBRATION_PHOTOS = 16
"""Fewer say too little of the range of an activation."""
MIN_INT8_COSINE = PRECISIONS["int8"].min_cosine
"""What an int8 model must keep, at the 5 % quantile over the photos held out. The check `recomputation` rejects a day
with more than 5 % of its vectors below this, so a model with a longer tail would not publish for long."""
_ENGINES = {"torch": "spark_apps.model.engine_torch", "openvino": "spark_apps.model.engine_openvino"}


@dataclass(frozen=True)
class Outputs:
    """float32 arrays: features [n, dim] and logits [n, classes]; at an earlier layer there are 0 classes."""

    features: NDArray[np.float32]
    logits: NDArray[np.float32]


class Engine(Protocol):
    """A loaded model. Not thread-safe: one caller at a time."""

    def run(self, pixels: NDArray[np.uint8]) -> Outputs:
        """Features of n photos, given as uint8 RGB of shape [n, height, width, 3], any n.

        Raises:
            ValueError: another type or shape.
        """
        ...


def prepare(spec: ModelSettings, *, here: bool = True, calibration: Calibration | None = None) -> ModelArtifact:
    """Resolves and verifies the weights and writes the engine's artefact into the cache, or finds it there, intact.

    `here`: the workers run on this machine too, so what it cannot run is refused now and not first by `load`.
    `calibration`: the photos that int8 needs; other precisions ignore it.

    Raises:
        BadSetting: no such weights or layer, wrong sha256 or architecture, engine not installed, not runnable here,
            or int8 without photos to calibrate it on, or too coarse for this model.
        Unreachable: the weights cannot be fetched at the moment.
    """
    engine, device = _choose(spec, here)
    machine.require_decoding(spec.decode)
    found = sources.resolve(spec)
    identity = _identity(spec, found, engine, calibration)
    folder = cache.folder("engines", f"{engine}-{version(engine)}-{FORMAT}") / identity
    made = _intact(folder)
    preprocessing = _preprocessing(spec, found)
    if not made:
        needed = calibration if PRECISIONS[spec.precision].calibrated else None
        pixels = needed.pixels(Preprocessing.of(preprocessing)) if needed else None
        made = _make(folder, found, engine, spec.precision, identity, pixels)
    name, weights = found.names
    info = ModelInfo(
        key=model_key(name, weights, spec.precision, spec.decode, found.named_layer, spec.color, spec.raw),
        fingerprint=identity,
        backbone=found.model,
        variant=found.variant,
        weights=found.weights,
        weights_sha256=found.sha256,
        preprocessing=preprocessing,
        layer=found.layer,
        engine=engine,
        precision=spec.precision,
        device=device,
        text=made.get("text"),
        **{name: made[name] for name in ("calibration", "dim", "classes", "categories", "files")},
    )
    return ModelArtifact(
        info, tuple(folder / name for name in info.files), tuple(folder / name for name in info.text_files)
    )


def uncalibrated(spec: ModelSettings) -> str:
    """What the models of `spec` share whatever they were calibrated on: 16 hex digits.

    Raises:
        BadSetting, Unreachable: as `prepare`.
    """
    return _identity(spec, sources.resolve(spec), _choose(spec, here=False)[0], None)


def adopt(info: ModelInfo, fetch: Callable[[str], bytes], *, here: bool = True) -> ModelArtifact:
    """An artefact that was made elsewhere, from its `info` and from what `fetch` gives for the name of each file.

    Raises:
        BadSetting: a file is not the one that was made, or this machine cannot run the model.
    """
    if here:
        machine.require(info.engine, info.device, info.precision)
    folder = cache.folder("engines", "adopted") / info.fingerprint
    if not _intact(folder):
        with cache.staged(folder) as staging:
            staging.mkdir()
            for name in info.files:
                (staging / Path(name).name).write_bytes(fetch(name))
            (staging / "made.json").write_text(json.dumps({"files": info.files}))
    if not _intact(folder):
        raise BadSetting(
            "model_damaged",
            f"The files of model {info.fingerprint} in the store are not those that were made.",
            "Restore them from a copy, or delete the model's folder in the store and recompute its partitions.",
        )
    return ModelArtifact(info, tuple(folder / name for name in info.files))


def load(info: ModelInfo, folder: Path, threads: int, device: str | None = None, streams: int = 1) -> Engine:
    """Opens the artefact that `info` describes from `folder` (which may hold others), to run on `threads` cores.

    `device` overrides the one in `info`, for example `cuda:1` for a task that was given the second GPU.
    `streams`: into how many shares engine openvino divides a batch, each on its own part of the cores. One gives the
    first answer soonest; as many as threads, the most photos a second, as no core waits for another.

    Raises:
        BadSetting: this machine lacks the device or the number format.
    """
    device = device or info.device
    machine.require(info.engine, device, info.precision)
    engine: Engine = importlib.import_module(_ENGINES[info.engine]).open_engine(
        info, Path(folder), threads, device, streams
    )
    return engine


def labels(categories: Sequence[str] | None, logits: NDArray[np.float32]) -> list[tuple[str | None, float | None]]:
    """For each row of logits the most likely category and its softmax score; (None, None) where none has a name."""
    if categories is None:
        return [(None, None)] * len(logits)
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True), dtype=np.float64)
    best = logits.argmax(axis=1)
    scores = shifted[np.arange(len(best)), best] / shifted.sum(axis=1)
    return [(categories[index], float(score)) for index, score in zip(best, scores, strict=True)]


def check_pixels(pixels: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """`pixels`, contiguous. Raises ValueError unless they are uint8 of shape [n, height, width, 3]."""
    if pixels.dtype != np.uint8 or pixels.ndim != 4 or pixels.shape[1:] != (*size, 3):
        raise ValueError(f"pixels are {pixels.dtype} {pixels.shape}, not uint8 (n, {size[0]}, {size[1]}, 3)")
    return np.ascontiguousarray(pixels)


def _choose(spec: ModelSettings, here: bool) -> tuple[str, str]:
    """Engine and device. A precision or a model of one engine or device alone decides, whatever GPU there is."""
    precision = PRECISIONS[spec.precision]
    engines = [one for one in MODEL_SOURCES[model_source(spec.model)].engines if one in precision.engines]
    engine, device = (
        offered[0] if len(offered) == 1 else asked
        for asked, offered in ((spec.engine, engines), (spec.device, precision.devices))
    )
    engine, device = machine.choose(engine, device)
    if here:
        machine.require(engine, device, spec.precision)
    return engine, device


def _preprocessing(spec: ModelSettings, found: Resolved) -> dict[str, Any]:
    # What every model did before there was a choice goes without saying: fingerprints are older.
    decode = {} if spec.decode == "exact" else {"decode": spec.decode}
    color = {} if spec.color == "stored" else {"color": spec.color}
    raw = {} if spec.raw == "preview" else {"raw": spec.raw}
    return found.preset.to_json() | dict(found.details) | decode | color | raw


def _identity(spec: ModelSettings, found: Resolved, engine: str, calibration: Calibration | None) -> str:
    return fingerprint(
        weights_sha256=found.sha256,
        backbone=found.model,
        variant=found.variant,
        preprocessing=_preprocessing(spec, found),
        precision=spec.precision,
        engine=engine,
        calibration=calibration.photos if calibration else "",
        recipe=quantize.RECIPE if calibration else 0,
        layer=found.layer,
    )


def _make(
    folder: Path,
    found: Resolved,
    engine: str,
    precision: str,
    identity: str,
    pixels: NDArray[np.uint8] | None,
) -> dict[str, Any]:
    """Exports the model into `folder`, whole or not at all, with a note of what was made."""
    if PRECISIONS[precision].calibrated and (pixels is None or len(pixels) < MIN_CALIBRATION_PHOTOS):
        raise BadSetting(
            "no_calibration",
            f"Precision {precision} is calibrated on photos: at least {MIN_CALIBRATION_PHOTOS} are needed, "
            f"there are {0 if pixels is None else len(pixels)}.",
            "Begin with a partition that has more photos, or use precision fp32.",
        )
    with cache.staged(folder) as staging:
        staging.mkdir()
        dim, classes = importlib.import_module(_ENGINES[engine]).export(found, precision, staging / identity)
        noted = None
        if pixels is not None:
            noted = quantize.quantize((staging / identity).with_suffix(".xml"), pixels, found.transformer)
            _check_int8(found.model, noted)
        made = {
            "dim": dim,
            "classes": classes,
            "calibration": noted,
            "categories": found.categories(classes) if classes else None,
            "files": {path.name: cache.sha256(path) for path in staging.iterdir()},
            "text": found.keep_beside(staging, identity),
        }
        (staging / "made.json").write_text(json.dumps(made))
    return made


def _check_int8(name: str, noted: dict[str, Any]) -> None:
    if noted["cosine_q05"] < MIN_INT8_COSINE:
        raise BadSetting(
            "int8_too_coarse",
            f"In int8 the features of {name} differ too much: over {noted['held_out']} photos the 5 % quantile of "
            f"their cosine to fp32 is {noted['cosine_q05']}, less than {MIN_INT8_COSINE} "
            f"(smallest {noted['cosine_min']}, median {noted['cosine_median']}).",
            "Use precision fp32 or bf16 with this model.",
        )


def _intact(folder: Path) -> dict[str, Any] | None:
    """What `_make` noted, if all its files are still as they were written; otherwise the folder is removed."""
    if not folder.exists():
        return None
    try:
        made: dict[str, Any] = json.loads((folder / "made.json").read_text())
        files = {**made["files"], **(made.get("text") or {}).get("files", {})}
        if all(cache.sha256(folder / name) == digest for name, digest in files.items()):
            return made
    except (OSError, ValueError, KeyError, AttributeError):
        pass
    cache.remove(folder)
    return None
