"""Tombstones: which photos were erased from a store, so that they stay away; known by salted hashes, never by name.

Each erasure keeps a document of its own, `erasures/<run>/tombstone.json`, which nothing ever removes. A photo is known
by the sha256 of its bytes (`image_id`) and by its uri: the one finds a copy under another name, the other new bytes
under the old name. The hash is BLAKE2b with a key (RFC 7693), 16 bytes: the salt is the store's own, so that no table
made for other stores fits, and lies beside the hashes, so that whoever may read the store can try a name.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from pyarrow import fs

from spark_apps import contract, storage
from spark_apps.contract import BadSetting
from spark_apps.tables import delta_log

FOLDER, DOCUMENT = "erasures", "tombstone.json"
PLACEHOLDER = "erased:"
"""How the name begins that an erased file has in listings and in the quarantine; its hash follows."""
IMAGE, URI = "image", "uri"


@dataclass(frozen=True)
class Tombstones:
    """All erased photos of a store. `erasures`: the names of the erasures; `hashes`: of ids and uris, by salt."""

    erasures: frozenset[str] = frozenset()
    hashes: dict[bytes, frozenset[str]] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.erasures)

    def has_image(self, image_id: str | None) -> bool:
        """Whether the photo with these bytes was erased."""
        return image_id is not None and self._has(IMAGE, image_id)

    def has_uri(self, uri: str | None) -> bool:
        """Whether a photo was erased that had this name."""
        return uri is not None and self._has(URI, uri)

    def placeholder(self, uri: str) -> str:
        """What stands for the name of an erased file: always the same for one uri, and for itself."""
        return uri if uri.startswith(PLACEHOLDER) else PLACEHOLDER + digest(min(self.hashes), URI, uri)

    def _has(self, kind: str, name: str) -> bool:
        return any(digest(salt, kind, name) in known for salt, known in self.hashes.items())


NONE = Tombstones()


def digest(salt: bytes, kind: str, name: str) -> str:
    """The hash of an id or a uri, 32 hexadecimal digits."""
    return hashlib.blake2b(f"{kind} {name}".encode(errors="surrogatepass"), key=salt, digest_size=16).hexdigest()


def erasures(store: str) -> frozenset[str]:
    """The names of the erasures of a store: one listing. Raises OSError."""
    return frozenset(name for name, _ in _documents(store))


def editions(store: str) -> frozenset[str]:
    """The same, each with what differs when photos have been added to it. Raises OSError."""
    return frozenset(f"{name} {info.size} {info.mtime_ns}" for name, info in _documents(store))


def read(store: str) -> Tombstones:
    """All tombstones of a store. Raises OSError, or BadSetting: one is damaged."""
    names = erasures(store)
    hashes: dict[bytes, frozenset[str]] = {}
    with ThreadPoolExecutor(delta_log.REQUESTS) as pool:
        for record in pool.map(lambda name: _document(store, name), sorted(names)):
            hashes[record["salt"]] = hashes.get(record["salt"], frozenset()).union(record["hashes"])
    return Tombstones(names, hashes)


def with_added(stones: Tombstones, images: Iterable[str], uris: Iterable[str]) -> Tombstones:
    """What `stones` would be with further photos."""
    salt = _salt(stones)
    added = {digest(salt, IMAGE, image) for image in images} | {digest(salt, URI, uri) for uri in uris}
    more = stones.hashes.get(salt, frozenset()) | added
    return Tombstones(stones.erasures, {**stones.hashes, salt: more})


def write(store: str, erasure: str, images: Iterable[str], uris: Iterable[str], **facts: Any) -> Tombstones:
    """Adds photos to the tombstones of an erasure, with `facts` about it; gives all of the store's. Raises OSError."""
    own = storage.read_json(_place(store, erasure)) or {}
    salt = bytes.fromhex(own["salt"]) if own else _salt(read(store))
    record = {
        **facts,
        **own,
        "salt": salt.hex(),
        IMAGE + "s": sorted({*own.get("images", ()), *(digest(salt, IMAGE, image) for image in images)}),
        URI + "s": sorted({*own.get("uris", ()), *(digest(salt, URI, uri) for uri in uris)}),
    }
    storage.write_json(_place(store, erasure), record)
    return read(store)


def _salt(stones: Tombstones) -> bytes:
    """That of the store; a new one where nothing was erased yet."""
    return min(stones.hashes, default=secrets.token_bytes(32))


def _documents(store: str) -> Iterator[tuple[str, fs.FileInfo]]:
    filesystem, root = storage.filesystem(contract.join(store, FOLDER))
    found = filesystem.get_file_info(fs.FileSelector(root, recursive=True, allow_not_found=True))
    return ((info.path[len(root) + 1 : -len(DOCUMENT) - 1], info) for info in found if info.base_name == DOCUMENT)


def _document(store: str, erasure: str) -> dict[str, Any]:
    try:
        record: dict[str, Any] = json.loads(storage.read_bytes(_place(store, erasure)))
        return {"salt": bytes.fromhex(record["salt"]), "hashes": [*record[IMAGE + "s"], *record[URI + "s"]]}
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise BadSetting(
            "tombstone_damaged",
            f"{_place(store, erasure)} cannot be read, so nobody can tell which photos were erased.",
            "Put it back from a backup.",
        ) from error


def _place(store: str, erasure: str) -> str:
    return contract.join(store, FOLDER, erasure, DOCUMENT)
