"""The table duplicates: what it says of a model, for which version of the features, and the commit that changes it."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
from deltalake import CommitProperties, DeltaTable, write_deltalake

from spark_apps import catalog
from spark_apps.contract import JobError
from spark_apps.dedup.groups import File, Member, Pair
from spark_apps.tables import commits, delta_log
from spark_apps.tables.schemas import DUPLICATES


@dataclass(frozen=True)
class Known:
    """What the table says of a model. `seen`: up to which version of the features; `method`: how pictures were
    compared; `commit`: the version of this table that says so; 0 and empty where there is none."""

    seen: int = 0
    method: str = ""
    commit: int = 0
    rows: list[dict[str, Any]] = field(default_factory=list)

    @property
    def pairs(self) -> list[Pair]:
        found = {}
        for row in self.rows:
            for pair in row["pairs"]:
                one = Pair(row["image_id"], pair["image_id"], pair["similarity"], pair["distance"])
                found[one.key] = one
        return [*found.values()]

    @property
    def groups(self) -> dict[str, str]:
        """image_id → group_id."""
        return {row["image_id"]: row["group_id"] for row in self.rows}


def known(store: str, model: str) -> Known:
    """What the table says now."""
    delta = catalog.table(store, DUPLICATES.name)
    if delta is None:
        return Known()
    commit, info = _last(store, delta, model)
    rows = catalog.dataset(store, DUPLICATES.name, {"model": model}, delta.version()).to_table().to_pylist()
    own = [row for row in rows if row["model"] == model]
    return Known(int(info.get("seen", 0)), info.get("method", ""), commit, own)


def replace(store: str, model: str, before: Known, members: Sequence[Member], seen: int, method: str) -> int:
    """Puts `members` in the place of what was known, in one commit that touches only the partitions where something
    differs; returns how many those are.

    Raises:
        JobError: another run has brought the table up to date meanwhile.
    """
    news: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for member in members:
        news[member.file.partition].append(_row(member, model))
    olds: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in before.rows:
        olds[row["partition"]].append(row)
    touched = [key for key in sorted({*olds, *news}) if _sorted(olds[key]) != _sorted(news[key])]
    rows = pa.Table.from_pylist([row for key in touched for row in news[key]], DUPLICATES.schema)
    said = {"model": model, "seen": str(seen), "method": method, "partitions": json.dumps(touched)}

    def attempt(delta: DeltaTable) -> None:
        if _last(store, delta, model)[0] != before.commit:
            raise JobError(
                "overtaken",
                f"Another run has looked for duplicates of {model} at the same moment.",
                "Nothing is to be done, unless something was published since.",
            )
        write_deltalake(
            delta,
            rows,
            mode="overwrite",
            predicate=" OR ".join(f"(model = '{_quoted(model)}' AND partition = '{key}')" for key in touched)
            or "false",
            commit_properties=CommitProperties(custom_metadata=said, max_commit_retries=0),
        )

    commits.committed(store, DUPLICATES, attempt)
    return len(touched)


def _last(store: str, delta: DeltaTable, model: str) -> tuple[int, Mapping[str, Any]]:
    """The last commit of a model, and what it says; version 0 where the log has none, or none any more."""
    for version in range(delta.version(), 0, -1):
        try:
            info = delta_log.commit(DUPLICATES.uri(store), version).info
        except FileNotFoundError:
            break
        if info.get("model") == model and "seen" in info:
            return version, info
    return 0, {}


def _row(member: Member, model: str) -> dict[str, Any]:
    file = member.file
    return {
        **{name: getattr(file, name) for name in File.__dataclass_fields__},
        **{name: getattr(member, name) for name in ("group_id", "keeper", "kind", "twin", "similarity", "distance")},
        "pairs": [
            {
                "image_id": pair.other if pair.one == file.image_id else pair.one,
                "similarity": pair.similarity,
                "distance": pair.distance,
            }
            for pair in member.pairs
        ],
        "model": model,
    }


def _sorted(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted(rows, key=lambda row: str(row["uri"]))


def _quoted(text: str) -> str:
    return text.replace("'", "''")


def file_of(row: Mapping[str, Any]) -> File:
    """The file of a row of the table."""
    return File(**{name: row[name] for name in File.__dataclass_fields__})
