"""The source: lists the files of a partition, on a disk or on any filesystem Arrow knows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

import pyarrow as pa
import pyarrow.compute as pc

from spark_apps.pipeline.sorting import Sorter
from spark_apps.spark.progress import Teller
from spark_apps.storage import listing, reaching
from spark_apps.tables import tombstones
from spark_apps.tables.tombstones import Tombstones

LISTING = pa.schema([("uri", pa.string()), ("size_bytes", pa.int64()), ("modified_at", pa.timestamp("us", "UTC"))])
"""One row per source file, sorted by uri. A size of -1: the name is there, but no regular file behind it,
or it is a folder that may not be read."""


PAGE_ROWS = 2**16
"""Files that are listed before they become a table."""


@dataclass(frozen=True)
class Listing:
    """The files of a source. `files`: how many; `bytes`: of all together; `rows`: of `LISTING`, sorted by uri."""

    files: int
    bytes: int
    rows: Sorter

    def pages(self) -> Iterator[pa.Table]:
        return self.rows.pages()


def list_files(
    source: str,
    pattern: str,
    exclude: str = "",
    store: str = "",
    within: str = "",
    stones: Tombstones = tombstones.NONE,
) -> Listing:
    """Every file below `source` whose name matches `pattern`; a line on stderr tells every few seconds how many.

    What `ignored.Ignored` names is not listed, nor is `store`, the folder of our own tables, where it lies below the
    source. uris are `file://` with percent-encoding (RFC 8089) on a disk, and the store's own `scheme://bucket/key`
    elsewhere. A link on a disk that leads out of the folders `within` (one a line, if any) is listed as no file. Of an
    erased file the listing has the placeholder of its name, and nothing else.

    Raises:
        Unreachable: the source cannot be read, or it is missing: code `source_missing`, and `bucket_missing` for the
            whole bucket of an object store.
    """
    sorter, size, told = Sorter(LISTING, "uri"), 0, Teller()
    with reaching("source", source):
        found = listing.files(source, pattern, exclude, store, within)
        named = (_unnamed(row, stones) for row in found) if stones else found
        while rows := list(islice(named, PAGE_ROWS)):
            columns = zip(zip(*rows, strict=True), LISTING, strict=True)
            page = pa.table([pa.array(column, field.type) for column, field in columns], schema=LISTING)
            size += pc.sum(pc.max_element_wise(page["size_bytes"], 0)).as_py()
            sorter.add(page)
            told.tell(f"Listed {sorter.rows:,} files of {source}")
    return Listing(sorter.rows, size, sorter)


def _unnamed(row: listing.Row, stones: Tombstones) -> listing.Row:
    return (stones.placeholder(row[0]), 0, None) if stones.has_uri(row[0]) else row
