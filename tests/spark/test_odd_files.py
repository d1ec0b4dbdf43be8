"""The optional pack of 469 odd and broken files as one partition: every file accounted for, every outcome explained."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from spark_apps import catalog, storage
from spark_apps.media.imaging import PILLOW_PIXELS
from spark_apps.spark.contexts import context, parallelism
from tests.odd_files import HEALTHY_THOUGH_PILLOW_REFUSES
from tests.spark.conftest import Pipeline


@pytest.mark.parametrize("content", ["keep", "reference"])
def test_the_odd_files_are_all_accounted_for_and_no_worker_dies(
    pipeline: Pipeline, optional_data: Path, tmp_path: Path, content: str
) -> None:
    folder = optional_data / "dev-pack"
    with (folder / "MANIFEST.csv").open(newline="") as file:
        expected = {str(folder.resolve() / "images" / row["file"]): row for row in csv.DictReader(file)}
    limits = {"max_pixels": 2 * PILLOW_PIXELS, "max_failed_fraction": 0.6}  # what the manifest was made with
    manifests = pipeline("odd", source=str(folder.resolve() / "images"), content=content, **limits)
    counts = manifests["validate"].counts
    assert counts["listed"] == len(expected) == counts["featured"] + counts["quarantined"]
    store = str(tmp_path / "store")
    vectors = catalog.vectors(store, "odd", "resnet18-random_0-fp32", ["uri"])
    featured = {storage.filesystem(uri)[1] for uri in vectors["uri"].to_pylist()}
    refused = {
        storage.filesystem(row["uri"])[1]: row["error_code"] for row in catalog.quarantine(store, "odd").to_pylist()
    }
    assert featured | refused.keys() == expected.keys()
    for path, row in expected.items():
        # Asked for a PNG's EXIF, Pillow decodes the pixels; where that failed, its second try "succeeds" without them.
        blank = row["format"] == "PNG" and row["exif_orientation"] in ("OSError", "SyntaxError")
        readable = row["pillow13_open"] == row["pillow13_convert_rgb"] == "ok" and not blank
        readable = readable or row["file"] in HEALTHY_THOUGH_PILLOW_REFUSES
        assert (path in featured) == readable, (row["file"], refused.get(path))
        bomb = row["pillow13_open"] == "DecompressionBombError"
        assert (refused.get(path) == "too_many_pixels") == bomb, (row["file"], refused.get(path))
    # A worker that had died would have been replaced by one that opens the model again.
    assert manifests["extract"].outcome["model_loads"] <= parallelism(context("test"))
