"""Searching the vectors of a store: one Lance dataset for each model, made from what is published and never the truth.

from spark_apps.search import open_index
open_index("/data/features", "resnet50-imagenet1k_v2-fp32").nearest(vector_or_bytes, k=10)

`reading` needs pyarrow, deltalake and Lance; `embedding` what the model needs; `writing` is what the command
`spark_apps.index` does.
"""

from __future__ import annotations

from spark_apps.search.reading import Index as Index
from spark_apps.search.reading import Neighbour as Neighbour
from spark_apps.search.reading import open_index as open_index
