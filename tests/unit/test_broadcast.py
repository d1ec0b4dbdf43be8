"""What `broadcast_extractor` refuses before anything is sent, and what its runner computes in a worker."""

from __future__ import annotations

import pickle
import threading
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import nn

from spark_apps import broadcast
from spark_apps.broadcast import broadcast_extractor
from spark_apps.contract import BadSetting
from spark_apps.model import worker

MEAN, STD = np.array([0.485, 0.456, 0.406], np.float32), np.array([0.229, 0.224, 0.225], np.float32)


class Context:
    """The part of a SparkContext that is used, and what Spark would write into its broadcast file."""

    applicationId = "app-1"  # noqa: N815

    def __init__(self) -> None:
        self.written: list[bytes] = []

    def getConf(self) -> dict[str, str]:  # noqa: N802
        return {}

    def addPyFile(self, file: str) -> None:  # noqa: N802
        assert file.endswith(".zip")

    @property
    def sparkContext(self) -> Context:  # noqa: N802
        return self

    def broadcast(self, value: Any) -> Any:
        self.written.append(pickle.dumps(value))
        return None


def small(**options: Any) -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 3, **options), nn.AdaptiveAvgPool2d(1), nn.Dropout(0.5))


def refused(model: nn.Module) -> BadSetting:
    with pytest.raises(BadSetting) as raised:
        broadcast_extractor(cast(Any, Context()), model, crop=32, resize=32)
    return raised.value


def test_a_module_that_does_not_pickle_is_refused_with_the_path_to_what_it_holds() -> None:
    model = small()
    model[0].log = threading.Lock()  # type: ignore[assignment]
    error = refused(model)
    assert error.code == "driver_only"
    assert "Sequential._modules['0'].log is a lock" in error.message
    assert "__getstate__" in error.hint


@pytest.mark.filterwarnings("ignore:.*deprecated:DeprecationWarning")
def test_a_scripted_module_is_refused_in_a_sentence() -> None:
    assert refused(torch.jit.script(small())).code == "driver_only"


@pytest.mark.parametrize("model", [nn.Linear(7, 2), nn.LSTM(32, 4), nn.Flatten(0)])
def test_a_module_that_cannot_be_called_with_photos_is_refused(model: nn.Module) -> None:
    error = refused(model)
    assert error.code == "bad_model"
    assert "[n, 3, 32, 32]" in error.hint


def test_a_session_of_spark_connect_is_refused() -> None:
    from pyspark.sql.connect.session import SparkSession

    with pytest.raises(BadSetting) as raised:
        broadcast_extractor(cast(Any, object.__new__(SparkSession)), small())
    assert raised.value.code == "no_broadcast"


def test_class_scores_in_place_of_features_are_told() -> None:
    scores = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 1000))
    with pytest.warns(UserWarning, match=r"class scores.*torch\.nn\.Identity"):
        broadcast_extractor(cast(Any, Context()), scores, crop=32)


def test_a_class_of_the_script_travels_and_the_broadcast_unpickles_as_the_module() -> None:
    class OfTheScript(nn.Module):
        def forward(self, pixels: torch.Tensor) -> torch.Tensor:
            return pixels.mean((2, 3))

    spark = Context()
    broadcast_extractor(cast(Any, spark), OfTheScript(), crop=32)
    module = pickle.loads(spark.written[0])
    assert not module.training
    assert type(module).__name__ == "OfTheScript"
    assert module(torch.ones(2, 3, 4, 4)).shape == (2, 3)


def test_the_users_module_stays_as_it_is() -> None:
    model = small().train()
    before = pickle.dumps(model)
    broadcast_extractor(cast(Any, Context()), model, crop=32)
    assert model.training
    assert pickle.dumps(model) == before


class Opened:
    """A broadcast as a worker sees it."""

    def __init__(self, module: nn.Module) -> None:
        self.module, self.times = module, 0

    @property
    def value(self) -> nn.Module:
        self.times += 1
        return self.module


def test_in_a_worker_the_module_is_opened_once_on_sparks_threads(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    before = torch.get_num_threads()
    module = small().eval()
    opened = Opened(module)
    pixels = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), np.uint8)
    try:
        for _ in range(2):  # a second task brings a runner of its own
            runner = broadcast._Runner(cast(Any, opened), "a digest", False, MEAN, STD)
            features = runner.run(pixels)
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)
        worker._kept.clear()
    assert opened.times == 1
    normalised = (
        torch.from_numpy(pixels).permute(0, 3, 1, 2) / 255 - torch.tensor(MEAN)[:, None, None]
    ) / torch.tensor(STD)[:, None, None]
    with torch.no_grad():
        expected = module(normalised).flatten(1).numpy()
    assert features.dtype == np.float32
    np.testing.assert_allclose(features, expected, atol=1e-6)
