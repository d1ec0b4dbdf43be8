"""The three jobs, and writers who meet, on servers that speak Azure's and Google's storage APIs."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from deltalake import CommitProperties, DeltaTable
from deltalake.exceptions import CommitFailedError
from pyarrow import fs

from spark_apps import catalog, storage
from spark_apps.contract import IndexSettings, Unreachable
from spark_apps.index import index
from spark_apps.search import open_index
from spark_apps.spark.jobs import Timings
from spark_apps.storage import folders, listing
from spark_apps.tables import schemas
from tests.clouds import servers
from tests.conftest import REPOSITORY
from tests.shelf import MODEL, Shelf, vector
from tests.spark.conftest import BAD, GOOD, fill

pytestmark = pytest.mark.clouds


@pytest.fixture(params=["azure", "google"])
def cloud(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Iterator[servers.Cloud]:
    """A server of its own, which this process and its children are told of as users are."""
    for name in list(os.environ):
        if name.startswith(("AZURE_", "GOOGLE_", "STORAGE_EMULATOR")) or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    with getattr(servers, request.param)(tmp_path_factory.mktemp(request.param)) as found:
        for name, value in found.variables.items():
            monkeypatch.setenv(name, value)
        yield found


def run(stage: str, store: str, partition: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    common = ["--store", store, *(["--partition", partition] if partition else []), "--run-id", "run+1"]
    return subprocess.run(
        [sys.executable, "-m", f"spark_apps.{stage}", *common, *arguments],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def test_a_day_from_a_bucket_to_a_bucket_and_again(cloud: servers.Cloud, tmp_path: Path) -> None:
    for path in fill(tmp_path / "d1").iterdir():
        cloud.put(f"landing/d1/{path.name}", path.read_bytes())
    odd = ("ä#1 100%25?.jpg", "deep/er/photo.jpg")
    for name in odd:
        cloud.put(f"landing/d1/{name}", (tmp_path / "d1" / "chelsea.jpg").read_bytes())
    cloud.put("landing/d1/x//empty part.jpg", b"photo" * 999)
    cloud.put("landing/d1/Thumbs.db", b"debris")
    store = f"{cloud.uri}/a store"
    outcomes = [
        run("ingest", store, "d1", "--source", f"{cloud.uri}/landing/{{partition}}"),
        run("extract", store, "d1", "--model", "resnet18", "--weights", "random:0"),
        run("validate", store, "d1", "--max-failed-fraction", "0.5", "--recheck", "2"),
        run("extract", store, "d1", "--model", "resnet18", "--weights", "random:0"),
        run("maintain", store, ""),
    ]
    for outcome in outcomes:
        assert outcome.returncode == 0, outcome.stderr[-3000:]
        assert servers.KEY not in outcome.stdout + outcome.stderr
    [published] = catalog.partitions(store)
    assert (published.rows, published.run_id) == (GOOD + len(odd), "run+1")
    uris = {row["uri"] for row in catalog.vectors(store, "d1", MODEL).to_pylist()}
    assert uris >= {f"{cloud.uri}/landing/d1/{name}" for name in (*odd, "coffee again.jpg")}
    refused = {row["uri"]: row["error_code"] for row in catalog.quarantine(store, "d1").to_pylist()}
    nameless = f"{cloud.uri}/landing/d1/x//" + ("" if cloud.uri.startswith("az:") else "empty part.jpg")
    assert [uri for uri, code in refused.items() if code == "unreadable"] == [nameless]
    assert len(refused) == sum(BAD.values()) + 1
    extracted = catalog.manifest(store, "d1", "run+1", "extract")
    assert extracted is not None and extracted.counts["computed"] == 0


def test_what_is_missing_is_missing_and_nothing_else(cloud: servers.Cloud) -> None:
    missing = f"{cloud.uri}/a store/none"
    assert storage.read_json(f"{missing}.json") is None
    with pytest.raises(FileNotFoundError):
        storage.read_bytes(missing)
    storage.delete(missing)
    storage.delete_folder(missing)
    assert catalog.partitions(missing) == []
    storage.write_json(f"{missing}/there.json", 1)
    storage.delete_folder(missing)
    assert storage.read_json(f"{missing}/there.json") is None


def test_a_version_is_written_once(cloud: servers.Cloud) -> None:
    """Of writers who have read the same version one gets through, and the server itself refuses the others."""
    shelf = Shelf(f"{cloud.uri}/store")
    shelf.publish("d1", "first", {"u1": "a"})
    uri, options, schema = schemas.FEATURES.uri(shelf.store), storage.delta_options(shelf.store), schemas.FEATURES

    def commit(table: DeltaTable, start: threading.Barrier) -> bool:
        once = CommitProperties(max_commit_retries=0)
        start.wait(60)
        try:
            table.create_write_transaction([], "append", schema.schema, list(schema.keys), commit_properties=once)
        except CommitFailedError:
            return False
        return True

    with ThreadPoolExecutor(4) as pool:
        for _ in range(30):
            tables = [DeltaTable(uri, storage_options=options) for _ in range(4)]
            start = threading.Barrier(len(tables))
            committed = sum(pool.map(commit, tables, [start] * len(tables)))
            assert DeltaTable(uri, storage_options=options).version() == tables[0].version() + committed
            assert committed == 1
            if cloud.refused():  # else they were told by what they saw, and not by the server
                return
    pytest.fail("they never met")


def test_two_writers_at_once_lose_nothing(cloud: servers.Cloud) -> None:
    """Each publishes days of its own into the same tables, always at the same moment as the other."""
    shelf = Shelf(f"{cloud.uri}/store")
    days = {writer: [f"{writer}{day}" for day in range(6)] for writer in "ab"}
    start, failed = threading.Barrier(len(days)), []

    def write(writer: str) -> None:
        try:
            for day in days[writer]:
                start.wait(60)
                shelf.publish(day, f"run {day}", {f"u{day}": day})
        except Exception as error:
            failed.append(error)

    threads = [threading.Thread(target=write, args=(writer,)) for writer in days]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed
    every = sorted(day for mine in days.values() for day in mine)
    assert sorted(found.partition for found in catalog.partitions(shelf.store)) == every
    for day in every:
        assert catalog.vectors(shelf.store, day, MODEL)["uri"].to_pylist() == [f"u{day}"]
        assert catalog.images(shelf.store, day)["run_id"].to_pylist() == [f"run {day}"]


def test_one_of_many_writers_of_a_day_wins_whole(cloud: servers.Cloud) -> None:
    shelf = Shelf(f"{cloud.uri}/store")
    runs = [f"run {number}" for number in range(6)]
    threads = [
        threading.Thread(target=shelf.publish, args=("d1", name, {name: name}), kwargs={"quarantined": [f"bad {name}"]})
        for name in runs
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seen = [
        catalog.images(shelf.store, "d1")["run_id"].to_pylist(),
        catalog.quarantine(shelf.store, "d1")["run_id"].to_pylist(),
        catalog.vectors(shelf.store, "d1", MODEL)["run_id"].to_pylist(),
    ]
    assert seen[0] == seen[1] == seen[2]
    assert len(seen[0]) == 1


@pytest.mark.parametrize("cloud", ["azure"], indirect=True)
def test_an_account_in_the_uri_leads_to_the_same_place(cloud: servers.Cloud) -> None:
    """`abfss://` names container and account; at an endpoint the account's own host is not asked."""
    Shelf(f"abfss://{servers.CONTAINER}@{servers.ACCOUNT}.dfs.core.windows.net/store").publish("d1", "r", {"u": "a"})
    assert catalog.vectors(f"{cloud.uri}/store", "d1", MODEL)["uri"].to_pylist() == ["u"]


@pytest.mark.parametrize("cloud", ["azure"], indirect=True)
@pytest.mark.parametrize("mark", ["", "?"])
def test_a_token_does_without_the_account_s_key(
    cloud: servers.Cloud, mark: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AZURE_STORAGE_ACCOUNT_KEY")
    monkeypatch.setenv("AZURE_STORAGE_SAS_TOKEN", mark + servers.shared_access())
    storage.write_json(f"{cloud.uri}/a.json", {"a": 1})
    assert storage.read_json(f"{cloud.uri}/a.json") == {"a": 1}
    Shelf(f"{cloud.uri}/store").publish("d1", "r", {"u": "a"})
    assert catalog.vectors(f"{cloud.uri}/store", "d1", MODEL)["uri"].to_pylist() == ["u"]


def test_a_missing_bucket_is_unreachable_and_an_empty_prefix_is_an_empty_day(
    cloud: servers.Cloud, tmp_path: Path
) -> None:
    scheme = cloud.uri.partition(":")[0]
    missing = run("ingest", f"{cloud.uri}/store", "d1", "--source", f"{scheme}://no-such-bucket/landing")
    assert missing.returncode == 4, missing.stderr[-3000:]
    assert "no-such-bucket" in missing.stderr
    empty = run("ingest", f"{cloud.uri}/store", "d1", "--source", f"{cloud.uri}/none", "--on-empty", "skip")
    assert empty.returncode == 5, empty.stderr[-3000:]
    with pytest.raises(Unreachable):
        catalog.partitions(f"{scheme}://no-such-bucket/store")


def test_folders_are_known_by_what_lies_in_them(cloud: servers.Cloud) -> None:
    for name in ("a/x.jpg", "a/b/y.jpg", "a/b/c/z.jpg"):
        cloud.put(f"some/{name}", b"photo")
    filesystem, root = storage.filesystem(f"{cloud.uri}/some/a")

    def told(found: Iterable[fs.FileInfo]) -> dict[str, bool]:
        return {info.path.removeprefix(root): info.type == fs.FileType.Directory for info in found}

    assert told(folders.inside(filesystem, root)) == {"/x.jpg": False, "/b": True}
    everything = {"/x.jpg": False, "/b": True, "/b/y.jpg": False, "/b/c": True, "/b/c/z.jpg": False}
    assert told(folders.below(filesystem, root)) == everything
    assert folders.inside(filesystem, f"{root}/none") == folders.below(filesystem, f"{root}/none") == []
    listed = {uri.removeprefix(f"{cloud.uri}/some/a") for uri, *_ in listing.files(f"{cloud.uri}/some/a")}
    assert listed == {path for path, is_folder in everything.items() if not is_folder}


def test_what_lies_in_folders_of_a_store_is_found(cloud: servers.Cloud, tmp_path: Path) -> None:
    """Runs, and the table of another store within a source."""
    shelf = Shelf(f"{cloud.uri}/photos/store")
    shelf.publish("d1", "r", {"u": "a"})
    storage.write_json(f"{shelf.store}/runs/d1/run_1/ingest.json", {})
    assert catalog.runs(shelf.store, "d1") == ["run_1"]
    cloud.put("photos/one.jpg", b"photo")
    assert [uri for uri, *_ in listing.files(f"{cloud.uri}/photos")] == [f"{cloud.uri}/photos/one.jpg"]


@pytest.mark.parametrize("cloud", ["azure"], indirect=True)
def test_the_search_index_lies_there_too(cloud: servers.Cloud) -> None:
    shelf = Shelf(f"{cloud.uri}/store")
    shelf.publish("d1", "r1", {"u1": "a", "u2": "b"})
    assert index(IndexSettings(store=shelf.store, model=MODEL), Timings()).counts["differing"] == 0
    shelf.publish("d1", "r2", {"u2": "b", "u3": "c"})
    assert index(IndexSettings(store=shelf.store, model=MODEL), Timings()).counts["differing"] == 0
    found = open_index(shelf.store, MODEL).nearest(vector("c"), k=3)
    assert {one.uri for one in found} == {"u2", "u3"} and found[0].uri == "u3"
