"""The doctor says what Spark says: it is held against real objects, real pickling and a real job."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any

import pytest
from pyspark.errors.exceptions.base import PySparkException
from pyspark.serializers import CloudPickleSerializer
from pyspark.sql import DataFrame, Row, SparkSession
from pyspark.sql.functions import col, udf
from pyspark.sql.types import ArrayType, FloatType, IntegerType, StructType

from spark_apps.contract import BadSetting
from spark_apps.doctor import explain_closure
from spark_apps.vectorizer import ImageVectorizer
from tests import closures


def holding(thing: Any) -> Callable[..., Any]:
    return lambda *given: thing


def pickles(fn: Any) -> bool:
    """Whether Spark itself can pickle it."""
    try:
        CloudPickleSerializer().dumps(fn)
    except (PySparkException, pickle.PicklingError):
        return False
    return True


def test_every_object_of_spark_is_found_that_spark_cannot_pickle(spark: SparkSession) -> None:
    frame = spark.range(3)
    things = {
        "SparkSession": spark,
        "SparkContext": spark.sparkContext,
        "DataFrame": frame,
        "RDD": frame.rdd,
        "Column": col("id") + 1,
        "JVMView": spark._jvm,
        "JavaObject": spark._jsparkSession,
    }
    for name, thing in things.items():
        assert not pickles(holding(thing)), name
        finding = explain_closure(holding(thing))[0]
        assert finding.fatal, name
        assert finding.path == "holding.<lambda> → thing", name
        assert name in finding.what or name in ("RDD",), name


def test_the_session_is_found_wherever_it_is_held(spark: SparkSession) -> None:
    for name, (fn, path) in closures.holders(spark).items():
        assert not pickles(fn), name
        finding = explain_closure(fn)[0]
        assert finding.what == "a SparkSession", name
        assert finding.path.endswith(path), name
        assert "keep the SparkSession out of the object" in finding.fix


def test_what_the_doctor_lets_pass_is_pickled_and_unpickled_in_a_worker(
    spark: SparkSession, vectorizer: ImageVectorizer
) -> None:
    double = udf(lambda value: 2 * value, IntegerType())
    more = {
        "a broadcast": holding(spark.sparkContext.broadcast([1])),
        "an accumulator": holding(spark.sparkContext.accumulator(0)),
        "a schema and a row": holding([StructType().add("a", IntegerType()), Row(a=1)]),
        "the vectorizer": lambda content: vectorizer.extract_features(content),
        "the vectorizer's method": vectorizer.extract_features,
        "the vectorizer's UDF": vectorizer.udf().func,
        "a UDF": holding(double.func),
    }
    for name, fn in more.items():
        assert explain_closure(fn) == [], name
        assert pickles(fn), name
    innocents = closures.innocents() | more
    arrived = spark.sparkContext.parallelize([0], 1).map(lambda _: sorted(innocents)).collect()
    assert arrived == [sorted(innocents)]


def test_a_udf_that_was_used_holds_a_handle_of_the_jvm(spark: SparkSession) -> None:
    double: Any = udf(lambda value: 2 * value, IntegerType())
    assert pickles(holding(double))
    assert explain_closure(holding(double)) == []
    spark.range(1).select(double("id")).collect()
    assert not pickles(holding(double))
    assert explain_closure(holding(double))[0].what == "a JavaObject"


def test_looking_leaves_no_broadcast_behind_for_the_next_query(spark: SparkSession) -> None:
    before = set(spark.sparkContext._pickled_broadcast_vars)
    assert explain_closure(holding(spark.sparkContext.broadcast([1]))) == []
    assert set(spark.sparkContext._pickled_broadcast_vars) == before


class HoldsTheSession(ImageVectorizer):
    """A vectorizer of a user, who keeps the session at hand."""

    def __init__(self, spark: SparkSession) -> None:
        super().__init__(model="resnet18", weights="random:0")
        self.spark = spark


def test_our_own_udf_refuses_with_the_path_before_spark_does(spark: SparkSession, image_df: DataFrame) -> None:
    with pytest.raises(BadSetting, match=r"extract_features → self\.spark is a SparkSession") as raised:
        HoldsTheSession(spark).process_images(image_df)
    assert raised.value.code == "driver_only"
    extract = udf(lambda content: HoldsTheSession(spark).extract_features(content), ArrayType(FloatType()))
    with pytest.raises((PySparkException, pickle.PicklingError)):
        image_df.select(extract("content")).collect()
