"""What changed between two versions is exact, whatever happened in between; and each file's newest vector."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from itertools import combinations
from typing import Any

import pyarrow as pa
import pytest

from spark_apps import catalog, contract
from spark_apps.contract import BadSetting, MaintainSettings, UndoSettings
from spark_apps.maintain import maintain
from spark_apps.spark.jobs import Timings
from spark_apps.tables import data_files, schemas
from spark_apps.undo import put_back
from spark_apps.upkeep import compaction
from tests.shelf import MODEL, Shelf, image_id, vector

OTHER_MODEL = "resnet50-random_0-fp32"
State = dict[tuple[str, str], tuple[str, str]]
"""(partition, uri) → (image_id, fingerprint)."""


def state(shelf: Shelf) -> State:
    rows = catalog.dataset(shelf.store, "features").to_table().to_pylist()
    return {
        (row["partition"], row["uri"]): (row["image_id"], row["model_fingerprint"])
        for row in rows
        if row["model"] == MODEL
    }


def version(shelf: Shelf) -> int:
    delta = catalog.table(shelf.store, "features")
    assert delta is not None
    return delta.version()


def difference(old: State, new: State) -> set[tuple[str, str, str, str]]:
    """The same as `catalog.changes` is to tell, from two whole states."""
    return {
        (
            *name,
            (new.get(name) or old[name])[0],
            "removed" if name not in new else "changed" if name in old else "added",
        )
        for name in {*old, *new}
        if old.get(name) != new.get(name)
    }


def told(found: catalog.Changes) -> set[tuple[str, str, str, str]]:
    rows = [tuple(row.values()) for row in found.rows.to_pylist()]
    assert len(set(rows)) == len(rows)
    return set(rows)


def test_changes_between_any_two_versions_are_what_differs(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compaction, "FEWEST_FILES", 2)
    lot = random.Random(7)
    states: dict[int, State] = {0: {}}
    for number in range(16):
        day = f"d{lot.randint(1, 3)}"
        published = catalog.publications(shelf.store, day, MODEL)
        action = lot.choice(["publish", "publish", "other model", "undo", "merge"])
        if action == "undo" and len({item.origin for item in published}) > 1:
            other = lot.choice([item for item in published if item.origin != published[0].origin])
            settings = UndoSettings(store=shelf.store, partition=day, model=MODEL, to_version=other.version)
            put_back(settings, Timings())
        elif action == "merge" and published:
            compaction.compact(shelf.store, schemas.FEATURES)
        else:
            files = {f"u{name}": str(lot.randint(0, 3)) for name in lot.sample(range(8), lot.randint(0, 8))}
            fingerprint = f"f{lot.randint(0, 1)}"
            publication = shelf.publication(day, f"r{number}", files, fingerprint=fingerprint)
            extra = shelf.features(day, f"r{number}", {"apart": "9"}, fingerprint=fingerprint)
            publication.staged["features"].extend(extra)
            publication.commit()
            if action == "other model":
                shelf.publish(day, f"o{number}", files, model=OTHER_MODEL)
        states[version(shelf)] = state(shelf)
    merged = [path for path in data_files.files(catalog.table(shelf.store, "features")) if data_files.is_merged(path)]
    assert len(states) > 12 and merged, "the drill has to have something in it"
    for before, after in lot.sample([*combinations(states, 2)], 40):
        found = catalog.changes(shelf.store, MODEL, before, after)
        assert told(found) == difference(states[before], states[after]), (before, after)
        assert sum(found.counts.values()) == found.rows.num_rows
    last = max(states)
    assert catalog.changes(shelf.store, MODEL).version == last
    assert told(catalog.changes(shelf.store, MODEL, last)) == set()
    parts = [catalog.changes(shelf.store, MODEL, 3, partition=f"d{day}") for day in range(1, 4)]
    assert set().union(*map(told, parts)) == difference(states[3], states[last])


def test_an_empty_store_has_no_changes(shelf: Shelf) -> None:
    found = catalog.changes(shelf.store, MODEL)
    assert (found.version, found.rows.num_rows) == (0, 0)
    assert found.counts == {"added": 0, "changed": 0, "removed": 0}


@pytest.mark.parametrize("since", [-1, 2])
def test_a_version_that_is_none_is_refused(shelf: Shelf, since: int) -> None:
    shelf.publish("d1", "r", {"u": "a"})
    with pytest.raises(BadSetting) as caught:
        catalog.changes(shelf.store, MODEL, since)
    assert caught.value.code == "unknown_version"


def test_past_the_retention_the_reader_is_told_to_begin_afresh(shelf: Shelf) -> None:
    first = shelf.publish("d1", "r1", {"u": "a"})["features"]
    second = shelf.publish("d1", "r2", {"u": "b"})["features"]
    later = datetime.now(UTC) + timedelta(hours=50)
    maintain(MaintainSettings(store=shelf.store, retention_hours=1), Timings(), later)
    with pytest.raises(BadSetting) as caught:
        catalog.changes(shelf.store, MODEL, first)
    assert caught.value.code == "version_vacuumed" and "since_version 0" in caught.value.hint
    assert catalog.changes_of(shelf.store, "d1", MODEL, second) is None
    assert catalog.changes(shelf.store, MODEL).counts["added"] == 1


def test_a_version_that_the_log_has_dropped_is_told_apart_from_an_unreachable_store(
    shelf: Shelf,
) -> None:
    for number in range(25):
        shelf.publish("d1", f"r{number}", {"u": str(number)})
    maintain(
        MaintainSettings(store=shelf.store, retention_hours=672), Timings(), datetime.now(UTC) + timedelta(days=62)
    )
    with pytest.raises(BadSetting) as caught:
        catalog.changes(shelf.store, MODEL, 1)
    assert caught.value.code == "version_forgotten"
    assert catalog.changes_of(shelf.store, "gone", MODEL, version(shelf)) is None


def test_the_changes_of_a_publication_are_its_own(shelf: Shelf) -> None:
    shelf.publish("d1", "r1", {"u1": "a", "u2": "b"})
    mine = shelf.publish("d1", "r2", {"u1": "a", "u2": "z", "u3": "c"})["features"]
    shelf.publish("d2", "r3", {"u1": "a"})
    now = shelf.publish("d1", "r4", {"u": "a"}, model=OTHER_MODEL)["features"]
    found = catalog.changes_of(shelf.store, "d1", MODEL, now)
    assert found is not None
    assert (found.since_version, found.version) == (mine - 1, mine)
    assert told(found) == {("d1", "u2", image_id("z"), "changed"), ("d1", "u3", image_id("c"), "added")}


def test_an_undo_says_what_it_changed(shelf: Shelf) -> None:
    shelf.publish("d1", "r1", {"u1": "a", "u2": "b"})
    shelf.publish("d1", "r2", {"u1": "z", "u3": "c"})
    manifest = put_back(UndoSettings(store=shelf.store, partition="d1", model=MODEL), Timings())
    changes = manifest.outcome["changes"]
    assert changes == {"since_version": 2, "version": 3, "added": 1, "changed": 1, "removed": 1}
    again = catalog.changes(shelf.store, MODEL, changes["since_version"], changes["version"], "d1")
    assert again.to_record() == changes


def test_the_latest_of_each_name_is_that_of_the_newest_partition(shelf: Shelf) -> None:
    days = {"d2": {"u1": "a", "u2": "b"}, "d10": {"u1": "c"}, "d9": {"u1": "d", "u3": "e"}}
    for day, files in days.items():
        shelf.publish(day, f"run {day}", files)
    shelf.publish("d11", "other", {"u1": "z"}, model=OTHER_MODEL)
    found = catalog.latest(shelf.store, MODEL).read_all()
    expected = {"u1": ("d10", "c"), "u2": ("d2", "b"), "u3": ("d9", "e")}
    assert found.column_names == catalog.dataset(shelf.store, "features").schema.names
    rows: dict[str, Any] = {row["uri"]: row for row in found.to_pylist()}
    assert len(rows) == found.num_rows
    assert {uri: (row["partition"], row["features"]) for uri, row in rows.items()} == {
        uri: (day, vector(name)) for uri, (day, name) in expected.items()
    }
    few = catalog.latest(shelf.store, MODEL, ["image_id", "partition"]).read_all()
    assert few.to_pylist() == [
        {"image_id": image_id(name), "partition": day} for day, name in (("d10", "c"), ("d9", "e"), ("d2", "b"))
    ]
    assert catalog.latest(shelf.store, "no such model").read_all().num_rows == 0


def test_latest_reads_one_version_whatever_is_published_meanwhile(shelf: Shelf) -> None:
    for day in ("d1", "d2"):
        shelf.publish(day, day, {day: "a", "both": day})
    reader = catalog.latest(shelf.store, MODEL, ["uri", "run_id"])
    first = reader.read_next_batch()
    shelf.publish("d1", "new", {"later": "z"})
    rows = pa.Table.from_batches([first, *reader]).to_pylist()
    assert [(row["uri"], row["run_id"]) for row in rows] == [("d2", "d2"), ("both", "d2"), ("d1", "d1")]


def test_without_a_table_there_is_no_latest(shelf: Shelf) -> None:
    with pytest.raises(contract.Unreachable) as caught:
        catalog.latest(shelf.store, MODEL)
    assert caught.value.code == "store_empty"
