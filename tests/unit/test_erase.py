"""Forgetting photos: nothing of them is left in any corner of a store, everything else is, and they stay away."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import uuid
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from spark_apps import catalog, contract, storage
from spark_apps.contract import (
    BadSetting,
    EraseSettings,
    IndexSettings,
    JobError,
    MaintainSettings,
    QualityFailed,
    UndoSettings,
)
from spark_apps.dedup import groups, table
from spark_apps.erase import erase
from spark_apps.index import index
from spark_apps.maintain import maintain
from spark_apps.search import ann, datasets, open_index, writing
from spark_apps.spark.jobs import Timings, write_manifest
from spark_apps.tables import rewrites, schemas, tombstones
from spark_apps.undo import undo
from tests.shelf import MODEL, Shelf, image_id

OTHER_MODEL = "resnet50-random_0-fp32"
DAYS = [f"2026-11-{day:02}" for day in range(1, 6)]
DIM = 16


def uri(day: str, name: str) -> str:
    return f"file:///landing/{day}/{name}%20%C3%BC.jpg"


def photo(day: str, number: int) -> str:
    """What stands for the bytes of a photo, and is like nothing else in the store."""
    return f"the bytes of photo {number} of {day}, {'0123456789abcdef' * 8}"


FILES = {day: {uri(day, f"p{number}"): photo(day, number) for number in range(12)} for day in DAYS}
WANTED = [photo(day, number) for day in DAYS for number in (3, 7)]
"""Two photos of each day; one of them lies on the day after under another name, too."""
COPY = {uri(DAYS[1], "copy"): photo(DAYS[0], 3)}
BROKEN = uri(DAYS[0], "broken")
"""A file that was set aside unread, and is to be forgotten as well."""


def publish(shelf: Shelf, day: str, run: str, files: dict[str, str], model: str = MODEL) -> None:
    dice = np.random.default_rng(len(run + day))
    vectors = {uri: dice.normal(size=DIM).astype(np.float32) for uri in files}
    bad = [uri(day, "broken")]
    shelf.publish(day, run, files, model=model, quarantined=bad, vectors=vectors)
    leave_documents(shelf, day, run, [*files])


def leave_documents(shelf: Shelf, day: str, run: str, uris: list[str], staged: Any = ()) -> None:
    """What a run's stages leave in its folder, in the form that they do."""
    folder = contract.run_folder(shelf.store, day, run)
    report = {
        "checks": [{"name": "finite", "offenders": uris[3:8]}],
        "recomputed": [{"uri": one, "cosine": 1.0} for one in uris],
        "drift": {"moved": [{"image_id": image_id(photo(day, 3)), "uri": uris[3], "moved": 0.25}], "value": 0.5},
    }
    storage.write_json(contract.join(folder, "report.json"), report)
    words = "Check finite failed: 5.\n  " + "\n  ".join(uris) + f"\nid {image_id(photo(day, 3))}: no such file"
    storage.write_json(contract.join(folder, "error.json"), {"message": words})
    listing = pa.table({"uri": uris, "size_bytes": [1] * len(uris)})
    storage.ensure_folder(contract.join(folder, "listing"))
    pq.write_table(listing, Path(folder, "listing", "00000000.parquet"), row_group_size=5)


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Days of two models, the first replaced, one undone, one run rejected, an index, groups of duplicates."""
    shelf = Shelf(str(tmp_path_factory.mktemp("filled") / "store"))
    for day in DAYS:
        files = FILES[day] | (COPY if day == DAYS[1] else {})
        publish(shelf, day, "first", files)
        publish(shelf, day, "second", files)
        publish(shelf, day, "second", files, OTHER_MODEL)
    undo(UndoSettings(store=shelf.store, partition=DAYS[2], model=MODEL))
    rejected = {
        "images": shelf.images(DAYS[3], "rejected", FILES[DAYS[3]]),
        "features": shelf.features(DAYS[3], "rejected", FILES[DAYS[3]]),
    }
    settings = contract.IngestSettings(store=shelf.store, partition=DAYS[3], run_id="rejected", source="/landing")
    write_manifest(settings, Timings().manifest("ingest", settings, counts={}, staged=rejected))
    leave_documents(shelf, DAYS[3], "rejected", [*FILES[DAYS[3]]])
    for day in DAYS:
        index(IndexSettings(store=shelf.store, model=MODEL, ann_rows=256 if day == DAYS[-1] else 10**6), Timings())
    known = table.known(shelf.store, MODEL)
    members_of = [groups.File(day, uri, image_id(name)) for day in DAYS for uri, name in FILES[day].items()]
    pairs = [groups.Pair(image_id(photo(day, 3)), image_id(photo(day, 4)), 0.9, 3) for day in DAYS]
    pairs += [groups.Pair(image_id(photo(day, 4)), image_id(photo(day, 5)), 0.9, 3) for day in DAYS]
    members = groups.members(members_of, pairs, {})
    version = catalog.table(shelf.store, "features").version()
    table.replace(shelf.store, MODEL, known, members, version, "by a test")
    return Path(shelf.store)


@pytest.fixture
def store(filled: Path, shelf: Shelf) -> Shelf:
    shutil.copytree(filled, shelf.store)
    return shelf


def settings(shelf: Shelf, **options: Any) -> EraseSettings:
    return EraseSettings(**{"store": shelf.store, "reason": "asked for", "requested_by": "somebody", **options})


@pytest.fixture
def listed(tmp_path: Path) -> str:
    """A list that names half of the photos by id, the others by uri or path."""
    names = [
        image_id(photo(day, 3)) if number == 3 else (uri(day, "p7") if day < DAYS[3] else f"/landing/{day}/p7 ü.jpg")
        for day in DAYS
        for number in (3, 7)
    ]
    place = tmp_path / "photos.txt"
    place.write_text("\n".join([*names, BROKEN]) + "\n")
    return str(place)


def needles() -> list[bytes]:
    """Everything that tells of one of the photos."""
    uris = [BROKEN, *(uri for day in DAYS for uri, name in (FILES[day] | COPY).items() if name in WANTED)]
    plain = [uri.removeprefix("file://").replace("%20", " ").replace("%C3%BC", "ü") for uri in uris]
    return [
        *(name.encode() for name in WANTED),
        *(image_id(name).encode() for name in WANTED),
        *(text.encode() for text in [*uris, *plain]),
        *(text.encode("ascii", "backslashreplace") for text in plain),
    ]


def places_with(shelf: Shelf) -> dict[str, list[bytes]]:
    """The files in which one of them is, by their bytes, their columns read, and a search index read."""
    found: dict[str, list[bytes]] = {}
    for path in (one for one in Path(shelf.store).rglob("*") if one.is_file()):
        content = path.read_bytes()
        if path.suffix == ".parquet":
            content += repr(pq.read_table(path, partitioning=None).to_pylist()).encode()
            content += pq.read_metadata(path).__repr__().encode()
        if hits := [one for one in needles() if one in content]:
            found[str(path.relative_to(shelf.store))] = hits
    return found


def rows(shelf: Shelf, version: int | None = None) -> dict[str, set[tuple[Any, ...]]]:
    """uri, image and content of every row that readers see, by table."""
    found = {}
    for name in schemas.TABLES:
        read = catalog.dataset(shelf.store, name, version=version).to_table().to_pylist()
        found[name] = {
            (row["partition"], row.get("model"), row["uri"], row["image_id"], row.get("content")) for row in read
        }
    return found


def without(found: dict[str, set[tuple[Any, ...]]]) -> dict[str, set[tuple[Any, ...]]]:
    gone = {image_id(name) for name in WANTED}
    return {name: {row for row in rows if row[3] not in gone and row[2] != BROKEN} for name, rows in found.items()}


def test_nothing_is_left_of_them_and_everything_of_the_others(store: Shelf, listed: str) -> None:
    before = rows(store)
    lay = places_with(store)
    assert len({place.split("/")[0] for place in lay}) == 6, "in each table, beside the runs, and in the index"
    with pytest.raises(QualityFailed) as caught:
        erase(settings(store, list=listed, verify=True), Timings())
    assert caught.value.code == "still_there"

    forecast = erase(settings(store, list=listed, dry_run=True), Timings()).counts
    assert rows(store) == before and places_with(store) == lay, "a dry run changes nothing"
    done = erase(settings(store, list=listed), Timings())
    told = ("images", "names", "rows", "search_rows", "duplicate_rows", "files", "documents")
    assert {name: forecast[name] for name in told} == {name: done.counts[name] for name in told}
    assert places_with(store) == {}
    assert rows(store) == without(before)
    assert erase(settings(store, list=listed, verify=True), Timings()).counts == {"found": 0}
    assert erase(settings(store), Timings()).counts["rows"] == 0


def test_the_receipt_says_what_was_removed_where_and_names_nothing(store: Shelf, listed: str) -> None:
    done = erase(settings(store, list=listed, run_id="ticket 7"), Timings())
    folder = Path(settings(store, run_id="ticket 7").folder)
    receipt = json.loads((folder / "receipt.json").read_text())
    assert (receipt["reason"], receipt["requested_by"]) == ("asked for", "somebody") and receipt["finished_at"]
    assert receipt["photos"] == {"images": 10, "names": 12, "strange": 0}
    assert receipt["removed"] == done.outcome["removed"]
    assert receipt["removed"]["shown"][f"features/{DAYS[1]}/{OTHER_MODEL}"] == 3
    assert receipt["removed"]["shown"][f"images/{DAYS[0]}"] == 2
    assert receipt["removed"]["search"] == {MODEL: 11} and receipt["removed"]["duplicates"] == {MODEL: 5}
    assert done.settings["list"] == "" and not places_with(store)
    stone = json.loads((folder / "tombstone.json").read_text())
    assert (len(stone["images"]), len(stone["uris"]), stone["reason"]) == (10, 12, "asked for")


def test_a_list_that_is_wrong_is_refused_without_a_word_of_it(shelf: Shelf, tmp_path: Path) -> None:
    place = tmp_path / "photos.txt"
    place.write_text(f"{image_id('a')}\n\nsecret name.jpg\n")
    with pytest.raises(BadSetting, match="Line 2 of the list") as caught:
        erase(settings(shelf, list=str(place)), Timings())
    assert "secret" not in str(caught.value)
    with pytest.raises(BadSetting, match="Nothing says which photos"):
        erase(settings(shelf), Timings())
    with pytest.raises(BadSetting, match="no sha256"):
        settings(shelf, image_id="abc")


def test_a_store_that_is_none_is_refused_and_not_called_done(shelf: Shelf) -> None:
    Path(shelf.store, "erasures", "of a command").mkdir(parents=True)
    for options in ({}, {"dry_run": True}, {"verify": True}):
        with pytest.raises(BadSetting, match="Correct --store") as caught:
            erase(settings(shelf, image_id=image_id("a"), **options), Timings())
        assert caught.value.code == "no_store"
    assert not list(Path(shelf.store).rglob("tombstone.json"))


def test_erasures_of_one_moment_are_several(shelf: Shelf) -> None:
    """As of a shell's loop that starts some at once: each has its own tombstones, so that none is lost."""
    names = [f"photo {number}" for number in range(5)]
    shelf.publish("d1", "r", {f"file:///l/{name}.jpg": name for name in [*names, "other"]})
    at_once = [settings(shelf, image_id=image_id(name)) for name in names]
    assert len({one.folder for one in at_once}) == 5
    for one in at_once:
        erase(one, Timings())
    assert all(map(tombstones.read(shelf.store).has_image, map(image_id, names)))
    assert len(list(Path(shelf.store).glob("erasures/*/receipt.json"))) == 5


def test_ids_and_names_that_are_in_no_table_are_counted(shelf: Shelf, tmp_path: Path, capsys: Any) -> None:
    shelf.publish("d1", "r", {"file:///l/a.jpg": "a", "file:///l/b.jpg": "b"})
    place = tmp_path / "photos.txt"
    place.write_text(f"{image_id('a')}\n/l/b.jpg\n/l/misspelt.jpg\n{image_id('nowhere')}\n")
    assert erase(settings(shelf, list=str(place), dry_run=True), Timings()).counts["strange"] == 2
    erase(settings(shelf, list=str(place), run_id="7"), Timings())
    said = capsys.readouterr().err
    assert "2 of the 4 ids and names that were given are in no table" in said and "misspelt" not in said
    receipt = Path(settings(shelf, run_id="7").folder, "receipt.json")
    assert json.loads(receipt.read_text())["photos"] == {"images": 3, "names": 3, "strange": 2}
    again = erase(settings(shelf, list=str(place), run_id="7"), Timings())
    assert again.counts["strange"] == 0, "all were erased before"
    assert json.loads(receipt.read_text())["photos"]["strange"] == 2


def test_a_prefix_means_all_below_it_and_their_copies(store: Shelf) -> None:
    done = erase(settings(store, uri_prefix=f"/landing/{DAYS[0]}/"), Timings())
    assert done.counts["images"] == 12
    left = {row[0] for found in rows(store).values() for row in found}
    assert left == {*DAYS[1:]}, "a day without a photo is no day any more"
    assert next(iter(COPY)) not in {row[2] for row in rows(store)["images"]}


def test_of_the_last_photos_nothing_stays_in_the_index(store: Shelf) -> None:
    erase(settings(store, uri_prefix="/landing"), Timings())
    assert all(not found for found in rows(store).values())
    assert places_with(store) == {}
    assert erase(settings(store, uri_prefix="/landing", verify=True), Timings()).counts == {"found": 0}


def test_another_photo_of_the_same_name_stays(shelf: Shelf) -> None:
    shelf.publish("d1", "r", {"file:///latest.jpg": "a", "file:///x.jpg": "b"})
    shelf.publish("d2", "r", {"file:///latest.jpg": "c"})
    erase(settings(shelf, image_id=image_id("a")), Timings())
    assert {row[2:4] for row in rows(shelf)["images"]} == {
        ("file:///x.jpg", image_id("b")),
        ("file:///latest.jpg", image_id("c")),
    }
    assert not tombstones.read(shelf.store).has_uri("file:///latest.jpg")
    erase(settings(shelf, uri="/latest.jpg"), Timings())
    assert {row[2] for row in rows(shelf)["images"]} == {"file:///x.jpg"}


def test_maintenance_undo_and_search_go_on(store: Shelf, listed: str) -> None:
    earlier = {day: rows_of(store, day) for day in DAYS}
    erase(settings(store, list=listed), Timings())
    maintain(MaintainSettings(store=store.store), Timings())
    assert [item.partition for item in catalog.partitions(store.store, MODEL)] == DAYS[::-1]
    for day in DAYS:  # what was published before holds the same photos here
        undo(UndoSettings(store=store.store, partition=day, model=MODEL, to_version=former(store, day)))
        assert rows_of(store, day) == {row for row in earlier[day] if row[1] not in map(image_id, WANTED)}
    assert index(IndexSettings(store=store.store, model=MODEL), Timings()).counts["differing"] == 0
    found = open_index(store.store, MODEL)
    assert found.rows == 5 * 10 and found.behind() == {}
    known = found.lookup(image_id(photo(DAYS[0], 4)), DAYS[0])
    assert known and found.nearest(known[1], 1)[0].image_id == known[0].image_id
    assert found.lookup(image_id(photo(DAYS[0], 3))) is None
    assert places_with(store) == {}


def rows_of(shelf: Shelf, day: str) -> set[tuple[str, str]]:
    found = catalog.vectors(shelf.store, day, MODEL, ["uri", "image_id"]).to_pylist()
    return {(row["uri"], row["image_id"]) for row in found}


def former(shelf: Shelf, day: str) -> int:
    """The first publication of a day that is not the present one."""
    shown, *others = catalog.publications(shelf.store, day, MODEL)
    return next(item.version for item in others if item.origin != shown.origin)


def test_what_a_rejected_run_had_staged_is_what_its_manifest_says(store: Shelf, listed: str) -> None:
    erase(settings(store, list=listed), Timings())
    manifest = catalog.manifest(store.store, DAYS[3], "rejected", "ingest")
    for name, files in manifest.staged.items():
        for file in files:
            place = Path(store.store, name, file.path)
            assert (place.stat().st_size, pq.read_metadata(place).num_rows) == (file.size_bytes, file.rows)
            assert file.row_groups == (10,)


def test_groups_of_duplicates_keep_their_ids_and_name_it_no_more(store: Shelf, listed: str) -> None:
    before = table.known(store.store, MODEL)
    erase(settings(store, list=listed), Timings())
    after = table.known(store.store, MODEL)
    assert len(before.rows) == 15 and len(after.rows) == 10
    assert {row["image_id"]: row["group_id"] for row in after.rows} == {
        row["image_id"]: row["group_id"] for row in before.rows if row["image_id"] not in map(image_id, WANTED)
    }
    assert after.seen == catalog.table(store.store, "features").version(), "nothing has to be compared again"


KILLED_WRITERS = """
import os, signal, sys
from spark_apps import storage
store, model, name = sys.argv[1:]
def killed(*_):
    os.kill(os.getpid(), signal.SIGKILL)
if os.fork() == 0:
    os.fsync = killed
    storage.write_bytes(f"{store}/features/data/d/r/a/x.parquet", name.encode())
os.wait()
import numpy as np, pyarrow as pa
from lance.fragment import write_fragments
from spark_apps.search import datasets
rows, columns = 2**18, datasets.schema(16)
def batches():
    for _ in range(3):
        noise = pa.array(np.random.default_rng(0).random(16 * rows, np.float32))
        yield pa.record_batch([
            pa.FixedSizeListArray.from_arrays(noise, 16) if field.name == "vector"
            else pa.array([name] * rows) if field.type == pa.string() else pa.nulls(rows, field.type)
            for field in columns
        ], schema=columns)
    killed()
write_fragments(pa.RecordBatchReader.from_batches(columns, batches()), datasets.uri(store, model), schema=columns)
"""


def test_what_killed_writers_have_left_goes_when_nobody_can_be_writing_it(store: Shelf, listed: str) -> None:
    ann.build(datasets.opened(store.store, MODEL))
    parts = Path(datasets.uri(store.store, MODEL), "_indices")
    for part in [*parts.iterdir()]:  # what an index that was never committed leaves
        shutil.copytree(part, parts / str(uuid.uuid4()))
    command = [sys.executable, "-c", KILLED_WRITERS, store.store, MODEL, image_id(photo(DAYS[0], 3))]
    assert subprocess.run(command).returncode == -signal.SIGKILL
    (parts.parent / "data" / ".tmpempty").touch()
    with pytest.raises(JobError) as caught:
        erase(settings(store, list=listed), Timings())
    assert caught.value.code == "left_to_runs"
    unnamed = {path for path in Path(store.store).rglob(".*") if path.is_file()}
    assert {path.name[:4] for path in unnamed} == {".tmp", ".x.p"}, "of Lance and of ours"
    for path in Path(store.store).rglob("*"):
        os.utime(path, (path.stat().st_mtime - 25 * 3600,) * 2)
    swept = maintain(MaintainSettings(store=store.store, dry_run=True), Timings()).counts
    assert swept["orphans"] == 2, "maintenance would take those of Lance, too, and the other after the retention"
    erase(settings(store), Timings())
    assert places_with(store) == {} and not any(path.exists() for path in unnamed)
    assert open_index(store.store, MODEL).approximate and len([*parts.iterdir()]) == 3, "of vectors and of two columns"


class Killed(BaseException):
    """Ends an erasure as a signal does: nobody catches it."""


@pytest.mark.parametrize("seed", range(5))
def test_killed_between_any_two_steps_it_is_finished_by_the_next(
    store: Shelf, listed: str, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    before, steps, last = rows(store), 0, random.Random(seed).randrange(4, 150)

    def counted(module: Any, name: str) -> None:
        step = getattr(module, name)

        def taken(*arguments: Any, **options: Any) -> Any:
            nonlocal steps
            steps += 1
            if steps == last:
                raise Killed
            return step(*arguments, **options)

        patch.setattr(module, name, taken)

    with monkeypatch.context() as patch:
        for module, name in (
            (storage, "write_bytes"),
            (storage, "delete"),
            (rewrites, "rewrite"),
            (table, "replace"),
            (writing, "reconcile"),
        ):
            counted(module, name)
        with pytest.raises(Killed):
            erase(settings(store, list=listed), Timings())
    assert places_with(store), "it was killed in the middle"
    erase(settings(store), Timings())
    assert places_with(store) == {}
    assert rows(store) == without(before)
    assert all(json.loads(one.read_text())["finished_at"] for one in Path(store.store).glob("erasures/*/receipt.json"))


def test_a_photo_that_moved_the_drift_is_redacted_in_its_report_and_looked_for(shelf: Shelf) -> None:
    shelf.publish("d1", "r", {"file:///l/a.jpg": "a", "file:///l/b.jpg": "b"})
    first, second = (
        {"image_id": image_id(name), "uri": f"file:///l/{name}.jpg", "moved": moved}
        for name, moved in (("a", 0.4), ("b", 0.2))
    )
    report = {"drift": {"value": 0.1, "moved": [first, second]}}
    place = contract.join(contract.run_folder(shelf.store, "d1", "r"), "report.json")
    storage.write_json(place, report)
    erase(settings(shelf, image_id=image_id("a")), Timings())
    left = {"image_id": "(erased)", "uri": "(erased)", "moved": 0.4}
    assert storage.read_json(place) == {"drift": {"value": 0.1, "moved": [left, second]}}
    assert erase(settings(shelf, verify=True), Timings()).counts == {"found": 0}
    storage.write_json(place, {"drift": {"value": 0.1, "moved": [{**first, "uri": ""}]}})
    with pytest.raises(QualityFailed, match=r"runs/d1/.*report\.json"):
        erase(settings(shelf, verify=True), Timings())
