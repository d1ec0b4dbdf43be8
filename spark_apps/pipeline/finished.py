"""What finished tasks of earlier attempts have done of what there is to do, and which of them count."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from spark_apps.pipeline.records import TaskRecord
from spark_apps.pipeline.sorting import Sorter


@dataclass(frozen=True)
class Finished:
    """A finished task of an earlier attempt: its files of the stage's own table, and the columns of their rows that
    tell what it has done."""

    record: TaskRecord
    rows: pa.Table


class Work:
    """What there is to do, row by row, and beside it the rows of finished tasks, sorted by `key` however many they are.

    The column `task` is the number of the task that a row is of, null in what there is to do.
    """

    def __init__(self, schema: pa.Schema, key: str) -> None:
        self.records: list[TaskRecord] = []
        self._schema, self._key = schema.append(pa.field("task", pa.int32())), key
        self._rows = Sorter(self._schema, key)

    def add(self, rows: pa.Table, task: int | None = None) -> None:
        """Takes rows; columns that they lack are null."""
        known = {name: rows[name] for name in rows.column_names}
        known["task"] = pa.repeat(pa.scalar(task, pa.int32()), rows.num_rows)
        columns = [known.get(field.name, pa.nulls(rows.num_rows, field.type)) for field in self._schema]
        self._rows.add(pa.table(columns, schema=self._schema))

    def add_finished(self, task: Finished) -> None:
        """Takes the rows of a finished task."""
        self.add(task.rows, len(self.records))
        self.records.append(task.record)

    def pages(self) -> Iterator[pa.Table]:
        """All rows, sorted by the key; those of one key are in one page."""
        return self._rows.pages()

    def counting(self, facts: Sequence[str]) -> np.ndarray:
        """For each finished task, whether it counts: of each key of its rows it has all rows that there are to do, by
        key and `facts`, and no more; and no task before it that counts has one of these keys."""
        whole = np.ones(len(self.records), bool)
        rivals: dict[int, set[int]] = defaultdict(set)
        for page in self.pages() if self.records else ():
            group, task = groups_of(page[self._key]), pc.fill_null(page["task"], -1).to_numpy()
            to_do, own = first_of(group, task < 0), first_of(group, task >= 0)
            # Most keys have one row of each. These are compared all at once, the others one by one.
            plain = (np.bincount(group) == 2) & (to_do >= 0) & (own >= 0)
            same = np.ones(plain.sum(), bool)
            for fact in facts:
                same &= _same(page[fact].take(to_do[plain]), page[fact].take(own[plain]))
            whole[task[own[plain][~same]]] = False
            rows = page.filter(pa.array(((own >= 0) & ~plain)[group]))
            by_key: dict[object, dict[int | None, list[tuple[object, ...]]]] = defaultdict(lambda: defaultdict(list))
            columns = (rows[name].to_pylist() for name in (self._key, "task", *facts))
            for key, of, *values in zip(*columns, strict=True):
                by_key[key][of].append(tuple(values))
            for by_task in by_key.values():
                wanted = Counter(by_task.pop(None, []))
                for number, done in by_task.items():
                    assert number is not None
                    whole[number] &= Counter(done) == wanted
                    rivals[number].update(other for other in by_task if other is not None and other < number)
        for number in range(len(self.records)):
            whole[number] &= not any(whole[other] for other in rivals[number])
        return whole


def groups_of(keys: pa.ChunkedArray) -> np.ndarray:
    """For each of sorted keys, how many different ones are before it."""
    array = keys.combine_chunks()
    return np.cumsum(np.append(False, pc.not_equal(array[1:], array[:-1]).to_numpy(zero_copy_only=False)))


def first_of(group: np.ndarray, which: np.ndarray) -> np.ndarray:
    """For each group the first of its rows that `which` is true for, -1 without one."""
    rows = np.flatnonzero(which)[::-1]
    found = np.full(group[-1] + 1, -1)
    found[group[rows]] = rows  # of several the last that is assigned stays
    return found


def _same(one: pa.ChunkedArray, other: pa.ChunkedArray) -> np.ndarray:
    """Row by row, whether they are equal or both null."""
    equal = pc.or_(pc.fill_null(pc.equal(one, other), False), pc.and_(pc.is_null(one), pc.is_null(other)))
    told: np.ndarray = equal.to_numpy()
    return told


def of_those(rows: pa.Table, counting: np.ndarray) -> np.ndarray:
    """For each row of `Work`, whether it is of a task that counts."""
    told: np.ndarray = np.append(counting, False)[pc.fill_null(rows["task"], -1).to_numpy()]
    return told
