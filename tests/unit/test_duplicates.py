"""The table duplicates follows what is published: real photos, edited as people do, on days that come and go."""

from __future__ import annotations

import hashlib
import io
import json
import re
import subprocess
import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageOps

from spark_apps import catalog
from spark_apps.contract import (
    BadSetting,
    DuplicatesSettings,
    IndexSettings,
    JobError,
    MaintainSettings,
    NothingToDo,
    UndoSettings,
)
from spark_apps.dedup import indexed, share, table, update
from spark_apps.dedup.candidates import ExactSearch
from spark_apps.duplicates import duplicates
from spark_apps.index import index as run_index
from spark_apps.maintain import maintain
from spark_apps.media import likeness
from spark_apps.spark.jobs import Timings
from spark_apps.tables import commits, schemas
from spark_apps.undo import undo
from tests.shelf import MODEL, Shelf, image_id

REPOSITORY = Path(__file__).resolve().parents[2]
Edit = Callable[[Image.Image], Image.Image]
NAMES = ("astronaut.png", "coffee.png", "chelsea.png")


def jpeg(photo: Image.Image, quality: int = 90) -> bytes:
    buffer = io.BytesIO()
    photo.convert("RGB").save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def part(photo: Image.Image, left: float, top: float, share: float) -> Image.Image:
    """A part of the photo, at fractions of its width and height."""
    width, height = photo.size
    return photo.crop(
        (round(left * width), round(top * height), round((left + share) * width), round((top + share) * height))
    )


EDITS: dict[str, Edit] = {
    "smaller": lambda photo: photo.resize((photo.width // 2, photo.height // 2)),
    "cropped by 5 %": partial(part, left=0.03, top=0.01, share=0.95),
    "cropped by 15 %": partial(part, left=0.02, top=0.12, share=0.85),
    "brighter": lambda photo: ImageEnhance.Brightness(photo).enhance(1.25),
    "grey": ImageOps.grayscale,
    "mirrored": ImageOps.mirror,
    "turned": lambda photo: photo.transpose(Image.Transpose.ROTATE_90),
}


@pytest.fixture(scope="module")
def pictures(photos: dict[str, Path]) -> dict[str, Image.Image]:
    """Photos that show different things, at most 320 pixels wide and high."""
    found = {}
    for name in NAMES:
        found[name] = Image.open(photos[name]).convert("RGB")
        found[name].thumbnail((320, 320))
    return found


def vector(content: bytes) -> list[float]:
    """A poor model: where it is light and where dark, whichever way the photo is turned."""
    small = np.asarray(Image.open(io.BytesIO(content)).convert("L").resize((6, 6)), np.float64)
    turned = [np.rot90(way, times) for way in (small, small.T) for times in range(4)]
    mean = np.mean(turned, axis=0).ravel()
    return [float(value) for value in mean - mean.mean() + 1e-3]


def publish(
    shelf: Shelf, day: str, run: str, files: Mapping[str, bytes], model: str = MODEL, keep: bool = True
) -> None:
    """Publishes real photos: uri → bytes. `keep`: whether the store has a copy of them."""
    images, features = [], []
    for uri, content in files.items():
        common = {"uri": uri, "image_id": hashlib.sha256(content).hexdigest()}
        width, height = Image.open(io.BytesIO(content)).size
        kept = {"content": content if keep else None, "size_bytes": len(content)}
        images.append({**common, **kept, "width": width, "height": height})
        features.append({**common, "features": vector(content), "model_fingerprint": "f"})
    staged = {
        "images": shelf._stage(schemas.IMAGES, day, run, images),
        "quarantine": [],
        "features": shelf._stage(schemas.FEATURES, day, run, features),
    }
    commits.Replacement(shelf.store, day, model, run, staged, {}).commit()


def look(shelf: Shelf, **options: Any) -> update.Done:
    return update.update(DuplicatesSettings(store=shelf.store, model=MODEL, **options), lambda _: None)


def rows(shelf: Shelf) -> dict[tuple[str, str], dict[str, Any]]:
    found = catalog.dataset(shelf.store, "duplicates").to_table().to_pylist()
    return {(row["partition"], row["uri"]): row for row in found}


def groups(shelf: Shelf) -> dict[str, set[tuple[str, str]]]:
    result: dict[str, set[tuple[str, str]]] = {}
    for name, row in rows(shelf).items():
        result.setdefault(row["group_id"], set()).add(name)
    return result


def test_edited_photos_are_grouped_with_their_original_and_with_nothing_else(
    shelf: Shelf, pictures: dict[str, Image.Image]
) -> None:
    days: dict[str, dict[str, bytes]] = {}
    for place, (edit, make) in enumerate(EDITS.items()):
        for name, picture in pictures.items():
            days.setdefault(f"d{place % 2}", {})[f"{name} {edit}"] = jpeg(make(picture), 60 + 5 * place)
    days["d2"] = {name: jpeg(picture, 92) for name, picture in pictures.items()}
    for day, files in days.items():
        publish(shelf, day, "r", files)
        look(shelf)
    found = groups(shelf)
    subjects = [{uri.split(" ")[0] for _, uri in names} for names in found.values()]
    assert all(len(subject) == 1 for subject in subjects), "no two photos of different things"
    grouped = sum(map(len, found.values()))
    assert len(found) == len(pictures) and grouped >= 0.95 * len(pictures) * (len(EDITS) + 1)
    keepers = {uri for (_, uri), row in rows(shelf).items() if row["keeper"]}
    assert len(keepers) == len(pictures)
    assert all((row["kind"], row["distance"] <= 10) == ("near", True) for row in rows(shelf).values())
    assert all(row["similarity"] >= 0.8 for row in rows(shelf).values())
    step_by_step = {frozenset(names) for names in found.values()}
    look(shelf, rebuild=True)
    assert {frozenset(names) for names in groups(shelf).values()} == step_by_step
    assert set(groups(shelf)) == set(found), "groups keep their ids"


def test_a_day_changes_only_its_groups_and_one_that_goes_leaves_nothing(
    shelf: Shelf, pictures: dict[str, Image.Image]
) -> None:
    cat, cup = pictures["chelsea.png"], pictures["coffee.png"]
    publish(shelf, "d1", "r1", {"cat": jpeg(cat), "cup": jpeg(cup)})
    publish(shelf, "d2", "r2", {"cat copy": jpeg(cat), "small cup": jpeg(EDITS["smaller"](cup))})
    look(shelf)
    first = groups(shelf)
    assert {frozenset(names) for names in first.values()} == {
        frozenset({("d1", "cat"), ("d2", "cat copy")}),
        frozenset({("d1", "cup"), ("d2", "small cup")}),
    }
    assert {name[1]: row["kind"] for name, row in rows(shelf).items()} == {
        **dict.fromkeys(("cat", "cat copy"), "exact"),
        **dict.fromkeys(("cup", "small cup"), "near"),
    }
    publish(shelf, "d3", "r3", {"large cup": jpeg(cup.resize((900, 600)))})
    done = look(shelf)
    (cups,) = (group_id for group_id, names in groups(shelf).items() if ("d3", "large cup") in names)
    assert cups in first and len(groups(shelf)[cups]) == 3
    assert [name for name, row in rows(shelf).items() if row["keeper"] and row["group_id"] == cups] == [
        ("d3", "large cup")
    ]
    assert not done.rebuilt and done.touched == 3, "the cups lie on three days"

    publish(shelf, "d2", "r4", {"something else": jpeg(pictures["astronaut.png"])})
    look(shelf)
    assert groups(shelf) == {cups: {("d1", "cup"), ("d3", "large cup")}}
    undo(UndoSettings(store=shelf.store, partition="d2", model=MODEL))
    look(shelf)
    assert {frozenset(names) for names in groups(shelf).values()} == {
        frozenset({("d1", "cat"), ("d2", "cat copy")}),
        frozenset({("d1", "cup"), ("d2", "small cup"), ("d3", "large cup")}),
    }
    assert cups in groups(shelf)
    before = rows(shelf)
    again = look(shelf)
    assert (again.compared, again.touched, rows(shelf)) == (0, 0, before), "nothing new, nothing done"


def test_other_settings_compare_everything_anew(shelf: Shelf, pictures: dict[str, Image.Image]) -> None:
    cup = pictures["coffee.png"]
    publish(shelf, "d1", "r1", {"cup": jpeg(cup), "part": jpeg(EDITS["cropped by 5 %"](cup))})
    look(shelf)
    assert len(groups(shelf)) == 1
    assert look(shelf, max_distance=0).rebuilt
    assert groups(shelf) == {}
    assert look(shelf).rebuilt
    assert len(groups(shelf)) == 1


def test_models_do_not_touch_each_other(shelf: Shelf, pictures: dict[str, Image.Image]) -> None:
    files = {"cat": jpeg(pictures["chelsea.png"]), "again": jpeg(pictures["chelsea.png"])}
    publish(shelf, "d1", "r1", files)
    publish(shelf, "d1", "r2", files, model="it's another")
    look(shelf)
    settings = DuplicatesSettings(store=shelf.store, model="it's another")
    update.update(settings, lambda _: None)
    both = catalog.dataset(shelf.store, "duplicates").to_table()["model"].to_pylist()
    assert sorted(both) == sorted([MODEL, "it's another"] * 2)
    publish(shelf, "d1", "r3", {"cat": files["cat"]}, model="it's another")
    update.update(settings, lambda _: None)
    assert catalog.dataset(shelf.store, "duplicates").to_table()["model"].to_pylist() == [MODEL] * 2
    assert not look(shelf).rebuilt


def test_what_is_no_photo_is_grouped_by_its_bytes_alone(shelf: Shelf) -> None:
    shelf.publish("d1", "r1", {"u1": "a", "u2": "a", "u3": "b"}, vectors={"u3": [1, 1, 1, 1]})
    look(shelf, min_similarity=0)
    assert groups(shelf).popitem()[1] == {("d1", "u1"), ("d1", "u2")}
    assert {row["image_id"] for row in rows(shelf).values()} == {image_id("a")}


def test_vectors_without_a_direction_are_like_nothing(shelf: Shelf, pictures: dict[str, Image.Image]) -> None:
    shelf.publish("d1", "r1", {f"u{n}": str(n) for n in range(3)}, vectors={"u0": [0] * 4, "u1": [float("nan")] * 4})
    assert look(shelf, min_similarity=0).compared == 0


def test_without_a_publication_there_is_nothing_to_do(shelf: Shelf) -> None:
    with pytest.raises(NothingToDo):
        look(shelf)


def test_of_two_at_once_the_second_begins_again_with_what_the_first_has_found(
    shelf: Shelf, pictures: dict[str, Image.Image], monkeypatch: pytest.MonkeyPatch
) -> None:
    cat = jpeg(pictures["chelsea.png"])
    publish(shelf, "d1", "r1", {"cat": cat, "again": cat})
    real = table.replace

    def overtaken(*given: Any) -> int:
        monkeypatch.undo()
        look(shelf)
        return real(*given)

    monkeypatch.setattr(table, "replace", overtaken)
    done = look(shelf)
    assert (done.compared, done.touched, len(done.members)) == (0, 0, 2)
    assert len(rows(shelf)) == 2
    monkeypatch.setattr(table, "replace", always_too_late)
    with pytest.raises(JobError, match="too late"):
        look(shelf)


def always_too_late(*given: Any) -> int:
    raise JobError("overtaken", "too late")


def test_the_search_index_finds_the_same_as_comparing_everything(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    """Random vectors, each with a near one, partly in the index, and one picture in more files than are asked for."""
    numbers = np.random.default_rng(0)
    first = numbers.normal(size=(150, 16))
    days = {"d1": first, "d2": first + 0.2 * numbers.normal(size=first.shape)}
    for day, found in days.items():
        names = {f"u{place}": f"{day} {place}" for place in range(len(found))}
        vectors = {f"u{place}": list(map(float, vector)) for place, vector in enumerate(found)}
        again = {f"again {copy}": "d1 0" for copy in range(60)} if day == "d1" else {}
        vectors.update(dict.fromkeys(again, vectors["u0"]))
        shelf.publish(day, "r", names | again, vectors=vectors)
    run_index(IndexSettings(store=shelf.store, model=MODEL, ann_rows=256), Timings())
    shelf.publish("d3", "r", {"new": "new"}, vectors={"new": list(map(float, first[0]))})
    features = catalog.table(shelf.store, "features")
    assert features is not None
    exact = ExactSearch(shelf.store, MODEL, features, 0.8, 4)
    assert indexed.fitting(exact, lambda _: None) is exact, "they are few"
    monkeypatch.setattr(indexed, "FEWEST_ROWS", 256)
    said: list[str] = []
    search = indexed.fitting(exact, said.append)
    assert "2 of 3 partitions" in said[0] and search is not exact
    for day in ("d1", "d3"):
        ids = {image_id(f"{day} {place}") for place in range(150)} | {image_id("new")}
        pairs = [
            {(one.one, one.other, round(one.similarity, 4)) for one in way.near(day, ids, ["d1", "d2", "d3"])}
            for way in (exact, search)
        ]
        assert pairs[0] and len(pairs[0] & pairs[1]) >= 0.98 * len(pairs[0]) and len(pairs[1]) <= len(pairs[0])
    (damaged,) = Path(shelf.store, "search").glob("*.lance")
    for manifest in (damaged / "_versions").iterdir():
        manifest.write_bytes(b"damaged")
    assert indexed.fitting(exact, said.append) is exact and "without the search index" in said[-1]


@pytest.mark.parametrize(
    ("twins", "passed", "value"),
    [({"d1": 1, "d2": 2, "d3": 3}, True, 0.15), ({"d3": 9}, False, 0.9), ({"d1": 9, "d2": 9, "d3": 1}, True, 0.0)],
)
def test_the_share_of_duplicates_is_compared_with_recent_partitions(
    twins: dict[str, int], passed: bool, value: float
) -> None:
    rows = {"d1": 10, "d2": 10, "d3": 10, "other-series": 10}
    check = share.check("d3", twins, rows, 7, 0.2)
    assert (check.passed, check.severity) == (passed, "warning") and check.value == pytest.approx(value)
    assert "2 recent partitions" in check.message
    assert share.check("d1", twins, rows, 7, 0.2).passed and share.check("d3", twins, rows, 0, 0.2).value is None


def test_a_run_says_what_its_partition_has_and_warns_without_failing(
    shelf: Shelf, pictures: dict[str, Image.Image], capsys: pytest.CaptureFixture[str]
) -> None:
    cat, cup = jpeg(pictures["chelsea.png"]), jpeg(pictures["coffee.png"])
    publish(shelf, "d1", "r", {"cup": cup})
    publish(shelf, "d2", "r", {"cat": cat, "again": cat})
    settings = DuplicatesSettings(store=shelf.store, model=MODEL, partition="d2", run_id="r")
    manifest = duplicates(settings, Timings())
    assert manifest.counts["twins"] == 2
    (check,) = manifest.outcome["checks"]
    assert (check["name"], check["passed"], check["severity"], check["value"]) == ("duplicates", False, "warning", 1.0)
    assert "Warning: Share of files" in capsys.readouterr().err
    with pytest.raises(BadSetting, match="stage extract of run nobody"):
        duplicates(DuplicatesSettings(store=shelf.store, partition="d2", run_id="nobody"), Timings())


def test_a_table_whose_log_is_gone_is_brought_up_to_date_without_ghosts(
    shelf: Shelf, pictures: dict[str, Image.Image], monkeypatch: pytest.MonkeyPatch
) -> None:
    cat = jpeg(pictures["chelsea.png"])
    publish(shelf, "d1", "r1", {"cat": cat, "again": cat})
    look(shelf)
    publish(shelf, "d1", "r2", {"cat": cat})
    monkeypatch.setattr(table, "_last", lambda *_: (0, {}))
    assert look(shelf).rebuilt
    assert rows(shelf) == {}


def test_without_imagehash_the_command_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "imagehash", None)
    with pytest.raises(BadSetting) as caught:
        likeness.check_installed()
    assert caught.value.code == "imagehash_missing"


def test_maintenance_removes_the_files_that_were_replaced(shelf: Shelf, pictures: dict[str, Image.Image]) -> None:
    cat = jpeg(pictures["chelsea.png"])
    for day in ("d1", "d2", "d3"):
        publish(shelf, day, "r", {"cat": cat, "again": cat})
        look(shelf)
    before, folder = rows(shelf), Path(shelf.store, "duplicates")
    publish(shelf, "d1", "r2", {"cat": cat})
    look(shelf)
    after, files = rows(shelf), set(folder.rglob("*.parquet"))
    assert len(before) == 6 and len(after) == 5
    for commit in (folder / "_delta_log").glob("*.json"):  # as if long ago
        commit.write_text(re.sub(r'"deletionTimestamp":\d+', '"deletionTimestamp":0', commit.read_text()))
    dry = maintain(MaintainSettings(store=shelf.store, retention_hours=1, dry_run=True), Timings())
    assert set(folder.rglob("*.parquet")) == files
    done = maintain(MaintainSettings(store=shelf.store, retention_hours=1), Timings())
    left = set(folder.rglob("*.parquet"))
    assert dry.counts["replaced"] == done.counts["replaced"] == len(files - left) > 0
    assert rows(shelf) == after


def test_the_example_of_the_docs_runs_and_the_command_says_what_it_did(
    shelf: Shelf, pictures: dict[str, Image.Image]
) -> None:
    cat = jpeg(pictures["chelsea.png"])
    publish(shelf, "d1", "r", {"cat": cat, "again": cat, "cup": jpeg(pictures["coffee.png"])})
    command = [sys.executable, "-m", "spark_apps.duplicates", "--store", shelf.store, "--model", MODEL]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "1 groups, 2 exact, 0 near, 1 spare" in done.stderr.splitlines()[-1]
    (left,) = Path(shelf.store, "deduplication").rglob("duplicates.json")
    assert json.loads(left.read_text())["outcome"]["features_version"] == 1
    _, example = re.findall(r"```python\n(.*?)```", (REPOSITORY / "docs" / "duplicates.md").read_text(), re.DOTALL)
    names: dict[str, Any] = {"store": shelf.store, "model": MODEL}
    exec(example, names)
    assert list(names["spare"]["uri"]) == ["cat"], "of two alike the one whose name comes first is kept"


def test_photos_that_the_store_keeps_no_copy_of_are_read_at_their_source(
    shelf: Shelf, pictures: dict[str, Image.Image], tmp_path: Path
) -> None:
    edits = {"whole": lambda photo: photo, "part": EDITS["cropped by 5 %"], "gone": EDITS["smaller"]}
    files = {str(tmp_path / f"{name}.jpg"): jpeg(edit(pictures["coffee.png"])) for name, edit in edits.items()}
    for path, content in files.items():
        Path(path).write_bytes(content)
    publish(shelf, "d1", "r", files, keep=False)
    (tmp_path / "gone.jpg").write_bytes(b"something else")
    look(shelf)
    assert {Path(uri).stem for _, uri in rows(shelf)} == {"whole", "part"}
