"""The options of [image_features]: the one table that the trigger form, Airflow's own list and the docs are made from.

Every process of Airflow loads it, by `provider`, so it imports neither Airflow nor anything heavy. `settings` reads the
values, and nothing that is not in this table.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from spark_apps import contract

SECTION = "image_features"
ABOUT = "Image Features: where photos and features are, and what the trigger form proposes. See docs/settings.md."
TYPES = {str: "string", int: "integer", float: "float", bool: "boolean"}
"""Airflow's names of the types that an option may have."""
TRUTHS = {"true": True, "t": True, "1": True, "false": False, "f": False, "0": False}


@dataclass(frozen=True, kw_only=True)
class Option:
    """One option: `default` holds where it is not set, and None means nothing. Bounds are inclusive.

    `field`: the title of the field whose default it is, in the form of a Dag; empty for what no form shows.
    """

    name: str
    description: str
    kind: type = str
    default: Any = None
    example: str | None = None
    version_added: str = "0.1.0"
    sensitive: bool = False
    field: str = ""
    choices: tuple[str, ...] = ()
    minimum: float | None = None
    maximum: float | None = None

    @property
    def variable(self) -> str:
        """The environment variable that sets it."""
        return f"AIRFLOW__{SECTION}__{self.name}".upper()

    @property
    def range(self) -> str:
        """What it may be, beside its type: `, 1 to 1024`; empty where nothing is excluded."""
        if self.choices:
            many = len(self.choices) > 10
            return f", one of {len(self.choices)} names" if many else f", one of: {', '.join(self.choices)}"
        if self.minimum is None:
            return ""
        return f", at least {self.minimum}" if self.maximum is None else f", {self.minimum} to {self.maximum}"

    def parse(self, text: str) -> Any:
        """What a configured text means: `default` where it is empty, else a value of `kind`.

        Raises:
            BadSetting: it is of another type or out of range; the hint names where to correct it.
        """
        if not text:
            return self.default
        where = f"in airflow.cfg or in {self.variable}."
        try:
            value = TRUTHS[text.partition("#")[0].strip().lower()] if self.kind is bool else self.kind(text)
        except (KeyError, ValueError):
            what = f"[{SECTION}] {self.name} = {text!r} is not a valid {TYPES[self.kind]}."
            raise contract.BadSetting(f"bad_{self.name}", what, f"Correct it {where}") from None
        if better := contract.out_of_range(value, self.choices, self.minimum, self.maximum):
            what = f"[{SECTION}] {self.name} = {text!r} is not allowed."
            raise contract.BadSetting(f"bad_{self.name}", what, f"{better} Correct it {where}")
        return value

    def for_airflow(self) -> dict[str, Any]:
        """The option as a provider describes it. Airflow shows no types, and defaults only on demand."""
        default = None if self.default is None else str(self.default)
        field = f"Proposed by the trigger form, as {self.field}.\n" if self.field else ""
        says = f"Type: {TYPES[self.kind]}{self.range}. Default: {default or 'none'}."
        return {
            "description": f"{self.description}\n{field}{says}",
            "version_added": self.version_added,
            "type": TYPES[self.kind],
            "example": self.example,
            "default": default,
            "sensitive": self.sensitive,
        }


FIELDS: dict[str, list[tuple[str, str, str]]] = {
    "Photos": [
        ("ingest", "partition", "Partition"),
        ("ingest", "source", "Source"),
        ("ingest", "pattern", "File names"),
        ("ingest", "exclude", "Files and folders to exclude"),
        ("ingest", "on_empty", "When there are no photos"),
        ("ingest", "content", "Copies of the photos"),
    ],
    "Model": [
        ("extract", "extractor", "Extractor"),
        ("extract", "model", "Model"),
        ("extract", "weights", "Weights"),
        ("extract", "weights_sha256", "Checksum of the weights"),
        ("extract", "layer", "Layer"),
        ("extract", "precision", "Precision"),
        ("extract", "engine", "Engine"),
        ("extract", "device", "Device"),
        ("extract", "decode", "Decoding"),
        ("extract", "color", "Colours"),
        ("extract", "raw", "RAW photos"),
        ("extract", "resources", "Resources per task"),
        ("extract", "batch_size", "Batch size"),
        ("extract", "lookback", "Partitions to reuse vectors from"),
        ("extract", "recompute", "Recompute"),
    ],
    "Photos of a model in a file": [
        ("extract", name, title)
        for name, title in {
            "resize": "Size to scale to",
            "crop": "Size to cut out",
            "mean": "Mean of the colours",
            "std": "Standard deviation of the colours",
            "interpolation": "Resampling",
            "layout": "Layout",
        }.items()
    ],
    "Limits": [
        ("validate", "max_failed_fraction", "Share of quarantined files"),
        ("validate", "warn_failed_fraction", "Share of quarantined files, warning"),
        ("validate", "max_drift", "Drift"),
        ("validate", "warn_drift", "Drift, warning"),
        ("validate", "max_identical_fraction", "Photos that share a vector"),
        ("validate", "max_constant", "Constant vectors"),
        ("validate", "min_features", "Fewest vectors"),
        ("validate", "min_row_ratio", "Vectors against recent partitions"),
        ("validate", "warn_row_ratio", "Vectors against recent partitions, warning"),
        ("validate", "max_poor_rise", "Blank, dark or blurred photos"),
        ("validate", "min_cosine", "Cosine to the recomputation"),
        ("validate", "check_levels", "Levels of the checks"),
        ("validate", "history", "Partitions to compare with"),
        ("validate", "recheck", "Photos to recompute as a check"),
        ("ingest", "max_pixels", "Pixels of a photo"),
        ("ingest", "max_bytes", "Bytes of a photo"),
    ],
}
"""Section of the trigger form → (stage, setting, title), in the order in which the form shows them."""

_EXAMPLES = {
    "pattern": "*.jpg",
    "exclude": "drafts,*_thumb.jpg",
    "weights": "keras-v1",
    "layer": "layer3",
    "check_levels": "drift=warning,row_count=off",
}
_SINCE_0_2 = ("exclude", "max_identical_fraction", "max_constant", "min_features", "min_row_ratio", "min_cosine",
              "check_levels", "content", "content_days", "warn_failed_fraction", "warn_drift", "warn_row_ratio",
              "max_poor_rise",
              *contract.photo_input.FIELDS)  # fmt: skip

_OWN = (
    Option(
        name="store",
        description="Folder or URI of the tables. Tasks write to it, the pages read it.",
        example="s3://features/store",
    ),
    Option(
        name="source",
        description="Folder or URI of the photos; {partition} in it is replaced by the partition key.",
        example="s3://photos/landing/{partition}",
    ),
    Option(
        name="conn_id",
        description="Airflow connection to Spark, where an operator names no other.",
        default="spark_default",
    ),
    Option(
        name="storage_conn_id",
        description="Airflow connection that S3 (type aws), Azure (wasb, adls) or Google (google_cloud_platform) is "
        "reached with. Not set: the environment's credentials.",
        example="aws_default",
    ),
    Option(
        name="environment",
        description="Packed Python environment (python -m spark_apps.pack) that every executor unpacks for its "
        "workers. Not set: the nodes have what they need.",
        example="/data/environment.tar.gz",
    ),
    Option(
        name="schedule",
        description="When the daily run of the Dag image_features starts, as a cron expression in its time zone.",
        default="0 0 * * *",
        example="30 2 * * *",
    ),
    Option(
        name="timezone",
        description="Time zone, by its IANA name, of the Dag image_features and of partition keys that are made from a "
        "run's data interval.",
        default="UTC",
        example="Europe/Berlin",
        version_added="0.2.0",
    ),
    Option(
        name="partition_format",
        description="How the begin of a run's data interval is written as a partition key, as strftime takes it; "
        "the + of %z becomes _. In airflow.cfg each % is written twice. Not set: the day, %Y-%m-%d.",
        example="%Y-%m-%dT%H%z",
        version_added="0.2.0",
    ),
    Option(
        name="max_active_runs",
        description="How many runs of the Dag image_features may work at once, on partitions of their own.",
        kind=int,
        default=1,
        minimum=1,
        version_added="0.2.0",
    ),
    Option(
        name="pool",
        description="Airflow pool, which must exist, of the tasks of the Dags image_features and "
        "image_features_maintenance. Not set: Airflow's default pool.",
        example="spark",
        version_added="0.2.0",
    ),
    Option(
        name="queue",
        description="Queue of these tasks, for executors that have queues. Not set: Airflow's default queue.",
        example="spark",
        version_added="0.2.0",
    ),
    Option(
        name="stores",
        description="Folders or URIs that the store of a run may be in beside the configured one, separated by commas.",
        example="/data/stores,s3://features",
        version_added="0.2.0",
    ),
    Option(
        name="sources",
        description="Folders or URIs that a run may read photos from beside the configured source, separated by "
        "commas; {partition} may be in them.",
        example="/data/archive,s3://photos/{partition}",
        version_added="0.2.0",
    ),
    Option(
        name="weights_locations",
        description="Files, folders or URIs that a run may read weights and model files from beside the configured "
        "ones, separated by commas. Those known by name are always allowed.",
        example="/models,s3://models/resnet50.pth",
        version_added="0.2.0",
    ),
    Option(
        name="model_sources",
        description="Where the models of a run may come from, separated by commas. The form proposes none of a source "
        "that is not named, and no run gets one.",
        default=",".join(contract.MODEL_SOURCES),
        example="torchvision,timm",
        version_added="0.2.0",
    ),
    Option(
        name="extractors",
        description=f"Your own extractors that a run may use beside {', '.join(contract.EXTRACTORS)}, as "
        "module:factory or /path/file.py:factory, separated by commas.",
        example="my_package.faces:Faces",
    ),
    Option(
        name="dag_ids",
        description="Dags that the pages show, separated by commas. Not set: all that hold tasks of this project.",
        example="image_features,image_features_archive",
    ),
    Option(
        name="index",
        description="Whether the Dag image_features, and each ImageFeaturesTaskGroup that does not say so itself, "
        "brings what it has published into the search index. It needs the extra search where the jobs run.",
        kind=bool,
        default=False,
        version_added="0.2.0",
    ),
    Option(
        name="duplicates",
        description="Whether the Dag image_features, and each ImageFeaturesTaskGroup that does not say so itself, "
        "looks for duplicates of what it has published. It needs the extra duplicates where the jobs run.",
        kind=bool,
        default=False,
        version_added="0.2.0",
    ),
    Option(
        name="ask_to_publish",
        description="Whether the Dag image_features, and each ImageFeaturesTaskGroup that does not say so itself, asks "
        "a person, under Required Actions in Airflow, whether a rejected run is published all the same.",
        kind=bool,
        default=False,
        version_added="0.2.0",
    ),
    Option(
        name="ask_hours",
        description="How many hours that person has; then the run is left rejected. Until then it is active, and "
        "counts for max_active_runs.",
        kind=float,
        default=12.0,
        minimum=0.01,
        version_added="0.2.0",
    ),
    Option(
        name="history_server",
        description="Address of Spark's history server, for the links of tasks.",
        example="http://history:18080",
    ),
    Option(
        name="web_cache_mb",
        description="Megabytes of temporary disk that the pages may fill with vectors, to search neighbours quickly.",
        kind=int,
        default=2048,
        minimum=0,
    ),
)


def _proposal(settings: type[contract.StoreSettings], name: str, field: str) -> Option:
    about = contract.describe(settings, name)
    return Option(
        name=name,
        description=about["help"],
        kind=about["type"],
        default=about["default"] if about["default"] != "" else None,
        example=_EXAMPLES.get(name),
        version_added="0.2.0" if name in _SINCE_0_2 else "0.1.0",
        field=field,
        choices=tuple(about["choices"] or ()),
        minimum=about["minimum"],
        maximum=about["maximum"],
    )


def _table() -> dict[str, Option]:
    table = {option.name: option for option in _OWN}
    for fields in FIELDS.values():
        for stage, name, title in fields:
            if name != "partition":  # one default would publish every day under one name
                table.setdefault(name, _proposal(contract.SETTINGS[stage], name, title))
    titles = {"retention_hours": "Retention in hours", "content_days": "Days that copies of photos are kept"}
    maintenance = [_proposal(contract.MaintainSettings, name, title) for name, title in titles.items()]
    return {**table, **{option.name: option for option in maintenance}}


OPTIONS: Mapping[str, Option] = _table()
"""Name → option. No other option is ever read."""
