"""What a place for vectors has to offer, and the rows that it is given."""

from __future__ import annotations

import uuid
from collections.abc import Collection
from typing import Protocol

import pyarrow as pa

from spark_apps.contract import Unreachable

VECTOR = "vector"
PAYLOAD = pa.schema(
    [(name, pa.string()) for name in ("partition", "uri", "image_id", "label")] + [("score", pa.float32())]
)
"""The columns of a row beside its vector. `label`, `score`: what the model takes it for, null without labels."""
ROWS = 512
"""Rows of a batch at most: of 2,048 numbers each, 4 MB."""

_NAMES = uuid.UUID("6f5c1b0e-4f0c-5a55-9f3e-6d2a7c1f8b21")


class Sink(Protocol):
    """A place that holds the vectors of one model. A row is told by its partition and uri.

    What a method raises ends the sync; the next one goes on before it. So each may be called again with the same, and
    what it did before must then do no harm.
    """

    def mark(self) -> str:
        """The text that `remember` was given last; empty where it never was."""

    def remember(self, mark: str) -> None:
        """Keeps a text of some hundred characters, in the place of the one before."""

    def apply(self, partition: str, rows: pa.RecordBatchReader, gone: Collection[str] | None) -> None:
        """Puts rows in, in the place of those of the same partition and uri, and takes out those whose uris are `gone`;
        where that is None, all of the partition that are not among `rows`.

        `rows`: `schema(dim)`, all of this partition, no uri twice; none where `dim` is 0.
        """

    def counts(self) -> dict[str, int]:
        """Partition → how many rows are there, counted anew; without those that have none."""

    def close(self) -> None:
        """Lets go of connections."""


def schema(dim: int) -> pa.Schema:
    """The columns of rows: those of `PAYLOAD`, and `vector`, as the model gave it, float32 [dim]."""
    return PAYLOAD.append(pa.field(VECTOR, pa.list_(pa.float32(), dim)))


def row_id(partition: str, uri: str) -> str:
    """A UUID for a row, always the same, for places that want one number or UUID as key (RFC 9562, version 5)."""
    return str(uuid.uuid5(_NAMES, f"{partition}\n{uri}"))


def unreachable(place: str, error: Exception) -> Unreachable:
    """The failure of a place in plain words; `place` must hold no secrets."""
    said = " ".join(str(error).split())[:300].rstrip(".")
    return Unreachable(
        "sink_unreachable",
        f"{place} cannot be used: {type(error).__name__}: {said}.",
        "Check that it runs, that it can be reached from here, and that user and password or key are right.",
    )
