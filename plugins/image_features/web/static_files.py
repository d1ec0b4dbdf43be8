"""The pages' own files, read once: what is not in this list cannot be asked for."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

HERE = Path(__file__).parent
TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".woff2": "font/woff2",
    ".txt": "text/plain; charset=utf-8",
}


@dataclass(frozen=True)
class Asset:
    """One file: its bytes, its media type and an entity tag that changes with them."""

    content: bytes
    type: str
    etag: str


@cache
def files(folder: str) -> dict[str, Asset]:
    """The files below `folder` (`pages` or `static`) whose kind is known, by their relative path with `/`."""
    root = HERE / folder
    found = {}
    for path in sorted(root.rglob("*")):
        if path.is_file() and path.suffix in TYPES:
            content = path.read_bytes()
            etag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
            found[path.relative_to(root).as_posix()] = Asset(content, TYPES[path.suffix], etag)
    return found
