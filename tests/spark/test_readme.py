"""The Python that the README shows runs as it stands, on a published day."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import SparkSession

from spark_apps import vectorizer as api
from spark_apps.spark.contexts import context
from tests.spark.conftest import GOOD, Pipeline

README = Path(__file__).resolve().parents[2] / "README.md"


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
    context("readme")
    names: dict[str, Any] = {
        "spark": SparkSession.builder.getOrCreate(),
        "store": str(tmp_path / "store"),
        "day": "d1",
        "model": "resnet18-random_0-fp32",
        "photos": str(landing / "d1"),
        "image_binary": (landing / "d1" / "coffee.jpg").read_bytes(),
    }
    snippets = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    snippets = [snippet for snippet in snippets if "airflow.sdk" not in snippet]  # Airflow runs those: test_end_to_end
    assert len(snippets) == 7
    try:
        for snippet in snippets:
            exec(snippet.replace('weights="keras-v1"', 'weights="random:0"'), names)
    finally:
        api.default_vectorizer.cache_clear()
    assert len(names["vector"]) == 2048
    assert len(names["frame"]) == GOOD
    for frame in (names["with_own"], names["with_ours"]):
        assert [len(row.features) for row in frame.select("features").collect()] == [2048] * GOOD
