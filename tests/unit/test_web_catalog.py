"""What the catalog gives the pages: rows as a stream, the place of a photo's bytes, a run's files, a kept model."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from spark_apps import catalog, contract, storage
from tests.shelf import MODEL, Shelf, image_id

KEYS = {"partition": "d1", "model": MODEL}


def test_a_stream_gives_the_rows_of_one_partition_piece_by_piece(shelf: Shelf) -> None:
    shelf.publish("d1", "r", {f"u{number}": f"i{number}" for number in range(10)})
    shelf.publish("d2", "r2", {"other": "x"})
    pieces = list(catalog.stream(shelf.store, "features", KEYS, ["uri"], rows=4))
    assert max(piece.num_rows for piece in pieces) <= 4
    assert sorted(uri for piece in pieces for uri in piece["uri"].to_pylist()) == [f"u{n}" for n in range(10)]


def test_a_stream_of_a_table_that_is_not_there_is_empty(shelf: Shelf) -> None:
    assert list(catalog.stream(shelf.store, "features", KEYS, ["uri"])) == []


def test_every_photo_is_found_where_its_bytes_are(shelf: Shelf) -> None:
    files = {f"u{number}": f"image {number % 7}" for number in range(20)}
    publication = shelf.publication("d1", "r", files)
    publication.staged["images"] = shelf.images("d1", "r", files, row_group_bytes=300)
    publication.commit()
    shelf.publish("d2", "r2", {"v": "of another day"})
    places = catalog.places(shelf.store, "d1")
    assert places.keys() == {image_id(f"image {number}") for number in range(7)}
    assert len({place.row_group for place in places.values()}) > 1
    for number in range(7):
        place = places[image_id(f"image {number}")]
        assert catalog.contents(shelf.store, place)[place.row].as_py() == f"image {number}".encode()


def test_photos_of_a_run_that_was_not_published_have_a_place_too(shelf: Shelf) -> None:
    shelf.publish("d1", "r", {"u": "published"})
    shelf.images("d1", "rejected", {"v": "staged"})
    torn = next(Path(shelf.store, "images", "data", "d1").glob("rejected/*/*.parquet"))
    torn.with_name("torn.parquet").write_bytes(torn.read_bytes()[:100])
    assert catalog.places(shelf.store, "d1").keys() == {image_id("published")}
    staged = catalog.staged_places(shelf.store, "d1")
    assert staged.keys() == {image_id("published"), image_id("staged")}
    place = staged[image_id("staged")]
    assert catalog.contents(shelf.store, place)[place.row].as_py() == b"staged"
    assert catalog.staged_places(shelf.store, "another") == {}


def test_there_is_no_place_in_an_empty_store(shelf: Shelf) -> None:
    assert catalog.places(shelf.store, "d1") == {}


def test_staged_rows_are_there_before_they_are_published_and_none_once_they_are_gone(shelf: Shelf) -> None:
    paths = [file.path for file in shelf.quarantine("d1", "r", ["a", "b"])]
    rows = catalog.staged_rows(shelf.store, "quarantine", paths)
    assert rows is not None and rows["uri"].to_pylist() == ["a", "b"]
    Path(shelf.store, "quarantine", paths[0]).unlink()
    assert catalog.staged_rows(shelf.store, "quarantine", paths) is None
    with pytest.raises(ValueError, match="not a staged file of the table"):
        catalog.staged_rows(shelf.store, "quarantine", ["../images/x.parquet"])


def test_a_publication_can_be_told_from_the_one_before_it(shelf: Shelf) -> None:
    shelf.publish("d1", "r", {"u": "i"})
    (first,) = catalog.partitions(shelf.store)
    shelf.publish("d1", "r", {"u": "i"})
    (second,) = catalog.partitions(shelf.store)
    assert second.modified_ms > first.modified_ms > 0


def test_a_kept_model_on_this_machine_is_used_where_it_lies(shelf: Shelf, tmp_path: Path) -> None:
    fingerprint = "0123456789abcdef"
    folder = Path(contract.join(shelf.store, "models", fingerprint))
    assert catalog.model_folder(shelf.store, fingerprint, tmp_path) is None
    folder.mkdir(parents=True)
    (folder / "model.json").write_text(json.dumps({"key": "k", "fingerprint": "0" * 16, "files": {}}))
    assert catalog.model_folder(shelf.store, fingerprint, tmp_path) == folder
    assert catalog.model_folder(shelf.store, "../../elsewhere", tmp_path) is None


def test_a_store_exists_once_something_is_there(shelf: Shelf) -> None:
    assert not catalog.exists(shelf.store)
    shelf.publish("d1", "r", {"u": "i"})
    assert catalog.exists(shelf.store)
    delta = catalog.table(shelf.store, "features")
    assert delta is not None
    assert {"uri", "features", "partition", "model"} <= set(catalog.columns(delta).names)


@pytest.mark.parametrize("name", ["../secret", "../../secret", "/etc/passwd", "..", "", "deeper/weights.bin"])
def test_a_model_s_document_leads_to_files_of_its_own_folder_alone(
    name: str, shelf: Shelf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, keep = Path(shelf.store, "models", "0" * 16), tmp_path / "keep"
    folder.mkdir(parents=True)
    keep.mkdir()
    (folder.parent / "secret").write_text("another's")
    (folder / "model.json").write_text(json.dumps({"key": "k", "fingerprint": "0" * 16, "files": {name: ""}}))
    monkeypatch.setattr(storage, "is_local", lambda uri: False)  # as a store on another machine is copied
    with pytest.raises(ValueError, match="not a file of the model"):
        catalog.model_folder(shelf.store, "0" * 16, keep)
    assert list(keep.iterdir()) == []
