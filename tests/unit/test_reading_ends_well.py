"""A process that has read the store ends with 0: no thread of Arrow's still holds anything of Python's."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.shelf import MODEL, Shelf

ROOT = Path(__file__).parents[2]
PROCESSES = 8
"""One reading in two used to end in an abort, so a fault of that kind passes once in 256."""

CATALOG = f"""
from spark_apps import catalog
assert catalog.vectors(store, day, {MODEL!r}).num_rows == 20
assert catalog.dataset(store, "features", {{"partition": day}}).to_table().num_rows == 20
assert catalog.dataset(store, "features", version=1).count_rows() == 20
assert catalog.fingerprints(store, {MODEL!r}, day, 2)
assert sum(batch.num_rows for batch in catalog.stream(store, "images", {{"partition": day}}, ["uri"])) == 20
"""


def snippet(page: str, sign: str) -> str:
    """The one block of Python of a page that holds `sign`."""
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(), re.DOTALL)
    (found,) = [block for block in blocks if sign in block]
    return str(found)


@pytest.mark.parametrize(
    "program",
    [CATALOG, snippet("docs/reading.md", "SubTreeFileSystem") + "assert frame.shape[0] == 20\n"],
    ids=["catalog", "reading.md"],
)
def test_processes_that_read_features_end_well(program: str, tmp_path: Path) -> None:
    shelf = Shelf(str(tmp_path / "a ä store"))
    for day in ("d1", "d2", "d3"):
        shelf.publish(day, f"run-{day}", {f"u{number}": str(number) for number in range(20)})
    program = f"store, day = {shelf.store!r}, 'd1'\n{program}"
    for _ in range(PROCESSES):
        done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
