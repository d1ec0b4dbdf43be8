"""A day run twice: what the second run of an unchanged day costs, stage by stage.

`python -m benchmarks.rerun --photos FOLDER [--weights keras-v1]` runs the three commands twice on a fresh store.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

from spark_apps import catalog
from spark_apps.contract import STAGES


def run(store: str, run_id: str, photos: Path, weights: str) -> dict[str, float]:
    """Seconds of each stage, as its own manifest tells them. Raises CalledProcessError when a stage fails."""
    common = ["--store", store, "--partition", "day", "--run-id", run_id]
    options = {
        "ingest": ["--source", str(photos)],
        "extract": ["--weights", weights],
        "validate": ["--max-failed-fraction", "1"],
    }
    seconds = {}
    for stage in STAGES:
        command = [sys.executable, "-m", f"spark_apps.{stage}", *common, *options[stage]]
        subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
        manifest = catalog.manifest(store, "day", run_id, stage)
        assert manifest is not None
        seconds[stage] = manifest.seconds["total"]
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--photos", type=Path, required=True, help="A folder of photos.")
    parser.add_argument("--weights", default="keras-v1", help="As in extract --weights.")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as store:
        first = run(store, "first", options.photos.resolve(), options.weights)
        second = run(store, "second", options.photos.resolve(), options.weights)
        counts = {run_id: catalog.manifest(store, "day", run_id, "validate") for run_id in ("first", "second")}
    print(f"{'':10}{'first':>10}{'second':>10}{'share':>8}")
    for stage in STAGES:
        print(f"{stage:10}{first[stage]:9.1f}s{second[stage]:9.1f}s{second[stage] / first[stage]:8.0%}")
    for run_id, manifest in counts.items():
        assert manifest is not None
        print(f"{run_id}: {manifest.counts}")


if __name__ == "__main__":
    main()
