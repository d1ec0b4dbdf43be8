"""`broadcast_extractor` on real Spark: the same features as ours, one model in a worker, a broken photo is a row."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.functions import udf
from pyspark.sql.types import IntegerType

from spark_apps.broadcast import broadcast_extractor
from spark_apps.model import worker
from spark_apps.model.torchvision_import import torchvision
from spark_apps.vectorizer import ImageVectorizer


def collected(frame: DataFrame, features: Any) -> dict[str, Any]:
    found = frame.select("name", features("content").alias("found")).collect()
    return {row.name: row.found for row in found}


def test_the_features_are_those_of_the_vectorizer_and_a_broken_photo_is_a_row(
    spark: SparkSession, image_df: DataFrame, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    model = torchvision().models.resnet18(weights=None)
    torch.save(model.state_dict(), tmp_path / "resnet18.pth")
    ours = ImageVectorizer("resnet18", str(tmp_path / "resnet18.pth"))
    model.fc = torch.nn.Identity()
    found = collected(image_df, broadcast_extractor(spark, model))
    expected = collected(image_df, ours.udf())
    assert found["broken.jpg"].features is None
    assert found["broken.jpg"].error == expected["broken.jpg"].error
    assert found["broken.jpg"].error.startswith("corrupt: ")
    for name in ("chelsea.png", "coffee.png", "rocket.jpg"):
        assert found[name].error is None
        np.testing.assert_allclose(found[name].features, expected[name].features, atol=1e-4)


def test_a_module_of_the_script_is_opened_once_in_a_worker_whatever_runs_in_between(
    spark: SparkSession, image_df: DataFrame
) -> None:
    class Means(torch.nn.Module):
        """Defined here, so that no worker can import it."""

        def forward(self, pixels: torch.Tensor) -> torch.Tensor:
            assert not torch.is_grad_enabled()
            assert not self.training
            return pixels.mean((2, 3)).half()

    model = Means()
    first = broadcast_extractor(spark, model, mean=(0, 0, 0), std=(1, 1, 1), resize=64, crop=64)
    once = collected(image_df, first)
    assert len(once["coffee.png"].features) == 3
    assert all(0 <= value <= 1 for value in once["coffee.png"].features)
    spark.range(8).select(udf(lambda value: int(value), IntegerType())("id")).collect()
    again = broadcast_extractor(spark, model, mean=(0, 0, 0), std=(1, 1, 1), resize=64, crop=64)
    assert collected(image_df, again) == once

    def opened() -> int:
        return sum("broadcast" in key and type(made).__name__ == "Means" for key, made in worker._kept.items())

    counts = {row.n for row in spark.range(8).select(udf(lambda _: opened(), IntegerType())("id").alias("n")).collect()}
    assert counts <= {0, 1}
    assert 1 in counts
