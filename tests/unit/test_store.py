"""Staged rows are unseen until one commit shows them all; whoever publishes at once, a partition is one run's whole."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pyarrow.dataset as dataset
import pyarrow.parquet as pq
import pytest

from spark_apps import catalog, contract, storage
from spark_apps.contract import Unreachable, ValidateSettings
from spark_apps.tables import commits, data_files, schemas, staging
from tests.shelf import FINGERPRINT, MODEL, Shelf, image_id, vector

OTHER_MODEL = "resnet50-random_0-fp32"


def published(shelf: Shelf, partition: str, model: str = MODEL) -> dict[str, list[tuple[str, str]]]:
    """(run_id, uri) of every row that a reader of `partition` sees, by table."""
    tables = {
        "images": catalog.images(shelf.store, partition),
        "quarantine": catalog.quarantine(shelf.store, partition),
        "features": catalog.vectors(shelf.store, partition, model),
    }
    return {
        name: sorted(zip(rows["run_id"].to_pylist(), rows["uri"].to_pylist(), strict=True))
        for name, rows in tables.items()
    }


def whole(run_id: str, files: dict[str, str], quarantined: tuple[str, ...]) -> dict[str, list[tuple[str, str]]]:
    """What `published` gives when the partition is exactly this run."""
    rows = sorted((run_id, uri) for uri in files)
    return {"images": rows, "quarantine": sorted((run_id, uri) for uri in quarantined), "features": rows}


# --- staging ----------------------------------------------------------------------------------------------------------


def test_staged_files_hold_the_rows_and_are_unseen_until_their_commit(shelf: Shelf) -> None:
    shelf.publish("d0", "first", {"u0": "a"})
    publication = shelf.publication("d1", "second", {"u1": "a", "u2": "b"}, quarantined=["u3"])
    assert [item.partition for item in catalog.partitions(shelf.store)] == ["d0"]
    assert catalog.images(shelf.store, "d1").num_rows == 0
    (file,) = publication.staged["features"]
    staged = pq.read_table(f"{shelf.store}/features/{file.path}").to_pylist()
    assert [(row["uri"], row["image_id"], row["features"], row["run_id"]) for row in staged] == [
        ("u1", image_id("a"), vector("a"), "second"),
        ("u2", image_id("b"), vector("b"), "second"),
    ]
    publication.commit()
    assert published(shelf, "d1") == whole("second", {"u1": "a", "u2": "b"}, ("u3",))


def test_a_file_record_tells_its_size_rows_and_row_groups(shelf: Shelf) -> None:
    (file,) = shelf.images("d1", "r", {f"u{index}": str(index) for index in range(7)}, row_group_bytes=300)
    path = Path(shelf.store, "images", file.path)
    parquet = pq.ParquetFile(path)
    groups = [parquet.metadata.row_group(group).num_rows for group in range(parquet.num_row_groups)]
    assert list(file.row_groups) == groups == [3, 3, 1]
    assert (file.rows, file.size_bytes) == (7, path.stat().st_size)


def test_readers_skip_row_groups_by_name(shelf: Shelf) -> None:
    files = {f"u{number}": str(number) for number in range(6)}
    for table, stage in ((schemas.IMAGES, shelf.images), (schemas.FEATURES, shelf.features)):
        (file,) = stage("d1", "r", files, row_group_bytes=200)
        rows = dataset.dataset(f"{table.uri(shelf.store)}/{file.path}")
        (fragment,) = rows.get_fragments()
        assert len(file.row_groups) == 3
        for name, value in (("uri", "u3"), ("image_id", image_id("3"))):
            kept = fragment.subset(dataset.field(name) == value).to_table()["uri"].to_pylist()
            assert "u3" in kept and len(kept) < len(files)


def test_large_days_are_split_into_files(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(staging, "FILE_BYTES", 1)
    staged = shelf.images("d1", "r", {f"u{index}": str(index) for index in range(5)}, row_group_bytes=200)
    assert [file.rows for file in staged] == [2, 2, 1]
    assert len({file.path for file in staged}) == 3


def test_no_rows_leave_no_file(shelf: Shelf) -> None:
    assert shelf.images("d1", "r", {}) == []


def test_a_failed_attempt_removes_what_it_wrote(shelf: Shelf) -> None:
    with (  # noqa: PT012  the writer is left by the error
        pytest.raises(KeyError),
        staging.StagedWriter(shelf.store, schemas.IMAGES, "data/d1/r/attempt", row_group_bytes=1) as writer,
    ):
        writer.add({"uri": "u", "image_id": "i", "content": b"x"}, 10)
        assert list(Path(shelf.store).rglob("*.parquet")) != []
        raise KeyError
    assert list(Path(shelf.store).rglob("*.parquet")) == []


def test_two_attempts_at_one_run_never_share_a_folder() -> None:
    settings = ValidateSettings(store="/s", partition="d1", run_id="manual:1")
    folders = {staging.folder(settings) for _ in range(20)}
    assert len(folders) == 20
    assert all(folder.startswith(f"data/d1/{contract.path_safe('manual:1')}/") for folder in folders)


# --- publishing -------------------------------------------------------------------------------------------------------


def test_publishing_replaces_one_partition_and_leaves_the_others(shelf: Shelf) -> None:
    for partition in ("d1", "d2", "d10"):
        shelf.publish(partition, "old", {"u1": "a", "u2": "b"}, quarantined=["u3"])
    shelf.publish("d1", "new", {"u1": "a"}, quarantined=["u2", "u3"])
    assert published(shelf, "d1") == whole("new", {"u1": "a"}, ("u2", "u3"))
    for partition in ("d2", "d10"):
        assert published(shelf, partition) == whole("old", {"u1": "a", "u2": "b"}, ("u3",))


def test_publishing_one_model_leaves_the_vectors_of_another(shelf: Shelf) -> None:
    shelf.publish("d1", "r1", {"u1": "a", "u2": "b"}, model=OTHER_MODEL)
    shelf.publish("d1", "r2", {"u1": "a"})
    shelf.publish("d1", "r3", {"u9": "z"})
    assert published(shelf, "d1") == whole("r3", {"u9": "z"}, ())
    assert published(shelf, "d1", OTHER_MODEL)["features"] == [("r1", "u1"), ("r1", "u2")]


@pytest.mark.parametrize("partition", ["2026", "00", "1e5", "true", "null", "None", "nan", "A.b_c-d"])
def test_a_key_that_looks_like_something_else_is_just_a_key(shelf: Shelf, partition: str) -> None:
    shelf.publish(partition, "old", {"u1": "a", "u2": "b"})
    shelf.publish("other", "old", {"u1": "a"})
    shelf.publish(partition, "new", {"u1": "a"})
    assert published(shelf, partition) == whole("new", {"u1": "a"}, ())
    assert {item.partition: item.rows for item in catalog.partitions(shelf.store)} == {partition: 1, "other": 1}


def test_the_versions_returned_are_those_that_show_the_run(shelf: Shelf) -> None:
    first = shelf.publish("d1", "old", {"u1": "a"})
    second = shelf.publish("d1", "new", {"u1": "a", "u2": "b"})
    for name in ("images", "features"):
        assert second[name] == first[name] + 1
        for version, runs in ((first[name], ["old"]), (second[name], ["new", "new"])):
            rows = catalog.dataset(shelf.store, name, version=version).to_table()
            assert rows["run_id"].to_pylist() == runs


def test_committing_twice_changes_nothing(shelf: Shelf) -> None:
    publication = shelf.publication("d1", "r", {"u1": "a"}, quarantined=["u2"])
    assert publication.commit() == publication.commit() == publication.commit()
    assert published(shelf, "d1") == whole("r", {"u1": "a"}, ("u2",))


def test_committing_twice_without_quarantine_changes_nothing(shelf: Shelf) -> None:
    publication = shelf.publication("d1", "r", {"u1": "a"})
    assert publication.commit() == publication.commit()


def test_commits_say_which_run_made_them(shelf: Shelf) -> None:
    shelf.publish("d1", "manual:1+2", {"u1": "a"})
    for name in schemas.TABLES:
        delta = catalog.table(shelf.store, name)
        assert delta is not None
        (commit,) = delta.history(1)
        assert (commit["run_id"], commit["featured"]) == ("manual:1+2", "1")


def test_the_log_is_summed_up_now_and_then_and_nothing_is_lost(shelf: Shelf) -> None:
    checkpoint = Path(shelf.store, "features", "_delta_log", "_last_checkpoint")
    publications = [shelf.publication(f"d{index % 3}", f"r{index}", {f"u{index}": "a"}) for index in range(22)]
    for publication in publications[:10]:
        publication.commit()
    assert not checkpoint.exists()
    for publication in publications[10:]:
        publication.commit()
    assert json.loads(checkpoint.read_text())["version"] <= 20
    assert {item.partition: item.run_id for item in catalog.partitions(shelf.store)} == {
        "d0": "r21",
        "d1": "r19",
        "d2": "r20",
    }
    assert publications[-1].commit()["features"] == 22, "the no-op is known beyond a checkpoint"


# --- several at once, and kills ---------------------------------------------------------------------------------------


def at_once(*publications: commits.Replacement) -> list[dict[str, int]]:
    """Commits all at the same moment, each in a thread; the versions each got. Raises what any of them raised."""
    start = threading.Barrier(len(publications))

    def commit(publication: commits.Replacement) -> dict[str, int]:
        start.wait()
        return publication.commit()

    with ThreadPoolExecutor(len(publications)) as pool:
        return list(pool.map(commit, publications))


@pytest.mark.parametrize("fresh", [True, False], ids=["new store", "published before"])
def test_of_twelve_runs_that_publish_one_partition_at_once_one_is_there_whole(shelf: Shelf, fresh: bool) -> None:
    if not fresh:
        shelf.publish("d1", "before", {"u": "a"}, quarantined=["q"])
    shelf.publish("d0", "untouched", {"u": "a"})
    contents = {
        f"run{number}": ({f"u{number}-{index}": "a" for index in range(number % 3 + 1)}, (f"q{number}",))
        for number in range(12)
    }
    at_once(*(shelf.publication("d1", run, files, quarantined=bad) for run, (files, bad) in contents.items()))
    found = published(shelf, "d1")
    (winner,) = {run for rows in found.values() for run, _ in rows}
    assert found == whole(winner, *contents[winner])
    assert published(shelf, "d0") == whole("untouched", {"u": "a"}, ())


def test_runs_that_publish_different_partitions_at_once_are_all_there(shelf: Shelf) -> None:
    keys = [f"d{number}" for number in range(8)]
    got = at_once(*(shelf.publication(key, f"run-{key}", {"u": "a"}, quarantined=["q"]) for key in keys))
    for key, versions in zip(keys, got, strict=True):
        assert published(shelf, key) == whole(f"run-{key}", {"u": "a"}, ("q",))
        for name, version in versions.items():
            table = catalog.table(shelf.store, name, version)
            assert table is not None
            shown = {file.run_id for file in data_files.published(table, {"partition": key})}
            assert shown == {f"run-{key}"}, "the version returned shows the run's rows"


def test_two_models_of_one_partition_published_at_once_both_keep_their_vectors(shelf: Shelf) -> None:
    at_once(
        shelf.publication("d1", "r1", {"u": "a"}),
        shelf.publication("d1", "r2", {"u": "a"}, model=OTHER_MODEL),
    )
    assert published(shelf, "d1")["features"] == [("r1", "u")]
    assert published(shelf, "d1", OTHER_MODEL)["features"] == [("r2", "u")]


class Killed(BaseException):
    """Stands for the end of the process: nothing in the code under test catches it."""


def before_table(monkeypatch: pytest.MonkeyPatch, name: str, action: Callable[[], None]) -> None:
    """Has `action` happen once, when a commit comes to the table `name`."""
    open_table, done = commits.open_table, threading.Event()

    def opened(store_uri: str, table: schemas.Table) -> Any:
        if table.name == name and not done.is_set():
            done.set()
            action()
        return open_table(store_uri, table)

    monkeypatch.setattr(commits, "open_table", opened)


@pytest.mark.parametrize("table", ["quarantine", "features"])
def test_a_retry_after_a_kill_between_two_commits_completes_the_publication(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch, table: str
) -> None:
    shelf.publish("d1", "old", {"u1": "a"}, quarantined=["u9"])
    publication = shelf.publication("d1", "new", {"u1": "a", "u2": "b"}, quarantined=["u3"])

    def die() -> None:
        raise Killed

    before_table(monkeypatch, table, die)
    with pytest.raises(Killed):
        publication.commit()
    assert published(shelf, "d1")["features"] == [("old", "u1")], "what is published stays until the last commit"
    publication.commit()
    assert published(shelf, "d1") == whole("new", {"u1": "a", "u2": "b"}, ("u3",))


@pytest.mark.parametrize("table", ["quarantine", "features"])
def test_a_run_that_was_overtaken_between_two_commits_does_not_overwrite_the_newer(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch, table: str
) -> None:
    slow = shelf.publication("d1", "slow", {"u1": "a"}, quarantined=["u2"])
    fast = shelf.publication("d1", "fast", {"u1": "a", "u2": "b"}, quarantined=["u3"])
    before_table(monkeypatch, table, lambda: void(fast.commit()))
    slow.commit()
    assert published(shelf, "d1") == whole("fast", {"u1": "a", "u2": "b"}, ("u3",))


def void(_: object) -> None:
    """Drops a result."""


def test_a_commit_that_the_store_refuses_is_no_endless_loop(shelf: Shelf) -> None:
    publication = shelf.publication("d1", "r", {"u1": "a"})
    publication.commit()
    log = Path(shelf.store, "images", "_delta_log")
    (log / f"{2:020}.json").mkdir()  # the next version cannot be written, and no reader sees one
    with pytest.raises(Unreachable), storage.reaching("store", shelf.store):
        shelf.publish("d1", "r2", {"u1": "a"})


@pytest.mark.parametrize("place", ["a file/store", "/proc/store"])
def test_a_store_that_cannot_be_written_to_is_unreachable(tmp_path: Path, place: str) -> None:
    (tmp_path / "a file").touch()
    location = place if place.startswith("/") else str(tmp_path / place)
    publication = commits.Replacement(location, "d1", MODEL, "r", {}, {})
    with pytest.raises(Unreachable) as caught, storage.reaching("store", location):
        publication.commit()
    assert location in caught.value.message and caught.value.hint
    with pytest.raises(Unreachable), storage.reaching("store", location):
        Shelf(location).images("d1", "r", {"u": "a"})


def test_a_store_may_be_a_file_uri(tmp_path: Path) -> None:
    shelf = Shelf((tmp_path / "my störe").as_uri())
    shelf.publish("d1", "old", {"u1": "a"})
    publication = shelf.publication("d1", "new", {"u2": "b"})
    assert publication.commit() == publication.commit()
    assert published(shelf, "d1") == whole("new", {"u2": "b"}, ())
    assert published(Shelf(str(tmp_path / "my störe")), "d1") == whole("new", {"u2": "b"}, ())


@pytest.mark.parametrize("as_uri", [False, True])
def test_any_name_of_a_store_that_is_not_refused_is_taken_literally(tmp_path: Path, as_uri: bool) -> None:
    place = tmp_path / "co py \u00e9#1 100% ?&,;=+'\"$HOME*[x]{y}"
    location = contract.check_store(place.as_uri() if as_uri else str(place))
    shelf = Shelf(location)
    shelf.publish("d1", "old", {"u1": "a"})
    shelf.publish("d1", "new", {"u2": "b"})
    assert published(shelf, "d1") == whole("new", {"u2": "b"}, ())
    assert list(tmp_path.iterdir()) == [place]
    assert (place / "features" / "_delta_log").is_dir()


def test_fingerprints_are_stored_with_the_vectors(shelf: Shelf) -> None:
    shelf.publish("d1", "r", {"u1": "a"})
    assert catalog.vectors(shelf.store, "d1", MODEL)["model_fingerprint"].to_pylist() == [FINGERPRINT]
