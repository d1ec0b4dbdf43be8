"""Looking through every byte of a store for erased photos: their ids, their names, and the photos themselves.

Each file is read as what it is, compressed columns and former versions of a search index too, and besides as plain
bytes. What is found by its hash needs nobody who knows the names; plain bytes are also searched for the names that
somebody gives, and for the photos that still lie there.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyarrow import fs

from spark_apps import contract, storage
from spark_apps.erasure import copies, probes
from spark_apps.erasure.probes import Probes
from spark_apps.erasure.selection import Photos
from spark_apps.erasure.texts import redacted, redacted_document
from spark_apps.tables import tombstones
from spark_apps.tables.tombstones import Tombstones

PIECE_BYTES = 64 * 2**20
IDS = re.compile(rb"[0-9a-f]{64,}")
EXACT = ("uri", "image_id")
"""Columns that hold one name, and no text in which one may stand."""


@dataclass(frozen=True)
class Finding:
    """A file of the store, relative to it, and what of an erased photo is in it: id, name or photo."""

    path: str
    what: str


def verify(store: str, stones: Tombstones, given: Photos, say: Callable[[str], None]) -> list[Finding]:
    """Everything that is left of the photos of `stones`, and of the `given` ones, by path.

    Raises Unreachable.
    """
    stones = tombstones.with_added(stones, given.images, given.uris)
    looked_for = _probes(given)
    found: set[Finding] = set()
    with storage.reaching("store", store):
        filesystem, root = storage.filesystem(store)
        infos = filesystem.get_file_info(fs.FileSelector(root, recursive=True))
        files = sorted((info for info in infos if info.type == fs.FileType.File), key=lambda info: info.path)
        for number, info in enumerate(files, start=1):
            path = info.path[len(root) + 1 :]
            with suppress(FileNotFoundError):
                found.update(Finding(path, what) for what in _in_bytes(filesystem, info, stones, looked_for))
                found.update(Finding(path, what) for what in _in_form(store, path, stones))
            if number % 1000 == 0:
                say(f"{number:,} of {len(files):,} files looked through, {len(found):,} findings")
    say(f"{len(files):,} files looked through, {sum(info.size for info in files):,} bytes")
    return sorted(found, key=lambda one: (one.path, one.what))


def _probes(given: Photos) -> Probes:
    names = [spelling for uri in given.uris for spelling in probes.spellings(uri)]
    parts = [bytes.fromhex(image) for image in given.images]
    for uri in given.uris:
        with suppress(OSError, pa.ArrowException):  # it lies there no longer
            parts.append(probes.of_content(storage.read_bytes(uri)))
    return Probes(names, parts)


def _in_bytes(filesystem: fs.FileSystem, info: fs.FileInfo, stones: Tombstones, looked_for: Probes) -> Iterator[str]:
    """What is in the bytes as they are."""
    before = b""
    with filesystem.open_input_stream(info.path, compression=None) as stream:
        while piece := stream.read(PIECE_BYTES):
            content = before + piece
            if any(stones.has_image(image) for run in IDS.finditer(content) for image in _ids(run[0].decode())):
                yield "id"
            if (one := next(looked_for.found(content), None)) is not None:
                yield "photo" if one not in looked_for.names else "name"
            before = content[-max(64, looked_for.longest) :]


def _ids(run: str) -> Iterator[str]:
    """The ids in a run of hexadecimal digits: some formats put them one behind the other."""
    yield from (run[at : at + 64] for at in range(0, len(run) - 63, 64))
    yield from (run[at : at + 64] for at in range(len(run) % 64, len(run) - 63, 64) if len(run) % 64)


def _in_form(store: str, path: str, stones: Tombstones) -> Iterator[str]:
    """What is in a file when it is read as what it is."""
    place, name = contract.join(store, path), path.rsplit("/", 1)[-1]
    if name.endswith(".parquet"):
        with suppress(pa.ArrowInvalid):  # one that is being written, or was when its writer was killed
            yield from _in_parquet(place, stones)
    elif found := re.fullmatch(r"search/([^/]+)\.lance/data/([^/]+)", path):
        rows = copies.index_rows(store, found[1], found[2])
        yield from _in_rows(rows, stones) if rows is not None else ()
    elif ".json" in name:
        content = storage.read_bytes(place)
        try:
            value = json.loads(content)
            if redacted_document(value, stones, {}) != value:
                yield "name"
        except ValueError:  # several of them, as in a commit, or half of one
            text = content.decode(errors="surrogateescape")
            if redacted(text, stones) != text:
                yield "name"


def _in_parquet(place: str, stones: Tombstones) -> Iterator[str]:
    filesystem, path = storage.filesystem(place)
    with pq.ParquetFile(path, filesystem=filesystem) as parquet:
        for number in range(parquet.num_row_groups):
            yield from _in_rows(parquet.read_row_group(number), stones)
            columns = parquet.metadata.row_group(number)
            for column in map(columns.column, range(columns.num_columns)):
                bounds = column.statistics if column.is_stats_set else None
                if bounds is not None and bounds.has_min_max and isinstance(bounds.min, str):
                    yield from _in_texts((bounds.min, bounds.max), stones, exact=False)


def _in_rows(rows: pa.Table, stones: Tombstones) -> Iterator[str]:
    for name in rows.column_names:
        for leaf in _leaves(rows[name].combine_chunks()):
            if pa.types.is_string(leaf.type) or pa.types.is_large_string(leaf.type):
                yield from _in_texts(pc.unique(leaf).to_pylist(), stones, name in EXACT)
            elif pa.types.is_binary(leaf.type) or pa.types.is_large_binary(leaf.type):
                hashes = (hashlib.sha256(value.as_py()).hexdigest() for value in leaf if value.is_valid)
                if any(map(stones.has_image, hashes)):
                    yield "photo"


def _leaves(column: pa.Array) -> Iterator[pa.Array]:
    """The arrays of plain values that a nested one is made of."""
    kind = column.type
    if pa.types.is_dictionary(kind):
        yield from _leaves(column.dictionary)
    elif pa.types.is_struct(kind):
        for child in column.flatten():
            yield from _leaves(child)
    elif pa.types.is_map(kind):
        yield from (leaf for child in (column.keys, column.items) for leaf in _leaves(child))
    elif pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        yield from _leaves(column.flatten())
    else:
        yield column


def _in_texts(texts: Iterable[str | None], stones: Tombstones, exact: bool) -> Iterator[str]:
    for text in filter(None, texts):
        if stones.has_image(text):
            yield "id"
        elif stones.has_uri(text) or (not exact and redacted(text, stones) != text):
            yield "name"
