"""`pyspark.ml.functions.predict_batch_udf`: Spark's own batch inference, which keeps the model in each worker."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np

from benchmarks import protocol
from benchmarks.protocol import Job, OnePass, serve
from benchmarks.systems import spark_session
from benchmarks.systems.vectorizers import load


@contextmanager
def predict_batch(job: Job) -> Iterator[OnePass]:
    from pyspark.ml.functions import predict_batch_udf
    from pyspark.sql.types import ArrayType, FloatType

    def make_predict_fn() -> Callable[[np.ndarray], np.ndarray]:
        vectorizer = load(job)

        def predict(contents: np.ndarray) -> np.ndarray:
            features = vectorizer.features(contents.tolist())
            protocol.first_row()
            return features

        return predict

    with spark_session.session("predict_batch_udf", job.cores) as spark:
        features = predict_batch_udf(
            make_predict_fn, return_type=ArrayType(FloatType()), batch_size=job.batch_size
        )  # one object for all passes: the workers keep the model by its identity

        yield spark_session.one_pass(spark, job, features)


if __name__ == "__main__":
    sys.exit(serve("predict_batch_udf", predict_batch, __doc__))
