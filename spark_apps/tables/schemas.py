"""The store's tables with their columns and partition keys: images, features and quarantine, and duplicates."""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa

from spark_apps import contract


@dataclass(frozen=True)
class Table:
    """One Delta table of the store. `columns` are in the files; `keys` (the partition columns) are in the log only."""

    name: str
    columns: pa.Schema
    keys: tuple[str, ...]

    @property
    def schema(self) -> pa.Schema:
        return pa.schema([*self.columns, *((key, pa.string()) for key in self.keys)])

    def uri(self, store: str) -> str:
        return contract.join(store, self.name)


IMAGES = Table(
    "images",
    pa.schema(
        [
            ("uri", pa.string()),
            ("image_id", pa.string()),
            ("content", pa.binary()),
            ("size_bytes", pa.int64()),
            ("format", pa.string()),
            ("mode", pa.string()),
            ("width", pa.int32()),
            ("height", pa.int32()),
            ("exif_orientation", pa.int32()),
            ("modified_at", pa.timestamp("us", "UTC")),
            ("run_id", pa.string()),
        ]
    ),
    ("partition",),
)

FEATURES = Table(
    "features",
    pa.schema(
        [
            ("uri", pa.string()),
            ("image_id", pa.string()),
            ("features", pa.list_(pa.float32())),
            ("model_fingerprint", pa.string()),
            ("top1_label", pa.string()),
            ("top1_score", pa.float32()),
            ("run_id", pa.string()),
        ]
    ),
    ("partition", "model"),
)

QUARANTINE = Table(
    "quarantine",
    pa.schema(
        [
            ("uri", pa.string()),
            ("image_id", pa.string()),
            ("stage", pa.string()),
            ("error_code", pa.string()),
            ("error_message", pa.string()),
            ("size_bytes", pa.int64()),
            ("run_id", pa.string()),
        ]
    ),
    ("partition",),
)

DUPLICATES = Table(
    "duplicates",
    pa.schema(
        [
            ("uri", pa.string()),
            ("image_id", pa.string()),
            ("group_id", pa.string()),
            ("keeper", pa.bool_()),
            ("kind", pa.string()),
            ("twin", pa.string()),
            ("similarity", pa.float64()),
            ("distance", pa.int32()),
            ("width", pa.int32()),
            ("height", pa.int32()),
            ("modified_at", pa.timestamp("us", "UTC")),
            (
                "pairs",
                pa.list_(
                    pa.struct([("image_id", pa.string()), ("similarity", pa.float64()), ("distance", pa.int32())])
                ),
            ),
        ]
    ),
    ("partition", "model"),
)
"""Made from the others by the command `duplicates`: it can be deleted, and is then made anew."""

TABLES = {table.name: table for table in (IMAGES, FEATURES, QUARANTINE)}
"""What a run publishes."""
