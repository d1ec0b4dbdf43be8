"""Post-training quantisation of an OpenVINO model to int8, by NNCF. The one door to NNCF, and only the driver's."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from spark_apps.contract import PRECISIONS

if TYPE_CHECKING:
    import openvino as ov
    from numpy.typing import NDArray

RECIPE = 2
"""Version of how the model is made; raised when the same photos give another one. It enters the fingerprint."""
MAX_PHOTOS = 150
"""Photos that the ranges of the activations are taken from."""
HELD_OUT = 200
"""Photos, at most a third of all, that the int8 model is compared with fp32 on and that it has not seen: of 200 the 5 %
quantile stands on ten."""
LIMIT = PRECISIONS["int8"].min_cosine
"""What the cosines are counted against, in `below`: the limit of the check `recomputation`."""


def quantize(xml: Path, pixels: NDArray[np.uint8], transformer: bool = False) -> dict[str, Any]:
    """Replaces the fp32 model `xml` (and its .bin) by an int8 one calibrated on `pixels`, uint8 [n, crop, crop, 3].

    Method: NNCF's post-training quantisation with its defaults (weights per channel and symmetric, activations by
    their range over the photos, fast bias correction), for a `transformer` with its scheme for those. Returns what is
    worth telling: the numbers of photos, and how the cosines between the features of both models lie over those held
    out (smallest, quantiles of 1 % and 5 %, median, share `below` 0.99).
    """
    import nncf
    import openvino as ov

    nncf.set_log_level(logging.ERROR)
    held_out = min(HELD_OUT, len(pixels) // 3)
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
    return {"recipe": RECIPE, "photos": len(seen), "held_out": held_out, **distribution(cosines)}


def distribution(cosines: NDArray[np.float64]) -> dict[str, float]:
    """How cosines [n] lie, n at least 1, as `model.json` tells it."""
    smallest, one, five, median = (round(float(q), 6) for q in np.quantile(cosines, (0, 0.01, 0.05, 0.5)))
    return {
        "cosine_min": smallest,
        "cosine_q01": one,
        "cosine_q05": five,
        "cosine_median": median,
        "below": round(float((cosines < LIMIT).mean()), 6),
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
