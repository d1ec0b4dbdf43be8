"""The failure everybody meets first, and the same few lines with ours."""

from __future__ import annotations

import pickle
import re
from typing import Any

import numpy as np
import pytest
from pyspark.errors import PySparkRuntimeError
from pyspark.errors.exceptions.base import PySparkException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.functions import udf
from pyspark.sql.types import ArrayType, FloatType

from spark_apps.contract import ModelSettings
from spark_apps.media.imaging import BadImage
from spark_apps.model.reference import reference
from spark_apps.vectorizer import ImageVectorizer, image_udf
from tests.spark.conftest import PHOTOS


class HoldsTheSession:
    """The obvious thing: the object that does the work also holds the SparkSession."""

    def __init__(self, spark: SparkSession) -> None:
        self.spark = spark

    def extract_features(self, image_binary: bytes) -> list[float]:
        return [float(len(image_binary))]

    def process_images(self, image_df: DataFrame) -> DataFrame:
        extract = udf(lambda content: self.extract_features(content), ArrayType(FloatType()))
        return image_df.withColumn("features", extract(image_df["content"]))


def test_an_object_that_holds_the_session_cannot_enter_a_udf(spark: SparkSession, image_df: DataFrame) -> None:
    with pytest.raises(
        (PySparkRuntimeError, PySparkException, pickle.PicklingError),
        match=r"CONTEXT_ONLY_VALID_ON_DRIVER|SparkContext",
    ):
        HoldsTheSession(spark).process_images(image_df).collect()


def test_process_images_works_and_a_broken_photo_does_not_stop_the_others(
    vectorizer: ImageVectorizer, image_df: DataFrame
) -> None:
    rows = {row.name: row for row in vectorizer.process_images(image_df, error_column="error").collect()}
    assert rows["broken.jpg"].features is None
    assert rows["broken.jpg"].error.startswith("corrupt: ")
    for name in ("chelsea.png", "coffee.png", "rocket.jpg"):
        assert rows[name].error is None
        single = vectorizer.extract_features((PHOTOS / name).read_bytes())
        np.testing.assert_allclose(rows[name].features, single, atol=1e-5)


def test_the_vectorizer_itself_works_inside_a_plain_udf(vectorizer: ImageVectorizer, image_df: DataFrame) -> None:
    extract = udf(lambda content: vectorizer.extract_features(content), ArrayType(FloatType()))
    good = image_df.where("name != 'broken.jpg'")
    assert [len(row.features) for row in good.select(extract("content").alias("features")).collect()] == [512] * 3


def test_the_vectorizer_pickles_as_a_description(vectorizer: ImageVectorizer) -> None:
    pickled = pickle.dumps(vectorizer)
    assert len(pickled) < 50_000
    photo = (PHOTOS / "coffee.png").read_bytes()
    assert pickle.loads(pickled).extract_features(photo) == vectorizer.extract_features(photo)


def test_resnet50_gives_2048_features_that_equal_torchvision(
    monkeypatch: pytest.MonkeyPatch, spark: SparkSession, image_df: DataFrame
) -> None:
    from PIL import Image

    from spark_apps import vectorizer as api

    monkeypatch.setenv(api.WEIGHTS_VARIABLE, "random:0")
    api.default_vectorizer.cache_clear()
    try:
        features: Any = api.extract_features((PHOTOS / "chelsea.png").read_bytes())
        assert isinstance(features, list)
        assert len(features) == 2048
        with Image.open(PHOTOS / "chelsea.png") as photo:
            expected = reference(ModelSettings("resnet50", "random:0"))(photo.convert("RGB"))
        assert np.abs(expected - np.array(features)).max() <= 1e-4
        frame = image_df.withColumn("features", api.extract_features_udf(image_df["content"]))
        assert frame.schema["features"].dataType == ArrayType(FloatType())
        assert [row.features and len(row.features) for row in frame.collect()] == [2048, 2048, 2048, None]
    finally:
        api.default_vectorizer.cache_clear()


def test_no_image_is_an_error_with_a_code(vectorizer: ImageVectorizer) -> None:
    with pytest.raises(BadImage) as failure:
        vectorizer.extract_features(b"text")
    assert failure.value.code == "not_an_image"


def test_a_filter_on_the_result_runs_the_model_once(
    vectorizer: ImageVectorizer, image_df: DataFrame, spark: SparkSession
) -> None:
    decoded = spark.sparkContext.accumulator(0)

    def run(pixels: np.ndarray) -> np.ndarray:
        decoded.add(len(pixels))
        return vectorizer._run(pixels)

    counted = image_udf(run, vectorizer._preprocessing, 16, 10**8)
    one_file = image_df.coalesce(1)
    frames = [
        vectorizer.process_images(one_file, error_column="error").where("features is not null and error is null"),
        one_file.withColumn("found", counted("content")).where("found.features is not null").select("name", "found"),
    ]
    for frame in frames:
        plan = frame._jdf.queryExecution().executedPlan().toString()
        assert len(re.findall(r"ArrowEvalPython\b", plan)) == 1, plan
        assert {row.name for row in frame.collect()} == {"chelsea.png", "coffee.png", "rocket.jpg"}
    assert decoded.value == 3
