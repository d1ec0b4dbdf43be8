"""A pandas UDF over an iterator of batches, the way Databricks shows featurization: the model is loaded once per task,
then batch after batch goes through it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pandas as pd

from benchmarks import protocol
from benchmarks.protocol import Job, OnePass, serve
from benchmarks.systems import spark_session
from benchmarks.systems.vectorizers import load


@contextmanager
def pandas_iterator(job: Job) -> Iterator[OnePass]:
    from pyspark.sql.pandas.functions import pandas_udf

    def featurize(batches: Iterator[pd.Series]) -> Iterator[pd.Series]:
        vectorizer = load(job)
        for contents in batches:
            vectors: list[object] = []
            for start in range(0, len(contents), job.batch_size):
                vectors += list(vectorizer.features(contents.iloc[start : start + job.batch_size].tolist()))
                protocol.first_row()
            yield pd.Series(vectors)

    # Spark reads the kind of UDF off the annotations, which must be types here, not strings.
    featurize.__annotations__ = {"batches": Iterator[pd.Series], "return": Iterator[pd.Series]}

    with spark_session.session("pandas_iterator", job.cores) as spark:
        spark.conf.set("spark.sql.execution.arrow.maxRecordsPerBatch", "1024")
        make: Any = pandas_udf  # its stubs miss that annotations can name the kind of UDF
        features = make(featurize, "array<float>")

        yield spark_session.one_pass(spark, job, features)


if __name__ == "__main__":
    sys.exit(serve("pandas_iterator", pandas_iterator, __doc__))
