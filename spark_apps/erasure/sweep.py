"""The work of an erasure: everything that the store's tombstones name goes, wherever it is, in an order that may end at
any moment and be begun again.

A data file is removed last: as long as it is there, it tells what is still to be done. Whoever publishes meanwhile is
not held up: what came in between is looked at in the next round, until there is nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from pyarrow.fs import FileInfo

from spark_apps import contract, storage
from spark_apps.contract import JobError, StagedFile
from spark_apps.erasure import copies, data, documents, logs
from spark_apps.search import datasets
from spark_apps.tables import commits, schemas
from spark_apps.tables.tombstones import Tombstones
from spark_apps.upkeep import unfinished, vacuum

ROUNDS = 20
SAID = 64
"""Files between two lines of progress."""

Say = Callable[[str], None]


@dataclass
class Removed:
    """What was removed. `shown`: rows that readers saw, by table, partition and model, as `features/2026-11-22/model`;
    `rows`: by table, whatever version showed them, if any; `rewritten`: files that held them. `search`, `duplicates`:
    rows by model. `documents`, `log_files`: how many were redacted. `bytes`: of the files that were removed. `left`:
    files that a run seems to be writing, and that were left to it."""

    shown: Counter[str] = field(default_factory=Counter)
    rows: Counter[str] = field(default_factory=Counter)
    rewritten: int = 0
    search: Counter[str] = field(default_factory=Counter)
    duplicates: Counter[str] = field(default_factory=Counter)
    documents: int = 0
    log_files: int = 0
    bytes: int = 0
    left: list[str] = field(default_factory=list)

    def to_record(self) -> dict[str, Any]:
        return {name: dict(value) if isinstance(value, Counter) else value for name, value in vars(self).items()}

    def add(self, record: Mapping[str, Any]) -> None:
        """What `to_record` gave of an attempt that ended before its end, as far as it is known."""
        for name, value in record.items():
            if name in vars(self) and name != "left":
                setattr(self, name, getattr(self, name) + (Counter(value) if isinstance(value, dict) else value))


def sweep(
    store: str,
    stones: Tombstones,
    erasure: str = "",
    partitions: Collection[str] | None = None,
    removed: Removed | None = None,
    say: Say = lambda _: None,
    note: Callable[[], None] = lambda: None,
) -> Removed:
    """Removes what `stones` name, of some partitions' runs or everywhere. `note` is called when `removed` has grown.

    Raises:
        BadSetting: there is a search index, and Lance is not installed.
        JobError: others write so much that it cannot keep up; what it has removed stays removed.
        Unreachable: the store cannot be used.
    """
    removed = removed or Removed()
    with storage.reaching("store", store):
        unnamed = {} if partitions else unfinished.files(store)
        if models := [] if partitions else copies.indexed_models(store):
            datasets.lance()
        _tables(store, stones, erasure, partitions, removed, say, note)
        if partitions is None:
            for model in copies.models_with_duplicates(store):
                removed.duplicates[model] += copies.forget_duplicates(store, model, stones)
            removed.bytes += copies.remove_former_duplicates(store, stones)
            note()
            for model in models:
                rows, left = copies.forget_in_index(store, model, stones, say)
                removed.search[model] += rows
                removed.left += left
                note()
            for table in (*schemas.TABLES.values(), schemas.DUPLICATES):
                removed.log_files += logs.strip(store, table)
            _unnamed(store, unnamed, removed)
    note()
    return removed


def _unnamed(store: str, before: Mapping[str, FileInfo], removed: Removed) -> None:
    """Files without a name go, whatever they hold, once nobody can be writing them. `before`: those at the start."""
    now = datetime.now(UTC)
    for path, file in unfinished.files(store).items():
        if unfinished.is_dead(file, now):
            storage.delete(contract.join(store, path))
            removed.bytes += file.size
        elif path in before:
            removed.left.append(path)


def _tables(
    store: str,
    stones: Tombstones,
    erasure: str,
    partitions: Collection[str] | None,
    removed: Removed,
    say: Say,
    note: Callable[[], None],
) -> None:
    """The tables' data files, and the documents that name them or a photo."""
    looked_at: set[data.Lying] = set()
    for number in range(ROUNDS):
        there = data.lying(store, partitions)
        found = data.look(store, [file for file in there if file not in looked_at], stones)
        left = _written(store, found.hit, stones, say)
        committed = 0
        for table in schemas.TABLES.values():
            paths = {file.path for file in there if file.table == table}
            shown = data.commit(store, table, left, paths, erasure, partitions)
            removed.shown.update({f"{table.name}/{key}": rows for key, rows in shown.items()})
            committed += len(shown)
        if left or number == 0:
            redaction = documents.Redaction(stones, left)
            removed.documents += len(documents.redact(store, documents.places(store, partitions), redaction))
        killed = datetime.now(UTC) - vacuum.QUIET
        dead = [file for file in found.broken if file.written_at and file.written_at < killed]
        gone = data.removable(store, [*found.hit, *dead])
        data.remove(store, gone)
        for file in gone:
            removed.rows[file.table.name] += file.rows
            removed.bytes += file.size_bytes
        removed.rewritten += len(left)
        note()
        if not found.hit and not committed:
            removed.left += [file.name for file in found.broken if file not in gone]
            return
        looked_at |= {*there} - ({*found.hit, *found.broken} - {*gone})
    raise JobError(commits.CONTENDED, "Others publish faster than this can keep up.", "Run it again a little later.")


def _written(store: str, hit: list[data.Lying], stones: Tombstones, say: Say) -> dict[str, StagedFile]:
    left: dict[str, StagedFile] = {}
    for begin in range(0, len(hit), SAID):
        part = hit[begin : begin + SAID]
        left |= data.rewritten(store, part, stones)
        say(f"{begin + len(part):,} of {len(hit):,} files that hold erased photos are written anew")
    return left


def forecast(store: str, stones: Tombstones, say: Say) -> Removed:
    """What `sweep` would remove; nothing changes. Raises as that."""
    removed = Removed()
    with storage.reaching("store", store):
        if models := copies.indexed_models(store):
            datasets.lance()
        hit = data.look(store, data.lying(store), stones).hit
        hidden = {*data.removable(store, hit)}
        for file in hit:
            removed.rows[file.table.name] += file.rows
            removed.bytes += file.size_bytes
            if file not in hidden:
                removed.shown[f"{file.table.name}/{file.path.split('/')[1]}"] += file.rows
        removed.rewritten = len(hit)
        other = {file.path: StagedFile("", 0, 0) for file in hit}  # what documents will name in their place
        redaction = documents.Redaction(stones, other)
        removed.documents = len(documents.redact(store, documents.places(store), redaction, dry_run=True))
        for model in copies.models_with_duplicates(store):
            removed.duplicates[model] = copies.forget_duplicates(store, model, stones, dry_run=True)
        removed.bytes += copies.remove_former_duplicates(store, stones, dry_run=True)
        for model in models:
            removed.search[model], _ = copies.forget_in_index(store, model, stones, say, dry_run=True)
        removed.log_files = sum(
            logs.strip(store, table, dry_run=True) for table in (*schemas.TABLES.values(), schemas.DUPLICATES)
        )
    return removed
