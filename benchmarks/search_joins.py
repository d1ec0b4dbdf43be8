"""Many queries at once in Spark: `python -m benchmarks.search_joins --rows 100000 --queries 500`.

Publishes synthetic days (see `benchmarks.search`) and runs both recipes of docs/search.md as they stand there, for each
photo of one day of `--queries` photos:

* by the index, among all `--rows`, with `mapInArrow`;
* by Spark's `nearestByJoin`, among the photos of that day alone, as it compares each with each.

Prints the seconds of each, Spark's session already there, and for how many comparisons.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks import places
from benchmarks.search import MODEL, PIECE, Source, publish
from spark_apps import catalog
from spark_apps.contract import IndexSettings
from spark_apps.index import index
from spark_apps.spark.jobs import Timings

DAY = "asking"


def main() -> int:
    parser = argparse.ArgumentParser("benchmarks.search_joins", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--rows", type=int, default=100_000, help="vectors in the index (default: %(default)s)")
    parser.add_argument("--queries", type=int, default=500, help="photos of the day that asks (default: %(default)s)")
    parser.add_argument("--folder", type=Path, default=places.WORK, help="where the store is made (%(default)s)")
    options = parser.parse_args()
    folder: Path = options.folder / "search-joins"
    shutil.rmtree(folder, ignore_errors=True)
    try:
        found = measure(str(folder / "store"), options.rows, options.queries)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print(json.dumps(found, indent=1))
    return 0


def measure(store: str, rows: int, queries: int) -> dict[str, Any]:
    """Seconds of both recipes."""
    source = Source(rows)
    publish(store, DAY, source.piece(0, queries), 0)
    for number, first in enumerate(range(queries, rows, PIECE), 1):
        publish(store, f"day-{number:04}", source.piece(number, min(PIECE, rows - first)), first)
    index(IndexSettings(store=store, model=MODEL), Timings())

    from pyspark.sql import SparkSession

    spark = SparkSession.builder.master("local[2]").config("spark.ui.enabled", "false").getOrCreate()
    spark.range(1).collect()
    names: dict[str, Any] = {"spark": spark, "store": store, "model": MODEL, "day": DAY, "catalog": catalog}
    blocks = re.findall(r"```python\n(.*?)```", (places.ROOT / "docs" / "search.md").read_text(), re.DOTALL)
    by_index, by_join = (block for block in blocks if "queries" in block)
    seconds = {}
    for name, recipe, frame in (("index", by_index, "found"), ("nearestByJoin", by_join, "pairs")):
        exec(recipe.replace(".show()", ""), names)  # noqa: S102 - ours, from the documents
        begin = time.perf_counter()
        answers = len(names[frame].collect())
        seconds[name] = {"seconds": round(time.perf_counter() - begin, 1), "answers": answers}
    spark.stop()
    seconds["index"]["rows"], seconds["nearestByJoin"]["rows"] = rows, queries
    return {"queries": queries, **seconds}


if __name__ == "__main__":
    sys.exit(main())
