"""A store that versions before 0.2.0 wrote (tests/data/README.md says how), and what is in it."""

from __future__ import annotations

import hashlib
import tarfile
from pathlib import Path
from urllib.parse import unquote

from spark_apps import catalog

ARCHIVE = Path(__file__).with_name("data") / "store-0.1.tar.gz"
MODEL, FINGERPRINT = "resnet18-random_0-fp32", "d586bfecfd16a215"
SCHEDULED = "scheduled__2026-11-21T00:00:00+00:00"
RUNS = {"2026-11-20": "first", "2026-11-21": SCHEDULED, "2026-11-22": "manual__1"}
"""Partition → the run that is published. `again`, of the first day, was taken back."""
FEATURED = {
    "2026-11-20": ["0.jpg", "1.jpg", "2.jpg", "3 again.jpg", "3.jpg"],
    "2026-11-21": ["3.jpg", "4.jpg", "5.jpg"],
    "2026-11-22": ["größe #5.jpg", "größe #6.jpg"],
}
QUARANTINED = {
    "2026-11-20": {"empty.jpg": "empty"},
    "2026-11-21": {"cut.jpg": "truncated"},
    "2026-11-22": {"notes.jpg": "not_an_image"},
}


def unpack(folder: Path) -> str:
    """The path of a copy of the store in `folder`, with the times of its files."""
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(folder, filter="data")
    return str(folder / "store")


def check_rows(store: str) -> None:
    """Every row of the three days, whatever has been done to their files. Raises AssertionError."""
    for partition, run_id in RUNS.items():
        features, images = catalog.vectors(store, partition, MODEL), catalog.images(store, partition)
        vectors = {}
        for row in features.to_pylist():
            assert (row["run_id"], row["model_fingerprint"], len(row["features"])) == (run_id, FINGERPRINT, 512)
            vectors[row["uri"]] = (row["image_id"], row["features"])
        assert sorted(map(name, vectors)) == FEATURED[partition] and features.num_rows == len(vectors)
        for row in images.to_pylist():
            assert row["image_id"] == hashlib.sha256(row["content"]).hexdigest(), row["uri"]
            assert row["uri"] not in vectors or vectors[row["uri"]][0] == row["image_id"]
        assert {row["uri"] for row in images.to_pylist()} >= vectors.keys()
        aside = catalog.quarantine(store, partition).to_pylist()
        assert {name(row["uri"]): row["error_code"] for row in aside} == QUARANTINED[partition]


def name(uri: str) -> str:
    """The file that a uri of the store means."""
    return unquote(uri.rsplit("/", 1)[-1])
