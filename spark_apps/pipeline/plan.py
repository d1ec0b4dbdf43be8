"""What extract has to do: which files are computed, which vectors are copied, and which files share a vector."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from spark_apps import catalog, contract, storage
from spark_apps.contract import StagedFile
from spark_apps.pipeline import lists
from spark_apps.pipeline.finished import Finished, Work, first_of, groups_of, of_those
from spark_apps.pipeline.lists import ListPart, ListWriter
from spark_apps.pipeline.records import TaskRecord
from spark_apps.pipeline.sorting import Sorter
from spark_apps.spark.progress import Teller
from spark_apps.tables import data_files, schemas, staging

COPIES = pa.schema([("image_id", pa.string()), ("uri", pa.string())])
TWINS = pa.schema([("row", pa.int64()), ("uri", pa.string())])

IMAGES = pa.schema([("image_id", pa.string()), ("uri", pa.string()), ("place", pa.int64()), ("source", pa.int64())])
"""What a plan sorts by image: a file of the day, row `place` of all; or a vector of the published file `source`."""


@dataclass(frozen=True)
class ComputeUnit:
    """One row group of staged images. `rows`: a bit for each, set where it is to be computed (`numpy.packbits`).
    `twins`: where further files of the same contents are listed, if there are any."""

    path: str
    row_group: int
    rows: bytes
    twins: ListPart | None = None

    def to_compute(self) -> list[bool]:
        """For each row, whether it is to be computed; what follows the last row means nothing."""
        bits: list[bool] = np.unpackbits(np.frombuffer(self.rows, np.uint8)).astype(bool).tolist()
        return bits

    def further_uris(self) -> dict[int, list[str]]:
        """By row: the uris of further files of the same content."""
        found: dict[int, list[str]] = {}
        for twin in lists.read(self.twins).to_pylist() if self.twins else ():
            found.setdefault(twin["row"], []).append(twin["uri"])
        return found


@dataclass(frozen=True)
class CopyUnit:
    """One published file of features, and where it is listed which of its vectors go where."""

    features_path: str
    wanted: ListPart


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
    images: Sequence[StagedFile],
    model: str,
    fingerprint: str,
    earlier: Iterable[Finished] = (),
    damaged: Collection[str] = (),
) -> Plan:
    """Splits the staged images of a run into files to compute and vectors to copy, none from the files `damaged`.

    What `earlier` tasks have done of it is neither: a task counts when its rows are all the files of each of its
    images, and no task before it has one of these. What gave no vector is tried again.

    Within the partition each image_id is computed once. Vectors of the same (image_id, fingerprint) that are published
    in this partition, or in the first `lookback` of `contract.partitions.to_reuse_from`, are copied unless `recompute`
    is set. Reads the columns uri and image_id of the staged images, and image_id of the features looked through. On a
    large day they are sorted in temporary files; memory holds some pages of them, and a few bytes a photo.

    Raises:
        Unreachable: the store cannot be read, or the run's folder not be written to.
    """
    work = Work(IMAGES, "image_id")
    with storage.reaching("store", settings.store):
        groups, day = _add_day(settings, images, work)
        for task in earlier:
            work.add_finished(task)
        counting = work.counting(["uri"])
        sources = [] if settings.recompute else _add_known(settings, model, fingerprint, day, work, damaged)
        return _divided(settings, groups, sources, work, counting)


class Filter:
    """Tells of most image_ids of other days that this day has none of them, in 8 to 16 bytes an image, or `MOST`."""

    MOST = 2**27

    def __init__(self, images: int) -> None:
        self._seen = np.zeros(min(1 << max(16, (8 * images).bit_length()), self.MOST), bool)

    def add(self, ids: pa.ChunkedArray) -> None:
        self._seen[self._spots(ids)] = True

    def may_have(self, ids: pa.ChunkedArray) -> np.ndarray:
        """For each, whether it may be one of those that were added: true for all that were."""
        found: np.ndarray = self._seen[self._spots(ids)]
        return found

    def _spots(self, ids: pa.ChunkedArray) -> np.ndarray:
        return np.fromiter(map(hash, ids.to_pylist()), np.int64, len(ids)) & (len(self._seen) - 1)


def _add_day(
    settings: contract.ExtractSettings, images: Sequence[StagedFile], work: Work
) -> tuple[list[tuple[str, int, int]], Filter]:
    """Adds the files of the day to `work`. Returns the row groups: file, number in it, rows; and the filter."""
    groups: list[tuple[str, int, int]] = []
    total, place, told = sum(file.rows for file in images), 0, Teller()
    day = Filter(total)
    for file, rows, sizes in data_files.columns(settings.store, schemas.IMAGES, images, ["uri", "image_id"]):
        work.add(rows.append_column("place", pa.array(np.arange(place, place + rows.num_rows))))
        day.add(rows["image_id"])
        groups += [(file.path, number, size) for number, size in enumerate(sizes)]
        place += rows.num_rows
        told.tell(f"extract {settings.partition}: {place:,} of {total:,} names read")
    return groups, day


def _add_known(
    settings: contract.ExtractSettings,
    model: str,
    fingerprint: str,
    day: Filter,
    work: Work,
    damaged: Collection[str],
) -> list[str]:
    """Adds the published vectors that may be of the `day` to `work`, those to be preferred first. Returns the files."""
    delta = catalog.table(settings.store, "features")
    if delta is None:
        return []
    published: dict[str, list[StagedFile]] = {}  # by partition; from one reading of the log, long in an old store
    for file in data_files.published(delta, {"model": model}):
        published.setdefault(file.keys["partition"], []).append(file)
    others = contract.partitions.to_reuse_from(settings.partition, published)[: settings.lookback]
    files = [
        file
        for partition in [settings.partition, *others]
        for file in sorted(published.get(partition, []), key=lambda file: file.path)
        if file.path not in damaged
    ]
    told = Teller()
    columns = ["image_id", "model_fingerprint"]
    for number, (_, rows, _) in enumerate(data_files.columns(settings.store, schemas.FEATURES, files, columns)):
        ids = rows.filter(pc.equal(rows["model_fingerprint"], fingerprint))["image_id"]
        ids = ids.filter(pa.array(day.may_have(ids)))
        if len(ids):
            work.add(pa.table({"image_id": ids, "source": pa.repeat(number, len(ids))}))
        told.tell(f"extract {settings.partition}: {number + 1:,} of {len(files):,} published files looked through")
    return [file.path for file in files]


def _divided(
    settings: contract.ExtractSettings,
    groups: Sequence[tuple[str, int, int]],
    sources: Sequence[str],
    work: Work,
    counting: np.ndarray,
) -> Plan:
    """The plan for `work`: the rows of one image are in one page of it, what the day has of it in the day's order."""
    result = Plan(taken=[record for record, counts in zip(work.records, counting, strict=True) if counts])
    begins = np.cumsum([0, *(size for *_, size in groups)])
    compute = np.zeros(begins[-1], bool)
    twins = Sorter(TWINS.append(pa.field("group", pa.int64())), "group")
    copied = Sorter(COPIES.append(pa.field("source", pa.int64())), "source")
    for page in work.pages():
        image = groups_of(page["image_id"])
        place, source = (pc.fill_null(page[name], -1).to_numpy() for name in ("place", "source"))
        first, known = first_of(image, place >= 0), first_of(image, source >= 0)
        done = np.zeros(len(first), bool)
        done[image[of_those(page, counting)]] = True
        reused = (first >= 0) & (known >= 0) & ~done
        computed = (first >= 0) & (known < 0) & ~done
        compute[place[first[computed]]] = True
        result.resumed += int(done.sum())
        result.reused += int(reused.sum())
        result.to_compute += int(computed.sum())
        result.duplicates += int((place >= 0).sum() - (first >= 0).sum())
        rows = np.flatnonzero((place >= 0) & reused[image])
        if len(rows):
            where = pa.array(source[known[image[rows]]])
            copied.add(page.select(COPIES.names).take(rows).append_column("source", where))
        rows = np.flatnonzero((place > place[first[image]]) & computed[image])
        if len(rows):
            first_place = place[first[image[rows]]]
            group = np.searchsorted(begins, first_place, "right") - 1
            columns = [pa.array(first_place - begins[group]), page["uri"].take(pa.array(rows)), pa.array(group)]
            twins.add(pa.table(columns, names=[*TWINS.names, "group"]))
    further = dict(_kept(settings, "twins", TWINS, twins, "group"))
    for number, (path, row_group, _) in enumerate(groups):
        rows = compute[begins[number] : begins[number + 1]]
        if rows.any():
            result.compute.append(ComputeUnit(path, row_group, np.packbits(rows).tobytes(), further.get(number)))
    result.copy = [
        CopyUnit(sources[number], part) for number, part in _kept(settings, "copies", COPIES, copied, "source")
    ]
    return result


def _kept(
    settings: contract.ExtractSettings, name: str, schema: pa.Schema, rows: Sorter, key: str
) -> Iterator[tuple[int, ListPart]]:
    """Keeps a list in the run's folder, a part for each value of `key`; yields these, each with its part."""
    folder = contract.join(settings.folder, name, staging.folder(settings).rsplit("/", 1)[-1])
    with ListWriter(folder, schema) as writer:
        for page in rows.pages():
            values, begins = np.unique(page[key].to_numpy(), return_index=True)
            for value, begin, end in zip(values, begins, [*begins[1:], page.num_rows], strict=True):
                yield int(value), writer.add(page.select(schema.names).slice(begin, end - begin))


def copies(units: Iterable[CopyUnit], store_uri: str) -> Iterable[dict[str, Any]]:
    """Rows of `features` (without run_id) for every file of the copy lists of `units`."""
    filesystem, root = storage.filesystem(schemas.FEATURES.uri(store_uri))
    for unit in units:
        wanted: dict[str, list[str]] = {}
        for row in lists.read(unit.wanted).to_pylist():
            wanted.setdefault(row["image_id"], []).append(row["uri"])
        known = contract.join(schemas.FEATURES.uri(store_uri), unit.features_path)
        with data_files.whole(known):
            parquet = pq.ParquetFile(f"{root}/{unit.features_path}", filesystem=filesystem)
        for group in range(parquet.num_row_groups):
            with data_files.whole(known):
                rows = parquet.read_row_group(group)
            rows = rows.filter(pc.is_in(rows["image_id"], pa.array(list(wanted), pa.string())))
            for row in rows.drop_columns(["uri", "run_id"]).to_pylist():
                for uri in wanted.pop(row["image_id"], []):  # popped: published twins hold the same vector
                    yield {**row, "uri": uri}
