"""What the tests of every source of models do: prepare photos as extract does, run a model, compare numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skimage
from PIL import Image

from spark_apps.contract import JobError
from spark_apps.media import fitting
from spark_apps.media.fitting import Preprocessing
from spark_apps.model import ModelArtifact, load
from spark_apps.model.engines import Outputs

TOLERANCE = 1e-4
"""Share of the largest value by which an engine in fp32 may differ from the model's own library."""


def photos(*names: str) -> list[Image.Image]:
    """Photos that scikit-image ships, by their file names."""
    folder = Path(skimage.__file__).parent / "data"
    return [Image.open(folder / name).convert("RGB") for name in names]


def run(artifact: ModelArtifact, photos: list[Image.Image], streams: int = 1) -> Outputs:
    """What the engine gives of the photos, which are prepared as extract does it."""
    preprocessing = Preprocessing.of(artifact.info.preprocessing)
    pixels = np.stack([np.asarray(fitting.fit(photo, preprocessing)) for photo in photos])
    return load(artifact.info, artifact.files[0].parent, streams, streams=streams).run(pixels)


def assert_close(found: np.ndarray, expected: np.ndarray) -> None:
    assert found.shape == expected.shape
    assert found.dtype == np.float32
    assert abs(found - expected).max() <= TOLERANCE * abs(expected).max()


def refused(call: Any, *args: Any, **kwargs: Any) -> JobError:
    """The error that the call ends with."""
    with pytest.raises(JobError) as caught:
        call(*args, **kwargs)
    return caught.value
