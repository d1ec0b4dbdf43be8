"""A stranger's extractor, written from the documentation alone, on nodes that have never heard of it."""

from __future__ import annotations

import re
from pathlib import Path

from PIL import Image

from spark_apps import catalog
from spark_apps.contract import ExitCode
from tests.cluster.standalone import Standalone
from tests.cluster.test_nodes import REPOSITORY, RUN, submit


def test_a_module_of_the_driver_runs_on_the_nodes(cluster: Standalone, node_python: Path, tmp_path: Path) -> None:
    day = tmp_path / "landing"
    day.mkdir()
    for name, colour in (("red", (200, 0, 0)), ("green", (0, 200, 0))):
        Image.new("RGB", (64, 48), colour).save(day / f"{name}.jpg")
    text = (REPOSITORY / "docs" / "extractors.md").read_text()
    (example,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    module = tmp_path / "of_the_driver" / "colours_of_a_stranger.py"
    module.parent.mkdir()
    module.write_text(example)
    store, chosen = tmp_path / "store", ["--extractor", f"{module}:Colours"]
    stages = {
        "ingest": ["--source", str(day), *chosen],
        "extract": chosen,
        "validate": ["--max-failed-fraction", "0.5"],
    }
    for stage, arguments in stages.items():
        application = REPOSITORY / "spark_apps" / f"{stage}.py"
        done = submit(cluster, application, store, arguments, PYSPARK_PYTHON=str(node_python))
        assert done.returncode == ExitCode.DONE, done.stdout[-3000:]
    vectors = catalog.vectors(str(store), "d1", "colours_64")
    assert {len(row) for row in vectors["features"].to_pylist()} == {64}
    assert vectors.num_rows == 2
    extracted = catalog.manifest(str(store), "d1", RUN, "extract")
    assert extracted is not None and extracted.outcome["model_loads"] >= 1
    assert any(list(node.work.rglob(module.name)) for node in cluster.workers), "it was sent"
