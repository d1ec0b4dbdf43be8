"""What publishing one more partition costs as the tables grow: at 10, 100 and 1,000 partitions of 1,000 rows.

Publishes synthetic days through `store.Publication` into a new store and, at each size, measures the parts of one more
publication of a small day: opening the table features, committing the three tables, and `catalog.partitions`; each as
the median of several tries, which end on every distance from a checkpoint. Beside them stands what the log needs: its
bytes that a reader has to read, and the seconds that reading the same bytes takes with plain Arrow and JSON.

    python -m benchmarks.publish_growth --report growth.json
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from spark_apps import catalog, contract
from spark_apps.tables import commits, schemas, staging

MODEL = "resnet50-synthetic-fp32"


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--partitions", type=int, nargs="+", default=[10, 100, 1000])
    parser.add_argument("--rows", type=int, default=1000, help="rows of a partition")
    parser.add_argument("--dimension", type=int, default=8, help="numbers in a vector")
    parser.add_argument("--files", type=int, default=1, help="files of a partition in each table")
    parser.add_argument("--tries", type=int, default=20, help="publications measured at each size")
    parser.add_argument("--store", help="an empty folder or URI; default: a temporary folder")
    parser.add_argument("--report", type=Path, help="where the numbers go as JSON")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        growth = Growth(options.store or folder, options.rows, options.dimension, options.files)
        results: list[dict[str, Any]] = []
        for size in sorted(options.partitions):
            growth.grow(size)
            results.append(growth.measure(options.tries))
            if len(results) == 1:
                print(_header(results[0]))
            print(_line(results[-1]), flush=True)
    first, last = results[0], results[-1]
    growth_of = {name: round(last[name] / first[name], 2) for name in first if name.endswith("_s")}
    report = {
        "results": results,
        "growth": growth_of,
        "peak_rss_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3, 1),  # Linux: in kilobytes
        "options": vars(options) | {"report": None},
    }
    print(json.dumps(report["growth"]))
    if options.report:
        options.report.write_text(json.dumps(report, indent=1))
    return 0


class Growth:
    """A store that grows, and what one more publication of it costs."""

    def __init__(self, store_uri: str, rows: int, dimension: int, files: int) -> None:
        self._store, self._files, self._partitions = store_uri, files, 0
        self._seconds: list[float] = []
        self._day = {table.name: self._rows(table, rows // files, dimension) for table in schemas.TABLES.values()}

    def grow(self, partitions: int) -> None:
        """Publishes until there are so many partitions."""
        while self._partitions < partitions:
            self._publish(f"d{self._partitions:06}")
            self._partitions += 1

    def measure(self, tries: int) -> dict[str, Any]:
        """Medians, in seconds, over publications that replace a partition, so that the table keeps its size."""
        seconds: dict[str, list[float]] = {name: [] for name in ("open_s", "publish_s", "partitions_s", "plain_read_s")}
        log_bytes = []
        for number in range(tries):
            publication = self._stage(f"d{number % self._partitions:06}")
            seconds["open_s"].append(_timed(lambda: commits.open_table(self._store, schemas.FEATURES)))
            seconds["publish_s"].append(_timed(publication.commit))
            seconds["partitions_s"].append(_timed(lambda: catalog.partitions(self._store)))
            log = _log_to_read(Path(self._store, "features", "_delta_log"))
            log_bytes.append(sum(path.stat().st_size for path in log))
            seconds["plain_read_s"].append(_timed(partial(_read, log)))
        return {
            "partitions": self._partitions,
            "rows": sum(item.rows for item in catalog.partitions(self._store)),
            **{name: round(statistics.median(values), 4) for name, values in seconds.items()},
            "publish_max_s": round(max(seconds["publish_s"]), 4),
            "log_bytes": round(statistics.median(log_bytes)),
        }

    def _publish(self, partition: str) -> None:
        self._stage(partition).commit()

    def _stage(self, partition: str) -> commits.Replacement:
        settings = contract.ValidateSettings(store=self._store, partition=partition, run_id=f"run-{time.time_ns()}")
        staged: contract.Staged = {}
        for table in schemas.TABLES.values():
            folder, staged[table.name] = staging.folder(settings), []
            run_id = pa.array([settings.run_id] * len(self._day[table.name]), pa.string())
            rows = self._day[table.name].append_column("run_id", run_id)
            for _ in range(self._files):
                with staging.StagedWriter(self._store, table, folder) as writer:
                    writer.add_table(rows)
                staged[table.name] += writer.files
        return commits.Replacement(self._store, partition, MODEL, settings.run_id, staged, {})

    @staticmethod
    def _rows(table: schemas.Table, rows: int, dimension: int) -> pa.Table:
        """Rows of a day, without run_id: vectors where there are vectors, short texts and small numbers elsewhere."""
        names = [f"file:///photos/day/{index:06}.jpg" for index in range(rows)]
        vectors = pa.FixedSizeListArray.from_arrays(
            np.random.default_rng(0).standard_normal(rows * dimension, np.float32), dimension
        )
        made: dict[str, Any] = {"uri": names, "image_id": names, "features": vectors.cast(pa.list_(pa.float32()))}
        columns = {
            field.name: made[field.name] if field.name in made else pa.nulls(rows, field.type)
            for field in table.columns
            if field.name != "run_id"
        }
        return pa.table(columns)


def _timed(action: Callable[[], object]) -> float:
    begin = time.perf_counter()
    action()
    return time.perf_counter() - begin


def _log_to_read(log: Path) -> list[Path]:
    """What a reader of the current version has to read: the last checkpoint and the commits since."""
    pointer = log / "_last_checkpoint"
    last = json.loads(pointer.read_text())["version"] if pointer.exists() else -1
    commits = [path for path in log.glob("*.json") if int(path.stem) > last]
    return commits + ([log / f"{last:020}.checkpoint.parquet"] if last >= 0 else [])


def _read(log: list[Path]) -> None:
    for path in log:
        if path.suffix == ".parquet":
            pq.read_table(path)
        else:
            [json.loads(line) for line in path.read_text().splitlines()]


def _header(result: dict[str, Any]) -> str:
    return "  ".join(name.rjust(max(len(name), 10)) for name in result)


def _line(result: dict[str, Any]) -> str:
    return "  ".join(f"{value:,}".rjust(max(len(name), 10)) for name, value in result.items())


if __name__ == "__main__":
    sys.exit(main())
