"""Post-training quantisation of an OpenVINO model to int8, by NNCF. The one door to NNCF, and only the driver's."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from spark_apps.contract import PRECISIONS, BadSetting
from spark_apps.model import equalize, machine

if TYPE_CHECKING:
    import openvino as ov
    from numpy.typing import NDArray

RECIPE = 4
"""Version of how the model is made; raised when the same photos give another one. It enters the fingerprint."""
MAX_PHOTOS = 150
"""Photos that the ranges of the activations are taken from."""
HELD_OUT = 200
"""Photos, at most a third of all, that the int8 model is compared with fp32 on and that it has not seen: of 200 the 5 %
quantile stands on ten."""
OUTSIDE = 1e-5
"""Share of a photo's values beyond each end of a range, before the widest range of all photos is taken. With more,
photos that drive activations up are cut off: at 1e-4 strong edits had a smallest cosine of 0.96, now of 0.99."""
SPARED, SPARED_BEHIND = 0.07, 0.04
"""Shares of the multiplications that may stay in floating point, where each takes two to four times as long: by the
first layers, and by these and those behind them."""
LIMIT = PRECISIONS["int8"].min_cosine
"""What the cosines are counted against, in `below`: the limit of the check `recomputation`."""


def quantize(xml: Path, pixels: NDArray[np.uint8], transformer: bool | None = False) -> dict[str, Any]:
    """Replaces the fp32 model `xml` (and its .bin) by an int8 one calibrated on `pixels`, uint8 [n, height, width, 3].

    Method: NNCF's post-training quantisation (weights per channel and symmetric, activations by the quantile `OUTSIDE`
    of the photos, fast bias correction) of the equalised model, whose first layers stay in floating point: see
    `first_layers`. A `transformer` (None: a model that `has_attention`) is left to NNCF's own scheme for those. Returns
    what is worth telling: the numbers of photos, and how the cosines between the features of both models lie over those
    held out (smallest, quantiles of 1 % and 5 %, median, share `below` 0.99).

    Raises:
        BadSetting: the model takes several photos at once, and no other number.
    """
    import nncf
    import openvino as ov

    nncf.set_log_level(logging.ERROR)
    held_out = min(HELD_OUT, len(pixels) // 3)
    seen = pixels[held_out:][:MAX_PHOTOS]
    model = simplified(xml)
    photos = model.inputs[0].partial_shape[0]
    if photos.is_static and photos.get_length() > 1:
        raise BadSetting(
            "fixed_batch",
            f"This model takes just {photos.get_length()} photos at once, and int8 is calibrated on one at a time.",
            "Export it for any number of photos, or use precision fp32.",
        )
    options: dict[str, Any] = {"model_type": nncf.ModelType.TRANSFORMER}
    if not (has_attention(model) if transformer is None else transformer):
        equalize.equalize(model, seen)
        options = {
            "ignored_scope": nncf.IgnoredScope(names=first_layers(model)),
            "advanced_parameters": nncf.AdvancedQuantizationParameters(activations_range_estimator_params=_ranges()),
        }
    int8 = nncf.quantize(model, nncf.Dataset([photo[None] for photo in seen]), subset_size=len(seen), **options)
    fp32 = ov.Core().read_model(xml)
    cosines = _cosines(fp32, int8, pixels[:held_out])
    del fp32, model  # their weights are mapped from the file that is replaced now
    unfinished = xml.with_name("int8.xml")
    ov.save_model(int8, unfinished, compress_to_fp16=False)
    for suffix in (".xml", ".bin"):
        unfinished.with_suffix(suffix).replace(xml.with_suffix(suffix))
    return {"recipe": RECIPE, "photos": len(seen), "held_out": held_out, **distribution(cosines)}


def arithmetic(recipe: int) -> str:
    """OpenVINO's name of the floating point format that the layers of an int8 model compute in which are not quantised:
    bf16 where this processor has it, which is faster. Models of before recipe 3 stay as they were, in fp32."""
    return "bf16" if recipe >= 3 and machine.has_bf16(Path("/proc/cpuinfo")) else "f32"


def simplified(xml: Path) -> ov.Model:
    """The model with what is constant computed, as `openvino.convert_model` leaves it: NNCF knows a bias by that."""
    import openvino as ov
    from openvino._offline_transformations import apply_moc_transformations

    model = ov.Core().read_model(xml)
    apply_moc_transformations(model, cf=True, smart_reshape=False)
    return model


def has_attention(model: ov.Model) -> bool:
    """Whether two things that both depend on the photo are multiplied as matrices, or attention is one operation."""
    of_photo: set[str] = set()
    for node in model.get_ordered_ops():
        inputs = [_name(value.get_node()) in of_photo for value in node.input_values()]
        if any(inputs) or node.get_type_name() == "Parameter":
            of_photo.add(_name(node))
        if node.get_type_name() == "ScaledDotProductAttention" or (node.get_type_name() == "MatMul" and all(inputs)):
            return True
    return False


def first_layers(model: ov.Model) -> list[str]:
    """Names of the layers that read the photo, and of those that read what comes out of these, which int8 harms most.

    Of either, the small ones first, as many as make at most `SPARED` and `SPARED_BEHIND` of the multiplications.
    """
    work = {_name(node): _multiplications(node) for node in model.get_ordered_ops() if _is_layer(node)}
    spared: list[str] = []
    ends: list[Any] = list(model.get_parameters())
    for share in (SPARED, SPARED_BEHIND):
        left = share * sum(work.values()) - sum(work[name] for name in spared)
        layers, ends = sorted(_reading(ends), key=_multiplications), []
        for layer in layers:
            left -= _multiplications(layer)
            if left >= 0:
                spared.append(_name(layer))
                ends.append(layer)
    return spared


def _is_layer(node: Any) -> bool:
    return node.get_type_name() in ("Convolution", "GroupConvolution") and _is_constant(node.input_value(1))


def _is_constant(value: Any) -> bool:
    return bool(value.get_node().get_type_name() == "Constant")


def _multiplications(layer: Any) -> int:
    """Of one photo: every weight is used once for each place of the output."""
    places = [side.get_length() for side in list(layer.get_output_partial_shape(0))[2:] if side.is_static]
    return int(np.prod(layer.input_value(1).get_node().shape) * np.prod(places))


def _reading(nodes: list[Any]) -> list[Any]:
    """The convolutions that read what `nodes` make, through operations on one tensor only: not beyond a sum."""
    found: dict[str, Any] = {}
    ahead = [target.get_node() for node in nodes for target in node.output(0).get_target_inputs()]
    while ahead:
        node = ahead.pop()
        if _is_layer(node):
            found[_name(node)] = node
        elif node.get_output_size() and sum(not _is_constant(value) for value in node.input_values()) == 1:
            ahead += [target.get_node() for target in node.output(0).get_target_inputs()]
    return [found[name] for name in sorted(found)]


def _name(node: Any) -> str:
    return str(node.get_friendly_name())


def _ranges() -> Any:
    from nncf.quantization import range_estimator as estimator

    def end(aggregate: Any) -> Any:
        return estimator.StatisticsCollectorParameters(
            statistics_type=estimator.StatisticsType.QUANTILE, aggregator_type=aggregate, quantile_outlier_prob=OUTSIDE
        )

    kinds = estimator.AggregatorType
    return estimator.RangeEstimatorParameters(min=end(kinds.MIN), max=end(kinds.MAX))


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

    models = [
        ov.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": hint})
        for model, hint in ((one, "f32"), (other, arithmetic(RECIPE)))
    ]
    left, right = (
        np.concatenate([model([photo[None]])["features"] for photo in pixels]).astype(np.float64) for model in models
    )
    cosines: NDArray[np.float64] = (left * right).sum(1) / np.linalg.norm(left, axis=1) / np.linalg.norm(right, axis=1)
    return cosines
