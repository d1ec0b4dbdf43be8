"""How quickly the pages answer: 365 small partitions, and two of 100,000 vectors of 2,048 numbers, one with an index.

Makes them in a temporary folder, starts a real Airflow on it and asks its api-server over HTTP, signed in, as a browser
does: each request by itself, the pages' own few seconds of memory cold, warm and run out.

    python -m benchmarks.pages --report pages.json
"""

from __future__ import annotations

import argparse
import io
import json
import sqlite3
import statistics
import sys
import tempfile
import time
import urllib.request
import zlib
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image

from demo.airflow_client import DAG_ID
from demo.airflow_server import AirflowServer
from spark_apps import contract
from spark_apps.index import index
from spark_apps.spark.jobs import Timings
from spark_apps.tables import commits, schemas, staging

MODEL, LARGE_MODEL, LARGE_DAY = "resnet50-synthetic-fp32", "resnet50-large-fp32", "large"
INDEXED_MODEL, INDEXED_DAY = "resnet50-indexed-fp32", "indexed"
PHOTOS = 40
"""Photos of each of the many days."""
WARM_TRIES, STALE_TRIES = 30, 5


def _photo() -> bytes:
    target = io.BytesIO()
    Image.effect_mandelbrot((500, 375), (-2, -1.2, 1, 1.2), 20).convert("RGB").save(target, "JPEG", quality=60)
    return target.getvalue()


PHOTO = _photo()


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--partitions", type=int, default=365)
    parser.add_argument("--vectors", type=int, default=100_000, help="of the large partition")
    parser.add_argument("--dimension", type=int, default=2048, help="numbers in a vector")
    parser.add_argument("--report", type=Path, help="where the numbers go as JSON")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        location = f"{folder}/store"
        days = [str(date(2026, 1, 1) + timedelta(days=day)) for day in range(options.partitions)]
        for day in days:
            publish(location, day, MODEL, PHOTOS, 16)
        publish(location, LARGE_DAY, LARGE_MODEL, options.vectors, options.dimension)
        publish(location, INDEXED_DAY, INDEXED_MODEL, options.vectors, options.dimension)
        index(contract.IndexSettings(store=location, model=INDEXED_MODEL), Timings())
        with AirflowServer(Path(folder, "airflow"), store=location, source=f"{folder}/photos") as airflow:
            airflow.api("PATCH", f"/api/v2/dags/{DAG_ID}", {"is_paused": True})
            for day in days:
                airflow.trigger({"partition": day}, run_id=run_id(day))
            _finish(Path(folder, "airflow", "airflow.db"))
            results = measure(airflow, days[-1])
    print(json.dumps(results, indent=1))
    if options.report:
        options.report.write_text(json.dumps({"results": results, "options": vars(options) | {"report": None}}))
    return 0


def measure(airflow: AirflowServer, day: str) -> dict[str, Any]:
    """Milliseconds by request: the first, the median of many in a row, and the median once what was kept is stale."""
    api = f"/image-features/api/{DAG_ID}"
    airflow.api("GET", "/image-features/api/dags")  # the first request of all makes the app
    photo = airflow.api("GET", f"{api}/partitions/{day}/photos?model={MODEL}")["photos"][0]["image_id"]
    requests = {
        "neighbours by the index": f"{api}/partitions/{INDEXED_DAY}/neighbours?image={image_id(INDEXED_DAY, 7)}",
        "page": "/image-features/",
        "overview": f"{api}/overview?model={MODEL}",
        "run report": f"{api}/runs/{run_id(day)}",
        "photos": f"{api}/partitions/{day}/photos?model={MODEL}",
        "thumbnail": f"{api}/thumbnails/{day}/{photo}",
        "neighbours": f"{api}/partitions/{day}/neighbours?model={MODEL}&image={photo}",
        "photos, large": f"{api}/partitions/{LARGE_DAY}/photos",
        "neighbours, large": f"{api}/partitions/{LARGE_DAY}/neighbours?image={image_id(LARGE_DAY, 7)}",
    }
    results = {}
    for name, path in requests.items():
        first = _milliseconds(lambda path=path: _get(airflow, path))  # type: ignore[misc]
        warm = [_milliseconds(lambda path=path: _get(airflow, path)) for _ in range(WARM_TRIES)]  # type: ignore[misc]
        stale = []
        for _ in range(STALE_TRIES):
            time.sleep(5.5)
            stale.append(_milliseconds(lambda path=path: _get(airflow, path)))  # type: ignore[misc]
        results[name] = {
            "first_ms": first,
            "warm_ms": statistics.median(warm),
            "warm_max_ms": max(warm),
            "stale_ms": statistics.median(stale),
        }
        print(name, results[name], flush=True)
    return results


def publish(location: str, day: str, model: str, count: int, dimension: int) -> None:
    """A published day of made-up vectors, with the documents that its run would have left."""
    random = np.random.default_rng(zlib.crc32(day.encode()))
    settings = contract.ValidateSettings(store=location, partition=day, run_id=run_id(day))
    staged: contract.Staged = {}
    for table in schemas.TABLES.values():
        with staging.StagedWriter(location, table, staging.folder(settings)) as writer:
            for first in range(0, 0 if table is schemas.QUARANTINE else count, 2000):
                numbers = range(first, min(count, first + 2000))
                writer.add_table(_rows(table, day, numbers, dimension, random))
        staged[table.name] = writer.files
    commits.Replacement(location, day, model, run_id(day), staged, {}).commit()
    folder = Path(settings.folder)
    folder.mkdir(parents=True)
    for name, content in _documents(day, model, count, random).items():
        (folder / name).write_text(json.dumps(content))


def run_id(day: str) -> str:
    return f"synthetic-{day}"


def image_id(day: str, number: int) -> str:
    return f"{zlib.crc32(day.encode()):032x}{number:032x}"


def _rows(table: schemas.Table, day: str, numbers: range, dimension: int, random: np.random.Generator) -> pa.Table:
    count = len(numbers)
    vectors = pa.FixedSizeListArray.from_arrays(random.standard_normal(count * dimension, np.float32), dimension)
    made: dict[str, Any] = {
        "uri": [f"file:///photos/{day}/{number:07}.jpg" for number in numbers],
        "image_id": [image_id(day, number) for number in numbers],
        "features": vectors.cast(pa.list_(pa.float32())),
        "model_fingerprint": ["0123456789abcdef"] * count,
        "top1_label": ["tabby"] * count,
        "top1_score": pa.array(random.random(count), pa.float32()),
        "run_id": [run_id(day)] * count,
        "content": [PHOTO if day not in (LARGE_DAY, INDEXED_DAY) else b""] * count,
    }
    columns = {
        field.name: made[field.name] if field.name in made else pa.nulls(count, field.type) for field in table.columns
    }
    return pa.table(columns, schema=table.columns)


def _documents(day: str, model: str, count: int, random: np.random.Generator) -> dict[str, Any]:
    """Manifests and a report of the usual size."""
    now = contract.now()
    info = {
        **dict.fromkeys(("backbone", "weights", "weights_sha256", "precision", "engine", "device"), "synthetic"),
        **{"key": model, "fingerprint": "0123456789abcdef", "dim": 16, "categories": ["tabby"] * 1000},
    }
    counts: dict[str, Any] = {"listed": count, "accepted": count, "featured": count, "computed": count, "reused": 0}
    common: dict[str, Any] = {
        **{"run_id": run_id(day), "partition": day, "started_at": now, "finished_at": now, "versions": {}},
        **{
            "seconds": {"startup": 1.0, "compute": 2.0, "total": 3.0},
            "counts": counts,
            "code_hash": "",
            "settings": {},
        },
    }
    stages = {
        f"{stage}.json": {**common, "stage": stage, "model": None if stage == "ingest" else info, "outcome": {}}
        for stage in contract.STAGES
    }
    check = {"severity": "error", "passed": True, "value": 0.0, "limit": 1.0, "message": "Fine.", "offenders": []}
    histogram = {"edges": random.random(33).tolist(), "counts": [1] * 32}
    report = {
        **{"report_version": 1, "run_id": run_id(day), "partition": day, "verdict": "published", "at": contract.now()},
        **{"table_versions": {"features": 1}, "counts": {**counts, "quarantined": 0}, "quarantined": {}},
        "checks": [{"name": f"check_{number}", **check} for number in range(11)],
        "model": {name: value for name, value in info.items() if name != "categories"},
        "norms": {"quantiles": {"0.05": 1.0, "0.5": 2.0, "0.95": 3.0}, "histogram": histogram},
        "drift": {
            **{"value": 0.1, "limit": 0.5, "by_partition": {}},
            "sketch": {"n": count, "slices": random.random((33, 65)).round(5).tolist()},
        },
        **{"recomputed": [], "rows_before": {}, "bytes": 1, "seconds": {"extract": common["seconds"]}},
    }
    return {**stages, "report.json": report}


def _finish(database: Path) -> None:
    """Makes all Dag runs look as if they had succeeded long before anything was published."""
    begun = datetime(2020, 1, 1, tzinfo=UTC).strftime("%Y-%m-%d %H:%M:%S.%f")
    with sqlite3.connect(database, timeout=60) as connection:
        connection.execute("update dag_run set state = 'success', start_date = ?, end_date = ?", (begun, begun))


def _get(airflow: AirflowServer, path: str) -> bytes:
    request = urllib.request.Request(airflow.url + path, headers={"Authorization": f"Bearer {airflow._token}"})
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=300) as response:
        content: bytes = response.read()
    return content


def _milliseconds(work: Callable[[], object]) -> float:
    begin = time.perf_counter()
    work()
    return round(1000 * (time.perf_counter() - begin), 1)


if __name__ == "__main__":
    sys.exit(main())
