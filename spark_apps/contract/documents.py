"""What jobs leave beside the data, as JSON: manifests, and errors."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from spark_apps.contract.errors import JobError
from spark_apps.contract.names import RunKey

REPORT_VERSION = 1
"""`report_version` of `report.json`: raised when a field changes its meaning or goes, not when one is added."""


@dataclass(frozen=True)
class StagedFile:
    """A data file of a table. `path`: relative to the table; `row_groups`: rows of each, where the writer says so."""

    path: str
    size_bytes: int = 0
    rows: int = 0
    row_groups: tuple[int, ...] = ()


Staged = dict[str, list[StagedFile]]
"""Data files by the name of their table."""


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What a finished stage leaves beside the data, as `<stage>.json` in the run's folder. Maintenance is a stage of no
    partition: its key is empty.

    `counts` (files or images): listed, accepted, duplicates, quarantined, featured, computed, reused, as far as the
    stage knows them. `seconds`: by phase. `staged`: the files the stage wrote and did not publish. `outcome`: what
    else the stage wants to say (validate: verdict, published table versions). `dag_id` is empty for a run from the
    command line, and None in a manifest that was written before runs were told apart by it. `attempt` tells attempts at
    a stage apart that others refer to; empty where nobody does.
    """

    stage: str
    run_id: str
    partition: str
    started_at: str
    finished_at: str
    counts: dict[str, int]
    seconds: dict[str, float]
    settings: dict[str, Any]
    versions: dict[str, str]
    code_hash: str
    dag_id: str | None = None
    map_index: int = -1
    branch: str = ""
    attempt: str = ""
    model: dict[str, Any] | None = None
    staged: Staged = field(default_factory=dict)
    quarantined: dict[str, int] = field(default_factory=dict)
    outcome: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> str:
        return json.dumps(dataclasses.asdict(self), indent=1)

    @classmethod
    def from_record(cls, record: Any) -> Manifest:
        """The manifest in a JSON file. Fields that this version does not know, of a newer one, are left out.

        Raises:
            ValueError: it is not a manifest, or lacks fields.
        """
        try:
            staged = {
                name: [StagedFile(**_known(StagedFile, file)) for file in files]
                for name, files in dict(record.get("staged") or {}).items()
            }
            return cls(**{**_known(cls, record), "staged": staged})
        except (AttributeError, TypeError) as error:
            raise ValueError(f"not a manifest: {error}") from error


def _known(kind: type, record: Any) -> dict[str, Any]:
    """What a record says of the fields of a dataclass, lists as tuples where the fields are."""
    fields = {item.name: item for item in dataclasses.fields(kind)}
    return {
        name: tuple(value) if isinstance(value, list) and str(fields[name].type).startswith("tuple") else value
        for name, value in record.items()
        if name in fields
    }


def error_record(stage: str, error: JobError, run: RunKey | None = None) -> dict[str, Any]:
    """The content of `error.json`; `run`, when it is one of a Dag, says whose it is."""
    return {
        **(dataclasses.asdict(run) if run is not None and run.dag_id else {}),
        "stage": stage,
        "code": error.code,
        "message": error.message,
        "hint": error.hint,
        "exit_code": int(error.exit_code),
        "at": now(),
    }


def error_from_record(record: dict[str, Any]) -> JobError:
    """The error that `error_record` wrote down."""
    kinds = {int(kind.exit_code): kind for kind in JobError.kinds().values()}
    kind = kinds.get(record.get("exit_code", 1), JobError)
    return kind(record.get("code", "unknown"), record.get("message", ""), record.get("hint", ""))


def now() -> str:
    """The present moment in UTC, ISO 8601 with seconds."""
    return datetime.now(UTC).isoformat(timespec="seconds")
