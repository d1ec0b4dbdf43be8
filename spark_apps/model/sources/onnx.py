"""A model in a file: ONNX, or OpenVINO's IR. It takes one photo and gives one vector, and OpenVINO runs it.

The file says nothing of photos: settings do, or a JSON document beside it (`photo_settings`).
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from spark_apps.contract import BadSetting, ModelInfo, ModelSettings
from spark_apps.model.sources import Reference, Resolved, model_files, package, photo_settings
from spark_apps.model.sources.photo_settings import PhotoSettings

if TYPE_CHECKING:
    import openvino as ov
    import torch
    from torch import nn

BATCH_TOLERANCE = 1e-3
"""Share of the largest value by which photos may differ from themselves alone, where a batch of one is opened up."""


@dataclass(frozen=True, kw_only=True)
class Onnx(Resolved):
    """`path`: the file, with those that belong to it beside it. `photo`: how photos become its input."""

    path: Path
    photo: PhotoSettings

    def network(self, dtype: torch.dtype) -> nn.Module:
        raise NotImplementedError("engine torch does not run files; contract.MODEL_SOURCES says so")

    def graph(self) -> ov.Model:
        """See `Resolved.graph`. A fixed batch is opened up where that changes no vector, else it stays."""
        fixed = _read(self.path, self.model, self.photo.output).input.partial_shape[0]
        if fixed.is_dynamic or fixed.get_length() != 1:
            return self._graph(-1 if fixed.is_dynamic else fixed.get_length())
        one = self._graph(1)
        try:
            any_number = self._graph(-1)
            noise = np.random.default_rng(0).integers(0, 256, (2, *self.preset.size, 3), np.uint8)
            together = _run(any_number, noise)
            apart = np.concatenate([_run(one, photo[None]) for photo in noise])
            same = together.shape == apart.shape and abs(together - apart).max() <= BATCH_TOLERANCE * abs(apart).max()
        except Exception:  # of OpenVINO: a shape of the graph says one
            same = False
        return any_number if same else one

    def _graph(self, batch: int) -> ov.Model:
        import openvino as ov
        from openvino.preprocess import PrePostProcessor

        found = _read(self.path, self.model, self.photo.output)
        rows, columns = self.preset.size
        nhwc = self.photo.layout == "NHWC"
        found.graph.reshape({0: [batch, rows, columns, 3] if nhwc else [batch, 3, rows, columns]})
        made = PrePostProcessor(found.graph)
        made.input().tensor().set_element_type(ov.Type.u8).set_layout(ov.Layout("NHWC"))
        made.input().model().set_layout(ov.Layout(self.photo.layout))
        if found.takes_floats:
            steps = made.input().preprocess().convert_element_type(ov.Type.f32)
            steps.mean([255 * value for value in self.preset.mean]).scale([255 * value for value in self.preset.std])
        made.output().tensor().set_element_type(ov.Type.f32)
        return _flat(made.build())


def names() -> Sequence[str]:
    """See `Source`: they are places."""
    return ()


def knows(model: str) -> bool:
    """See `Source`: whether there is a file is known when it is read."""
    return True


def resolve(spec: ModelSettings) -> Onnx:
    """See `Source`."""
    location = spec.model if "://" in spec.model else os.path.abspath(os.path.expanduser(spec.model))
    if not location.endswith(".xml"):
        package("onnxruntime", "onnx")  # which `recomputation` needs: better to know now
    within = spec.weights_within.splitlines()
    files = model_files.fetched(location, spec.weights_sha256.lower(), within)
    beside = model_files.document(location, within)
    asked = photo_settings.asked(spec, beside, f"{location.rpartition('.')[0]}.json")
    found = _read(files.path, location, asked.output)
    photo = photo_settings.of(asked, found.shape, found.takes_floats, location)
    identity = hashlib.sha256(f"{files.sha256} {photo}".encode()).hexdigest()[:8]
    return Onnx(
        path=files.path,
        photo=photo,
        model=location,
        weights="DEFAULT",
        names=(f"onnx_{Path(location).stem[:40]}", identity),
        sha256=files.sha256,
        preset=photo.preset,
        layer=found.output,
        details={"layout": photo.layout},
    )


def skeleton(info: ModelInfo, dtype: torch.dtype) -> nn.Module:
    """See `Source`."""
    raise NotImplementedError("engine torch does not run files; contract.MODEL_SOURCES says so")


def reference(spec: ModelSettings) -> Reference:
    """See `Source`: onnxruntime on the CPU (an IR, by OpenVINO as it is), and torchvision's transforms."""
    found = resolve(spec)
    run = _by_openvino(found) if found.path.suffix == ".xml" else _by_onnxruntime(found)
    prepared = found.photo.transform()

    nhwc = found.photo.layout == "NHWC"

    def features(image: Any) -> Any:
        pixels = prepared(image)
        return np.array(run((pixels.transpose(1, 2, 0) if nhwc else pixels)[None]), np.float32)

    return features


def _as(pixels: Any, kind: Any) -> Any:
    return (np.rint(pixels) if np.issubdtype(kind, np.integer) else pixels).astype(kind)


def _by_onnxruntime(found: Onnx) -> Any:
    runtime = package("onnxruntime", "onnx")
    session = runtime.InferenceSession(str(found.path), providers=["CPUExecutionProvider"])
    photo = _read(found.path, found.model, found.photo.output).input.any_name
    types = {"tensor(float16)": np.float16, "tensor(double)": np.float64, "tensor(uint8)": np.uint8}
    sides, kinds = {}, {}
    for side in session.get_inputs():
        sides[side.name] = [length if isinstance(length, int) else 1 for length in side.shape]
        kinds[side.name] = types.get(side.type, np.int64 if "int" in side.type else np.float32)
    others = {name: np.zeros(shape, kinds[name]) for name, shape in sides.items() if name != photo}
    batch = sides[photo][0]

    def run(pixels: Any) -> Any:
        # A photo as often as a fixed batch has places; what is not the photo's side of the model does not matter.
        fed = {**others, photo: np.repeat(_as(pixels, kinds[photo]), batch, axis=0)}
        return session.run([found.layer], fed)[0][0].reshape(-1)

    return run


def _by_openvino(found: Onnx) -> Any:
    import openvino as ov

    graph = _read(found.path, found.model, found.photo.output)
    compiled = ov.Core().compile_model(graph.graph, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    batch = graph.input.partial_shape[0]
    kind = graph.input.element_type.to_dtype()

    def run(pixels: Any) -> Any:
        repeated = np.repeat(_as(pixels, kind), batch.get_length() if batch.is_static else 1, axis=0)
        return compiled([repeated])[0][0].reshape(-1)

    return run


@dataclass(frozen=True)
class _Graph:
    """The part of a model that makes `output` of its one `input`."""

    graph: ov.Model
    output: str

    @property
    def input(self) -> Any:
        return self.graph.inputs[0]

    @property
    def shape(self) -> list[int]:
        """Of the input; 0 where it is not fixed."""
        return [side.get_length() if side.is_static else 0 for side in self.input.partial_shape]

    @property
    def takes_floats(self) -> bool:
        """Else it takes pixels as they are."""
        return bool(self.input.element_type.is_real())


def _read(path: Path, name: str, output: str) -> _Graph:
    """The model in a file, down to the output of that name; empty: its only one.

    Raises:
        BadSetting: it is no model, has operators that nobody knows, no such output, or not one input and one vector.
    """
    import openvino as ov

    model = _converted(path, name)
    outputs = {next(iter(sorted(port.names)), f"output {index}"): port for index, port in enumerate(model.outputs)}
    if not outputs or not model.inputs:
        _refuse(name, "is no model: it has no inputs or outputs", "Give an ONNX file or OpenVINO's IR.")
    listed = ", ".join(f"{one} {_shape(port)}" for one, port in outputs.items())
    if not output and len(outputs) > 1:
        _refuse(name, f"has several outputs: {listed}", "Name the one that is the vector, by --layer.", "bad_layer")
    chosen = next((one for one, port in outputs.items() if output in port.names), "") if output else next(iter(outputs))
    if not chosen:
        _refuse(name, f"has no output {output!r}, but {listed}", "Name one of them by --layer.", "bad_layer")
    port = outputs[chosen]
    inputs = _needed(port, model)
    if len(inputs) != 1:
        what = ", ".join(f"{one.get_friendly_name()} {_shape(one.output(0))}" for one in inputs) or "no input"
        other = f" Its outputs are {listed}." if len(outputs) > 1 else ""
        _refuse(
            name,
            f"needs {what} for its output {chosen}, and not a photo alone",
            f"Give a model of one input, or name an output that needs the photo alone, by --layer.{other}",
        )
    if not port.element_type.is_real():
        what = f"gives {port.element_type.type_name} in {chosen}, and no floating-point numbers"
        _refuse(name, what, "Export what comes before them.")
    sides = port.partial_shape
    if sides.rank.is_dynamic or len(sides) < 2 or any(side.is_dynamic or side != 1 for side in list(sides)[2:]):
        what = f"gives {_shape(port)} in {chosen}, not one vector for each photo"
        _refuse(name, what, "Average what it gives, and export that.")
    return _Graph(ov.Model([port], inputs), output or chosen)


def _converted(path: Path, name: str) -> ov.Model:
    import openvino as ov
    from openvino.frontend import FrontEndManager, OpConversionFailure

    try:
        if path.suffix == ".xml":
            return ov.Core().read_model(path)
        reader = FrontEndManager().load_by_framework("onnx")
        return reader.convert(reader.load(str(path)))
    except OpConversionFailure as error:
        unknown = str(error).rpartition("operations:")[2].strip().splitlines()[0]
        what = f"has operators that OpenVINO does not know: {unknown}"
        _refuse(name, what, "Export it with operators of ONNX alone.", cause=error)
    except Exception as error:  # whatever arbitrary bytes make of it
        said = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
        hint = "Give an ONNX file, or OpenVINO's IR with its .bin beside it."
        _refuse(name, f"is no model that can be read: {said[-1]}", hint, cause=error)


def _needed(port: Any, model: ov.Model) -> list[Any]:
    """The inputs that a value depends on."""
    seen, ahead = set(), [port.get_node()]
    while ahead:
        node = ahead.pop()
        if (name := node.get_friendly_name()) not in seen:
            seen.add(name)
            ahead += [value.get_node() for value in node.input_values()]
    return [one for one in model.get_parameters() if one.get_friendly_name() in seen]


def _flat(model: ov.Model) -> ov.Model:
    """The same with features [n, dim]."""
    import openvino as ov
    from openvino import opset13 as ops

    if len(model.outputs[0].partial_shape) == 2 and model.outputs[0].partial_shape[1].is_static:
        return model
    photos, *sides = (side.get_length() if side.is_static else 1 for side in model.inputs[0].partial_shape)
    dim = _run(model, np.zeros((photos, *sides), np.uint8)).reshape(photos, -1).shape[1]
    before = model.outputs[0].get_node().input_value(0)
    return ov.Model([ops.reshape(before, np.array([-1, dim]), False)], model.get_parameters())


def _run(model: ov.Model, pixels: Any) -> Any:
    import openvino as ov

    return ov.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})([pixels])[0]


def _shape(port: Any) -> str:
    return str(port.partial_shape).replace("?", "n")


def _refuse(name: str, what: str, hint: str, code: str = "bad_model_file", cause: Exception | None = None) -> NoReturn:
    raise BadSetting(code, f"The model {name} {what}.", hint) from cause
