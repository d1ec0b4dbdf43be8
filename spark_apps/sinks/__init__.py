"""Other places for the vectors of a model, kept equal to what is published: other people's vector databases.

from spark_apps.sinks import open_sink, sync
with closing(open_sink("qdrant://localhost:6333/cars")) as sink:
    sync("/data/features", "resnet50-imagenet1k_v2-fp32", sink)

A place of another kind is a class with the methods of `Sink` (docs/consumers.md). Needs pyarrow and deltalake, and what
the place itself needs; no Spark.
"""

from __future__ import annotations

from spark_apps.sinks.opening import open_sink as open_sink
from spark_apps.sinks.sink import Sink as Sink
from spark_apps.sinks.sink import row_id as row_id
from spark_apps.sinks.syncing import Done as Done
from spark_apps.sinks.syncing import sync as sync
