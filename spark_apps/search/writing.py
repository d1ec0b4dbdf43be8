"""Bringing what is published into the dataset of a model: each partition in one commit, whoever writes beside it.

Rows are written to files that no reader sees; the commit takes the partition's rows before away and names the new ones.
Every commit also names the first fragment anew, as it is: Lance then lets no two commits through that began at the same
version, so that none is lost and no partition is there twice. Killed at any moment, the next run finds what differs.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from spark_apps import catalog, contract, storage
from spark_apps.contract import JobError
from spark_apps.search import datasets
from spark_apps.search.datasets import Held
from spark_apps.tables import data_files, schemas

COMMIT_TRIES = 30
ROUNDS = 5
"""How often a run looks again at what is published, before it says that others publish faster than it brings in."""
KEPT = timedelta(days=1)
"""How long versions that were replaced are kept for readers that hold them."""
FILE_ROWS = 2**20
COMMIT_ROWS = 100_000
"""Rows of whole partitions that are brought in by one commit: what is written again after a kill, at most."""


@dataclass(frozen=True)
class Unit:
    """A row group of a file of the table features."""

    path: str
    row_group: int


@dataclass(frozen=True)
class Target:
    """What a task writes rows for: the dataset, and the publication of a partition that they are of."""

    store: str
    model: str
    dim: int
    partition: str
    publication: str


@dataclass(frozen=True)
class Coming:
    """What is to be there of a partition, None where it goes, and the fragments with its rows."""

    part: Held | None = None
    fragments: Sequence[Any] = ()


Spread = Callable[[list[Unit], Callable[[Iterator[Unit]], Iterator[str]]], Iterable[str]]
"""Runs a function over units, here or in Spark tasks, and gives what it yields."""


@dataclass
class Done:
    """What a run did. `differing`: rows that differ from what is published, before and after it."""

    brought: int = 0
    removed: int = 0
    partitions: list[str] = field(default_factory=list)
    before: int = 0
    after: int = 0


def reconcile(store: str, model: str, spread: Callable[[int], Spread], tell: Callable[[str], None]) -> Done:
    """Brings in what is published and not there, and removes what is there and no longer published.

    `spread`: how the rows are written, by how many there are. `tell` is given a line for each partition.

    Raises:
        JobError: others publish and write so fast that it could not keep up; what it brought in stays.
        Unreachable: the store cannot be used.
    """
    done = Done()
    for number in range(ROUNDS):
        have, want = datasets.held(datasets.opened(store, model)), datasets.published(store, model)
        differing = datasets.differing(have, want)
        done.after = sum(differing.values())
        if number == 0:
            done.before = done.after
        if not differing:
            return done
        if gone := [key for key in differing if key not in want]:
            done.removed += _commit(store, model, {key: Coming() for key in gone}, 0)
            done.partitions += gone
            tell(f"removed {', '.join(gone)}: no longer published")
        bringing = [key for key in differing if key in want]
        if bringing:
            _bring(store, model, {key: want[key] for key in bringing}, spread, tell, done)
    raise JobError(
        "index_contended", "Others publish or index faster than this run can bring in.", "Run it again a little later."
    )


def rebuild(store: str, model: str, spread: Callable[[int], Spread], tell: Callable[[str], None]) -> Done:
    """Makes the dataset anew from nothing but what is published; readers have the one before until it is whole.

    Raises: as `reconcile`.
    """
    want = datasets.published(store, model)
    done = Done(before=sum(part.rows for part in want.values()), partitions=list(want))
    try:
        before = datasets.opened(store, model)
    except (OSError, ValueError):  # damaged: there is nothing to read
        before = None
        storage.delete_folder(datasets.uri(store, model))
    fragments: list[Any] = []
    write, dim = spread(done.before), _dim(store, model) if want else 0
    for position, (key, part) in enumerate(want.items(), start=1):
        if (found := _fragments(Target(store, model, dim, key, part.publication), part, write)) is not None:
            fragments += found
            tell(f"{key}: {part.rows:,} rows, {position:,} of {len(want):,} partitions")
    if fragments:
        try:
            _overwrite(store, model, dim, fragments, before.version if before is not None else 0)
        except _conflict() as error:
            raise _contended(model) from error
        done.brought = sum(fragment.physical_rows for fragment in fragments)
    rest = reconcile(store, model, spread, tell)  # what was published meanwhile
    done.after = rest.after
    return done


def _bring(
    store: str,
    model: str,
    want: Mapping[str, Held],
    spread: Callable[[int], Spread],
    tell: Callable[[str], None],
    done: Done,
) -> None:
    """Puts the published rows of partitions in the place of those that are there, some partitions at a time."""
    before = datasets.opened(store, model)
    write, dim = (
        spread(sum(part.rows for part in want.values())),
        _dim(store, model) if before is None else datasets.dim(before),
    )
    coming: dict[str, Coming] = {}
    for position, (key, part) in enumerate(want.items(), start=1):
        found = _fragments(Target(store, model, dim, key, part.publication), part, write)
        if found is not None:  # else it was published again, and is looked at in the next round
            coming[key] = Coming(part, found)
            tell(f"{key}: {part.rows:,} rows, {position:,} of {len(want):,} partitions")
        rows = sum(one.part.rows for one in coming.values() if one.part)
        if coming and (rows >= COMMIT_ROWS or position == len(want)):
            _commit(store, model, coming, dim)
            done.brought += rows
            done.partitions += coming
            coming = {}


def _fragments(target: Target, want: Held, write: Spread) -> list[Any] | None:
    """The rows of a publication as fragments that are in no version yet; None: it is not the published one any more."""
    from lance.fragment import FragmentMetadata

    store, model, key = target.store, target.model, target.partition
    delta = catalog.table(store, "features")
    if delta is None:
        return None
    files = data_files.published(delta, {"partition": key, "model": model})
    if data_files.contents(file.path for file in files) != want.publication:
        return None
    try:
        units = [
            Unit(file.path, group)
            for file, parquet in data_files.opened(store, schemas.FEATURES, files)
            for group in range(parquet.num_row_groups)
        ]
        found = [FragmentMetadata.from_json(text) for text in write(units, partial(write_units, target=target))]
    except FileNotFoundError:
        if datasets.published(store, model).get(key) == want:
            raise
        return None
    rows = sum(fragment.physical_rows for fragment in found)
    if rows != want.rows:
        raise JobError(
            "rows_differ",
            f"The files of {key} in the table features hold {rows:,} rows, its log says {want.rows:,}.",
            "Publish the partition again.",
        )
    return found


def write_units(units: Iterator[Unit], target: Target) -> Iterator[str]:
    """The work of one task: writes the rows of its units to files of the dataset; yields fragments, as JSON."""
    datasets.lance()
    from lance.fragment import write_fragments

    columns = datasets.schema(target.dim)
    batches = pa.RecordBatchReader.from_batches(columns, _batches(units, target, columns))
    written = write_fragments(
        batches,
        datasets.location(target.store, target.model),
        schema=columns,
        max_rows_per_file=FILE_ROWS,
        storage_options=storage.delta_options(target.store),
    )
    yield from (json.dumps(fragment.to_json()) for fragment in written if fragment.physical_rows)


def _batches(units: Iterator[Unit], target: Target, columns: pa.Schema) -> Iterator[pa.RecordBatch]:
    filesystem, root = storage.filesystem(schemas.FEATURES.uri(target.store))
    for unit in units:
        parquet = pq.ParquetFile(f"{root}/{unit.path}", filesystem=filesystem)
        rows = parquet.read_row_group(
            unit.row_group, columns=["image_id", "uri", "top1_label", "top1_score", "features"]
        )
        if not rows.num_rows:
            continue
        yield pa.record_batch(
            [
                rows["image_id"].combine_chunks(),
                rows["uri"].combine_chunks(),
                pa.repeat(target.partition, rows.num_rows),
                pa.repeat(target.publication, rows.num_rows),
                rows["top1_label"].combine_chunks(),
                rows["top1_score"].combine_chunks(),
                unit_vectors(rows["features"].combine_chunks(), target.dim),
            ],
            schema=columns,
        )


def unit_vectors(features: pa.ListArray, dim: int) -> pa.FixedSizeListArray:
    """The vectors with length 1; null where one has another number of dimensions, is zero or not finite."""
    lengths = features.value_lengths().fill_null(0).to_numpy(zero_copy_only=False)
    fits = lengths == dim
    values = np.zeros((len(features), dim), np.float32)
    values[fits] = features.filter(pa.array(fits)).flatten().to_numpy(zero_copy_only=False).reshape(-1, dim)
    norms = np.sqrt(np.einsum("ij,ij->i", values, values, dtype=np.float64))
    good = np.isfinite(norms) & (norms > 0)
    values[~good] = 0
    values /= np.where(good, norms, 1)[:, None].astype(np.float32)
    return pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), dim, mask=pa.array(~good))


def _dim(store: str, model: str) -> int:
    """How many numbers a vector of the model has, from the first published row."""
    for batch in catalog.stream(store, "features", {"model": model}, ["features"], rows=1):
        if batch.num_rows:
            return len(batch["features"][0])
    raise JobError("index_empty", f"No vector of {model} is published in {store}.", "Run the pipeline first.")


def _commit(store: str, model: str, coming: Mapping[str, Coming], dim: int) -> int:
    """One commit that takes the rows of these partitions away and names their new ones; how many rows it took away.

    What another run has brought in meanwhile is left as it is.
    """
    from lance import LanceDataset, LanceOperation

    for number in range(COMMIT_TRIES):
        dataset = datasets.opened(store, model)
        have = datasets.held(dataset)
        left = {key: one for key, one in coming.items() if have.get(key) != one.part}
        fragments = [fragment for one in left.values() for fragment in one.fragments]
        gone = {key for key in left if key in have}
        if not left:
            return 0
        try:
            if dataset is None or not dataset.get_fragments():
                _overwrite(store, model, dim, fragments, dataset.version if dataset is not None else 0)
            else:
                removed, updated = _without(dataset, have, gone)
                first = min(dataset.get_fragments(), key=lambda one: one.fragment_id)
                if first.fragment_id not in {*removed, *(one.id for one in updated)}:
                    updated.append(first.metadata)
                LanceDataset.commit(
                    dataset, LanceOperation.Update(removed, updated, fragments), read_version=dataset.version
                )
            return sum(have[key].rows for key in gone)
        except _conflict():
            _pause(number)
    raise _contended(model)


def _conflict() -> type[Exception]:
    from lance.commit import CommitConflictError

    found: type[Exception] = CommitConflictError
    return found


def _contended(model: str) -> JobError:
    message = f"The search index of {model} is being written by too many others; no commit got through."
    return JobError("index_contended", message, "Run it again.")


def _without(dataset: Any, have: Mapping[str, Held], partitions: set[str]) -> tuple[list[int], list[Any]]:
    """The fragments that hold nothing but rows of these partitions, and the others without those rows."""
    touched: set[int] = set().union(*(have[key].fragments for key in partitions))
    kept: set[int] = set().union(*(part.fragments for key, part in have.items() if key not in partitions))
    listed = ", ".join(f"'{key}'" for key in sorted(partitions))
    updated = []
    for number in sorted(touched & kept):  # merged from several partitions
        rest = dataset.get_fragment(number).delete(f"partition IN ({listed})")
        assert rest is not None, "rows of another partition are in it"
        updated.append(rest)
    return sorted(touched - kept), updated


def _overwrite(store: str, model: str, dim: int, fragments: list[Any], version: int) -> None:
    """The first version of a dataset, or one that has nothing of those before. Raises CommitConflictError."""
    from lance import LanceDataset, LanceOperation

    try:
        LanceDataset.commit(
            datasets.location(store, model),
            LanceOperation.Overwrite(datasets.schema(dim), fragments),
            read_version=version,
            storage_options=storage.delta_options(store),
        )
    except OSError as error:
        if version == 0 and datasets.opened(store, model) is not None:  # another run has created it at this moment
            raise _conflict()(str(error)) from error
        raise


def _pause(number: int) -> None:
    """A moment, at random and longer each time."""
    time.sleep(random.uniform(0.01, 0.05) * min(2**number, 32))  # noqa: S311  not a secret


def audit(store: str, model: str) -> dict[str, int]:
    """Partition → in how many rows (uri, image_id) the dataset differs from what is published, by reading both."""
    dataset, want = datasets.opened(store, model), datasets.published(store, model)
    have = datasets.held(dataset)
    found = {}
    for key in sorted({*have, *want}, key=contract.partitions.order):
        rows = [pa.table({"uri": pa.array([], pa.string()), "image_id": pa.array([], pa.string())})] * 2
        if key in want:
            rows[0] = catalog.vectors(store, key, model, ["uri", "image_id"])
        if key in have:
            rows[1] = dataset.to_table(["uri", "image_id"], filter=f"partition = '{key}'")  # type: ignore[union-attr]
        if differing := _differing_rows(*rows):
            found[key] = differing
    return found


def _differing_rows(one: pa.Table, other: pa.Table) -> int:
    counted = [table.group_by(["uri", "image_id"]).aggregate([([], "count_all")]).to_pylist() for table in (one, other)]
    counts = [{(row["uri"], row["image_id"]): row["count_all"] for row in rows} for rows in counted]
    return sum(abs(counts[0].get(key, 0) - counts[1].get(key, 0)) for key in {*counts[0], *counts[1]})


def tidy(store: str, model: str) -> None:
    """Removes versions that no reader needs any more, and after a week what killed runs have left."""
    if (dataset := datasets.opened(store, model)) is not None:
        dataset.cleanup_old_versions(older_than=KEPT)
