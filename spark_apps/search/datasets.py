"""The Lance dataset of a model: where it is, its columns, and which publication of each partition it holds."""

from __future__ import annotations

import importlib
import os
import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import fs

from spark_apps import catalog, contract, storage
from spark_apps.contract import BadSetting
from spark_apps.storage import filesystems

MODEL_PATTERN = r"[A-Za-z0-9_][A-Za-z0-9._-]*"
COLUMNS = ("image_id", "uri", "partition", "publication", "label")
VECTOR = "vector"


@dataclass(frozen=True)
class Held:
    """What is there of one partition: which publication, how many rows, and in which fragments of the dataset."""

    publication: str
    rows: int
    fragments: frozenset[int] = field(default=frozenset(), compare=False)


def lance() -> Any:
    """The library Lance. Raises BadSetting: it is not installed."""
    os.environ.setdefault("LANCE_LOG", "error")  # else each search warns
    try:
        return importlib.import_module("lance")
    except ImportError as error:
        raise BadSetting(
            "no_lance", "Searching needs Lance, which is not installed here.", "Run pip install pylance."
        ) from error


def uri(store: str, model: str) -> str:
    """Where the dataset of a model is. Raises BadSetting: the model's name is none."""
    if not re.fullmatch(MODEL_PATTERN, model):
        raise BadSetting("bad_model", f"{model!r} is not a valid model key.", "Take one that is published.")
    return contract.join(store, "search", f"{model}.lance")


def location(store: str, model: str) -> str:
    """The same as Lance takes it. Raises BadSetting: Lance has no way there."""
    place = uri(store, model)
    if storage.is_local(place):
        return filesystems.locate(place).path
    scheme, _, rest = place.partition("://")
    known = {"s3": "s3", "s3a": "s3", "gs": "gs", "gcs": "gs", "az": "az", "abfs": "abfss", "abfss": "abfss"}
    if scheme not in known:
        message = f"The store {store} cannot have a search index: Lance does not know {scheme}://."
        raise BadSetting("search_unsupported_store", message, "Keep the store on a disk, S3, Azure or Google storage.")
    return f"{known[scheme]}://{rest}"


def opened(store: str, model: str, session: Any = None) -> Any | None:
    """The dataset in its newest version; None where there is none. Raises OSError or ValueError when it is damaged."""
    place, options = location(store, model), storage.delta_options(store)
    return lance().dataset(place, storage_options=options, session=session) if exists(store, model) else None


def exists(store: str, model: str) -> bool:
    """Whether there is a dataset, which is quicker to say than Lance is to import. Raises OSError."""
    filesystem, path = storage.filesystem(contract.join(uri(store, model), "_versions"))
    return bool(filesystem.get_file_info(fs.FileSelector(path, allow_not_found=True)))


def schema(dim: int) -> pa.Schema:
    """The columns of a dataset. A vector has length 1; one without a direction is null and never found."""
    texts = [(name, pa.string()) for name in COLUMNS]
    return pa.schema([*texts, ("score", pa.float32()), (VECTOR, pa.list_(pa.float32(), dim))])


def dim(dataset: Any) -> int:
    """How many numbers a vector has."""
    return int(dataset.schema.field(VECTOR).type.list_size)


def held(dataset: Any | None) -> dict[str, Held]:
    """Partition → what the dataset holds of it. A partition of which rows of several publications are there, as no
    commit of ours leaves it, has the publication "", which is none."""
    if dataset is None:
        return {}
    rows: dict[tuple[str, str], int] = defaultdict(int)
    fragments: dict[str, set[int]] = defaultdict(set)
    for batch in dataset.scanner(columns=["partition", "publication"], with_row_address=True).to_batches():
        table = pa.table(
            {
                "partition": batch["partition"].dictionary_encode(),
                "publication": batch["publication"].dictionary_encode(),
                "fragment": pc.shift_right(batch["_rowaddr"], pa.scalar(32, pa.uint64())),
            }
        )
        counts = table.group_by(["partition", "publication", "fragment"], use_threads=False).aggregate(
            [([], "count_all")]
        )
        for group in counts.to_pylist():
            rows[group["partition"], group["publication"]] += group["count_all"]
            fragments[group["partition"]].add(group["fragment"])
    found: dict[str, Held] = {}
    for (partition, publication), count in rows.items():
        before = found.get(partition)
        found[partition] = Held(
            "" if before else publication, count + (before.rows if before else 0), frozenset(fragments[partition])
        )
    return found


def published(store: str, model: str) -> dict[str, Held]:
    """Partition → what readers of the table features see of it."""
    return {item.partition: Held(item.contents, item.rows) for item in catalog.partitions(store, model)}


def differing(have: Mapping[str, Held], want: Mapping[str, Held]) -> dict[str, int]:
    """Partition → how many rows differ there; without the partitions that are the same."""
    return {
        key: abs(have[key].rows - want[key].rows) or want[key].rows
        if key in have and key in want and have[key].publication == want[key].publication
        else max(part[key].rows for part in (have, want) if key in part)
        for key in sorted({*have, *want}, key=contract.partitions.order)
        if have.get(key) != want.get(key)
    }
