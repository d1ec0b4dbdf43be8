"""The promise, seen by a reader: whatever dies, a published partition is one run, whole, each file in it once."""

from __future__ import annotations

import threading
from collections import Counter
from pathlib import Path
from types import TracebackType

import numpy as np
import pyarrow as pa

from spark_apps import catalog, contract
from tests.faults.day import PARTITION, Truth

MODEL = "resnet18-random_0-fp32"
DIMENSION = 512
TABLES = {"features": "featured", "images": "images", "quarantine": "quarantined"}
"""Each table of the store, and the part of the truth that it must show."""


class Reader:
    """Reads one partition as any user of the store does, and holds it against what each run must have made of it.

    As a context manager it reads over and over in a thread, whenever a table has changed, and raises at the end what
    it saw amiss. `truths`: run id → what that run must publish; add a run before it starts.
    `readings`: how often it looked; `between`: how often the features were still those of the run before the images.
    """

    def __init__(self, store: str, partition: str = PARTITION, every_s: float = 0.05) -> None:
        self.store, self.partition = store, partition
        self.truths: dict[str, Truth] = {}
        self.violations: list[str] = []
        self.readings = self.between = 0
        self._every_s = every_s
        self._published = False
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="reader", daemon=True)

    def look(self) -> str | None:
        """The run that is published. Every table on its own must be one whole run, at any moment.

        Raises AssertionError when one is not.
        """
        runs = {name: self._whole_run(name) for name in TABLES}
        if runs["features"] is None:
            assert not self._published, "a published partition has gone"
        else:
            self._published = True
        self.readings += 1
        self.between += len(set(runs.values())) > 1
        return runs["features"]

    def settled(self, run_id: str | None = None) -> str:
        """The run that is published, when nobody is publishing: all tables agree on it, and it is `run_id` if given.

        Raises AssertionError when they do not.
        """
        runs = {name: self._whole_run(name) for name in TABLES}
        assert len(set(runs.values())) == 1, f"the tables show different runs: {runs}"
        found = runs["features"]
        assert found is not None and run_id in (None, found), f"{found} is published, not {run_id}"
        truth = self.truths[found]
        report = catalog.report(self.store, self.partition, found)
        assert report is not None and report["verdict"] in contract.STANDING
        counts = report["counts"]
        listed = len(truth.featured) + len(truth.quarantined)
        assert (counts["listed"], counts["featured"] + counts["quarantined"]) == (listed, listed)
        return found

    def __enter__(self) -> Reader:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._stop.set()
        self._thread.join()
        if self.violations and kind is None:
            raise AssertionError("\n".join(self.violations))

    def _watch(self) -> None:
        seen: object = None
        while not self._stop.wait(self._every_s):
            now = self._log_files()
            if now == seen:
                continue
            try:
                self.look()
                seen = now
            except Exception as error:
                self.violations.append(f"{type(error).__name__}: {error}")
                seen = now

    def _log_files(self) -> list[set[str]]:
        """Cheaper than opening the tables: the commits of each, where the store is a folder."""
        return [{path.name for path in Path(self.store, name, "_delta_log").glob("*.json")} for name in TABLES]

    def _whole_run(self, name: str) -> str | None:
        """The one run whose rows `name` holds, None when it holds none yet."""
        if catalog.table(self.store, name) is None:
            return None
        rows = {
            "features": lambda: catalog.vectors(self.store, self.partition, MODEL),
            "images": lambda: catalog.images(self.store, self.partition),
            "quarantine": lambda: catalog.quarantine(self.store, self.partition),
        }[name]()
        runs = Counter(rows["run_id"].to_pylist())
        assert len(runs) <= 1, f"{name} shows rows of several runs: {dict(runs)}"
        if not runs:
            return None
        (run_id,) = runs
        truth = self.truths.get(run_id)
        assert truth is not None, f"{name} shows the unknown run {run_id}"
        uris = rows["uri"].to_pylist()
        column = "error_code" if name == "quarantine" else "image_id"
        found = dict(zip(uris, rows[column].to_pylist(), strict=True))
        same(name, run_id, found, getattr(truth, TABLES[name]))
        assert len(set(uris)) == len(uris), f"{name} of {run_id} has a file twice"
        if name == "features":
            check_vectors(rows)
        return run_id


def check_vectors(rows: pa.Table) -> None:
    """Every vector has the model's length and is finite; files of the same content share one."""
    matrix = np.array(rows["features"].to_pylist(), np.float32)
    assert matrix.shape == (rows.num_rows, DIMENSION)
    assert np.isfinite(matrix).all()
    by_image: dict[str, np.ndarray] = {}
    for image_id, vector in zip(rows["image_id"].to_pylist(), matrix, strict=True):
        assert np.array_equal(vector, by_image.setdefault(image_id, vector)), image_id


def same(table: str, run_id: str, found: dict[str, str], expected: dict[str, str]) -> None:
    """Raises AssertionError that names what is lost, what is too much and what is different."""
    lost = sorted(expected.keys() - found.keys())
    extra = sorted(found.keys() - expected.keys())
    different = sorted(uri for uri in found.keys() & expected.keys() if found[uri] != expected[uri])
    assert not (lost or extra or different), (
        f"{table} of {run_id}: {len(lost)} lost {lost[:3]}, {len(extra)} too many {extra[:3]}, "
        f"{len(different)} different {[(uri, found[uri], expected[uri]) for uri in different[:3]]}"
    )
