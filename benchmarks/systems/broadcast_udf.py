"""What is tried first: the model broadcast as an object, a plain `udf` that takes one photo at a time.

What is tried before it, a class that keeps the SparkSession beside the model and is called inside the UDF, cannot run:
`first_variant` tries it and returns what Spark says.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from benchmarks import protocol
from benchmarks.protocol import Job, OnePass, Pass, serve
from benchmarks.systems import eager, spark_session

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession


@contextmanager
def broadcast_udf(job: Job) -> Iterator[OnePass]:
    from pyspark.sql.functions import udf
    from pyspark.sql.types import ArrayType, FloatType

    with spark_session.session("broadcast", job.cores) as spark:
        broadcast = spark.sparkContext.broadcast(eager.load(job.model))

        def extract_features(image_binary: bytes) -> list[float]:
            import torch

            image = eager.prepare(image_binary).unsqueeze(0)
            with torch.no_grad():
                features = broadcast.value(image)
            vector: list[float] = features.squeeze().numpy().tolist()
            protocol.first_row()
            return vector

        extract_features_udf = udf(extract_features, ArrayType(FloatType()))

        one_pass = spark_session.one_pass(spark, job, extract_features_udf)
        first = first_variant(spark, spark_session.photos(spark, job))
        yield lambda out: Pass(**{**vars(one_pass(out)), "detail": {"first_variant": first}})


def first_variant(spark: SparkSession, frame: DataFrame) -> str:
    """The first sentence of the error that the class with a SparkSession inside gives, or what it unexpectedly did."""
    from pyspark.sql.functions import udf
    from pyspark.sql.types import ArrayType, FloatType

    class ImageVectorizer:
        def __init__(self) -> None:
            self.spark = spark

        def extract_features(self, image_binary: bytes) -> list[float]:
            return [float(len(image_binary))]

        def process_images(self, image_df: DataFrame) -> DataFrame:
            extract = udf(lambda content: self.extract_features(content), ArrayType(FloatType()))
            return image_df.withColumn("features", extract(image_df["content"]))

    try:
        ImageVectorizer().process_images(frame).select("features").limit(1).collect()
    except Exception as error:
        return " ".join(str(error).split())[:300].split(". ")[0].strip() + "."
    return "It ran."


if __name__ == "__main__":
    sys.exit(serve("broadcast_udf", broadcast_udf, __doc__))
