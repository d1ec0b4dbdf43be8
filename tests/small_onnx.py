"""Small networks as ONNX files, so that tests have models of files without any weights of others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

onnx: Any = __import__("onnx")
FLOAT, INT64, UINT8 = onnx.TensorProto.FLOAT, onnx.TensorProto.INT64, onnx.TensorProto.UINT8


def made(
    shape: tuple[Any, ...] = ("n", 3, 64, 48),
    *,
    operator: str = "Relu",
    domain: str = "",
    kind: int = FLOAT,
    ends: tuple[str, ...] = ("features",),
    text: bool = False,
    frozen: bool = False,
) -> Any:
    """A small convolutional network with random weights. `ends`: its outputs, of features, ids (whole numbers), maps
    and pooled. `text`: a second input, that of a second output. `frozen`: it says that there is one photo at a time."""
    helper, random = onnx.helper, np.random.default_rng(0)
    nhwc = shape[-1] == 3
    nodes, before = [], "photo"
    if kind != FLOAT:
        nodes, before = [helper.make_node("Cast", ["photo"], ["cast"], to=FLOAT)], "cast"
    if nhwc:
        nodes, before = [*nodes, helper.make_node("Transpose", [before], ["turned"], perm=[0, 3, 1, 2])], "turned"
    nodes += [
        helper.make_node("Conv", [before, "kernels"], ["convolved"], strides=[4, 4]),
        helper.make_node(operator, ["convolved"], ["maps"], domain=domain),
        helper.make_node("GlobalAveragePool", ["maps"], ["pooled"]),
    ]
    weights = {"kernels": random.standard_normal((16, 3, 7, 7)).astype(np.float32) / 12}
    if frozen:
        weights["shape"] = np.array([1, 16])
        nodes.append(helper.make_node("Reshape", ["pooled", "shape"], ["features"]))
    else:
        nodes.append(helper.make_node("Flatten", ["pooled"], ["features"]))
    nodes.append(helper.make_node("Cast", ["features"], ["ids"], to=INT64))
    batch = shape[0]
    sizes = {"features": [batch, 16], "ids": [batch, 16], "pooled": [batch, 16, 1, 1], "maps": [batch, 16, None, None]}
    outputs = [helper.make_tensor_value_info(end, INT64 if end == "ids" else FLOAT, sizes[end]) for end in ends]
    inputs = [helper.make_tensor_value_info("photo", kind, shape)]
    if text:
        weights["words"] = random.standard_normal((10, 16)).astype(np.float32)
        inputs.insert(0, helper.make_tensor_value_info("tokens", INT64, [batch, 4]))
        nodes += [helper.make_node("Gather", ["words", "tokens"], ["embedded"]),
                  helper.make_node("ReduceMean", ["embedded"], ["text"], axes=[1], keepdims=0)]  # fmt: skip
        outputs.append(helper.make_tensor_value_info("text", FLOAT, [batch, 16]))
    tensors = [onnx.numpy_helper.from_array(value, name) for name, value in weights.items()]
    imports = [helper.make_opsetid("", 17), *([helper.make_opsetid(domain, 1)] if domain else [])]
    model = helper.make_model(helper.make_graph(nodes, "g", inputs, outputs, tensors), opset_imports=imports)
    model.ir_version = 9
    return model


def saved(path: Path, **options: Any) -> str:
    """Writes such a network, and says where."""
    onnx.save(made(**options), path)
    return str(path)


def exported(path: Path, name: str = "test_resnet") -> str:
    """Exports a model of timm with the weights of seed 0 by torch, as people do, and says where."""
    import torch

    from spark_apps.contract import ModelSettings
    from spark_apps.model.sources import package, timm

    model = package("timm", "timm").create_model(name, num_classes=0).eval()
    drawn = timm.resolve(ModelSettings(f"timm:{name}", "random:0")).load()["state_dict"]
    model.load_state_dict({key: drawn[key] for key in model.state_dict()})
    torch.onnx.export(
        model,
        (torch.zeros(1, *model.pretrained_cfg["input_size"]),),
        path,
        input_names=["photo"],
        output_names=["features"],
        dynamic_axes={"photo": {0: "photos"}, "features": {0: "photos"}},
        dynamo=False,  # the other exporter needs one more package
    )
    return str(path)
