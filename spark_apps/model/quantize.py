"""Post-training quantisation of an OpenVINO model to int8, by NNCF. The one door to NNCF, and only the driver's."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import openvino as ov
    from numpy.typing import NDArray

MAX_PHOTOS = 150
"""Photos that the ranges of the activations are taken from."""
HELD_OUT = 32
"""Photos, at most a fifth of all, that the int8 model is compared with fp32 on and that it has not seen."""


def quantize(xml: Path, pixels: NDArray[np.uint8], transformer: bool = False) -> dict[str, Any]:
    """Replaces the fp32 model `xml` (and its .bin) by an int8 one calibrated on `pixels`, uint8 [n, crop, crop, 3].

    Method: NNCF's post-training quantisation with its defaults (weights per channel and symmetric, activations by
    their range over the photos, fast bias correction), for a `transformer` with its scheme for those. Returns what is
    worth telling: the numbers of photos, and the cosine between the features of both models over those held out.
    """
    import nncf
    import openvino as ov

    nncf.set_log_level(logging.ERROR)
    held_out = min(HELD_OUT, len(pixels) // 5)
    seen = pixels[held_out:][:MAX_PHOTOS]
    fp32 = ov.Core().read_model(xml)
    photos = nncf.Dataset([photo[None] for photo in seen])
    kind = nncf.ModelType.TRANSFORMER if transformer else None
    int8 = nncf.quantize(fp32, photos, subset_size=len(seen), model_type=kind)
    cosines = _cosines(fp32, int8, pixels[:held_out])
    del fp32  # its weights are mapped from the file that is replaced now
    unfinished = xml.with_name("int8.xml")
    ov.save_model(int8, unfinished, compress_to_fp16=False)
    for suffix in (".xml", ".bin"):
        unfinished.with_suffix(suffix).replace(xml.with_suffix(suffix))
    return {
        "photos": len(seen),
        "held_out": held_out,
        "cosine_min": round(float(cosines.min()), 6),
        "cosine_median": round(float(np.median(cosines)), 6),
    }


def _cosines(one: ov.Model, other: ov.Model, pixels: NDArray[np.uint8]) -> NDArray[np.float64]:
    import openvino as ov

    hints = {"INFERENCE_PRECISION_HINT": "f32"}
    models = [ov.Core().compile_model(model, "CPU", hints) for model in (one, other)]
    left, right = (
        np.concatenate([model([photo[None]])["features"] for photo in pixels]).astype(np.float64) for model in models
    )
    cosines: NDArray[np.float64] = (left * right).sum(1) / np.linalg.norm(left, axis=1) / np.linalg.norm(right, axis=1)
    return cosines
