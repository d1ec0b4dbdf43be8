"""Runs Python blocks one after the other as one script: `run_snippets.py BLOCKS PHOTOS`; prints one JSON line for each.

BLOCKS is a JSON file with a list of sources. `spark` and `image_df` are there for them, as a notebook has them.
"""

from __future__ import annotations

import contextlib
import io
import json
import sys
from pathlib import Path


def main(blocks: str, photos: str) -> None:
    from pyspark.sql import SparkSession

    import __main__

    spark = SparkSession.builder.master("local[2]").config("spark.ui.enabled", "false").getOrCreate()
    vars(__main__).update(spark=spark, image_df=spark.read.format("binaryFile").load(photos))
    for source in json.loads(Path(blocks).read_text()):
        printed, failure = io.StringIO(), None
        try:
            with contextlib.redirect_stdout(printed):
                exec(compile(source, "a block", "exec"), vars(__main__))
        except Exception as error:
            failure = f"{type(error).__name__}: {error}"
        print(json.dumps({"printed": printed.getvalue(), "failure": failure}), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
