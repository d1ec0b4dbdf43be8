"""What changed between two versions of what is published: told from the files that Delta's log names.

There is no table of changes beside the features, which would have to be kept equal to them: both versions are still
there, as long as maintenance keeps replaced data (`--retention-hours`), and what differs between them is exact whoever
published, undid or merged in between. So is Delta's own change data feed bound to the retention.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError

from spark_apps import contract, storage
from spark_apps.catalog.tables import table
from spark_apps.tables import data_files, delta_log

ADDED, CHANGED, REMOVED = KINDS = ("added", "changed", "removed")
SCHEMA = pa.schema([(name, pa.string()) for name in ("partition", "uri", "image_id", "change")])

_TOLD_BY = ["uri", "image_id", "model_fingerprint"]
_AFRESH = "Begin afresh: empty what you keep, and take everything with since_version 0."


@dataclass(frozen=True)
class Changes:
    """What differs between two versions of the table features, for one model.

    `rows`: `partition`, `uri`, `image_id`, `change`: one row for each file that was `added`, `changed` (other bytes or
    another fingerprint of the model) or `removed`; the image_id of a removed file is the one that it had. `version` is
    the `since_version` to ask with the next time.
    """

    since_version: int
    version: int
    rows: pa.Table

    @property
    def counts(self) -> dict[str, int]:
        """Rows of each kind."""
        found = {item["values"]: item["counts"] for item in pc.value_counts(self.rows["change"]).to_pylist()}
        return {kind: found.get(kind, 0) for kind in KINDS}

    def to_record(self) -> dict[str, int]:
        """What an event says of it: both versions, and the counts."""
        return {"since_version": self.since_version, "version": self.version, **self.counts}


def changes(
    store: str, model: str, since_version: int = 0, version: int | None = None, partition: str | None = None
) -> Changes:
    """What a reader of `model` who last looked at `since_version` of the table features has to add, replace and remove.

    The net effect of all publications and undos in between: what was added and removed again is not in it. 0 is the
    empty store, so everything is added. `version`: up to which, by default the present one; `partition`: of one only.
    Reads the names and hashes of the partitions that were published in between, and no vector.

    Raises:
        BadSetting: the log or the files of `since_version` are gone (`version_forgotten`, `version_vacuumed`), or it is
            none of the table's versions (`unknown_version`).
        Unreachable: the store cannot be read.
    """
    after = at(store, version)
    if after is None:
        return Changes(since_version, 0, SCHEMA.empty_table())
    if not 0 <= since_version <= after.version():
        raise contract.BadSetting(
            "unknown_version",
            f"{since_version} is no version of the table features between 0 and {after.version()}.",
            "Take one that an event or an earlier answer has named.",
        )
    olds = _files(at(store, since_version) if since_version else None, model, partition)
    news = _files(after, model, partition)
    parts = []
    for key in sorted({*olds, *news}, key=contract.partitions.order):
        gone, came = olds[key] - news[key], news[key] - olds[key]
        if gone or came:
            with storage.reaching("store", store):
                parts.append(_differences(key, _rows(store, gone), _rows(store, came)))
    rows = pa.concat_tables(parts) if parts else SCHEMA.empty_table()
    return Changes(since_version, after.version(), rows)


def changes_of(store: str, partition: str, model: str, version: int) -> Changes | None:
    """What the publication of (partition, model) changed that a reader of `version` of the table features sees.

    None where the store no longer has what was published before.
    """
    uri = contract.join(store, "features")
    with storage.reaching("store", store):
        for number in range(version, 0, -1):
            try:
                info = delta_log.commit(uri, number).info
            except FileNotFoundError:
                return None
            if (info.get("partition"), info.get("model")) == (partition, model) and "ticket" in info:
                break
        else:
            return None
    try:
        return changes(store, model, number - 1, number, partition)
    except contract.BadSetting:
        return None


def at(store: str, version: int | None) -> DeltaTable | None:
    """The table features at a version, by default the present one; None where there is none yet.

    Raises:
        BadSetting: the log has no such version, or no longer (`version_forgotten`).
        Unreachable: the store cannot be read.
    """
    cause: BaseException | None = None
    try:
        found = table(store, "features", version)
    except contract.Unreachable as error:
        found, cause = None, error.__cause__
        if not isinstance(cause, DeltaError):
            raise
    if version and found is None:
        raise contract.BadSetting(
            "version_forgotten", f"The log of the table features has no version {version}, or no longer.", _AFRESH
        ) from cause
    return found


def _files(delta: DeltaTable | None, model: str, partition: str | None) -> dict[str, set[str]]:
    """partition → paths of its files, empty for any other."""
    found: dict[str, set[str]] = defaultdict(set)
    keys = {"model": model, **({"partition": partition} if partition else {})}
    for file in data_files.published(delta, keys) if delta else ():
        found[file.keys["partition"]].add(file.path)
    return found


def _rows(store: str, paths: Collection[str]) -> pa.Table:
    """Name, hash and fingerprint of each row of the files."""
    if not paths:
        return pa.schema([(name, pa.string()) for name in _TOLD_BY]).empty_table()
    filesystem, root = storage.filesystem(contract.join(store, "features"))
    try:
        files = ds.dataset([f"{root}/{path}" for path in sorted(paths)], filesystem=filesystem, format="parquet")
        return files.to_table(columns=_TOLD_BY)
    except FileNotFoundError as error:
        raise contract.BadSetting(
            "version_vacuumed", "Maintenance has removed files of the earlier version, past their retention.", _AFRESH
        ) from error


def _differences(partition: str, before: pa.Table, after: pa.Table) -> pa.Table:
    both = before.join(after, "uri", join_type="full outer", left_suffix="", right_suffix="_after").combine_chunks()
    was, is_, old, new = (both[f"{name}{end}"] for name in _TOLD_BY[1:] for end in ("", "_after"))
    change = pc.case_when(
        pc.make_struct(pc.is_null(was), pc.is_null(is_), pc.or_(pc.not_equal(was, is_), pc.not_equal(old, new))),
        ADDED,
        REMOVED,
        CHANGED,
    )
    named = pa.table({"uri": both["uri"], "image_id": pc.coalesce(is_, was), "change": change})
    rows = named.filter(pc.is_valid(named["change"])).sort_by("uri")
    return pa.table([pa.repeat(partition, rows.num_rows), *rows.columns], SCHEMA)
