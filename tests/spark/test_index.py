"""A day through the pipeline into the search index: by Spark tasks as by the driver, and found by a photo's bytes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from spark_apps import contract
from spark_apps.contract import IndexSettings
from spark_apps.index import index
from spark_apps.search import datasets, open_index, writing
from spark_apps.spark.jobs import Timings
from tests.spark.conftest import GOOD, Pipeline


@pytest.mark.parametrize("driver_rows", [0, 1000])
def test_a_published_day_is_found_by_the_bytes_of_a_photo(
    pipeline: Pipeline, landing: Path, tmp_path: Path, driver_rows: int
) -> None:
    published = pipeline()["validate"]
    assert published.model is not None
    settings = IndexSettings(
        store=str(tmp_path / "store"), partition="d1", run_id="run 1", driver_rows=driver_rows
    )  # the run says which model
    done = index(settings, Timings())
    assert (done.counts["brought"], done.counts["differing"]) == (GOOD, 0)
    assert writing.audit(settings.store, published.model.key) == {}
    found = open_index(settings.store, published.model.key).nearest(
        (landing / "d1" / "chelsea.jpg").read_bytes(), k=GOOD
    )
    assert Path(found[0].uri).name == "chelsea.jpg" and found[0].similarity == pytest.approx(1, abs=1e-4)
    assert found[1].similarity < 0.9999 and len(found) == GOOD
    with pytest.raises(contract.BadFile):
        open_index(settings.store, published.model.key).nearest(b"no photo")
    again = index(replace(settings, rebuild=True), Timings())
    dataset = datasets.opened(settings.store, published.model.key)
    assert dataset is not None and dataset.count_rows() == GOOD and again.counts["differing"] == 0
