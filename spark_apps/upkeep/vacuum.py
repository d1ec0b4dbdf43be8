"""Vacuum: deletes, past the retention, the data files of replaced and of dead runs and working files of old runs.

A file of a table is needed while the current version or any version within the retention shows it. The log tells that:
it names every file that was replaced, with the time. A file that the log does not name was staged and never published.
It belongs to a run in progress, or to a dead one: one that has written nothing for `QUIET`.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from pyarrow import fs

from spark_apps import catalog, contract, storage
from spark_apps.tables import data_files, delta_log, schemas

QUIET = timedelta(hours=24)
"""A run that has written nothing for so long is dead. A live one is silent for minutes or hours: while it waits in a
queue or for its retry."""
LOG_KEPT = timedelta(days=30)
"""Delta's own default, and longer than any retention (`contract.MAX_RETENTION_HOURS`)."""
BATCH_FOLDERS = 64
"""Folders removed between two looks at the log."""

BEGINNING, END = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)
RunFolder = tuple[str, str]
"""A run by the names of its folders: partition and `contract.RunKey.folder`."""


@dataclass
class Signs:
    """When a run was seen to write: in its folder and to any table. `finished`: validate was the last to write."""

    first: datetime = END
    last: datetime = BEGINNING
    finished: bool = False

    def add(self, moment: datetime) -> None:
        self.first, self.last = min(self.first, moment), max(self.last, moment)


@dataclass
class Leftovers:
    """Files of a table that can go, path → bytes. `unknown` says why none could be told."""

    replaced: dict[str, int] = field(default_factory=dict)
    orphans: dict[str, int] = field(default_factory=dict)
    unknown: str = ""

    @property
    def files(self) -> dict[str, int]:
        return {**self.replaced, **self.orphans}


class Survey:
    """One look at the whole store: the data files of the tables, the files of the runs' folders, and signs of life."""

    def __init__(self, store_uri: str) -> None:
        self.store = store_uri
        self.data = {name: _walk(table.uri(store_uri), "data") for name, table in schemas.TABLES.items()}
        self.working = _walk(store_uri, "runs")
        self.runs: dict[RunFolder, Signs] = defaultdict(Signs)
        last_validated: dict[RunFolder, datetime] = {}
        in_folder: dict[RunFolder, datetime] = {}
        for path, info in self.working.items():
            key = _run_key(path)
            self.runs[key].add(info.mtime)
            in_folder[key] = max(in_folder.get(key, info.mtime), info.mtime)
            if path.split("/")[3:] == ["validate.json"]:
                last_validated[key] = info.mtime
        for files in self.data.values():
            for path, info in files.items():
                if not data_files.is_merged(path):  # that was a maintenance, not the run
                    self.runs[_run_key(path)].add(info.mtime)
        for key, moment in last_validated.items():
            self.runs[key].finished = moment >= in_folder[key]

    def running(self, now: datetime) -> dict[RunFolder, Signs]:
        """The runs that may be in progress: not finished, and not silent for long."""
        return {key: signs for key, signs in self.runs.items() if not signs.finished and signs.last >= now - QUIET}

    def cutoff(self, now: datetime, retention: timedelta) -> datetime:
        """What was needed after this moment is kept: `retention` ago, or the start of the oldest run in progress."""
        return min([now - retention, *(signs.first for signs in self.running(now).values())])

    def is_dead(self, key: RunFolder, now: datetime, cutoff: datetime) -> bool:
        """Whether a run has been silent since before `cutoff`, and too long to be in progress."""
        return self.runs[key].last < min(cutoff, now - QUIET)

    def leftovers(self, table: schemas.Table, now: datetime, cutoff: datetime) -> Leftovers:
        """The data files of a table that no version since `cutoff` shows and no run may still publish.

        The files were listed before the log is read here: what was published in between is needed, not an orphan.
        """
        found = Leftovers()
        current = published(self.store, table)
        removed, since = _removals(table.uri(self.store))  # after `current`: no file that it held can fall in between
        if since > cutoff:
            found.unknown = (
                f"The log of the table {table.name} begins at {since:%Y-%m-%d %H:%M} UTC, within the retention: "
                "what was replaced before cannot be told from what is kept. No data file is removed."
            )
            return found
        for path, info in self.data[table.name].items():
            if path in current or len(path.split("/")) != 5:  # data/<partition>/<run>/<attempt>/<file>
                continue
            if path in removed:
                if removed[path] < cutoff:
                    found.replaced[path] = info.size
            elif self.is_dead(_run_key(path), now, cutoff) and info.mtime < min(cutoff, now - QUIET):
                found.orphans[path] = info.size
        return found

    def working_files(self, now: datetime, cutoff: datetime) -> dict[str, int]:
        """What dead and finished runs leave in their folders beside manifests and reports: listings, copies, notes."""
        return {
            path: info.size
            for path, info in self.working.items()
            if self.is_dead(_run_key(path), now, cutoff)
            and (path.endswith("/progress.json") or not self._is_document(path))
        }

    def _is_document(self, path: str) -> bool:
        """Whether it is a manifest, a report, or a list that belongs to a manifest (`staged_lists`)."""
        if not re.fullmatch(r"runs/[^/]+/[^/]+/\w+\.(json|parquet)", path):
            return False
        return path.endswith(".json") or f"{path.rpartition('_')[0]}.json" in self.working


def expired_log(store_uri: str, table: schemas.Table, now: datetime) -> dict[str, int]:
    """The log files, path → bytes and oldest first, of versions that ended before `LOG_KEPT`.

    Those are the files before the last checkpoint that is so old: each later version can still be read.
    """
    log = delta_log.files(table.uri(store_uri))
    old = [name for name, info in log.items() if name.endswith(".checkpoint.parquet") and info.mtime < now - LOG_KEPT]
    first = max(map(delta_log.version, old), default=0)
    return {f"_delta_log/{name}": log[name].size for name in sorted(log) if delta_log.version(name) < first}


def checkpoint(store_uri: str, table: schemas.Table) -> None:
    """Writes a checkpoint of a table's log, unless there is one of the current version."""
    delta = catalog.table(store_uri, table.name)
    last = storage.read_json(contract.join(table.uri(store_uri), "_delta_log", "_last_checkpoint"))
    if delta is not None and (last is None or last["version"] < delta.version()):
        delta.create_checkpoint()


def published(store_uri: str, table: schemas.Table) -> set[str]:
    """The data files that the current version of a table shows."""
    delta = catalog.table(store_uri, table.name)
    return set() if delta is None else data_files.files(delta)


def remove(root: str, paths: Iterable[str], all_paths: Iterable[str], current: Callable[[], set[str]]) -> list[str]:
    """Removes files below `root`, whole folders where nothing else lies in them; returns what was removed.

    `current` gives the files that are published at the moment; it is asked again and again, because an undo may have
    put files back since it was decided that they can go.
    """
    going, lying = _by_folder(paths), _by_folder(all_paths)
    folders, removed = sorted(going), []
    for start in range(0, len(folders), BATCH_FOLDERS):
        needed = current()
        jobs: list[tuple[str, list[str]]] = []
        for folder in folders[start : start + BATCH_FOLDERS]:
            names = [path for path in going[folder] if path not in needed]
            removed += names
            jobs += [(folder, [])] if len(names) == len(lying[folder]) else [("", names)]
        with ThreadPoolExecutor(delta_log.REQUESTS) as pool:
            list(pool.map(lambda job: _remove(root, *job), jobs))
    return removed


def _remove(root: str, folder: str, paths: list[str]) -> None:
    for path in paths:
        storage.delete(contract.join(root, path))
    if folder:
        storage.delete_folder(contract.join(root, folder))
        if storage.is_local(root) and folder.count("/") >= 3:
            with suppress(OSError):  # not empty: the run has other attempts
                Path(storage.filesystem(root)[1], folder).parent.rmdir()


def _by_folder(paths: Iterable[str]) -> dict[str, list[str]]:
    folders: dict[str, list[str]] = defaultdict(list)
    for path in paths:
        folders[path.rsplit("/", 1)[0]].append(path)
    return folders


def _walk(root: str, folder: str) -> dict[str, fs.FileInfo]:
    """The files below a folder of `root`, by path relative to `root`."""
    filesystem, base = storage.filesystem(root)
    selector = fs.FileSelector(f"{base}/{folder}", recursive=True, allow_not_found=True)
    found = filesystem.get_file_info(selector)
    return {info.path[len(base) + 1 :]: info for info in found if info.type == fs.FileType.File}


def _run_key(path: str) -> RunFolder:
    """The run of `data/<partition>/<run>/…` and of `runs/<partition>/<run>/…`."""
    _, partition, run, *_ = [*path.split("/"), "", ""]
    return partition, run


def _removals(table_uri: str) -> tuple[dict[str, datetime], datetime]:
    """When each replaced file was replaced, as far as the log tells, and since when it tells everything."""
    commits = delta_log.commits(table_uri)
    removed: dict[str, datetime] = {}
    for commit in commits:
        removed.update(commit.removed)
    if not commits:
        return removed, END
    return removed, BEGINNING if commits[0].version == 0 else commits[0].at
