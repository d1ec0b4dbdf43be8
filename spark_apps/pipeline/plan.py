"""What extract has to do: which files are computed, which vectors are copied, and which files share a vector."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from spark_apps import catalog, contract, storage
from spark_apps.contract import StagedFile
from spark_apps.pipeline.records import TaskRecord
from spark_apps.pipeline.resume import Finished
from spark_apps.tables import data_files, schemas, staging

COPIES = pa.schema([("image_id", pa.string()), ("uri", pa.string())])


@dataclass(frozen=True)
class ComputeUnit:
    """One row group of staged images. `skip`: rows computed elsewhere or copied. `twins`: further uris by row."""

    path: str
    row_group: int
    skip: frozenset[int]
    twins: dict[int, list[str]]


@dataclass(frozen=True)
class CopyUnit:
    """One published file of features, and the row group of the copy list that says which of its vectors go where."""

    features_path: str
    list_uri: str
    row_group: int


@dataclass
class Plan:
    """The work units of one run, and what is `taken` over from earlier attempts: `resumed` images.

    All counts are of distinct images, but `duplicates`, which counts further files.
    """

    compute: list[ComputeUnit] = field(default_factory=list)
    copy: list[CopyUnit] = field(default_factory=list)
    taken: list[TaskRecord] = field(default_factory=list)
    to_compute: int = 0
    resumed: int = 0
    reused: int = 0
    duplicates: int = 0


def plan(
    settings: contract.ExtractSettings,
    images: list[StagedFile],
    model: str,
    fingerprint: str,
    finished: Iterable[Finished] = (),
) -> Plan:
    """Splits the staged images of a run into files to compute and vectors to copy.

    What `finished` tasks have done of it is neither: a task counts when its rows are all the files of each of its
    images, and no task before it has one of these. What gave no vector is tried again.

    Within the partition each image_id is computed once. Vectors of the same (image_id, fingerprint) that are published
    in this partition, or in the first `lookback` of `contract.partitions.to_reuse_from`, are copied unless `recompute`
    is set. Reads the columns uri and image_id of the staged images, and image_id of the features looked through; memory
    on the driver grows by some hundred bytes an image (estimated).

    Raises:
        Unreachable: the store cannot be read.
    """
    uris: dict[str, list[str]] = {}
    places: list[tuple[str, int, list[str], list[str]]] = []
    with storage.reaching("store", settings.store):
        for file, parquet in data_files.opened(settings.store, schemas.IMAGES, images):
            for group in range(parquet.num_row_groups):
                rows = parquet.read_row_group(group, columns=["uri", "image_id"])
                ids, names = rows["image_id"].to_pylist(), rows["uri"].to_pylist()
                places.append((file.path, group, ids, names))
                for image_id, uri in zip(ids, names, strict=True):
                    uris.setdefault(image_id, []).append(uri)
        taken, done = _taken(finished, uris)
        known = {} if settings.recompute else _known(settings, model, fingerprint, set(uris) - done)
        result = Plan(
            copy=_write_copy_list(settings, known, uris),
            taken=taken,
            to_compute=len(uris) - len(done) - len(known),
            resumed=len(done),
            reused=len(known),
            duplicates=sum(len(files) - 1 for files in uris.values()),
        )
    claimed = done | set(known)
    for path, group, ids, names in places:
        skip: set[int] = set()
        twins: dict[int, list[str]] = {}
        for row, (image_id, uri) in enumerate(zip(ids, names, strict=True)):
            if image_id in claimed:
                skip.add(row)
                continue
            claimed.add(image_id)
            others = [other for other in uris[image_id] if other != uri]
            if others:
                twins[row] = others
        if len(skip) < len(ids):
            result.compute.append(ComputeUnit(path, group, frozenset(skip), twins))
    return result


def _taken(finished: Iterable[Finished], uris: dict[str, list[str]]) -> tuple[list[TaskRecord], set[str]]:
    """The finished tasks that count, and the images that they have done."""
    taken: list[TaskRecord] = []
    done: set[str] = set()
    for task in finished:
        own: dict[str, list[str]] = {}
        for image_id, uri in zip(task.rows["image_id"].to_pylist(), task.rows["uri"].to_pylist(), strict=True):
            own.setdefault(image_id, []).append(uri)
        if done.isdisjoint(own) and all(sorted(uris.get(key, [])) == sorted(names) for key, names in own.items()):
            taken.append(task.record)
            done.update(own)
    return taken, done


def _known(settings: contract.ExtractSettings, model: str, fingerprint: str, wanted: set[str]) -> dict[str, str]:
    """image_id → path of a published features file that holds its vector."""
    delta = catalog.table(settings.store, "features")
    if delta is None:
        return {}
    published: dict[str, list[str]] = {}  # by partition; from one reading of the log, which is long in an old store
    for file in data_files.published(delta, {"model": model}):
        published.setdefault(file.keys["partition"], []).append(file.path)
    others = contract.partitions.to_reuse_from(settings.partition, published)[: settings.lookback]
    filesystem, root = storage.filesystem(schemas.FEATURES.uri(settings.store))
    known: dict[str, str] = {}
    for partition in [settings.partition, *others]:
        for path in sorted(published.get(partition, [])):
            parquet = pq.ParquetFile(f"{root}/{path}", filesystem=filesystem)
            rows = parquet.read(columns=["image_id", "model_fingerprint"])
            rows = rows.filter(pc.equal(rows["model_fingerprint"], fingerprint))
            for image_id in rows["image_id"].to_pylist():
                if image_id in wanted:
                    known.setdefault(image_id, path)
    return known


def _write_copy_list(
    settings: contract.ExtractSettings, known: dict[str, str], uris: dict[str, list[str]]
) -> list[CopyUnit]:
    """Keeps the copy list in the run's folder: one row group for each file that vectors are copied from."""
    by_path: dict[str, list[dict[str, str]]] = {}
    for image_id, path in known.items():
        by_path.setdefault(path, []).extend({"image_id": image_id, "uri": uri} for uri in uris[image_id])
    if not by_path:
        return []
    folder = contract.join(settings.folder, "copies")
    storage.ensure_folder(folder)
    list_uri = contract.join(folder, staging.folder(settings).rsplit("/", 1)[-1] + ".parquet")
    filesystem, path = storage.filesystem(list_uri)
    units: list[CopyUnit] = []
    with pq.ParquetWriter(path, COPIES, filesystem=filesystem, compression="zstd") as writer:
        for group, (features_path, rows) in enumerate(by_path.items()):
            writer.write_table(pa.Table.from_pylist(rows, schema=COPIES), row_group_size=len(rows))
            units.append(CopyUnit(features_path, list_uri, group))
    return units


def copies(units: Iterable[CopyUnit], store_uri: str) -> Iterable[dict[str, Any]]:
    """Rows of `features` (without run_id) for every file of the copy lists of `units`."""
    filesystem, root = storage.filesystem(schemas.FEATURES.uri(store_uri))
    for unit in units:
        list_filesystem, list_path = storage.filesystem(unit.list_uri)
        wanted: dict[str, list[str]] = {}
        for row in pq.ParquetFile(list_path, filesystem=list_filesystem).read_row_group(unit.row_group).to_pylist():
            wanted.setdefault(row["image_id"], []).append(row["uri"])
        parquet = pq.ParquetFile(f"{root}/{unit.features_path}", filesystem=filesystem)
        for group in range(parquet.num_row_groups):
            rows = parquet.read_row_group(group)
            rows = rows.filter(pc.is_in(rows["image_id"], pa.array(list(wanted), pa.string())))
            for row in rows.drop_columns(["uri", "run_id"]).to_pylist():
                for uri in wanted.pop(row["image_id"], []):  # popped: published twins hold the same vector
                    yield {**row, "uri": uri}
