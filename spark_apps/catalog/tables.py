"""Reading the tables of a store: what is published, its rows, and what was published before."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from functools import reduce
from operator import and_

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq
from deltalake import DeltaTable
from deltalake.exceptions import TableNotFoundError
from pyarrow import fs

from spark_apps import contract, storage
from spark_apps.contract import BadSetting
from spark_apps.storage import filesystems
from spark_apps.tables import data_files, delta_log

_COMMON = (
    *("timestamp", "operation", "operationParameters", "engineInfo", "clientVersion"),
    *("run_id", "partition", "model", "rows", "ticket", "restored"),
)

"""Keys in the metadata of a commit that are not facts of its run."""


@dataclass(frozen=True)
class Partition:
    """One published (partition, model): what a reader of `features` sees."""

    partition: str
    model: str
    rows: int
    run_id: str
    size_bytes: int
    modified_ms: int = 0
    """When the newest of its files was committed, in milliseconds since 1970: changes with every publication."""
    folder: str = ""
    """The name of the folder of the run, which tells runs of one id in several Dags apart; see `contract.RunKey`."""
    contents: str = ""
    """Tells its rows from all that were published before: stays when files are merged, comes back by an undo."""


@dataclass(frozen=True)
class Publication:
    """One commit that published a (partition, model). `until`: the last version of features that shows it.

    `restored` is the version that it put back, None for a run's own publication. `facts`: what else the commit says, as
    text: the counts of the run, the model's fingerprint, its verdict and, where there are any, its warnings.
    """

    version: int
    until: int
    at: datetime
    run_id: str
    rows: int
    ticket: int
    restored: int | None
    facts: dict[str, str]

    @property
    def origin(self) -> int:
        """The version of the run's own publication."""
        return self.version if self.restored is None else self.restored


def use_storage(variables: Mapping[str, str]) -> None:
    """From now on this process reads stores with these variables (`AWS_…`) before those of its environment.

    They do not enter the environment. With keys among them, no key, token, profile or endpoint of the environment is
    used beside them.
    """
    filesystems.use(variables)


def table(store: str, name: str, version: int | None = None) -> DeltaTable | None:
    """The Delta table images, features or quarantine, at a version of its past if asked; None if there is none."""
    with storage.reaching("store", store):
        try:
            options = storage.delta_options(store)
            return DeltaTable(contract.join(store, name), version=version, storage_options=options)
        except TableNotFoundError:
            return None


def dataset(store: str, name: str, keys: dict[str, str] | None = None, version: int | None = None) -> ds.Dataset:
    """The rows of images, features or quarantine as an Arrow dataset: for pandas, DuckDB, Polars, or batch by batch.

    Of the files, only those that hold rows of `keys` (partition, model); in their past if there is a `version`.
    It reads through Arrow's own filesystem. That of `DeltaTable.to_pyarrow_dataset` is written in Python, and a process
    whose threads still hold it at its end is aborted: "terminate called without an active exception".

    Raises:
        Unreachable: there is no such table, or the store cannot be read.
    """
    delta = table(store, name, version)
    if delta is None:
        raise contract.Unreachable(
            "store_empty", f"The store {store} has no table {name} yet.", "Run the pipeline first."
        )
    with storage.reaching("store", store):
        return _dataset(store, name, delta, keys or {})


def exists(store: str) -> bool:
    """Whether there is anything at the place of the store."""
    with storage.reaching("store", store):
        filesystem, path = storage.filesystem(store)
        return bool(filesystem.get_file_info(path).type != fs.FileType.NotFound)


def columns(delta: DeltaTable) -> pa.Schema:
    """The columns of a table, the partition columns included."""
    return pa.schema(delta.schema().to_arrow())


def partitions(store: str, model: str | None = None) -> list[Partition]:
    """The published partitions, newest key first; read from the table's log alone."""
    delta = table(store, "features")
    return [] if delta is None else published(delta, model)


def never_published(store: str, model: str) -> contract.NothingToDo:
    """What to raise where somebody asks for a model of which nothing is published: it names those that are. Raises
    Unreachable."""
    known = sorted({item.model for item in partitions(store)})
    hint = f"Published are: {', '.join(known)}." if known else "Nothing is: correct --store, or run the pipeline first."
    return contract.NothingToDo("never_published", f"Nothing is published under {model} in {store}.", hint)


def published(delta: DeltaTable, model: str | None = None) -> list[Partition]:
    """The same of a table features that is open already."""
    actions = pa.table(delta.get_add_actions(flatten=True))
    if not actions.num_rows:
        return []
    sums = [
        ("num_records", "sum"),
        ("size_bytes", "sum"),
        ("min.run_id", "min"),
        ("modification_time", "max"),
        ("path", "min"),
        ("path", "list"),
    ]
    groups = actions.group_by(["partition.partition", "partition.model"]).aggregate(sums).to_pylist()
    found = [
        Partition(
            partition=group["partition.partition"],
            model=group["partition.model"],
            rows=group["num_records_sum"],
            run_id=group["min.run_id_min"] or "",
            size_bytes=group["size_bytes_sum"],
            modified_ms=group["modification_time_max"],
            folder=group["path_min"].split("/")[-3],
            contents=data_files.contents(group["path_list"]),
        )
        for group in groups
        if model in (None, group["partition.model"])
    ]
    return sorted(found, key=lambda item: (contract.partitions.order(item.partition), item.model), reverse=True)


def publications(store: str, partition: str, model: str, name: str = "features") -> list[Publication]:
    """What has been published under (partition, model), newest first, as far as the log tells (30 days at least).

    In the tables images and quarantine a partition is shared by all models, and so is this list.
    """
    with storage.reaching("store", store):
        commits = delta_log.commits(contract.join(store, name))
    found: list[Publication] = []
    for commit in reversed(commits):
        info = commit.info
        if info.get("partition") != partition or "ticket" not in info:
            continue
        if name == "features" and info["model"] != model:
            continue
        found.append(
            Publication(
                version=commit.version,
                until=found[-1].version - 1 if found else commits[-1].version,
                at=commit.at,
                run_id=info["run_id"],
                rows=int(info["rows"]),
                ticket=int(info["ticket"]),
                restored=int(info["restored"]) if "restored" in info else None,
                facts={key: value for key, value in info.items() if key not in _COMMON and isinstance(value, str)},
            )
        )
    return found


def earlier(store: str, partition: str, model: str, count: int) -> list[str]:
    """The keys of the `count` published partitions of `model` that come before `partition` in its series, nearest
    first (`contract.partitions`)."""
    return contract.partitions.earlier(partition, (item.partition for item in partitions(store, model)))[:count]


def fingerprints(store: str, model: str, partition: str, count: int) -> dict[str, str]:
    """partition → model_fingerprint of the `count` published partitions of `model` on either side of `partition`, of
    whatever series: what one model key says must hold in all of them. A damaged file tells nothing."""
    delta = table(store, "features")
    if delta is None:
        return {}
    with storage.reaching("store", store):
        order, at = contract.partitions.order, contract.partitions.order(partition)
        others = sorted((item.partition for item in published(delta, model)), key=order)
        before, after = [key for key in others if order(key) < at], [key for key in others if order(key) > at]
        wanted = before[max(0, len(before) - count) :] + after[:count]
        found: dict[str, str] = {}
        for file in _dataset(store, "features", delta, {"model": model}).get_fragments():
            key = ds.get_partition_keys(file.partition_expression)["partition"]
            if key in wanted and key not in found:
                with suppress(BadSetting), data_files.whole(contract.join(store, "features", file.path)):
                    first = file.head(1, columns=["model_fingerprint"])["model_fingerprint"].to_pylist()
                    found.update({key: first[0]} if first else {})
    return {key: found[key] for key in wanted if key in found}


def vectors(store: str, partition: str, model: str, columns: list[str] | None = None) -> pa.Table:
    """The published rows of one partition and model; columns as in the table `features`."""
    return _rows(store, "features", {"partition": partition, "model": model}, columns)


def images(store: str, partition: str, columns: list[str] | None = None) -> pa.Table:
    """The published photos of one partition; columns as in the table `images` (`content` holds the bytes)."""
    return _rows(store, "images", {"partition": partition}, columns)


def quarantine(store: str, partition: str) -> pa.Table:
    """The quarantined files of one partition, with code and message."""
    return _rows(store, "quarantine", {"partition": partition}, None)


def folders(store: str, name: str, partition: str) -> set[str]:
    """The folder names of the runs whose files a table shows of a partition."""
    delta = table(store, name)
    if delta is None:
        return set()
    actions = pa.table(delta.get_add_actions(flatten=True))
    paths = actions.filter(pc.equal(actions["partition.partition"], partition))["path"].to_pylist()
    return {path.split("/")[-3] for path in paths}


def staged_rows(store: str, name: str, paths: Iterable[str]) -> pa.Table | None:
    """The rows of files that a run staged for the table `name`; None when one of the files is no longer there.

    Raises:
        ValueError: a path is none of a staged file of this table.
    """
    uri = contract.join(store, name)
    parts = []
    with storage.reaching("store", store):
        filesystem, root = storage.filesystem(uri)
        for path in paths:
            if not path.startswith("data/") or not path.endswith(".parquet") or ".." in path.split("/"):
                raise ValueError(f"{path!r} is not a staged file of the table {name}")
            try:
                parts.append(pq.read_table(f"{root}/{path}", filesystem=filesystem, partitioning=None))
            except FileNotFoundError:
                return None
    return pa.concat_tables(parts, promote_options="default") if parts else None


def stream(
    store: str, name: str, keys: dict[str, str], columns: list[str], rows: int = 4096
) -> Iterator[pa.RecordBatch]:
    """The published rows of `keys` (partition, model), at most `rows` at a time and few of them in memory."""
    delta = table(store, name)
    if delta is None:
        return
    with storage.reaching("store", store):
        yield from rows_of(store, name, delta, keys, columns, rows)


def rows_of(
    store: str, name: str, delta: DeltaTable, keys: dict[str, str], columns: list[str], rows: int
) -> Iterator[pa.RecordBatch]:
    """The same of a table that is open already. Raises OSError and what else Arrow raises."""
    yield from _dataset(store, name, delta, keys).to_batches(
        columns=columns, filter=_matches(keys), batch_size=rows, batch_readahead=2, fragment_readahead=1
    )


def _rows(store: str, name: str, keys: dict[str, str], columns: list[str] | None) -> pa.Table:
    rows = dataset(store, name, keys)
    with storage.reaching("store", store):
        return rows.to_table(filter=_matches(keys), columns=columns)


def _dataset(store: str, name: str, delta: DeltaTable, keys: dict[str, str]) -> ds.Dataset:
    filesystem, root = storage.filesystem(contract.join(store, name))
    return delta.to_pyarrow_dataset(
        filesystem=fs.SubTreeFileSystem(root, filesystem),
        file_pruning_predicate=[(key, "=", value) for key, value in keys.items()] or None,
    )


def _matches(keys: dict[str, str]) -> pc.Expression:
    return reduce(and_, (pc.field(key) == value for key, value in keys.items()))
