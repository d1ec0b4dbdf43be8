"""Channels brought to like ranges before a model is quantised, without a change to what it computes.

In int8 all channels of a tensor share one step, so a few wide channels leave little of the others. Between two layers
joined by operations that commute with a positive factor (ReLU, pooling, sums), channel c can be divided by a factor on
one side and multiplied by it on the other: Nagel et al. 2019, "Data-Free Quantization Through Weight Equalization and
Bias Correction", arXiv:1906.04721. The factor is that of SmoothQuant with strength one half, from activations and
weights: Xiao et al. 2022, arXiv:2211.10438, equation 4. It costs nothing when the model runs. Layers joined otherwise
(SiLU, GELU, concatenation, layer norm) stay as they are.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import openvino as ov
    from numpy.typing import NDArray

WIDEST = 64.0
"""Factors are kept within 1/64 and 64, so that a channel that is all but dead does not take the weights' precision."""
BATCH = 8
_COMMUTING = {"Relu", "MaxPool", "AvgPool", "AdaptiveAvgPool"}
_LAYERS = {"Convolution", "GroupConvolution", "MatMul"}


@dataclass
class Group:
    """Tensors whose channels can only be scaled together, by name of the node that makes them, and their neighbours.

    `makers` and `users`: layers before and behind, by their weights' output and input channels. `biases`: additions.
    `fixed`: something reads or makes one of them that does not commute with a factor.
    """

    tensors: set[str] = field(default_factory=set)
    makers: list[Any] = field(default_factory=list)
    users: list[Any] = field(default_factory=list)
    biases: list[Any] = field(default_factory=list)
    fixed: bool = False


def equalize(model: ov.Model, pixels: NDArray[np.uint8]) -> int:
    """Scales the channels of `model` in place, by its activations over `pixels`, uint8 [n, crop, crop, 3], and its
    weights. Returns how many groups of tensors were scaled, 0 where none can be."""
    groups = [group for group in _groups(model) if group.makers and group.users and not group.fixed]
    entering = {_name(user.input_value(0).get_node()): user.input_value(0) for group in groups for user in group.users}
    widths = _maxima(model, entering, pixels)
    for group in groups:
        read = {_name(user.input_value(0).get_node()) for user in group.users}
        activations = np.max([widths[name] for name in read], axis=0)
        weights = np.max([_by_input(user) for user in group.users], axis=0)
        _scale(group, _factors(activations, weights))
    model.validate_nodes_and_infer_types()
    return len(groups)


def _groups(model: ov.Model) -> list[Group]:
    parents: dict[str, str] = {}

    def root(name: str) -> str:
        parents.setdefault(name, name)
        while parents[name] != name:
            name = parents[name]
        return name

    found: dict[str, list[tuple[str, Any]]] = defaultdict(list)  # tensor → what it is to its group
    for node in model.get_ordered_ops():
        kind, name = node.get_type_name(), _name(node)
        if kind == "Constant":
            continue
        sources = [source for source in node.input_values() if source.get_node().get_type_name() != "Constant"]
        names = [_name(source.get_node()) for source in sources]
        if kind in _LAYERS and _is_layer(node):
            found[name].append(("makers", node))
            found[names[0]].append(("users", node))
        elif len(names) == 1 and (kind in _COMMUTING or _averages(node) or _flattens(node)):
            parents[root(name)] = root(names[0])
        elif kind == "Add" and len(names) == 1 and _is_bias(node):
            parents[root(name)] = root(names[0])
            found[name].append(("biases", node))
        elif kind == "Add" and len(names) == 2 and len({str(source.get_partial_shape()) for source in sources}) == 1:
            for other in names:
                parents[root(name)] = root(other)
        else:  # unknown, the photo and the results among them: whatever touches it stays
            for other in (name, *names):
                found[other].append(("fixed", node))
    groups: dict[str, Group] = defaultdict(Group)
    for name, roles in found.items():
        group = groups[root(name)]
        group.tensors.add(name)
        for role, node in roles:
            if role == "fixed":
                group.fixed = True
            else:
                getattr(group, role).append(node)
    return list(groups.values())


def _is_layer(node: Any) -> bool:
    """Whether its weights are constant; of a matrix product: [out, in], applied to a [n, in]."""
    if node.input_value(1).get_node().get_type_name() != "Constant":
        return False
    if node.input_value(0).get_node().get_type_name() == "Constant":
        return False
    if node.get_type_name() != "MatMul":
        return True
    attributes, rank = node.get_attributes(), len(node.get_output_partial_shape(0))
    return bool(attributes["transpose_b"]) and not attributes["transpose_a"] and rank == 2


def _averages(node: Any) -> bool:
    if node.get_type_name() != "ReduceMean" or len(node.get_input_partial_shape(0)) != 4:
        return False
    return sorted(int(axis) % 4 for axis in np.atleast_1d(node.input_value(1).get_node().data)) == [2, 3]


def _flattens(node: Any) -> bool:
    """[n, c, 1, 1] to [n, c]."""
    if node.get_type_name() not in ("Reshape", "Squeeze") or len(node.get_output_partial_shape(0)) != 2:
        return False
    shape = list(node.get_input_partial_shape(0))
    return len(shape) == 4 and all(side.is_static and side.get_length() == 1 for side in shape[2:])


def _is_bias(node: Any) -> bool:
    shape = list(node.get_output_partial_shape(0))
    constant = _constant_of(node).get_node()
    if not shape[1].is_static or constant.get_type_name() != "Constant":
        return False
    channels, given = shape[1].get_length(), tuple(constant.shape)
    return given == (1, channels, *(1 for _ in shape[2:])) or (len(shape) == 2 and given == (channels,))


def _constant_of(node: Any) -> Any:
    return next(value for value in node.input_values() if value.get_node().get_type_name() == "Constant")


def _name(node: Any) -> str:
    return str(node.get_friendly_name())


def _maxima(model: ov.Model, tensors: dict[str, Any], pixels: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
    """Of each tensor the largest value per channel, over all photos."""
    import openvino as ov
    from openvino import opset13 as op

    if not tensors:
        return {}
    ends = []
    for value in tensors.values():
        rank = len(value.get_partial_shape())
        axes = np.array([0, *range(2, rank)], np.int64)
        ends.append(op.result(op.reduce_max(value, axes, False).output(0)))
    watching = ov.Model(ends, model.get_parameters(), "watching")
    request = ov.Core().compile_model(watching, "CPU", {"INFERENCE_PRECISION_HINT": "f32"}).create_infer_request()
    largest: list[NDArray[np.float32]] = []
    for start in range(0, len(pixels), BATCH):
        results = request.infer([pixels[start : start + BATCH]])
        now = [np.array(results[index]) for index in range(len(ends))]
        largest = [np.maximum(one, other) for one, other in zip(largest, now, strict=True)] if largest else now
    return dict(zip(tensors, largest, strict=True))


def _factors(activations: NDArray[np.float32], weights: NDArray[np.float32]) -> NDArray[np.float32]:
    """[c]: 1 where a channel is dead; their geometric mean is 1, which leaves the tensor's range about as it was."""
    alive = (activations > 0) & (weights > 0)
    factors = np.ones_like(activations)
    if alive.any():
        raw = np.sqrt(activations[alive] / weights[alive])
        factors[alive] = np.clip(raw / np.exp(np.log(raw).mean()), 1 / WIDEST, WIDEST)
    return factors


def _by_input(layer: Any) -> NDArray[np.float32]:
    """The largest weight, in magnitude, of each input channel."""
    weights = np.abs(_weights(layer))
    if layer.get_type_name() == "GroupConvolution":  # [groups, out, in, ...]
        of_groups: NDArray[np.float32] = weights.max(axis=(1, *range(3, weights.ndim))).reshape(-1)
        return of_groups
    largest: NDArray[np.float32] = weights.max(axis=(0, *range(2, weights.ndim)))
    return largest


def _scale(group: Group, factors: NDArray[np.float32]) -> None:
    for layer in group.makers:
        weights = _weights(layer)
        flat = weights.reshape(len(factors), -1) / factors[:, None]  # groups and outputs come first, in this order
        _replace(layer, 1, flat.reshape(weights.shape))
    for bias in group.biases:
        index = 0 if bias.input_value(0).get_node().get_type_name() == "Constant" else 1
        values = np.array(bias.input_value(index).get_node().data, dtype=np.float32)
        _replace(bias, index, values / factors.reshape(values.shape))
    for layer in group.users:
        weights = _weights(layer)
        if layer.get_type_name() == "GroupConvolution":
            shape = (weights.shape[0], 1, weights.shape[2], *(1 for _ in weights.shape[3:]))
        else:
            shape = (1, weights.shape[1], *(1 for _ in weights.shape[2:]))
        _replace(layer, 1, weights * factors.reshape(shape))


def _weights(layer: Any) -> NDArray[np.float32]:
    return np.array(layer.input_value(1).get_node().data, dtype=np.float32)


def _replace(node: Any, index: int, values: NDArray[np.float32]) -> None:
    from openvino import opset13 as op

    constant = op.constant(np.ascontiguousarray(values, dtype=np.float32))
    node.input(index).replace_source_output(constant.output(0))
