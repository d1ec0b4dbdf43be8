"""Whether photos were erased from a store, for whoever keeps something of photos elsewhere."""

from __future__ import annotations

from datetime import datetime

from pyarrow import fs

from spark_apps import contract, storage
from spark_apps.tables import tombstones


def erasure_marks(store: str) -> frozenset[tuple[str, datetime]]:
    """Something that differs whenever an erasure has begun, gone on or ended since. Raises Unreachable."""
    with storage.reaching("store", store):
        filesystem, root = storage.filesystem(contract.join(store, tombstones.FOLDER))
        found = filesystem.get_file_info(fs.FileSelector(root, recursive=True, allow_not_found=True))
        return frozenset((info.path, info.mtime) for info in found if info.type == fs.FileType.File)
