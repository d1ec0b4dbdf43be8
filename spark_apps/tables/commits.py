"""Commits to the tables: the one that puts a run's staged files in the place of a partition, and trying again."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeVar

from deltalake import CommitProperties, DeltaTable, Transaction
from deltalake.exceptions import CommitFailedError, TableNotFoundError
from deltalake.transaction import AddAction

from spark_apps import storage
from spark_apps.contract import BadSetting, JobError, Staged, StagedFile
from spark_apps.tables.data_files import files, merged_folder, missing
from spark_apps.tables.schemas import FEATURES, IMAGES, QUARANTINE, TABLES, Table

Result = TypeVar("Result")

COMMIT_TRIES = 50
CONTENDED = "commit_contended"
"""Code of the error when no try to commit got through."""

CHECKPOINT_INTERVAL = "20"
"""Commits between two checkpoints of a table's log: opening it reads one checkpoint and at most so many commits."""


def open_table(store: str, table: Table) -> DeltaTable:
    """The Delta table, to be written to; created empty where there is none yet.

    Raises:
        BadSetting: a newer version has added columns, which a commit of this one would take away from every reader.
    """
    uri, options = table.uri(store), storage.delta_options(store)

    def attempt() -> DeltaTable:
        try:
            return _existing(store, table)
        except TableNotFoundError:
            storage.ensure_folder(uri)
        try:
            return DeltaTable.create(
                uri,
                table.schema,
                mode="ignore",
                partition_by=list(table.keys),
                name=table.name,
                description=table.description,
                configuration={"delta.checkpointInterval": CHECKPOINT_INTERVAL},
                storage_options=options,
            )
        except CommitFailedError as error:  # another run created it at the same moment
            raise Overtaken from error

    return _retried(table, attempt, COMMIT_TRIES)


class Overtaken(Exception):
    """Somebody else committed to the table first: look at it again, and try again."""


def committed(store: str, table: Table, attempt: Callable[[DeltaTable], Result], tries: int = COMMIT_TRIES) -> Result:
    """What `attempt` gives for the table as it is then; tried again as long as others commit first.

    delta-rs would retry by itself, but it sees no read to conflict with: two replacements of one partition would both
    be kept. So `attempt` commits without retries, and looks at the table that it is given each time.

    Raises:
        JobError: so many others write to the table that no commit got through.
    """

    def once() -> Result:
        delta = open_table(store, table)
        try:
            return attempt(delta)
        except CommitFailedError as error:
            if open_table(store, table).version() == delta.version():
                raise  # nobody was faster: the store itself refused
            raise Overtaken from error

    return _retried(table, once, tries)


def _retried(table: Table, attempt: Callable[[], Result], tries: int) -> Result:
    for number in range(tries):
        try:
            return attempt()
        except Overtaken:  # wait a moment, at random and longer each time
            time.sleep(random.uniform(0.01, 0.05) * min(2**number, 32))  # noqa: S311  not a secret
    raise JobError(
        CONTENDED,
        f"The table {table.name} is being written by too many others; {tries} tries to commit failed.",
        "Run again; nothing was published.",
    )


def _existing(store: str, table: Table) -> DeltaTable:
    delta = DeltaTable(table.uri(store), storage_options=storage.delta_options(store))
    if newer := [field.name for field in delta.schema().fields if field.name not in table.schema.names]:
        raise BadSetting(
            "newer_store",
            f"The table {table.name} was written by a newer version: it has the columns {', '.join(newer)}.",
            "Update Image Features where the jobs run.",
        )
    return delta


@dataclass(frozen=True)
class Replacement:
    """What one run puts in the place of one partition: the staged files of each table.

    `metadata` (counts, fingerprint) goes into the commits' metadata, beside run id, partition, model, rows and ticket.
    `since`: publish only if no other run has published the partition since it had this ticket; None: whoever is later
    wins.
    """

    store: str
    partition: str
    model: str
    run_id: str
    staged: Staged
    metadata: dict[str, str]
    since: int | None = None

    def commit(self) -> dict[str, int]:
        """Replaces the partition in images, quarantine and features, in this order; returns the table versions.

        The commit to features is the publication. Of two runs that publish one partition at once the later wins whole:
        the commit to images draws a ticket (a Delta application transaction, one higher than the last), and a run
        leaves alone any table where a higher ticket has been already. Committing the same files again is a no-op, so
        a retry after a kill between two commits completes the publication.

        Raises:
            BadSetting: staged files are no longer there, or as `open_table`; nothing was published.
            JobError: the table is written to by so many others that no commit got through.
        """
        everything = {"partition": self.partition, "model": self.model}
        keys = {table: {key: everything[key] for key in table.keys} for table in TABLES.values()}
        for table in TABLES.values():
            with suppress(TableNotFoundError):
                _existing(self.store, table)  # each may refuse, and before the first commit
            self._check_files(table, keys[table])
        ticket, version = self._commit(IMAGES, keys[IMAGES], self._draw)
        versions = {"images": version}
        for table in (QUARANTINE, FEATURES):
            versions[table.name] = self._commit(table, keys[table], lambda last: ticket if ticket > last else None)[1]
        return versions

    def _draw(self, last: int) -> int:
        if self.since not in (None, last):
            raise JobError(
                "published_meanwhile",
                f"Another run has published {self.partition} at this moment, and stands.",
                "Look at what it published, and decide again.",
            )
        return last + 1

    def _check_files(self, table: Table, keys: dict[str, str]) -> None:
        """A commit that names files which maintenance has removed would leave a table that nobody can read."""
        staged = {file.path for file in self.staged.get(table.name, [])}
        gone = missing(self.store, table, staged)
        if gone and not _shows(open_table(self.store, table), keys, staged):
            raise BadSetting(
                "staged_files_gone",
                f"{len(gone)} of {len(staged)} files that run {self.run_id} staged for the table {table.name} are "
                f"no longer there, the first is {gone[0]}. Nothing was published.",
                "Maintenance removes what a run left unpublished for long: run the partition again from ingest on.",
            )

    def _commit(self, table: Table, keys: dict[str, str], draw: Callable[[int], int | None]) -> tuple[int, int]:
        """Replaces the rows of `keys`; returns the ticket and the version that holds them."""
        staged = self.staged.get(table.name, [])
        paths = {file.path for file in staged}
        application = "/".join(keys.values())

        def attempt(delta: DeltaTable) -> tuple[int, int]:
            last = delta.transaction_version(application) or 0
            if staged and _shows(delta, keys, paths):
                return last, delta.version()
            ticket = draw(last)
            if ticket is None:  # a later run has published this partition in the meantime
                return last, delta.version()
            delta.create_write_transaction(
                [add_action(file, keys, self.run_id) for file in staged],
                "overwrite",
                table.schema,
                list(table.keys),
                [(key, "=", value) for key, value in keys.items()],
                commit_properties=CommitProperties(
                    custom_metadata={
                        **self.metadata,
                        "run_id": self.run_id,
                        "partition": self.partition,
                        "model": self.model,
                        "rows": str(sum(file.rows for file in staged)),
                        "ticket": str(ticket),
                    },
                    max_commit_retries=0,
                    app_transactions=[Transaction(application, ticket)],
                ),
            )
            return ticket, delta.version() + 1  # a commit on top of any other version would have failed

        return committed(self.store, table, attempt)


def _shows(delta: DeltaTable, keys: dict[str, str], paths: set[str]) -> bool:
    """Whether the rows of `keys` are those of exactly these files, as they were staged or merged since."""
    current = files(delta, keys)
    return current == paths or {path.split("/")[-2] for path in current} == {merged_folder(paths)}


def add_action(
    file: StagedFile, keys: dict[str, str], run_id: str, data_change: bool = True, empty: Sequence[str] = ()
) -> AddAction:
    """The action that names a staged file; `data_change`: whether it brings rows that were not there; `empty`: columns
    that hold nothing."""
    statistics = {
        "numRecords": file.rows,
        "minValues": {"run_id": run_id},
        "maxValues": {"run_id": run_id},
        "nullCount": {"run_id": 0, **dict.fromkeys(empty, file.rows)},
    }
    moment = int(time.time() * 1000)
    return AddAction(file.path, file.size_bytes, keys, moment, data_change, json.dumps(statistics))


def ticket(store: str, partition: str) -> int:
    """That of the last publication of a partition, whatever the model; 0: there is none. Raises as `open_table`."""
    return open_table(store, IMAGES).transaction_version(partition) or 0
