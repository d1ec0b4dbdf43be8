"""LanceDB, in an environment without anything of ours, reads the search index as docs/consumers.md says."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import numpy as np
import pytest

from spark_apps.contract import IndexSettings
from spark_apps.index import index
from spark_apps.search import open_index
from spark_apps.spark.jobs import Timings
from tests.install import environments
from tests.install.environments import REPOSITORY
from tests.shelf import MODEL, Shelf

pytestmark = pytest.mark.install
DAYS = ("2026-10-31", "2026-11-01", "2026-11-02")


def test_lancedb_finds_what_our_search_finds(tmp_path: Path) -> None:
    (snippet,) = (
        block
        for block in re.findall(r"```python\n(.*?)```", (REPOSITORY / "docs" / "consumers.md").read_text(), re.DOTALL)
        if "lancedb" in block
    )
    shelf, chance = Shelf(str(tmp_path / "store")), np.random.default_rng(0)
    for day in DAYS:
        files = {f"file:///photos/{day}/{number}.jpg": f"{day} {number}" for number in range(300)}
        vectors = {uri: chance.normal(size=16).tolist() for uri in files}
        shelf.publish(day, "by-hand", files, vectors=vectors)
    index(IndexSettings(store=shelf.store, model=MODEL, ann_rows=300), Timings())
    query = chance.normal(size=16).tolist()
    wanted = open_index(shelf.store, MODEL).nearest(query, k=10, partitions=(DAYS[1], DAYS[2]))

    program = tmp_path / "theirs.py"
    program.write_text(f"store, model, vector = {shelf.store!r}, {MODEL!r}, {query!r}\n{snippet}")
    with environments.of_others(tmp_path / "env", "lancedb") as theirs:
        printed = theirs.run("python", str(program), cwd=tmp_path)
    found = dict(ast.literal_eval(printed.splitlines()[-1]))
    assert found == pytest.approx({one.uri: one.similarity for one in wanted}, abs=1e-4)
