"""Sorting more rows than memory should hold: sorted runs in nameless temporary files, and their merge."""

from __future__ import annotations

import tempfile
from bisect import bisect_left
from collections.abc import Iterator
from typing import IO, Any

import pyarrow as pa
import pyarrow.compute as pc

from spark_apps.contract import Unreachable

RUN_BYTES = 64 * 2**20
"""Rows that are sorted in memory; more of them go to temporary files, a run at a time."""
BATCH_ROWS = 2**14
"""Rows of each run that are in memory while runs are merged."""


class Sorter:
    """Takes rows in any order, and gives them sorted by the column `key`, which has no nulls, as often as it is asked.

    Its files lie in the temporary folder (`TMPDIR`) and have no name: however the process ends, nothing of them stays.
    """

    def __init__(self, schema: pa.Schema, key: str) -> None:
        self.rows = 0
        self._schema, self._key = schema, key
        self._waiting: list[pa.Table] = []
        self._bytes = 0
        self._runs: list[IO[bytes]] = []

    def add(self, rows: pa.Table) -> None:
        """Takes rows of the schema. Raises Unreachable when the temporary folder has no room."""
        self.rows += rows.num_rows
        self._waiting.append(rows)
        self._bytes += rows.nbytes
        if self._bytes >= RUN_BYTES:
            self._spill()

    def pages(self) -> Iterator[pa.Table]:
        """All rows, in order and in pages. Those with the same key are in one page, in the order in which they came."""
        if not self._runs:
            self._waiting = [self._sorted(self._waiting)]
            if self.rows:
                yield self._waiting[0]
            return
        self._spill()
        key = self._key
        runs = [_batches(file) for file in self._runs]
        heads = [next(run) for run in runs]
        ended = [False] * len(runs)

        def last(number: int) -> Any:
            return heads[number][key][-1].as_py()

        while open_ := [number for number in range(len(runs)) if not ended[number]]:
            # What sorts before the least of the last rows at hand is complete: what comes later sorts behind it.
            least = min(open_, key=last)
            limit = last(least)
            parts = []
            for number, head in enumerate(heads):
                end = _before(head[key], limit)
                parts.append(head.slice(0, end))
                heads[number] = head.slice(end)
            if any(part.num_rows for part in parts):
                yield self._sorted(parts)
            more = next(runs[least], None)
            if more is None:
                ended[least] = True
            else:
                heads[least] = pa.concat_tables([heads[least], more])
        if any(head.num_rows for head in heads):
            yield self._sorted(heads)

    def _sorted(self, parts: list[pa.Table]) -> pa.Table:
        rows = pa.concat_tables([self._schema.empty_table(), *parts]).combine_chunks()
        return rows.take(pc.sort_indices(rows, [(self._key, "ascending")]))

    def _spill(self) -> None:
        if not self._waiting:
            return
        rows = self._sorted(self._waiting)
        self._waiting, self._bytes = [], 0
        try:
            file = tempfile.TemporaryFile()  # noqa: SIM115  it goes with this object
            options = pa.ipc.IpcWriteOptions(compression="zstd")
            with pa.ipc.new_stream(file, self._schema, options=options) as writer:
                writer.write_table(rows, max_chunksize=BATCH_ROWS)
            file.flush()
        except OSError as error:
            raise Unreachable(
                "temporary_folder",
                f"Nothing can be written to the temporary folder {tempfile.gettempdir()} of the driver: {error}.",
                "Make room there, or name another folder in TMPDIR: some 100 bytes for each file of the partition.",
            ) from error
        self._runs.append(file)


def _before(keys: pa.ChunkedArray, limit: Any) -> int:
    """How many of sorted keys are less than `limit`."""
    return bisect_left(range(len(keys)), limit, key=lambda row: keys[row].as_py())


def _batches(file: IO[bytes]) -> Iterator[pa.Table]:
    """The rows of a run, a batch at a time."""
    file.seek(0)
    with pa.ipc.open_stream(file) as reader:
        for batch in reader:
            yield pa.Table.from_batches([batch])
