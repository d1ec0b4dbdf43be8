"""Finding the bytes of single files, in a store or where it has read them, without reading the others."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyarrow import fs

from spark_apps import contract, storage
from spark_apps.catalog.tables import table
from spark_apps.contract import BadFile
from spark_apps.tables import contents as of_tables
from spark_apps.tables import delta_log


@dataclass(frozen=True)
class Place:
    """Where a photo's bytes are: a row of a row group of a file of the table images."""

    path: str
    row_group: int
    row: int


@dataclass(frozen=True)
class Original:
    """A file at its source, as ingest has read it."""

    uri: str
    image_id: str
    size_bytes: int


def places(store: str, partition: str) -> dict[str, Place]:
    """image_id → place, for every distinct published photo of the partition. Reads no photo."""
    delta = table(store, "images")
    if delta is None:
        return {}
    actions = pa.table(delta.get_add_actions(flatten=True))
    with storage.reaching("store", store):
        return _places(store, actions.filter(pc.equal(actions["partition.partition"], partition))["path"].to_pylist())


def staged_places(store: str, partition: str) -> dict[str, Place]:
    """The same for all photos of the partition whose bytes are there, those of runs that were not published too."""
    with storage.reaching("store", store):
        filesystem, root = storage.filesystem(contract.join(store, "images"))
        below = f"{root}/data/{contract.check_partition(partition)}"
        found = filesystem.get_file_info(fs.FileSelector(below, allow_not_found=True, recursive=True))
        paths = [info.path for info in found if info.path.endswith(".parquet")]
        return _places(store, [path[path.index(f"data/{partition}/") :] for path in paths])


def _places(store: str, paths: list[str]) -> dict[str, Place]:
    filesystem, root = storage.filesystem(contract.join(store, "images"))

    def read(path: str) -> tuple[list[int], list[str]]:
        try:
            parquet = pq.ParquetFile(f"{root}/{path}", filesystem=filesystem, pre_buffer=True)
            groups = [parquet.metadata.row_group(group).num_rows for group in range(parquet.num_row_groups)]
            return groups, parquet.read(columns=["image_id"])["image_id"].to_pylist()
        except (FileNotFoundError, pa.ArrowInvalid):  # one that is being written, or was removed meanwhile
            return [], []

    found: dict[str, Place] = {}
    with ThreadPoolExecutor(delta_log.REQUESTS) as pool:
        for path, (groups, ids) in zip(paths, pool.map(read, paths), strict=True):
            rows = ((group, row) for group, count in enumerate(groups) for row in range(count))
            for image_id, (group, row) in zip(ids, rows, strict=True):
                found.setdefault(image_id, Place(path, group, row))
    return found


def contents(store: str, place: Place) -> pa.Array:
    """The bytes of all photos in the row group of `place`; `place.row` is one of them. Null where the store keeps no
    copy of a photo: see `original`."""
    return _row_group(store, place, ["content"])["content"].combine_chunks()


def original(store: str, place: Place) -> Original:
    """Where the photo at `place` has been read."""
    [row] = _row_group(store, place, list(Original.__annotations__)).slice(place.row, 1).to_pylist()
    return Original(**row)


def read_again(file: Original, within: str = "") -> bytes | BadFile:
    """The bytes of a file at its source; a `BadFile` when it is gone or is no longer what ingest has read.

    `within`: folders of this machine, one a line, that no link may lead out of.
    """
    [content] = of_tables.of([{**vars(file), "content": None}], within)
    return content


def _row_group(store: str, place: Place, columns: list[str]) -> pa.Table:
    with storage.reaching("store", store):
        filesystem, root = storage.filesystem(contract.join(store, "images"))
        parquet = pq.ParquetFile(f"{root}/{place.path}", filesystem=filesystem)
        return parquet.read_row_group(place.row_group, columns=columns)
