"""What jobs leave beside the data, as JSON: manifests, and errors."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from spark_apps.contract import photo_input
from spark_apps.contract.errors import JobError
from spark_apps.contract.extractors import PHOTOS
from spark_apps.contract.model_settings import ModelSettings
from spark_apps.contract.model_sources import is_at_a_place
from spark_apps.contract.names import RunKey

REPORT_VERSION = 1
"""`report_version` of `report.json`: raised when a field changes its meaning or goes, not when one is added."""

PUBLISHED, WITH_WARNINGS = "published", "published_with_warnings"
STANDING = (PUBLISHED, WITH_WARNINGS)
"""What the `verdict` of a report, a manifest, a commit and an event says of a run that is published: with every check
passed, or with failed warnings."""


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
class ModelInfo:
    """What made the vectors: the content of `model.json`, which manifests and reports repeat.

    `key`, `fingerprint`: what they are published under, and what differs whenever they may differ. `dim`: floats of a
    vector. `files`: sha256 by the name of each file of the artefact, in the order in which it was made.

    Of photos: `variant` of the backbone, `layer` of the features, `preprocessing` (`Preset.to_json`, and `decode`),
    `classes` and their names, the `categories`, where they are known; `calibration`: how an int8 model was made.
    `text`: of a model with two towers, the `files` of its text side by their sha256, or why it is `missing`.
    Of another `extractor`: where it is imported from, and the smallest cosine to its own reference.
    """

    key: str
    fingerprint: str
    backbone: str = ""
    variant: str = ""
    weights: str = ""
    weights_sha256: str = ""
    preprocessing: Mapping[str, Any] = field(default_factory=dict)
    layer: str = ""
    engine: str = ""
    precision: str = "fp32"
    calibration: Mapping[str, Any] | None = None
    device: str = "cpu"
    dim: int = 0
    classes: int = 0
    categories: Sequence[str] | None = None
    files: Mapping[str, str] = field(default_factory=dict)
    text: Mapping[str, Any] | None = None
    extractor: str = PHOTOS
    import_: str = ""
    min_cosine: float | None = None

    @property
    def text_files(self) -> list[str]:
        """The names of the files that the text side consists of."""
        return list((self.text or {}).get("files", {}))

    @property
    def approximate(self) -> bool:
        """Whether photos are decoded to other pixels than torchvision's."""
        return bool(self.preprocessing.get("decode", "exact") != "exact")

    def __getitem__(self, name: str) -> Any:
        """A field by its name in the record: manifests that readers have code for held a dict here."""
        return self.to_record()[name]

    def settings(self, weights_within: str = "") -> ModelSettings:
        """What asks for the same weights and layer again, to be run in any way. Of photos only."""
        photos = photo_input.written(self.preprocessing) if is_at_a_place(self.backbone) else {}
        return ModelSettings(
            self.backbone, self.weights, self.weights_sha256, layer=self.layer, weights_within=weights_within, **photos
        )

    def to_record(self) -> dict[str, Any]:
        """JSON-able; without the fields of the other kind of extractor."""
        left_out = {*(_OF_OTHERS if self.extractor == PHOTOS else _OF_PHOTOS), *(() if self.text else ("text",))}
        fields = {name.removesuffix("_"): value for name, value in vars(self).items()}
        return {name: value for name, value in fields.items() if name not in left_out}

    @classmethod
    def from_record(cls, record: Any) -> ModelInfo:
        """What `to_record` gave. Fields that this version does not know, of a newer one, are left out.

        Raises:
            ValueError: it does not describe a model.
        """
        try:
            return cls(**_known(cls, {"import_" if name == "import" else name: record[name] for name in record}))
        except (AttributeError, TypeError) as error:
            raise ValueError(f"not the description of a model: {error}") from error


_OF_PHOTOS = ("variant", "preprocessing", "layer", "calibration", "classes", "categories")
_OF_OTHERS = ("extractor", "import", "min_cosine")


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What a finished stage leaves beside the data, as `<stage>.json` in the run's folder. Maintenance is a stage of no
    partition: its key is empty.

    `counts` (files or images): listed, accepted, duplicates, quarantined, featured, computed, reused, resumed (an
    earlier attempt of the run had done them), as far as the stage knows them. `seconds`: by phase. `staged`: the files
    that it staged, or took over, and did not publish; `staged_in`: the files of the store where long lists of them are.
    `outcome`: what else the stage wants to say (validate: verdict,
    published table versions). `dag_id` is empty for a run from the command line, and None in a manifest that was
    written before runs were told apart by it. `attempt` tells attempts at a stage apart that others refer to; empty
    where nobody does.
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
    model: ModelInfo | None = None
    staged: Mapping[str, list[StagedFile]] = field(default_factory=dict)
    staged_in: dict[str, str] = field(default_factory=dict)
    quarantined: dict[str, int] = field(default_factory=dict)
    outcome: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> str:
        record = dataclasses.asdict(self)
        return json.dumps(record | {"model": self.model.to_record() if self.model else None}, indent=1)

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
            model = ModelInfo.from_record(record["model"]) if record.get("model") else None
            return cls(**{**_known(cls, record), "staged": staged, "model": model})
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


def error_record(stage: str, error: JobError, run: RunKey | None = None, submission: str = "") -> dict[str, Any]:
    """The content of `error.json`; `run`, when it is one of a Dag, says whose it is; `submission`: which, if named."""
    return {
        **(dataclasses.asdict(run) if run is not None and run.dag_id else {}),
        **({"submission": submission} if submission else {}),
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
