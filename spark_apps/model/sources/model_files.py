"""The files of a model in a file: the one that is named, and those that belong to it."""

from __future__ import annotations

import hashlib
import json
import mmap
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spark_apps.contract import BadSetting
from spark_apps.model import cache, fetching

_EXTERNAL = rb"\n\x08location\x12([\x01-\x7f])"
"""In ONNX's protobuf, an entry of `TensorProto.external_data` with the key `location`, and the length of the name."""


@dataclass(frozen=True)
class ModelFiles:
    """`path` in a folder of the cache that holds nothing else; `sha256` of the file, and of those that belong to it
    behind it, in the order of their names."""

    path: Path
    sha256: str


def fetched(location: str, expected: str, within: Sequence[str]) -> ModelFiles:
    """The model at a path or URI and, of ONNX, the files that it keeps weights in; of an IR, its .bin.

    Raises:
        BadSetting: there is none, it is not the one expected, or it names a file that is not in its folder.
        Unreachable: it cannot be read at the moment.
    """
    main, sha256 = fetching.file(location, "", within)
    folder, _, name = location.rpartition("/")
    parts = [f"{name.rpartition('.')[0]}.bin"] if name.endswith(".xml") else _external(main, location)
    found = {part: fetching.file(f"{folder}/{part}", "", _also(within, location))[0] for part in parts}
    if parts:
        digest = hashlib.sha256()
        for path in (main, *found.values()):
            with path.open("rb") as file:
                while piece := file.read(1 << 20):
                    digest.update(piece)
        sha256 = digest.hexdigest()
    fetching.expect(location, sha256, expected)
    kept = cache.folder("weights") / f"{sha256}.model"
    target = kept / (name if name.endswith(".xml") else "model.onnx")
    if not kept.exists():
        with cache.staged(kept) as staging:
            staging.mkdir()
            for part, path in ((target.name, main), *found.items()):
                shutil.copyfile(path, staging / part)
    return ModelFiles(target, sha256)


def document(location: str, within: Sequence[str]) -> Mapping[str, Any]:
    """The JSON document beside a model, `NAME.json` for `NAME.onnx`; empty where there is none.

    Raises:
        BadSetting: it is no JSON object.
        Unreachable: it cannot be read at the moment.
    """
    beside = f"{location.rpartition('.')[0]}.json"
    try:
        path, _ = fetching.file(beside, "", _also(within, location))
        found = json.loads(path.read_text())
    except BadSetting as error:
        if error.code == "weights_missing":
            return {}
        raise
    except ValueError as error:
        raise BadSetting(
            "bad_model_document", f"{beside} is not JSON: {error}.", "Correct it, or remove it."
        ) from error
    if not isinstance(found, dict):
        raise BadSetting("bad_model_document", f"{beside} holds no JSON object.", 'Write {"crop": 224, …}.')
    return found


def _also(within: Sequence[str], location: str) -> list[str]:
    """The places for what belongs to a model: where the file alone is allowed, its folder is, too."""
    return [*within, location.rpartition("/")[0]] if location in within else [*within]


def _external(path: Path, location: str) -> list[str]:
    """The names of the files that an ONNX model keeps weights in."""
    if not path.stat().st_size:
        return []
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        found = {content[hit.end() : hit.end() + hit[1][0]] for hit in re.finditer(_EXTERNAL, content)}
    names = sorted(name.decode(errors="replace") for name in found)
    for name in names:
        if not re.fullmatch(r"[^/\\\0]+", name) or name in (".", ".."):
            raise BadSetting(
                "bad_model_file",
                f"The model {location} keeps weights in {name!r}, which is not in its folder.",
                "Save it with its weights inside, or in a file beside it.",
            )
    return names
