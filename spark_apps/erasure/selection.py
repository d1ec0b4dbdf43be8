"""Which photos are meant: from what somebody gives, to all ids and names under which the store knows them."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyarrow import fs

from spark_apps import contract, storage
from spark_apps.contract import BadSetting, EraseSettings, names
from spark_apps.erasure import data
from spark_apps.storage import folders
from spark_apps.tables import tombstones


@dataclass(frozen=True)
class Photos:
    """Photos by the sha256 of their bytes, and by name. `prefix`: of further names. `strange`: those of them that are
    in no table of the store."""

    images: frozenset[str] = frozenset()
    uris: frozenset[str] = frozenset()
    prefix: str = ""
    strange: frozenset[str] = frozenset()

    def __bool__(self) -> bool:
        return bool(self.images or self.uris or self.prefix)


def given(settings: EraseSettings) -> Photos:
    """What the settings name. Raises BadSetting: a line of the list is neither id nor name; Unreachable."""
    images = {settings.image_id} if settings.image_id else set()
    uris = {as_listed(settings.uri)} if settings.uri else set()
    for number, line in enumerate(_lines(settings.list), start=1):
        if contract.is_image_id(line):
            images.add(line)
        elif re.match(r"/|[A-Za-z][A-Za-z0-9+.-]*:/", line):
            uris.add(as_listed(line))
        else:  # which is not repeated here: it may be a name after all
            raise BadSetting(
                "bad_list", f"Line {number} of the list is neither an image_id nor a URI or whole path.", "Correct it."
            )
    return Photos(frozenset(images), frozenset(uris), as_listed(settings.uri_prefix) if settings.uri_prefix else "")


def as_listed(name: str) -> str:
    """A path or URI of a file as the tables have it."""
    if re.match(names.SCHEME, name) and not name.lower().startswith("file:"):
        return name
    path = unquote(names.plain_scheme(name).removeprefix("file://")) if name.lower().startswith("file:") else name
    whole = os.path.abspath(os.path.expanduser(path))
    return Path(whole).as_uri() + "/" * (path.endswith("/") and whole != "/")


def _lines(place: str) -> Iterator[str]:
    if place:
        with storage.reaching("list", place):
            text = storage.read_bytes(place).decode("utf-8-sig", errors="surrogateescape")
        yield from filter(None, (line.strip("\r") for line in text.split("\n")))


def known(store: str, wanted: Photos) -> Photos:
    """The same photos with all their copies: every content that lay under one of the names, and every name of these.

    A name under which another photo lies in the store, too, as `latest.jpg` may be, is not among them unless it was
    given: that one stays. Reads the names of all data files, published or not, and of the listings. Raises Unreachable.
    """
    with storage.reaching("store", store):
        files = data.lying(store)
        images, uris, strange = set(wanted.images), set(wanted.uris), set(wanted.images | wanted.uris)
        if wanted.uris or wanted.prefix:
            for rows in _named(store, files):
                mine = rows.filter(_is_given(rows["uri"], wanted))
                uris.update(mine["uri"].to_pylist())
                strange.difference_update(mine["uri"].to_pylist())
                images.update(filter(None, mine["image_id"].to_pylist()))
            if wanted.prefix:
                uris.update(uri for uri in _listed(store) if uri.startswith(wanted.prefix))
        found: set[str] = set()
        for rows in _named(store, files):
            mine = rows.filter(pc.is_in(rows["image_id"], pa.array(images, pa.string())))
            found.update(mine["uri"].to_pylist())
            strange.difference_update(mine["image_id"].to_pylist())
        if found := found - uris:
            for rows in _named(store, files):
                shared = rows.filter(pc.is_in(rows["uri"], pa.array(found, pa.string())))
                same = pc.is_in(shared["image_id"], pa.array(images, pa.string()))
                others = pc.and_(pc.is_valid(shared["image_id"]), pc.invert(same))  # of a file that was not read, none
                found.difference_update(shared.filter(others)["uri"].to_pylist())
    return Photos(frozenset(images), frozenset(uris | found), strange=frozenset(strange))


def is_empty(store: str) -> bool:
    """Whether there is nothing in the folder of a store but what erasures have left. Raises OSError."""
    filesystem, root = storage.filesystem(store)
    return all(
        info.path.rstrip("/").rsplit("/", 1)[-1] == tombstones.FOLDER for info in folders.inside(filesystem, root)
    )


def _is_given(uris: pa.ChunkedArray, wanted: Photos) -> pa.ChunkedArray:
    told = pc.is_in(uris, pa.array(wanted.uris, pa.string()))
    return pc.or_(told, pc.starts_with(uris, wanted.prefix)) if wanted.prefix else told


def _named(store: str, files: list[data.Lying]) -> Iterator[pa.Table]:
    for _, groups in data.named(store, files):
        yield from groups or ()


def _listed(store: str) -> Iterator[str]:
    """The names in the listings of all runs."""
    filesystem, root = storage.filesystem(contract.join(store, "runs"))
    for info in filesystem.get_file_info(fs.FileSelector(root, recursive=True, allow_not_found=True)):
        if "/listing/" in info.path and info.path.endswith(".parquet"):
            try:
                yield from pq.read_table(info.path, filesystem=filesystem, columns=["uri"])["uri"].to_pylist()
            except (FileNotFoundError, pa.ArrowInvalid):  # it has gone, or is being written
                continue
