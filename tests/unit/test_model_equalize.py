"""Equalised models compute what they did, and their channels are closer to one another."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import openvino as ov
import pytest

from spark_apps.contract import ModelSettings
from spark_apps.model import equalize, machine, prepare, quantize

PIXELS = np.random.default_rng(3).integers(0, 256, (4, 224, 224, 3), np.uint8)


@pytest.fixture(autouse=True)
def cache_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IMAGE_FEATURES_CACHE", str(tmp_path / "cache"))


F32 = {"INFERENCE_PRECISION_HINT": "f32"}


def outputs(model: ov.Model) -> tuple[np.ndarray, np.ndarray]:
    compiled = ov.Core().compile_model(model, "CPU", F32)
    results = compiled([PIXELS])
    return np.array(results["features"]), np.array(results["logits"])


@pytest.mark.parametrize(
    ("name", "at_least"),
    [("resnet18", 11), ("resnext50_32x4d", 16), ("mnasnet0_5", 8), ("squeezenet1_1", 4), ("mobilenet_v3_small", 0)],
)
def test_an_equalised_model_computes_the_same(name: str, at_least: int) -> None:
    made = prepare(ModelSettings(name, "random:0", engine="openvino"))
    xml = next(path for path in made.files if path.suffix == ".xml")
    before = outputs(ov.Core().read_model(xml))
    model = quantize.simplified(xml)
    assert equalize.equalize(model, PIXELS) >= at_least
    for one, other in zip(before, outputs(model), strict=True):
        np.testing.assert_allclose(other, one, atol=2e-4 * np.abs(one).max())


def test_a_wide_channel_no_longer_takes_the_precision_of_the_others() -> None:
    """One channel between two convolutions is made 50 times as wide as the others, which the second undoes."""
    from openvino import opset13 as op

    random = np.random.default_rng(0)
    first, second = random.normal(size=(2, 8, 8, 3, 3)).astype(np.float32) / 8
    wide = np.ones(8, np.float32)
    wide[2] = 50
    photo = op.parameter([-1, 8, 16, 16], np.uint8, name="pixels")
    one = op.convolution(op.convert(photo, "f32"), first * wide[:, None, None, None], [1, 1], [1, 1], [1, 1], [1, 1])
    between = op.relu(op.add(one, random.normal(size=(1, 8, 1, 1)).astype(np.float32)))
    two = op.convolution(between, second / wide[None, :, None, None], [1, 1], [1, 1], [1, 1], [1, 1])
    model = ov.Model([op.result(two)], [photo], "wide")
    pixels = random.integers(0, 256, (4, 8, 16, 16), np.uint8)

    def widths() -> np.ndarray:
        ends = [op.result(op.reduce_max(between, np.array([0, 2, 3]), False))]
        return np.array(ov.Core().compile_model(ov.Model(ends, [photo], "watch"), "CPU", F32)([pixels])[0])

    spread = widths().max() / np.median(widths())
    before = np.array(ov.Core().compile_model(model, "CPU", F32)([pixels])[0])
    assert equalize.equalize(model, pixels) == 1
    assert widths().max() / np.median(widths()) < spread / 10
    after = np.array(ov.Core().compile_model(model, "CPU", F32)([pixels])[0])
    np.testing.assert_allclose(after, before, atol=2e-4 * np.abs(before).max())


@pytest.mark.parametrize(
    ("name", "spared"),
    [
        ("resnet50", ["conv1", "layer1.0.conv1"]),
        ("resnet18", ["conv1"]),
        ("vgg11", ["features.0"]),
    ],
)
def test_the_first_layers_stay_in_floating_point_while_they_are_cheap(name: str, spared: list[str]) -> None:
    made = prepare(ModelSettings(name, "random:0", engine="openvino"))
    model = quantize.simplified(next(path for path in made.files if path.suffix == ".xml"))
    assert [layer.split("/")[0].removeprefix("__module.body.") for layer in quantize.first_layers(model)] == spared


def test_a_model_made_before_computes_its_floating_point_part_in_fp32() -> None:
    assert (quantize.arithmetic(0), quantize.arithmetic(2)) == ("f32", "f32")
    assert quantize.arithmetic(quantize.RECIPE) == ("bf16" if machine.has_bf16(Path("/proc/cpuinfo")) else "f32")
