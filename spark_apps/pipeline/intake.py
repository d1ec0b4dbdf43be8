"""What ingest does: divides the listing into work units, and reads, hashes, checks and stages the files of each."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from spark_apps import contract, storage
from spark_apps.contract import KEEP, PHOTOS, BadFile, IngestSettings, StagedFile
from spark_apps.media import imaging
from spark_apps.pipeline import finished, landing, lists, resume
from spark_apps.pipeline.finished import Finished
from spark_apps.pipeline.landing import Listing
from spark_apps.pipeline.lists import ListPart, ListWriter
from spark_apps.pipeline.records import TaskRecord
from spark_apps.storage import reading
from spark_apps.tables import data_files, schemas, staging, tombstones
from spark_apps.tables.tombstones import Tombstones

UNIT_FILES = 10_000
"""Files in one work unit at most."""

ROW_GROUPS = 4
"""Row groups that the images of one work unit fill on a small day: what extract can share out."""

FACTS = ("uri", "size_bytes", "modified_at")
"""Columns of images by which a listed file is known to be the one that was read."""
READ_BY_EARLIER = (*FACTS, "image_id")
"""What has to be known of files that a task of an earlier attempt has read."""


@dataclass(frozen=True)
class Division:
    """A listing, divided. `units`: what is to be read; `row_group_bytes`: of their images; `taken`: finished tasks that
    count, and `resumed`, how many files they have read; `listing`: the files of the run's folder that it is kept in."""

    units: list[ListPart]
    row_group_bytes: int
    taken: list[TaskRecord]
    resumed: int
    listing: list[str]


def divide(
    settings: IngestSettings,
    listed: Listing,
    earlier: Iterable[Finished],
    workers: int,
    stones: Tombstones = tombstones.NONE,
) -> Division:
    """Keeps the listing in the run's folder, a row group for each work unit.

    A finished task counts when all of its files are listed as it has read them, none was erased since, and no task
    before it has one of these. What was set aside is read again. Units, and row groups of images, are sized so that a
    small day still occupies every worker, to the end of extract, and a large one writes files and row groups of the
    store's usual size.

    In memory are some pages of the listing, however long it is. Raises OSError or ArrowException.
    """
    work, sizes = finished.Work(landing.LISTING, "uri"), []
    for task in earlier:
        if any(map(stones.has_image, task.rows["image_id"].to_pylist() if stones else ())):
            continue
        work.add_finished(task)
        sizes.append(pc.sum(task.rows["size_bytes"]).as_py() or 0)
    if sizes:
        for page in listed.pages():
            work.add(page)
    counting = work.counting(FACTS[1:])
    left = listed.bytes - sum(size for size, counts in zip(sizes, counting, strict=True) if counts)
    unit_bytes = min(staging.FILE_BYTES, max(left // (4 * workers), 1))
    folder = contract.join(settings.folder, "listing", staging.folder(settings).rsplit("/", 1)[-1])
    with (
        ListWriter(folder, landing.LISTING) as units,
        ListWriter(contract.join(folder, "resumed"), landing.LISTING) as resumed,
    ):

        def to_read() -> Iterator[pa.Table]:
            if not sizes:
                yield from listed.pages()
                return
            for page in work.pages():
                done = page.filter(finished.of_those(page, counting))["uri"]
                files = page.filter(pc.is_null(page["task"])).select(FACTS)
                was_read = pc.is_in(files["uri"], done)
                if pc.any(was_read).as_py():
                    resumed.add(files.filter(was_read))
                yield files.filter(pc.invert(was_read))

        for unit in _cut(to_read(), unit_bytes):
            units.add(unit)
    return Division(
        units.parts,
        min(staging.ROW_GROUP_BYTES, max(unit_bytes // ROW_GROUPS, 1)),
        [record for record, counts in zip(work.records, counting, strict=True) if counts],
        resumed.rows,
        sorted({part.uri for part in [*units.parts, *resumed.parts]}),
    )


def _cut(pages: Iterable[pa.Table], unit_bytes: int) -> Iterator[pa.Table]:
    """Listed files as work units of at most `unit_bytes`, or of one file."""
    unit: list[pa.Table] = []
    used = count = 0
    for page in pages:
        begin = 0
        for row, size in enumerate(pc.max_element_wise(page["size_bytes"], 0).to_pylist()):
            if count and (used + size > unit_bytes or count >= UNIT_FILES):
                yield pa.concat_tables([*unit, page.slice(begin, row - begin)])
                unit, begin, used, count = [], row, 0, 0
            used, count = used + size, count + 1
        unit.append(page.slice(begin))
    if count:
        yield pa.concat_tables(unit)


def unname(division: Division, quarantine: Sequence[StagedFile], store: str, stones: Tombstones) -> None:
    """Puts placeholders into the kept listing for files that were found to be erased by their bytes alone, as the
    quarantine has them. Raises OSError or ArrowException."""
    erased: set[str] = set()
    for _, rows, _ in data_files.columns(store, schemas.QUARANTINE, quarantine, ["uri", "error_code"]):
        erased.update(rows.filter(pc.equal(rows["error_code"], "erased"))["uri"].to_pylist())

    def unnamed(rows: pa.Table) -> pa.Table:
        names = [stones.placeholder(uri) for uri in rows["uri"].to_pylist()]
        if erased.isdisjoint(names):
            return rows
        told = [name if name in erased else uri for name, uri in zip(names, rows["uri"].to_pylist(), strict=True)]
        return rows.set_column(0, rows.schema.field(0), pa.array(told))

    for uri in division.listing if erased else ():
        if (content := lists.changed(storage.read_bytes(uri), unnamed)) is not None:
            storage.write_bytes(uri, content)


def ingest_units(
    units: Iterator[ListPart],
    settings: IngestSettings,
    folder: str,
    row_group_bytes: int,
    stones: Tombstones = tombstones.NONE,
) -> Iterator[TaskRecord]:
    """The work of one task: reads, hashes, checks and packs the files of its units; yields what it staged.

    Without their bytes, where they are to stay at the source: row groups are then as large as if these were there, so
    that they are the same work for extract. An erased photo is known by its name or its bytes, and goes to the
    quarantine under its placeholder.
    """
    codes: Counter[str] = Counter()

    def columns(content: bytes) -> dict[str, Any] | BadFile:
        """What a file's bytes fill of a row; the header is read of photos alone."""
        try:
            header = vars(imaging.inspect(content, settings.max_pixels)) if settings.extractor == PHOTOS else {}
        except BadFile as bad:
            return bad
        kept = content if settings.content == KEEP else None
        return {**header, "content": kept, "size_bytes": len(content)}

    with (
        storage.reaching("store", settings.store),
        staging.StagedWriter(settings.store, schemas.IMAGES, folder, row_group_bytes) as images,
        staging.StagedWriter(settings.store, schemas.QUARANTINE, folder) as quarantine,
    ):
        for unit in units:
            rows = lists.read(unit).to_pylist()
            files = ((row["uri"], row["size_bytes"]) for row in rows)
            for row, content in zip(rows, reading.read_files(files, settings.max_bytes, settings.within), strict=True):
                image_id = hashlib.sha256(content).hexdigest() if isinstance(content, bytes) else None
                common = {"uri": row["uri"], "image_id": image_id, "run_id": settings.run_id}
                found = content if isinstance(content, BadFile) else columns(content)
                if row["uri"].startswith(tombstones.PLACEHOLDER) or stones.has_image(image_id):
                    common = {**common, "uri": stones.placeholder(row["uri"]), "image_id": None}
                    found, row["size_bytes"] = BadFile("erased", "It was erased from the store."), 0
                if isinstance(found, BadFile):
                    codes[found.code] += 1
                    quarantine.add(staging.quarantine_row(common, "ingest", found, max(row["size_bytes"], 0)), 512)
                else:
                    images.add({**common, **found, "modified_at": row["modified_at"]}, found["size_bytes"])
    record = TaskRecord({"images": images.files, "quarantine": quarantine.files}, dict(codes))
    yield resume.keep(settings, "ingest", folder, record)
