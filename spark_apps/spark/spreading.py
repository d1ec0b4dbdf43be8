"""Work units done by the driver, where there is little to read, or spread over Spark tasks: the same records both ways.

Who uses this makes one record of a unit and puts records together in the order of the units, wherever they were made.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol, TypeVar

from spark_apps.spark import contexts

Unit = TypeVar("Unit")
Record = TypeVar("Record")

SPREAD_BYTES = 2**30
"""Up to so many bytes the driver reads by itself: that takes some ten seconds, as a Spark session does to start."""
UNITS_PER_TASK = 8


class Spread(Protocol):
    """Runs `work` over all `units`; returns its records in the order of the units."""

    def __call__(self, units: Sequence[Unit], work: Callable[[Iterator[Unit]], Iterator[Record]]) -> list[Record]: ...


def here(units: Sequence[Unit], work: Callable[[Iterator[Unit]], Iterator[Record]]) -> list[Record]:
    """In this process, one after another."""
    return list(work(iter(units)))


def of(name: str, size_bytes: int) -> Spread:
    """`here` for so many bytes or, beyond `SPREAD_BYTES`, over the tasks of a Spark context with that name."""
    if size_bytes <= SPREAD_BYTES:
        return here
    spark = contexts.context(name)

    def over_spark(units: Sequence[Unit], work: Callable[[Iterator[Unit]], Iterator[Record]]) -> list[Record]:
        return contexts.spread(spark, units, work, UNITS_PER_TASK)

    return over_spark
