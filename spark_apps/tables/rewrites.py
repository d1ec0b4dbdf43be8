"""Rewriting files of what is published: with the same rows, merged or without their copies, or without some rows."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from deltalake import CommitProperties, DeltaTable
from deltalake.transaction import RemoveAction

from spark_apps import storage
from spark_apps.contract import JobError, StagedFile
from spark_apps.tables import commits, data_files
from spark_apps.tables.data_files import PublishedFile
from spark_apps.tables.schemas import Table

TRIES = 20


@dataclass
class Rewrite:
    """Files of one partition of a table, and those that are to stand in their place: `rewritten`. `run_id`: of the run
    whose rows they are; `empty`: columns that hold nothing in the new ones."""

    keys: dict[str, str]
    run_id: str
    files: Sequence[PublishedFile]
    rewritten: list[StagedFile] = field(default_factory=list)
    empty: Sequence[str] = ()

    @property
    def paths(self) -> set[str]:
        return {file.path for file in self.files}

    @property
    def size_bytes(self) -> int:
        return sum(file.size_bytes for file in self.files)


def rewrite(
    store: str, table: Table, rewrites: Sequence[Rewrite], why: dict[str, str], data_change: bool = True
) -> list[Rewrite]:
    """Puts rewritten files in the place of the former ones, in one commit that says `why`; gives those that got there.

    A publication always wins: where one of the former files is no longer shown, everything stays as that made it. Where
    so many write that no commit gets through, none gets there. `data_change`: whether there are other rows than before.
    """
    left: list[Rewrite] = []

    def attempt(delta: DeltaTable) -> None:
        current = data_files.files(delta)
        left[:] = [one for one in rewrites if one.paths <= current]
        moment = int(time.time() * 1000)
        adds = [
            commits.add_action(file, one.keys, one.run_id, data_change, one.empty)
            for one in left
            for file in one.rewritten
        ]
        removes = [
            RemoveAction(file.path, data_change, moment, file.size_bytes, dict(one.keys))
            for one in left
            for file in one.files
        ]
        if left:
            delta.create_write_transaction(
                [*adds, *removes],
                "append",
                table.schema,
                list(table.keys),
                commit_properties=CommitProperties(custom_metadata=why, max_commit_retries=0),
            )

    try:
        commits.committed(store, table, attempt, TRIES)
    except JobError as error:
        if error.code != commits.CONTENDED:
            raise
        return []
    return left


def discard(store: str, table: Table, staged: Sequence[StagedFile]) -> None:
    """Removes files that no version shows. Raises OSError."""
    for file in staged:
        storage.delete(f"{table.uri(store)}/{file.path}")
