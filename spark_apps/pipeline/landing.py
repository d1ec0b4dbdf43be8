"""The source: lists the files of a partition, on a disk or on any filesystem Arrow knows."""

from __future__ import annotations

import pyarrow as pa

from spark_apps.storage import listing, reaching

LISTING = pa.schema([("uri", pa.string()), ("size_bytes", pa.int64()), ("modified_at", pa.timestamp("us", "UTC"))])
"""One row per source file, sorted by uri. A size of -1: the name is there, but no regular file behind it,
or it is a folder that may not be read."""


def list_files(source: str, pattern: str, exclude: str = "", store: str = "", within: str = "") -> pa.Table:
    """Every file below `source` whose name matches `pattern`, as a table of `LISTING`.

    What `ignored.Ignored` names is not listed, nor is `store`, the folder of our own tables, where it lies below the
    source. uris are `file://` with percent-encoding (RFC 8089) on a disk, and the store's own `scheme://bucket/key`
    elsewhere. A link on a disk that leads out of the folders `within` (one a line, if any) is listed as no file.

    Raises:
        Unreachable: the source cannot be read, or it is missing: code `source_missing`, and `bucket_missing` for the
            whole bucket of an object store.
    """
    with reaching("source", source):
        rows = sorted(listing.files(source, pattern, exclude, store, within))
    columns = [pa.array(column, field.type) for column, field in zip(zip(*rows, strict=True), LISTING, strict=False)]
    return pa.table(columns, schema=LISTING) if rows else LISTING.empty_table()
