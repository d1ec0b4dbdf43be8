"""What a Spark task hands back to the driver: the files that it staged, and counts. Never data."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from spark_apps.contract import Staged, StagedFile


@dataclass(frozen=True)
class TaskRecord:
    """What one task did. `codes`: files set aside, by error code; `computed`: distinct contents that got a vector;
    `loads`: how often it loaded the model."""

    staged: Staged
    codes: dict[str, int] = field(default_factory=dict)
    computed: int = 0
    loads: int = 0

    @classmethod
    def from_record(cls, record: Any) -> TaskRecord:
        """What `dataclasses.asdict` gave, read from JSON. Raises ValueError: it is none."""
        try:
            staged = {
                name: [StagedFile(**{**file, "row_groups": tuple(file["row_groups"])}) for file in files]
                for name, files in record["staged"].items()
            }
            return cls(**{**record, "staged": staged})
        except (AttributeError, KeyError, TypeError) as error:
            raise ValueError(f"not the record of a task: {error}") from error


def total(records: Iterable[TaskRecord], tables: Iterable[str]) -> TaskRecord:
    """All of it together, with a list of files for each of `tables`."""
    records = list(records)
    codes: Counter[str] = Counter()
    for record in records:
        codes.update(record.codes)
    return TaskRecord(
        {name: [file for record in records for file in record.staged.get(name, [])] for name in tables},
        dict(codes),
        sum(record.computed for record in records),
        sum(record.loads for record in records),
    )
