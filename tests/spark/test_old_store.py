"""A store that an older version wrote is continued by this one: its vectors count as this version's own."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from spark_apps import catalog
from tests import old_store
from tests.old_store import MODEL
from tests.spark.conftest import Pipeline


def test_a_new_day_takes_its_vectors_from_the_old_days(pipeline: Pipeline, tmp_path: Path, landing: Path) -> None:
    store = old_store.unpack(tmp_path)
    old = {old_store.name(row["uri"]): row["content"] for row in catalog.images(store, "2026-11-21").to_pylist()}
    (landing / "2026-11-23").mkdir()
    (landing / "2026-11-23" / "from an old day.jpg").write_bytes(old["4.jpg"])
    (landing / "d1" / "coffee.jpg").rename(landing / "2026-11-23" / "new.jpg")
    done = pipeline("2026-11-23", "run of today", max_drift=1)
    assert {name: done["extract"].counts[name] for name in ("computed", "reused")} == {"computed": 1, "reused": 1}
    assert done["validate"].outcome["verdict"] == "published"
    rows = {old_store.name(row["uri"]): row for row in catalog.vectors(store, "2026-11-23", MODEL).to_pylist()}
    assert {row["model_fingerprint"] for row in rows.values()} == {old_store.FINGERPRINT}
    before = {row["image_id"]: row["features"] for row in catalog.vectors(store, "2026-11-21", MODEL).to_pylist()}
    copied = rows["from an old day.jpg"]
    assert copied["sharpness"] is None and rows["new.jpg"]["sharpness"] > 0
    assert np.array_equal(copied["features"], before[copied["image_id"]])
    old_store.check_rows(store)

    again = pipeline("2026-11-23", "once more", max_drift=1, recompute=True)
    assert again["extract"].counts["computed"] == 2
    rows = {old_store.name(row["uri"]): row for row in catalog.vectors(store, "2026-11-23", MODEL).to_pylist()}
    vector = rows["from an old day.jpg"]["features"]
    assert rows["from an old day.jpg"]["sharpness"] > 0
    np.testing.assert_allclose(vector, copied["features"], rtol=1e-3, atol=1e-4)
    old_store.check_rows(store)
