"""The store's tables with their columns and partition keys: images, features and quarantine, and duplicates."""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa

from spark_apps import contract


@dataclass(frozen=True)
class Table:
    """One Delta table of the store. `columns` are in the files; `keys` (the partition columns) are in the log only.

    Files of earlier versions lack the columns that came since, which are at the end and read as null (`filled`). The
    table has them from the first publication on that knows them: that commit brings the schema along.
    """

    name: str
    columns: pa.Schema
    keys: tuple[str, ...]

    @property
    def schema(self) -> pa.Schema:
        return pa.schema([*self.columns, *((key, pa.string()) for key in self.keys)])

    def filled(self, rows: pa.Table) -> pa.Table:
        """The same rows with all columns of today, in their order."""
        missing = (field for field in self.columns if field.name not in rows.column_names)
        for field in missing:
            rows = rows.append_column(field, pa.nulls(rows.num_rows, field.type))
        return rows.select(self.columns.names)

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
            ("odd_shape", pa.bool_()),
            ("taken_at", pa.string()),
            ("taken_offset_minutes", pa.int16()),
            ("camera_make", pa.string()),
            ("camera_model", pa.string()),
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
            ("sharpness", pa.float32()),
            ("brightness", pa.float32()),
            ("contrast", pa.float32()),
            ("blank", pa.bool_()),
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
