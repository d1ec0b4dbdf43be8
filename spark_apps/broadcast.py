"""Any torch module as a Spark UDF: broadcast as an object, unpickled once per worker.

features = broadcast_extractor(spark, model)                  # model: normalised pixels to features
image_df.withColumn("features", features("content")["features"])

It asks nothing of the module but that it pickles. Each worker holds a copy of the weights; docs/from-two-snippets.md
has what that costs beside `ImageVectorizer`, which maps one file.
"""

from __future__ import annotations

import copy
import hashlib
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from spark_apps.closures.driver_only import is_a
from spark_apps.closures.findings import check_closure
from spark_apps.contract import BadSetting, ExtractSettings, IngestSettings
from spark_apps.host import cores
from spark_apps.media.fitting import Preprocessing
from spark_apps.model import Preset, worker
from spark_apps.model.torchvision_import import torchvision
from spark_apps.spark import contexts
from spark_apps.vectorizer import image_udf

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray
    from pyspark import Broadcast
    from pyspark.sql import SparkSession

IMAGENET_CLASSES = 1000


def broadcast_extractor(
    spark: SparkSession,
    model: torch.nn.Module,
    *,
    resize: int = Preset.resize,  # type: ignore[assignment]  # a square
    crop: int = Preset.crop,  # type: ignore[assignment]
    mean: Sequence[float] = Preset.mean,
    std: Sequence[float] = Preset.std,
    batch_size: int = ExtractSettings.batch_size,
    max_pixels: int = IngestSettings.max_pixels,
) -> Any:
    """A Spark UDF from a binary column of photos to struct<features: array<float>, error: string>.

    The features are what `model` returns in evaluation mode, flattened, as float32; a photo that cannot be decoded has
    null features and a reason. The module itself is not changed. A class of the script that makes the module travels
    with it; any other must be importable in the workers.

    Args:
        model: takes float32 [n, 3, crop, crop], returns a tensor [n, ...]. A classifier gives class scores: replace its
            last layer by `torch.nn.Identity()` first.
        resize, crop, mean, std: short side scaled to `resize` pixels, centre square of `crop`, then per RGB channel
            `(value / 255 - mean) / std`. The defaults are those of ImageNet.
        batch_size: photos per model call.
        max_pixels: larger photos are refused before they are decoded.

    Raises:
        BadSetting: `driver_only`, the module holds what cannot be pickled; `bad_model`, it cannot be called like this;
            `no_broadcast`, the session is one of Spark Connect.
    """
    if is_a(spark, ["pyspark.sql.connect.session.SparkSession"]):
        raise BadSetting(
            "no_broadcast", "A session of Spark Connect cannot broadcast.", "Use the session of a Spark driver."
        )
    check_closure(model, notes=False)
    from pyspark import cloudpickle

    pickled: bytes = cloudpickle.dumps(_ready(model, crop))  # type: ignore[no-untyped-call]
    contexts.ship_code(spark.sparkContext)
    runner = _Runner(
        spark.sparkContext.broadcast(_Module(pickled)),
        hashlib.sha256(pickled).hexdigest(),
        b"torchvision" in pickled,
        np.array(mean, np.float32),
        np.array(std, np.float32),
    )
    return image_udf(runner.run, Preprocessing(resize, crop), batch_size, max_pixels)


class _Module:
    """Pickled bytes that unpickle as the module itself, so that a worker does not keep both.

    Spark pickles a broadcast value by the standard library alone, which knows no class of `__main__` in a worker.
    """

    def __init__(self, pickled: bytes) -> None:
        self.pickled = pickled

    def __reduce__(self) -> tuple[Any, ...]:
        from pyspark import cloudpickle

        return cloudpickle.loads, (self.pickled,)


class _Runner:
    """What travels with the function: a reference to the broadcast, and how the pixels are normalised."""

    def __init__(
        self,
        broadcast: Broadcast[Any],
        sha256: str,
        needs_torchvision: bool,
        mean: NDArray[np.float32],
        std: NDArray[np.float32],
    ) -> None:
        self.broadcast, self.sha256, self.needs_torchvision = broadcast, sha256, needs_torchvision
        self.mean, self.std = mean, std

    def run(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """uint8 [n, crop, crop, 3] to float32 [n, dim]."""
        # By content: the same module broadcast again is not unpickled again, and a worker that did other work in
        # between still has it, while Spark forgets a broadcast that a job does not use.
        module = worker.kept(("broadcast", self.sha256), self._open)
        return _features(module, pixels, self.mean, self.std)

    def _open(self) -> torch.nn.Module:
        import torch

        torch.set_num_threads(cores.threads(1))
        if self.needs_torchvision:
            torchvision()
        module: torch.nn.Module = self.broadcast.value
        return module


def _features(
    module: torch.nn.Module, pixels: NDArray[np.uint8], mean: NDArray[np.float32], std: NDArray[np.float32]
) -> NDArray[np.float32]:
    import torch

    values = (torch.from_numpy(pixels).float() / 255 - torch.from_numpy(mean)) / torch.from_numpy(std)
    with torch.inference_mode():
        found: torch.Tensor = module(values.permute(0, 3, 1, 2))
    if not isinstance(found, torch.Tensor) or found.ndim == 0 or len(found) != len(pixels):
        shape = tuple(found.shape) if isinstance(found, torch.Tensor) else type(found).__name__
        raise ValueError(f"it returned {shape} for {len(pixels)} photos, not a tensor with a row for each")
    features: NDArray[np.float32] = found.reshape(len(found), -1).float().numpy()
    return features


def _ready(model: torch.nn.Module, crop: int) -> torch.nn.Module:
    """A copy in evaluation mode on the CPU, after it has been called once. Raises BadSetting."""
    pixels, mean, std = np.zeros((1, crop, crop, 3), np.uint8), np.zeros(3, np.float32), np.ones(3, np.float32)
    try:
        copied = copy.deepcopy(model).cpu().eval()
        features = _features(copied, pixels, mean, std)
    except Exception as error:
        raise BadSetting(
            "bad_model",
            f"The module cannot be called with photos: {type(error).__name__}: {' '.join(str(error).split())[:300]}.",
            f"It must take float32 [n, 3, {crop}, {crop}] and return a tensor [n, ...].",
        ) from error
    if features.shape[1] == IMAGENET_CLASSES:
        warnings.warn(
            f"{IMAGENET_CLASSES} numbers for a photo are most likely ImageNet's class scores, not features. Replace "
            "the last layer first: model.fc = torch.nn.Identity() for a ResNet.",
            stacklevel=3,
        )
    return copied
