"""Bringing a sink up to what is published, one partition after the other, so that a kill at any moment does no harm.

The sink keeps a mark: which version of the table features it shows, and which one it is being brought to. That one is
written down before anything is changed, and finished before a newer one is begun: what a killed sync had put in, and
was taken back since, is in no comparison of the version before with the newest.
"""

from __future__ import annotations

import dataclasses
import json
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from deltalake import DeltaTable

from spark_apps import catalog, contract, storage
from spark_apps.catalog.changes import REMOVED, at
from spark_apps.catalog.tables import rows_of
from spark_apps.contract import BadSetting, JobError, locations
from spark_apps.sinks import sink as sinks
from spark_apps.sinks.parquet import ParquetSink
from spark_apps.sinks.sink import Sink

GONE = ("version_forgotten", "version_vacuumed", "unknown_version")
"""Why a version cannot be compared with any more."""


@dataclass(frozen=True)
class Mark:
    """How far a sink is. `store`: the id of the table features. `version`: what it shows; `target`: what it is being
    brought to, 0 for nothing; `full`: by all rows instead of the changes; `done`: partitions of that which are there;
    `writer`: who wrote this."""

    store: str
    model: str
    version: int = 0
    target: int = 0
    full: bool = False
    done: int = 0
    writer: str = ""

    @classmethod
    def of(cls, text: str) -> Mark | None:
        """The mark that a sink holds; None for none. Raises BadSetting: somebody else's."""
        try:
            return cls(**json.loads(text)) if text else None
        except (TypeError, ValueError) as error:
            raise BadSetting(
                "sink_not_ours", "What the place remembers is from something else.", "Give a place of its own."
            ) from error


@dataclass
class Done:
    """What a sync did. `version`: of the table features, which the sink shows now; `rows`: how many it holds;
    `differing`: partition → rows held and rows published, where these are not the same."""

    version: int = 0
    full: bool = False
    upserted: int = 0
    deleted: int = 0
    rows: int = 0
    differing: dict[str, tuple[int, int]] = field(default_factory=dict)


@dataclass(frozen=True)
class Step:
    """What is done to a partition. `fresh`: uris of the rows that are put in; `gone`: of those that go. Both None: it
    is to hold what is published and nothing else."""

    partition: str
    fresh: pa.Array | None = None
    gone: list[str] | None = None


def sync(store: str, model: str, sink: Sink, full: bool = False, tell: Callable[[str], None] = lambda _: None) -> Done:
    """Brings `sink` up to what is published of `model`, and counts what it then holds.

    Puts in and takes out what changed since the last time; all there is the first time, with `full`, and where the
    store no longer knows what was published then. Finishes what an earlier, killed sync has begun. `tell` is given a
    line for each partition.

    Raises:
        BadSetting: the sink holds another model's vectors, or something that is not ours; it lies in the store.
        NothingToDo: nothing was ever published under `model`.
        JobError: another sync writes to the same place.
        Unreachable: the store or the sink cannot be used.
    """
    store = contract.check_store(store)
    _check_elsewhere(sink, store)
    features = catalog.table(store, "features")
    mark = Mark.of(sink.mark())
    if features is None or (mark is None and not catalog.published(features, model)):
        raise catalog.never_published(store, model)
    own = Mark(str(features.metadata().id), model, writer=uuid.uuid4().hex[:8])
    _check_ours(sink, mark, own, full)
    syncing = _Syncing(store, sink, tell, mark or own, own.writer)
    newest = features.version()
    if mark is None or mark.store != own.store or (full and not (mark.full and mark.target)):
        syncing.begin(dataclasses.replace(own, target=newest, full=True))
    try:
        syncing.bring_to(newest)
    except BadSetting as error:
        if error.code not in GONE:
            raise
        tell(f"{error.message} All rows are compared instead.")
        syncing.begin(dataclasses.replace(own, target=newest, full=True))
        syncing.bring_to(newest)
    done = syncing.done
    done.version = syncing.mark.version
    held = sink.counts()
    want = {item.partition: item.rows for item in catalog.published(_at(store, done.version), model)}
    done.rows = sum(held.values())
    done.differing = {
        key: (held.get(key, 0), want.get(key, 0))
        for key in sorted({*held, *want}, key=contract.partitions.order)
        if held.get(key, 0) != want.get(key, 0)
    }
    return done


def _check_elsewhere(sink: Sink, store: str) -> None:
    """In the store Parquet files would lie among its own, where `erase` and `maintain` do not know them."""
    if isinstance(sink, ParquetSink) and locations.is_below(contract.from_here(sink.where), [store]):
        raise BadSetting(
            "sink_in_store", f"The place {sink.where} lies in the store {store}.", "Give a folder outside of it."
        )


def _check_ours(sink: Sink, mark: Mark | None, own: Mark, full: bool) -> None:
    if mark is None:
        if sink.counts():
            raise BadSetting(
                "sink_not_ours", "The place holds rows that no sync has put there.", "Give a place of its own."
            )
    elif mark.model != own.model:
        raise BadSetting(
            "sink_of_another",
            f"The place holds the vectors of {mark.model}.",
            f"Give {own.model} a place of its own.",
        )
    elif mark.store != own.store and not full:
        raise BadSetting(
            "sink_of_another",
            "The place holds the vectors of another store, or of this one before it was made anew.",
            "Give this store a place of its own, or let --full replace all that the place holds.",
        )


class _Syncing:
    """A sync on its way: what the sink remembers, and what has been done."""

    def __init__(self, store: str, sink: Sink, tell: Callable[[str], None], mark: Mark, writer: str) -> None:
        self._store, self._sink, self._tell, self._writer = store, sink, tell, writer
        self.mark, self.done = mark, Done()

    def begin(self, mark: Mark) -> None:
        """Writes down what is to come, whatever was begun before."""
        self._sink.remember(json.dumps(dataclasses.asdict(mark)))
        self.mark = mark

    def bring_to(self, newest: int) -> None:
        """Finishes what was begun, then what changed up to `newest`. Raises BadSetting: a version is gone."""
        if self.mark.target:
            self._finish()
        if self.mark.version != newest:
            self._go_on(target=newest)
            self._finish()

    def _finish(self) -> None:
        features, mark = _at(self._store, self.mark.target), self.mark
        self.done.full |= mark.full
        steps = self._all(features) if mark.full else self._changed()
        for place, step in enumerate(steps[mark.done :], start=mark.done + 1):
            rows = self._apply(features, step)
            self._go_on(done=place)
            gone = f", {len(step.gone):,} removed" if step.gone else ""
            self._tell(f"{step.partition}: {rows:,} rows{gone}, {place:,} of {len(steps):,} partitions")
        if mark.full:
            self._drop({*self._sink.counts()} - {step.partition for step in steps}, features)
        self._go_on(version=mark.target, target=0, full=False, done=0)

    def _all(self, features: DeltaTable) -> list[Step]:
        found = catalog.published(features, self.mark.model)
        return [Step(item.partition) for item in reversed(found)]

    def _changed(self) -> list[Step]:
        rows = catalog.changes(self._store, self.mark.model, self.mark.version, self.mark.target).rows
        steps = []
        for key in sorted(rows["partition"].unique().to_pylist(), key=contract.partitions.order):
            own = rows.filter(pc.equal(rows["partition"], key))
            removed = pc.equal(own["change"], REMOVED)
            fresh = own.filter(pc.invert(removed))["uri"].combine_chunks()
            steps.append(Step(key, fresh, own.filter(removed)["uri"].to_pylist()))
        return steps

    def _apply(self, features: DeltaTable, step: Step) -> int:
        reading = _Reading(self._store, self.mark.model, features, step)
        try:
            self._sink.apply(step.partition, reading.rows, step.gone)
        except Exception as error:
            raise reading.problem or error from None
        self.done.upserted += reading.count
        self.done.deleted += len(step.gone or ())
        return reading.count

    def _drop(self, partitions: set[str], features: DeltaTable) -> None:
        for key in sorted(partitions, key=contract.partitions.order):
            self._apply(features, Step(key))
            self._tell(f"{key}: removed")

    def _go_on(self, **changed: Any) -> None:
        """Writes down how far it is. Raises JobError: another sync did so meanwhile."""
        if Mark.of(self._sink.mark()) != self.mark:
            raise JobError(
                "overtaken",
                "Another sync writes to the same place.",
                "Let one end before another begins; run it again.",
            )
        self.begin(dataclasses.replace(self.mark, writer=self._writer, **changed))


class _Reading:
    """Rows of a partition on their way from the store. `problem`: what went wrong there, which whoever takes the rows
    may show as something else; `count`: how many were taken."""

    def __init__(self, store: str, model: str, features: DeltaTable, step: Step) -> None:
        self._store, self._features, self._step = store, features, step
        self._keys = {"partition": step.partition, "model": model}
        self.problem: Exception | None = None
        self.count = 0
        batches = self._batches()
        first = next(batches, None)
        dim = first.schema.field(sinks.VECTOR).type.list_size if first else 0
        self.rows = pa.RecordBatchReader.from_batches(sinks.schema(dim), chain([first] if first else [], batches))

    def _batches(self) -> Iterator[pa.RecordBatch]:
        fresh, columns = self._step.fresh, ["uri", "image_id", "top1_label", "top1_score", "features"]
        if fresh is not None and not len(fresh):
            return
        try:
            with storage.reaching("store", self._store):
                for batch in rows_of(self._store, "features", self._features, self._keys, columns, sinks.ROWS):
                    if fresh is not None:
                        batch = batch.filter(pc.is_in(batch["uri"], fresh))
                    if batch.num_rows:
                        self.count += batch.num_rows
                        yield _rows(batch, self._step.partition)
        except contract.Unreachable as error:
            self.problem = error
            if error.code == "store_missing":
                message = f"Maintenance has removed files of {self._step.partition} as it was at that version."
                self.problem = BadSetting("version_vacuumed", message)
            raise self.problem from error


def _rows(batch: pa.RecordBatch, partition: str) -> pa.RecordBatch:
    values = batch["features"].flatten()
    dim = len(values) // batch.num_rows
    vectors = pa.FixedSizeListArray.from_arrays(values.cast(pa.float32()), dim)
    named = [batch[name] for name in ("uri", "image_id", "top1_label", "top1_score")]
    return pa.record_batch([pa.repeat(partition, batch.num_rows), *named, vectors], schema=sinks.schema(dim))


def _at(store: str, version: int) -> DeltaTable:
    """The table features at a version. Raises BadSetting: the log has it no longer."""
    found = at(store, version)
    assert found is not None, "there is a table"
    return found
