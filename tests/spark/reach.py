"""The vectorizer where workers know nothing of this package: started by test_reach, with a master or `connect`."""

from __future__ import annotations

import sys
from pathlib import Path

import skimage
from pyspark.sql import SparkSession

sys.path.insert(0, sys.argv[2])  # the driver alone knows it: a worker inherits PYTHONPATH, not this
from spark_apps.vectorizer import ImageVectorizer

builder = SparkSession.builder
spark = (builder.remote("local[1]") if sys.argv[1] == "connect" else builder.master(sys.argv[1])).getOrCreate()
photo = (Path(skimage.__file__).parent / "data" / "chelsea.png").read_bytes()
frame = spark.createDataFrame([(photo,), (b"no photo",)], "content binary").coalesce(1)
found = ImageVectorizer("resnet18", "random:0").process_images(frame, error_column="error")
(row,) = found.where("features is not null").collect()
print("dimension", len(row.features))
spark.stop()
