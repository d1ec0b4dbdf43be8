"""What is made from the tables and names photos too: the table duplicates, and the search index of each model."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import fs

from spark_apps import catalog, contract, storage
from spark_apps.contract import JobError
from spark_apps.dedup import groups, table
from spark_apps.erasure import data
from spark_apps.search import ann, datasets, writing
from spark_apps.storage import folders
from spark_apps.tables import commits, data_files, delta_log
from spark_apps.tables.schemas import DUPLICATES, FEATURES
from spark_apps.tables.tombstones import Tombstones
from spark_apps.upkeep import unfinished, vacuum

TRIES = 5


def models_with_duplicates(store: str) -> list[str]:
    """The models that the table duplicates speaks of. Raises Unreachable."""
    delta = catalog.table(store, DUPLICATES.name)
    return sorted({file.keys["model"] for file in data_files.published(delta, {})}) if delta else []


def forget_duplicates(store: str, model: str, stones: Tombstones, dry_run: bool = False) -> int:
    """Takes erased files out of the groups of a model, and evidence that names them; groups keep their ids. How many
    rows went.

    Raises:
        JobError: others write to the table all the time.
    """
    for _ in range(TRIES):
        before = table.known(store, model)
        files = [file for file in map(table.file_of, before.rows) if not _is_erased(file, stones)]
        gone = {row["image_id"] for row in before.rows} - {file.image_id for file in files}
        pairs = [pair for pair in before.pairs if not {pair.one, pair.other} & gone and not _names(pair, stones)]
        if dry_run or (len(files) == len(before.rows) and len(pairs) == len(before.pairs)):
            return len(before.rows) - len(files)
        members = groups.members(files, pairs, before.groups)
        try:
            table.replace(store, model, before, members, _seen(store, model, before.seen), before.method)
            return len(before.rows) - len(members)
        except JobError as error:
            if error.code != "overtaken":
                raise
    raise JobError(commits.CONTENDED, f"The table {DUPLICATES.name} is written to all the time.", "Run again.")


def _is_erased(file: groups.File, stones: Tombstones) -> bool:
    return stones.has_image(file.image_id) or stones.has_uri(file.uri)


def _names(pair: groups.Pair, stones: Tombstones) -> bool:
    return stones.has_image(pair.one) or stones.has_image(pair.other)


def _seen(store: str, model: str, seen: int) -> int:
    """Up to which version of the features the table is right, when it was for `seen` and lacks the erased files: up to
    the present one, unless something of the model was published since."""
    uri, delta = FEATURES.uri(store), catalog.table(store, FEATURES.name)
    assert delta is not None
    for version in range(seen + 1, delta.version() + 1):
        info = delta_log.commit(uri, version).info
        if "maintenance" not in info and info.get("model", model) == model:
            return seen
    return delta.version()


def remove_former_duplicates(store: str, stones: Tombstones, dry_run: bool = False) -> int:
    """Removes files of former versions of the table that name erased photos; their bytes. Raises OSError."""
    delta = catalog.table(store, DUPLICATES.name)
    if delta is None:
        return 0
    current, size = data_files.files(delta), 0
    filesystem, root = storage.filesystem(DUPLICATES.uri(store))
    for info in filesystem.get_file_info(fs.FileSelector(root, recursive=True)):
        path = info.path[len(root) + 1 :]
        if not path.endswith(".parquet") or path.startswith("_delta_log/") or path in current:
            continue
        try:
            rows = pq.read_table(info.path, filesystem=filesystem, partitioning=None)
        except (FileNotFoundError, pa.ArrowInvalid):  # vacuumed, or being written
            continue
        if data.erased(rows, stones).any() or any(map(stones.has_image, _evidence(rows))):
            size += info.size
            if not dry_run:
                storage.delete(contract.join(DUPLICATES.uri(store), path))
    return size


def _evidence(rows: pa.Table) -> Iterator[str]:
    """The other pictures that rows of duplicates name."""
    yield from rows["twin"].to_pylist()
    for pairs in rows["pairs"].to_pylist():
        yield from (pair["image_id"] for pair in pairs or ())


def indexed_models(store: str) -> list[str]:
    """The models that have a search index. Raises OSError."""
    filesystem, root = storage.filesystem(contract.join(store, "search"))
    found = folders.inside(filesystem, root)
    return sorted(info.base_name.removesuffix(".lance") for info in found if info.base_name.endswith(".lance"))


def forget_in_index(
    store: str, model: str, stones: Tombstones, say: Callable[[str], None], dry_run: bool = False
) -> tuple[int, list[str]]:
    """Brings a search index up to the tables, which lack the erased photos, and removes its former versions with their
    files; how many rows went, and which files with such rows may still be written by a run.

    Indexes of columns and vectors hold what was there when they were built, so they are built anew. Whoever reads a
    former version at this moment has to open the new one.

    Raises:
        BadSetting: Lance is not installed.
        JobError: others write to the index all the time.
    """
    dirty = dict(_with_erased(store, model, stones))
    shown = _shown(datasets.opened(store, model))
    rows = sum(count for path, (count, _) in dirty.items() if path in shown)
    if dry_run:
        return rows, []
    if dirty:
        _without_erased(store, model, dirty, say)
    place = datasets.uri(store, model)
    killed, left = datetime.now(UTC) - vacuum.QUIET, []
    for path, (_, moment) in _with_erased(store, model, stones):
        if moment < killed:
            storage.delete(contract.join(place, "data", path))
        else:
            left.append(f"search/{model}.lance/data/{path}")
    for part, moment in unfinished.index_parts(datasets.opened(store, model), place).items():
        if moment < killed:
            storage.delete_folder(contract.join(place, "_indices", part))
        else:
            left.append(f"search/{model}.lance/_indices/{part}")
    return rows, left


def _without_erased(store: str, model: str, dirty: Mapping[str, Any], say: Callable[[str], None]) -> None:
    from lance.commit import CommitConflictError

    try:
        writing.reconcile(store, model, lambda _: lambda units, work: work(iter(units)), say)
        dataset = datasets.opened(store, model)
        if dataset is not None:
            if dirty.keys() & _shown(dataset):  # deleted rows of a file that has others
                dataset.optimize.compact_files(target_rows_per_fragment=1, materialize_deletions_threshold=0.0)
            if ann.state(dataset).cells:
                ann.build(dataset)
            dataset.cleanup_old_versions(older_than=timedelta(0))
    except CommitConflictError as error:
        raise JobError("index_contended", f"The search index of {model} is written to.", "Run again.") from error


def _shown(dataset: Any | None) -> set[str]:
    """The data files that a version of an index names."""
    fragments = dataset.get_fragments() if dataset is not None else []
    return {file.path for fragment in fragments for file in fragment.metadata.files}


def _with_erased(store: str, model: str, stones: Tombstones) -> Iterator[tuple[str, tuple[int, datetime]]]:
    """The files of an index with rows of erased photos, whatever version names them: how many, and when written."""
    filesystem, root = storage.filesystem(contract.join(datasets.uri(store, model), "data"))
    for info in filesystem.get_file_info(fs.FileSelector(root, allow_not_found=True)):
        rows = index_rows(store, model, info.base_name, list(data.NAMES))
        if rows is not None and (count := int(data.erased(rows, stones).sum())):
            yield info.base_name, (count, info.mtime)


def index_rows(store: str, model: str, name: str, columns: list[str] | None = None) -> Any | None:
    """The rows of a data file of an index; None for one that is not whole, as one that has no name yet: of an empty one
    Lance panics, which ends the process."""
    datasets.lance()
    if not name.endswith(".lance"):
        return None
    from lance.file import LanceFileReader

    try:
        reader = LanceFileReader(
            f"{datasets.location(store, model)}/data/{name}",
            storage_options=storage.delta_options(store),
            columns=columns,
        )
        return reader.read_all().to_table()
    except (OSError, ValueError):
        return None
