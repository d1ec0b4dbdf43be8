"""The ways to be faster than fp32 on exact pixels: int8, other decoding, tasks of more than one core."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pyspark import SparkContext

from spark_apps import catalog, contract, storage
from spark_apps.contract import BadSetting, ExtractSettings
from spark_apps.extract import extract
from spark_apps.spark.jobs import Timings
from tests.spark.conftest import PHOTOS, Pipeline


def crops(folder: Path, offset: int) -> None:
    """Twenty squares of real photos; another twenty for another offset."""
    folder.mkdir(parents=True)
    for name in ("astronaut.png", "chelsea.png", "coffee.png", "rocket.jpg"):
        photo = Image.open(PHOTOS / name).convert("RGB").resize((600, 600))
        for number in range(5):
            x = offset + 60 * number
            photo.crop((x, x, x + 300, x + 300)).save(folder / f"{Path(name).stem}-{number}.jpg", quality=92)


def cosines(store: Path, partition: str, one: str, other: str) -> np.ndarray:
    left, right = (
        {row["uri"]: np.array(row["features"]) for row in catalog.vectors(str(store), partition, key).to_pylist()}
        for key in (one, other)
    )
    assert left.keys() == right.keys() and left
    return np.array([left[uri] @ right[uri] / np.linalg.norm(left[uri]) / np.linalg.norm(right[uri]) for uri in left])


def test_int8_is_calibrated_on_the_first_day_and_later_days_share_its_model(
    pipeline: Pipeline, landing: Path, tmp_path: Path
) -> None:
    crops(landing / "d2", 0)
    crops(landing / "d3", 30)
    with pytest.raises(BadSetting) as caught:
        pipeline("d1", "int8", precision="int8")
    assert caught.value.code == "no_calibration", "seven photos are too few to calibrate on"
    first = pipeline("d2", "int8", precision="int8")
    second = pipeline("d3", "int8", precision="int8")
    pipeline("d3", "fp32")
    model = first["extract"].model
    assert model.calibration["partition"] == "d2"
    assert second["extract"].model == model
    assert (first["extract"].counts["computed"], second["extract"].counts["computed"]) == (20, 20)
    store = tmp_path / "store"
    kept = storage.read_json(contract.join(str(store), "models", model.fingerprint, "model.json"))
    assert kept == model.to_record()
    close = cosines(store, "d3", "resnet18-random_0-int8", "resnet18-random_0-fp32")
    assert 0.99 <= close.min() < 0.99999


def test_fast_and_scaled_vectors_are_published_beside_exact_ones_and_stay_close(
    pipeline: Pipeline, landing: Path, tmp_path: Path
) -> None:
    large = landing / "d2"
    large.mkdir()
    for name in ("astronaut.png", "coffee.png", "rocket.jpg"):
        Image.open(PHOTOS / name).convert("RGB").resize((2400, 1800)).save(large / f"{name}.jpg", quality=92)
    pipeline("d2", "exact")
    for decode in ("fast", "scaled"):
        found = pipeline("d2", decode, decode=decode)["validate"]
        assert found.model.key == f"resnet18-random_0-fp32-{decode}"
        close = cosines(tmp_path / "store", "d2", "resnet18-random_0-fp32", found.model.key)
        assert 0.99 <= close.min() < 1


def stop_spark() -> None:
    if SparkContext._active_spark_context:
        SparkContext._active_spark_context.stop()


@pytest.fixture
def own_spark() -> Iterator[None]:
    """Each job starts a Spark of its own after `stop_spark`; none is left behind."""
    yield
    stop_spark()


def test_a_wide_task_has_all_cores_and_gives_the_same(pipeline: Pipeline, tmp_path: Path, own_spark: None) -> None:
    narrow = pipeline(upto="extract")["extract"]
    stop_spark()
    settings = ExtractSettings(**{**narrow.settings, "resources": "wide", "recompute": True})
    wide = extract(settings, Timings())
    context = SparkContext._active_spark_context
    assert context is not None
    assert context.getConf().get("spark.task.cpus") == str(context.defaultParallelism)
    assert (wide.counts, wide.quarantined) == (narrow.counts, narrow.quarantined)
    assert wide.outcome["model_loads"] == 1
