"""The Python that the README and the pages it leads to show runs as it stands, on a published day."""

from __future__ import annotations

import re
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import SparkSession

from spark_apps import vectorizer as api
from spark_apps.contract import IndexSettings
from spark_apps.index import index
from spark_apps.spark.contexts import context
from spark_apps.spark.jobs import Timings
from tests.spark.conftest import GOOD, Pipeline

REPOSITORY = Path(__file__).resolve().parents[2]
PAGES = ("README.md", "docs/python.md", "docs/reading.md", "docs/consumers.md", "docs/search.md")
"""Read as one script. Airflow runs the Dags of docs/airflow.md: test_end_to_end. LanceDB's: test_lancedb."""


def test_every_snippet_runs(
    pipeline: Pipeline,
    landing: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    pipeline()
    (landing / "d1" / "empty.jpg").unlink()
    (landing / "d1" / "cut.jpg").unlink()
    (landing / "d1" / "notes.jpg").unlink()
    monkeypatch.setenv(api.WEIGHTS_VARIABLE, "random:0")
    api.default_vectorizer.cache_clear()
    index(IndexSettings(store=str(tmp_path / "store"), model="resnet18-random_0-fp32"), Timings())
    context("readme")
    names: dict[str, Any] = {
        "spark": SparkSession.builder.getOrCreate(),
        "store": str(tmp_path / "store"),
        "day": "d1",
        "model": "resnet18-random_0-fp32",
        "photos": str(landing / "d1"),
        "image_binary": (landing / "d1" / "coffee.jpg").read_bytes(),
        "photo": (landing / "d1" / "coffee.jpg").read_bytes(),
    }
    blocks = {page: re.findall(r"```python\n(.*?)```", (REPOSITORY / page).read_text(), re.DOTALL) for page in PAGES}
    snippets = {
        page: [block for block in found if not re.search("airflow|operators|lancedb", block)]
        for page, found in blocks.items()
    }
    assert [len(found) for found in snippets.values()] == [2, 3, 4, 6, 3]
    try:
        for snippet in chain(*snippets.values()):
            exec(snippet.replace('weights="keras-v1"', 'weights="random:0"'), names)
    finally:
        api.default_vectorizer.cache_clear()
    assert len(names["vector"]) == 2048
    assert len(names["frame"]) == GOOD
    photo, *_ = sorted({row["uri"] for row in names["found"].collect()})
    by_index = [row["uri"] for row in names["found"].where(f"query = '{photo}'").orderBy("similarity").collect()]
    by_spark = [row["near"] for row in names["pairs"].where(f"uri = '{photo}'").collect()]
    assert len(by_index) == 3 and {*by_index} == {*by_spark}
    for frame in (names["with_own"], names["with_ours"]):
        assert [len(row.features) for row in frame.select("features").collect()] == [2048] * GOOD
