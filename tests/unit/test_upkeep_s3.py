"""Maintenance and undo on object storage: a real S3 API server on loopback."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import boto3
import pytest
from moto.server import ThreadedMotoServer

from spark_apps import catalog, contract, storage
from spark_apps.contract import BadSetting, MaintainSettings, Manifest, UndoSettings
from spark_apps.maintain import maintain
from spark_apps.spark.jobs import Timings
from spark_apps.undo import listing, undo
from tests.shelf import MODEL, Shelf


@pytest.fixture
def shelf(monkeypatch: pytest.MonkeyPatch) -> Iterator[Shelf]:
    """An empty store in a bucket."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    for name, value in {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "somebody",
        "AWS_SECRET_ACCESS_KEY": "nothing",
        "AWS_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    bucket = f"features-{uuid.uuid4().hex[:8]}"  # the servers of a process share their buckets
    boto3.client("s3").create_bucket(Bucket=bucket)
    yield Shelf(f"s3://{bucket}/store")
    server.stop()


def keys(shelf: Shelf) -> set[str]:
    """The objects of the store that hold something."""
    bucket = shelf.store.split("/")[2]
    pages = boto3.client("s3").get_paginator("list_objects_v2").paginate(Bucket=bucket)
    return {item["Key"].removeprefix("store/") for page in pages for item in page.get("Contents", []) if item["Size"]}


def data(shelf: Shelf, table: str = "features") -> set[str]:
    return {key for key in keys(shelf) if key.startswith(f"{table}/data/")}


def run(shelf: Shelf, hours_later: float) -> Manifest:
    return maintain(MaintainSettings(store=shelf.store), Timings(), datetime.now(UTC) + timedelta(hours=hours_later))


def rows(shelf: Shelf, partition: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = catalog.vectors(shelf.store, partition, MODEL).to_pylist()
    return sorted(found, key=lambda row: str(row["uri"]))


def test_replaced_and_dead_files_go_and_small_ones_are_merged(shelf: Shelf) -> None:
    shelf.publish("d1", "old", {"u1": "a"}, quarantined=["q"])
    old = data(shelf)
    shelf.publish("d1", "new", {"u1": "a"})
    published = data(shelf) - old
    many = shelf.publication("d2", "many", {})
    many.staged["features"] = [file for n in range(6) for file in shelf.features("d2", "many", {f"u{n}": str(n)})]
    many.commit()
    before = rows(shelf, "d2")
    shelf.publication("d3", "dead", {"u1": "a"})
    folder = contract.run_folder(shelf.store, "d1", "old")
    for name in ("listing/1/0.parquet", "ingest.json", "validate.json"):
        storage.write_bytes(contract.join(folder, name), b"{}")

    assert run(shelf, 167).counts["replaced"] == 0
    assert rows(shelf, "d2") == before
    merged = {key for key in data(shelf) if "/merged-" in key}
    assert len(merged) == 1
    counts = run(shelf, 169).counts
    assert (counts["replaced"], counts["orphans"], counts["working_files"]) == (3 + 6, 2, 1)
    assert data(shelf) == published | merged
    assert rows(shelf, "d2") == before
    assert {key for key in keys(shelf) if key.startswith("runs/")} == {
        "runs/d1/old/ingest.json",
        "runs/d1/old/validate.json",
    }
    assert [item.run_id for item in catalog.partitions(shelf.store)] == ["many", "new"]


def test_undo_puts_the_run_before_back_until_it_is_gone(shelf: Shelf) -> None:
    settings = UndoSettings(store=shelf.store, partition="d1", model=MODEL)
    shelf.publish("d1", "manual:1", {"u1": "a", "u2": "b"}, quarantined=["q"])
    first = rows(shelf, "d1")
    shelf.publish("d1", "manual:2", {"u1": "a"})
    second = rows(shelf, "d1")
    undo(settings)
    assert rows(shelf, "d1") == first
    assert catalog.quarantine(shelf.store, "d1")["uri"].to_pylist() == ["q"]
    assert "published now, an undo back to 1" in listing(settings)
    undo(UndoSettings(store=shelf.store, partition="d1", model=MODEL, to_version=2))
    assert rows(shelf, "d1") == second
    assert run(shelf, 200).counts["replaced"] == 3
    with pytest.raises(BadSetting) as caught:
        undo(settings)
    assert caught.value.code == "version_vacuumed"
    assert rows(shelf, "d1") == second
