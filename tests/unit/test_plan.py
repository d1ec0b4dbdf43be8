"""Each distinct photo is computed once or copied once, and every file of it gets its row."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable

from spark_apps import storage
from spark_apps.contract import BadSetting, ExtractSettings, StagedFile, Unreachable
from spark_apps.pipeline import compute, plan
from spark_apps.pipeline.plan import Plan
from spark_apps.tables import schemas
from tests.shelf import FINGERPRINT, MODEL, Shelf, image_id, vector


def planned(
    shelf: Shelf,
    files: Mapping[str, str],
    partition: str = "d9",
    fingerprint: str = FINGERPRINT,
    row_group_bytes: int = 300,
    **options: Any,
) -> Plan:
    """The plan for a day of `files`, uri → image, three to a row group."""
    settings = ExtractSettings(store=shelf.store, partition=partition, run_id="now", **options)
    images = shelf.images(partition, "now", files, row_group_bytes=row_group_bytes)
    return plan.plan(settings, images, MODEL, fingerprint)


def computed(result: Plan, files: Mapping[str, str]) -> dict[str, list[str]]:
    """image → uris that get the vector computed for it, as the units say it."""
    names = list(files)
    found: dict[str, list[str]] = {}
    for unit in result.compute:
        for row, uri in enumerate(names[3 * unit.row_group : 3 * unit.row_group + 3]):
            if unit.to_compute()[row]:
                assert files[uri] not in found, "computed twice"
                found[files[uri]] = sorted([uri, *unit.further_uris().get(row, [])])
    return found


def copied(shelf: Shelf, result: Plan) -> dict[str, Any]:
    """uri → row that is copied."""
    rows = list(plan.copies(result.copy, shelf.store))
    assert len({row["uri"] for row in rows}) == len(rows), "copied twice"
    return {row["uri"]: row for row in rows}


DAY = {"u0": "a", "u1": "b", "u2": "a", "u3": "c", "u4": "b", "u5": "a", "u6": "d"}
UNIQUE = {"a": ["u0", "u2", "u5"], "b": ["u1", "u4"], "c": ["u3"], "d": ["u6"]}


def test_a_first_day_is_computed_with_each_photo_once(shelf: Shelf) -> None:
    result = planned(shelf, DAY)
    assert computed(result, DAY) == UNIQUE
    assert (result.to_compute, result.reused, result.duplicates, result.copy) == (4, 0, 3, [])


def test_the_log_of_the_features_is_read_once_however_far_back_one_looks(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    for day in range(1, 6):
        shelf.publish(f"d{day}", "before", {"u0": f"only {day}"})
    read: list[str] = []
    whole = DeltaTable.get_add_actions
    monkeypatch.setattr(DeltaTable, "get_add_actions", lambda self, **how: read.append("log") or whole(self, **how))
    result = planned(shelf, {f"v{day}": f"only {day}" for day in range(1, 6)}, lookback=4)
    assert (result.reused, result.to_compute) == (4, 1), "the nearest four of the five days"
    assert read == ["log"]


def test_a_row_group_of_nothing_but_copies_is_not_read_again(shelf: Shelf) -> None:
    files = {"u0": "a", "u1": "b", "u2": "c", "u3": "a", "u4": "b", "u5": "c"}
    result = planned(shelf, files)
    assert [unit.row_group for unit in result.compute] == [0]
    assert computed(result, files) == {"a": ["u0", "u3"], "b": ["u1", "u4"], "c": ["u2", "u5"]}


@pytest.mark.parametrize("published_in", ["d9", "d8", "d2"], ids=["this day", "the day before", "a week before"])
def test_what_is_known_is_copied_and_only_the_rest_is_computed(shelf: Shelf, published_in: str) -> None:
    shelf.publish(published_in, "earlier", {"old1": "a", "old2": "c", "old3": "unwanted"})
    result = planned(shelf, DAY)
    assert computed(result, DAY) == {"b": ["u1", "u4"], "d": ["u6"]}
    rows = copied(shelf, result)
    assert {uri: row["image_id"] for uri, row in rows.items()} == {
        uri: image_id(name) for uri, name in DAY.items() if name in "ac"
    }
    assert all(row["features"] == vector(DAY[uri]) for uri, row in rows.items())
    assert (result.to_compute, result.reused, result.duplicates) == (2, 2, 3)


def test_a_day_that_is_known_whole_needs_no_computation(shelf: Shelf) -> None:
    shelf.publish("d9", "earlier", DAY)
    result = planned(shelf, DAY)
    assert (result.compute, result.to_compute, result.reused) == ([], 0, 4)
    assert copied(shelf, result).keys() == DAY.keys()


def test_a_photo_known_from_several_days_and_files_is_copied_once(shelf: Shelf) -> None:
    for day in ("d6", "d7", "d8", "d9"):
        shelf.publish(day, "earlier", {"x": "a", "y": "a", "z": "b"})
    result = planned(shelf, DAY)
    rows = copied(shelf, result)
    assert sorted(rows) == ["u0", "u1", "u2", "u4", "u5"]
    assert len(result.copy) == 1, "all of them from the nearest day"


def test_vectors_are_copied_from_several_files(shelf: Shelf) -> None:
    shelf.publish("d7", "earlier", {"x": "a"})
    shelf.publish("d8", "earlier", {"x": "b"})
    result = planned(shelf, DAY)
    assert len(result.copy) == 2
    rows = copied(shelf, result)
    assert {uri: row["features"] for uri, row in rows.items()} == {
        uri: vector(name) for uri, name in DAY.items() if name in "ab"
    }


def test_copied_rows_carry_all_but_the_run(shelf: Shelf) -> None:
    shelf.publish("d8", "earlier", {"x": "a"})
    rows = copied(shelf, planned(shelf, {"u0": "a"}))
    assert rows["u0"].keys() == {*schemas.FEATURES.columns.names} - {"run_id"}
    assert (rows["u0"]["model_fingerprint"], rows["u0"]["sharpness"]) == (FINGERPRINT, 500)


def test_a_damaged_file_is_told_by_its_name_wherever_it_is_read(shelf: Shelf) -> None:
    publication = shelf.publication("d8", "earlier", {"x": "a"})
    publication.commit()
    (known,) = publication.staged["features"]
    result = planned(shelf, {"u0": "a", "u1": "b"})

    def damage(table: str, path: str) -> Path:
        file = Path(shelf.store, table, path)
        file.write_bytes(file.read_bytes()[:-20])
        return file

    published, staged = damage("features", known.path), damage("images", result.compute[0].path)
    readers = {
        published: [lambda: copied(shelf, result), lambda: planned(shelf, {"u0": "a"})],
        staged: [lambda: list(compute.unique_files(iter(result.compute), shelf.store))],
    }
    for file in readers:
        for read in readers[file]:
            with pytest.raises(BadSetting, match=f"{file} is damaged: .* again with --recompute"):
                read()


def test_of_a_file_that_is_damaged_further_on_the_name_is_told_too(shelf: Shelf) -> None:
    publication = shelf.publication("d8", "earlier", {"x": "a", "y": "b"})
    publication.commit()
    known = Path(shelf.store, "features", publication.staged["features"][0].path)
    rows = pq.read_table(known)
    pq.write_table(rows, known, row_group_size=1)
    result = planned(shelf, {"u0": "a", "u1": "b"})
    begin = pq.read_metadata(known).row_group(1).column(0).data_page_offset
    content = bytearray(known.read_bytes())
    content[begin : begin + 16] = bytes(16)
    known.write_bytes(content)
    with pytest.raises(BadSetting, match=f"{known} is damaged"):
        copied(shelf, result)


def test_vectors_beyond_the_lookback_and_of_later_days_are_not_used(shelf: Shelf) -> None:
    for day in range(1, 9):
        shelf.publish(f"d{day}", "earlier", {"x": {1: "a", 7: "b"}.get(day, "unwanted")})
    shelf.publish("d91", "later", {"x": "c"})
    assert computed(planned(shelf, DAY), DAY).keys() == {"a", "c", "d"}
    assert computed(planned(shelf, DAY, lookback=8), DAY).keys() == {"c", "d"}
    assert computed(planned(shelf, DAY, lookback=1), DAY).keys() == {"a", "b", "c", "d"}


def test_the_nearest_are_those_of_the_series_by_number_and_then_the_newest_others(shelf: Shelf) -> None:
    for key, image in {"batch-7": "a", "batch-10": "b", "batch-12": "c", "2026-11-22": "d"}.items():
        shelf.publish(key, "earlier", {"x": image})
    found = [computed(planned(shelf, DAY, "batch-11", lookback=count), DAY).keys() for count in (1, 2, 3)]
    assert found == [{"a", "c", "d"}, {"c", "d"}, {"c"}]
    assert computed(planned(shelf, DAY, "trial", lookback=1), DAY).keys() == {"a", "b", "c"}, "the newest of all"


def test_without_lookback_this_partition_still_counts(shelf: Shelf) -> None:
    shelf.publish("d8", "earlier", {"x": "a"})
    shelf.publish("d9", "earlier", {"x": "b"})
    assert computed(planned(shelf, DAY, lookback=0), DAY).keys() == {"a", "c", "d"}


def test_vectors_of_another_fingerprint_or_model_are_not_used(shelf: Shelf) -> None:
    shelf.publish("d8", "earlier", {"x": "a"}, fingerprint="another")
    shelf.publish("d8", "earlier", {"x": "b"}, model="resnet50-random_0-fp32")
    result = planned(shelf, DAY)
    assert (result.to_compute, result.copy) == (4, [])


def test_recompute_computes_everything(shelf: Shelf) -> None:
    shelf.publish("d9", "earlier", DAY)
    result = planned(shelf, DAY, recompute=True)
    assert computed(result, DAY) == UNIQUE
    assert (result.to_compute, result.reused, result.copy) == (4, 0, [])


def test_a_day_without_photos_is_an_empty_plan(shelf: Shelf) -> None:
    assert planned(shelf, {}) == Plan()


def test_two_attempts_do_not_share_a_copy_list(shelf: Shelf) -> None:
    shelf.publish("d8", "earlier", {"x": "a"})
    first, second = planned(shelf, DAY), planned(shelf, DAY)
    assert first.copy[0].wanted.uri != second.copy[0].wanted.uri
    storage.delete(first.copy[0].wanted.uri)
    assert copied(shelf, second).keys() == {"u0", "u2", "u5"}


def test_a_store_whose_staged_images_are_gone_cannot_be_reached(shelf: Shelf) -> None:
    settings = ExtractSettings(store=shelf.store, partition="d9", run_id="now")
    with pytest.raises(Unreachable):
        plan.plan(settings, [StagedFile("data/gone.parquet")], MODEL, FINGERPRINT)
