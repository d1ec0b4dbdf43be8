"""The settings of the commands that follow the stages: approve, index, duplicates, sync; and all commands."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import parse_qsl, urlsplit

from spark_apps.contract.checks import OVERRULABLE
from spark_apps.contract.errors import BadSetting
from spark_apps.contract.fields import setting
from spark_apps.contract.names import RunKey, check_partition, join, path_safe
from spark_apps.contract.settings import (
    MAX_PIXELS,
    PHOTO_PIXELS,
    SETTINGS,
    EraseSettings,
    JobSettings,
    MaintainSettings,
    Settings,
    UndoSettings,
    name_after_now,
)


@dataclass(frozen=True, kw_only=True)
class ModelSettingsOfARun(JobSettings):
    """What a job needs that follows all that is published of a model: the model, or a run that has published of it."""

    run_id: str = setting("Id of this run; empty: the present moment.", "")
    partition: str = setting(
        "Partition of the run that this belongs to; whatever else was published is brought in as well.", ""
    )
    branch: str = setting("Branch of the run that this belongs to, as for validate.", "")
    model: str = setting(
        "What the features are published under, for example resnet50-imagenet1k_v2-fp32; empty: that of the run's "
        "extract.",
        "",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.partition:
            check_partition(self.partition)
        name_after_now(self)

    @property
    def run(self) -> RunKey:
        """Which run this is, with its branch."""
        return RunKey(self.run_id, self.dag_id, self.map_index, self.branch)

    @property
    def place(self) -> str:
        """The name of the folder that the folders of its runs are in."""
        return self.partition or path_safe(self.model) or "all"


@dataclass(frozen=True, kw_only=True)
class IndexSettings(ModelSettingsOfARun):
    """Settings of `index`: whose vectors are brought into the search index, and how."""

    ann_rows: int = setting(
        "The index for approximate nearest neighbours is built when there are so many rows; fewer are compared one by "
        "one, which is quick and exact.",
        20_000,
        minimum=256,
        maximum=2**31,
    )
    driver_rows: int = setting(
        "So many rows are brought in by the driver alone, without starting Spark; more are spread over Spark tasks.",
        50_000,
        minimum=0,
        maximum=2**31,
    )
    rebuild: bool = setting("Make the index anew from nothing but what is published.", False)
    check: bool = setting("Only say in how many rows the index differs from what is published; change nothing.", False)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.check and self.rebuild:
            raise BadSetting(
                "contradiction", "check changes nothing, and rebuild makes all anew.", "Leave one of them out."
            )

    @property
    def folder(self) -> str:
        """Where it leaves its documents; not with those of the partition's runs: what fails here was published."""
        return join(self.store, "search", "runs", self.place, self.run.folder)


@dataclass(frozen=True, kw_only=True)
class DuplicatesSettings(ModelSettingsOfARun):
    """Settings of `duplicates`: what counts as the same picture."""

    min_similarity: float = setting(
        "Cosine of two vectors from which on the photos themselves are compared (0 to 1).", 0.8, minimum=0, maximum=1
    )
    max_distance: int = setting(
        "Of the 64 bits of the perceptual hashes of two photos, at most so many may differ; 0 to 32.",
        10,
        minimum=0,
        maximum=32,
    )
    candidates: int = setting(
        "With how many photos each is compared at most, the most similar ones.", 16, minimum=1, maximum=1000
    )
    max_pixels: int = setting("Photos with more pixels are not compared.", PHOTO_PIXELS, minimum=1, maximum=MAX_PIXELS)
    rebuild: bool = setting("Compare everything anew; groups keep their ids.", False)
    history: int = setting(
        "How many earlier partitions the share of duplicates is compared with.", 7, minimum=0, maximum=366
    )
    warn_duplicates_rise: float = setting(
        "By how much the share of a partition's files that have a twin may be above the median of those partitions "
        "without a warning (0 to 1).",
        0.2,
        minimum=0,
        maximum=1,
    )

    @property
    def folder(self) -> str:
        """This run's folder in the store; not with those of the partition's runs: what fails here was published."""
        return join(self.store, "deduplication", self.place, self.run.folder)


@dataclass(frozen=True, kw_only=True)
class SyncSettings(ModelSettingsOfARun):
    """Settings of `sync`: which other place is kept equal to what is published."""

    to: str = setting(
        "Where the vectors are to be: a folder or URI, which gets Parquet files; qdrant://host:6333/collection; "
        "postgresql://host/database?table=name. One place for each model, and no password or key in it."
    )
    sink: str = setting(
        "A kind of place of your own: module:Class or /path/file.py:Class, a class that is called with what --to says.",
        "",
    )
    full: bool = setting(
        "Put in all that is published and take out everything else, instead of what changed since the last time.", False
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_no_secret(self.to)

    @property
    def folder(self) -> str:
        """This run's folder in the store; a run may have one for each place."""
        return join(self.store, "sync", self.place, path_safe(self.to), self.run.folder)


SECRETS = {"password", "sslpassword", "api_key", "apikey", "key", "token", "secret"}
"""What an address may call a secret in it."""


def _check_no_secret(to: str) -> None:
    try:
        parts = urlsplit(to)
        secret = parts.password or {name.lower().replace("-", "_") for name, _ in parse_qsl(parts.query)} & SECRETS
    except ValueError:
        raise BadSetting("bad_to", "to is not a place.", "Write it as scheme://host:port/name.") from None
    if secret:
        raise BadSetting(
            "secret_in_to",
            "to holds a password or a key, and arguments can be read by others.",
            "Leave it out: it is taken from PGPASSWORD or QDRANT_API_KEY, in Airflow from the connection sink_conn_id.",
        )


@dataclass(frozen=True, kw_only=True)
class ApproveSettings(Settings):
    """Settings of `approve`: which failed checks of a rejected run a person overrules, who that is, and why."""

    run_id: str = setting("Id of the rejected run, as its ingest, extract and validate had it.")
    checks: str = setting(
        f"The checks that failed, separated by commas. Can be overruled: {', '.join(OVERRULABLE)}; all that failed "
        "have to be named."
    )
    approved_by: str = setting("Who decides, for report, commits, event and page.")
    reason: str = setting("Why, for the same.")

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.named <= {*OVERRULABLE} or not self.named:
            raise BadSetting(
                "bad_checks",
                f"{self.checks!r} are no checks that can be overruled.",
                f"Choose {', '.join(OVERRULABLE)}.",
            )
        for name in ("approved_by", "reason"):
            if not getattr(self, name).strip():
                raise BadSetting(f"no_{name}", f"{name} is empty.", "Say who decides, and why: it is kept.")

    @property
    def folder(self) -> str:
        """This approval's folder in the store: what is said of one that is refused is no word of the run."""
        return join(self.store, "approvals", self.partition, self.run.folder)

    @property
    def of_run(self) -> Settings:
        """The run that is approved."""
        return Settings(store=self.store, partition=self.partition, **vars(self.run))

    @property
    def named(self) -> set[str]:
        """The checks."""
        return {*filter(None, (part.strip() for part in self.checks.split(",")))}


COMMANDS: dict[str, type[JobSettings]] = {
    **SETTINGS,
    "maintain": MaintainSettings,
    "undo": UndoSettings,
    "index": IndexSettings,
    "duplicates": DuplicatesSettings,
    "sync": SyncSettings,
    "erase": EraseSettings,
    "approve": ApproveSettings,
}
"""Every command that these dataclasses describe."""
