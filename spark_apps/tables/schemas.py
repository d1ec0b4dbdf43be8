"""The store's tables with their columns and partition keys: images, features and quarantine, and duplicates."""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa

from spark_apps import contract
from spark_apps.contract import photo_quality


@dataclass(frozen=True)
class Table:
    """One Delta table of the store. `columns` are in the files; `keys` (the partition columns) are in the log only.

    Files of earlier versions lack the columns that came since, which are at the end and read as null (`filled`). The
    table has them from the first publication on that knows them: that commit brings the schema along.
    """

    name: str
    description: str
    columns: pa.Schema
    keys: tuple[str, ...]

    @property
    def schema(self) -> pa.Schema:
        """As the log tells it, with a comment on each column that catalogues of tables show."""
        fields = [*self.columns, *(pa.field(key, pa.string()) for key in self.keys)]
        return pa.schema([field.with_metadata({"comment": COMMENTS[field.name]}) for field in fields])

    def filled(self, rows: pa.Table) -> pa.Table:
        """The same rows with all columns of today, in their order."""
        missing = (field for field in self.columns if field.name not in rows.column_names)
        for field in missing:
            rows = rows.append_column(field, pa.nulls(rows.num_rows, field.type))
        return rows.select(self.columns.names)

    def uri(self, store: str) -> str:
        return contract.join(store, self.name)


COMMENTS = {
    "partition": "the day or other part that the photo was ingested with",
    "model": "readable key of the model, its weights and its precision",
    "uri": "where the file lies; once in each partition",
    "image_id": "sha256 of the file's bytes, as hex digits",
    "run_id": "the run that published the row",
    "content": "the file's bytes; null where the store keeps no copy",
    "size_bytes": "length of the file",
    "format": "as Pillow names it, such as JPEG",
    "mode": "of the pixels as stored, as Pillow names it, such as RGB",
    "width": "pixels as stored, before EXIF turns it",
    "height": "pixels as stored, before EXIF turns it",
    "exif_orientation": "the EXIF tag, 1 to 8",
    "modified_at": "when the file was written last, UTC",
    "odd_shape": "more than four times as long as wide, or as wide as long",
    "taken_at": "what the camera's clock showed, without a zone, as 2026-11-22T08:30:59",
    "taken_offset_minutes": "how far that clock was ahead of UTC",
    "camera_make": "EXIF, as whoever wrote the file wrote it",
    "camera_model": "EXIF, as whoever wrote the file wrote it",
    "features": "the vector: float32, as many as the model gives, not normalised",
    "model_fingerprint": "of all that decides the vector; folder of models/",
    "top1_label": "the most likely category, where the model has a classifier",
    "top1_score": "its softmax score, 0 to 1",
    "sharpness": f"variance of the Laplacian in grey; below {photo_quality.BLURRED:g}: blurred",
    "brightness": "mean of the grey values, 0 to 255",
    "contrast": "standard deviation of the grey values",
    "blank": "nothing can be told apart in the photo",
    "stage": "which stage refused the file",
    "error_code": "one word for the reason",
    "error_message": "the reason, for a person",
    "group_id": "files of one group show the same picture; the same over the days",
    "keeper": "the file of its group to keep: the largest, then the oldest",
    "kind": "exact: the same bytes as the twin; near: the same picture",
    "twin": "image_id of the most similar file of the group",
    "similarity": "cosine of both vectors",
    "distance": "bits that differ in both perceptual hashes",
    "pairs": "the evidence: the other images that it was confirmed with",
}
"""By column, for catalogues of tables; docs/reading.md says more."""

IMAGES = Table(
    "images",
    "Photos that were accepted: one row for each file of a partition.",
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
    "Feature vectors: one row for each file of a partition and model.",
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
    "Files that gave no vector, and why.",
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
    "Published files that have a twin: copies of the same bytes, and photos of the same picture.",
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
