"""The Dags of example_dags/ are parsed fast, and what the documents show of Dags runs."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parents[2]
EXAMPLES = sorted((REPO / "example_dags").glob("*.py"))
HEAVY = ("pyspark", "torch", "pyarrow", "deltalake", "pandas", "PIL")
PARSE = """
import json, sys, time
import airflow.providers.apache.spark.operators.spark_submit
from airflow.dag_processing.dagbag import DagBag

took = {}
for example in sys.argv[1:]:
    for name in [name for name in sys.modules if name.partition(".")[0] in ("image_features", "spark_apps")]:
        del sys.modules[name]
    began = time.process_time()
    bag = DagBag(example)
    took[example] = time.process_time() - began
    assert bag.dags and not bag.import_errors, (example, bag.import_errors)
print(json.dumps({"took": took, "modules": sorted(sys.modules)}))
"""
"""Parses each Dag with our packages imported anew, in a process that has imported all it needs of Airflow."""


def test_each_example_takes_less_than_a_second_of_processor_time_and_no_heavy_import() -> None:
    env = {**os.environ, "PYTHONPATH": f"{REPO / 'plugins'}{os.pathsep}{REPO}"}
    command = [sys.executable, "-c", PARSE, *map(str, EXAMPLES)]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert len(found["took"]) == len(EXAMPLES) >= 9
    assert {example: took for example, took in found["took"].items() if took > 1} == {}  # some 0.1 s each
    assert not {module.partition(".")[0] for module in found["modules"]} & set(HEAVY)


def test_the_readme_shows_an_example_as_it_is() -> None:
    (dag,) = [block for block in _snippets(REPO / "README.md") if "airflow" in block]
    assert dag in (REPO / "example_dags" / "two_models.py").read_text()
    assert len([line for line in dag.splitlines() if line]) <= 12


def test_what_the_page_about_dags_shows_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__IMAGE_FEATURES__SOURCES", "s3://photos")
    monkeypatch.setenv("AIRFLOW__IMAGE_FEATURES__STORES", "s3://features")
    whole = [snippet for snippet in _snippets(REPO / "docs" / "dags.md") if snippet.startswith("from ")]
    assert len(whole) >= 4  # others are parts of an example
    for snippet in whole:
        exec(snippet, {})


def _snippets(page: Path) -> list[str]:
    return re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL)
