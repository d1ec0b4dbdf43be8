"""A model of each source beside torchvision: ingest, extract, validate, index, and a search by photo and by words.

The models are small, their weights random. `tests/airflow/test_models_in_a_dag.py` does it in a Dag, with real sizes.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps

from spark_apps import catalog, storage
from spark_apps.contract import IndexSettings, ModelSettings
from spark_apps.index import index
from spark_apps.model.reference import reference
from spark_apps.search.__main__ import main as search
from spark_apps.spark.jobs import Timings
from tests import small_onnx, small_open_clip
from tests.model_numbers import assert_close
from tests.spark.conftest import BAD, GOOD, Pipeline

Model = Callable[[Path], dict[str, str]]
"""From an empty folder to the settings of a model."""
MODELS: dict[str, Model] = {
    "timm": lambda folder: {"model": "timm:test_convnext", "weights": "random:0"},
    "onnx": lambda folder: {"model": small_onnx.exported(folder / "small.onnx"), "weights": "DEFAULT"},
    "open_clip": lambda folder: {"model": small_open_clip.register(folder), "weights": "random:0"},
}


@pytest.mark.parametrize("name", MODELS)
def test_a_model_of_each_source_is_computed_checked_indexed_and_searched(
    name: str, pipeline: Pipeline, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "model").mkdir()
    asked = MODELS[name](tmp_path / "model")
    store = str(tmp_path / "store")
    manifests = pipeline(**asked)
    published = manifests["extract"].model
    assert published is not None and published.key.startswith(f"{name}_")
    assert manifests["validate"].counts["featured"] == GOOD
    assert manifests["validate"].quarantined == BAD
    report = catalog.report(store, "d1", "run 1")
    assert report is not None
    (check,) = [check for check in report["checks"] if check["name"] == "recomputation"]
    assert (check["passed"], len(report["recomputed"])) == (True, 2)

    rows = catalog.vectors(store, "d1", published.key).to_pylist()
    features_of = reference(ModelSettings(**asked))
    for row in rows:
        with Image.open(storage.filesystem(row["uri"])[1]) as photo:
            expected = features_of(ImageOps.exif_transpose(photo).convert("RGB"))
        assert_close(np.array(row["features"], np.float32), expected)

    assert index(IndexSettings(store=store, model=published.key), Timings()).counts["brought"] == GOOD
    chelsea = tmp_path / "landing" / "d1" / "chelsea.jpg"
    (nearest,) = found(capsys, store, published.key, "-k", "1", "--photo", str(chelsea))
    assert (nearest["uri"], round(nearest["similarity"], 4)) == (chelsea.as_uri(), 1)
    if name == "open_clip":
        cosines = small_open_clip.cosines(asked["model"], "a cat", np.array([row["features"] for row in rows]))
        by_words = found(capsys, store, published.key, "-k", str(GOOD), "--text", "a cat")
        wanted = {row["uri"]: cosine for row, cosine in zip(rows, cosines, strict=True)}
        assert {one["uri"]: one["similarity"] for one in by_words} == pytest.approx(wanted, abs=1e-4)
        assert [one["similarity"] for one in by_words] == sorted(map(itemgetter("similarity"), by_words))[::-1]
    else:
        assert search(["--store", store, "--model", published.key, "--text", "a cat"]) == 2
        assert "words" in capsys.readouterr().err


def found(capsys: pytest.CaptureFixture[str], store: str, model: str, *query: str) -> list[dict[str, Any]]:
    """What the command prints."""
    assert search(["--store", store, "--model", model, "--json", *query]) == 0
    answer: list[dict[str, Any]] = json.loads(capsys.readouterr().out)
    return answer
