"""The dataclasses of settings: the one description of the commands.

Their field metadata gives the command line (`parse`), the arguments an operator passes (`to_args`), the bounds and
choices of a trigger form (`describe`), and the checks (`__post_init__`): a value refused by one is refused by all.
"""

from __future__ import annotations

import secrets
from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from spark_apps.contract import checks
from spark_apps.contract.errors import BadSetting
from spark_apps.contract.extractors import EXTRACTOR_HELP, PHOTOS, check_extractor
from spark_apps.contract.fields import Checked, setting
from spark_apps.contract.model_settings import WEIGHTS_WITHIN_HELP, ModelSettings
from spark_apps.contract.names import (
    RunKey,
    check_location,
    check_partition,
    check_store,
    is_image_id,
    join,
    path_safe,
    run_folder,
)

MAX_RETENTION_HOURS = 28 * 24
"""Four weeks: Delta keeps a table's log for 30 days, and without the log the age of a file is unknown."""
KEEP, REFERENCE = "keep", "reference"
"""What `--content` may be: whether the store gets a copy of each photo."""
MAX_PIXELS, PHOTO_PIXELS = 4_000_000_000, 250_000_000
"""How far `--max-pixels` goes, and its default, which admits the 200 megapixels of today's telephones. What a photo
needs in memory and time is bounded by `guard`, whatever this limit says."""


@dataclass(frozen=True, kw_only=True)
class StoreSettings(Checked):
    """What every command needs. Raises BadSetting at construction for a value outside its choices or bounds."""

    store: str = setting("Folder or URI that holds the tables, for example /data/features or s3://bucket/features.")

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "store", check_store(self.store))


@dataclass(frozen=True, kw_only=True)
class JobSettings(StoreSettings, ABC):
    """What a job needs that leaves a manifest or an error behind."""

    run_id: str = setting("Id of this run; the same id continues the same run.")
    dag_id: str = setting(
        "Dag of this run: another Dag may have a run of that id; empty for one of the command line.", ""
    )
    map_index: int = setting(
        "Which of several mapped tasks of one run this is; -1: it is not mapped.", -1, minimum=-1, maximum=2**31
    )
    submission: str = setting(
        "Name of this submission of the job, kept in its manifest or error: whoever waits for the job knows it by that "
        "from earlier ones.",
        "",
    )

    @property
    def run(self) -> RunKey:
        """Which run this is, as everything that is named after a run has it."""
        return RunKey(self.run_id, self.dag_id, self.map_index)

    @property
    @abstractmethod
    def folder(self) -> str:
        """Where the job leaves them, in the store."""


@dataclass(frozen=True, kw_only=True)
class Settings(JobSettings):
    """What every stage of the pipeline needs."""

    partition: str = setting("Partition key, usually the day: 2026-11-22.")
    branch: str = setting(
        "Name that tells several extracts of one run apart, for example two models of one ingest. validate needs the "
        "branch of its extract; an ingest without a branch serves them all.",
        "",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        check_partition(self.partition)

    @property
    def run(self) -> RunKey:
        """Which run this is, with its branch."""
        return RunKey(self.run_id, self.dag_id, self.map_index, self.branch)

    @property
    def folder(self) -> str:
        """The run's folder in the store."""
        return run_folder(self.store, self.partition, self.run)


@dataclass(frozen=True, kw_only=True)
class IngestSettings(Settings):
    """Settings of `ingest`: what to read and which files to refuse."""

    source: str = setting("Folder or URI of the photos; {partition} in it is replaced by the partition key.")
    pattern: str = setting(
        "Glob that a file's name must match, for example *.jpg; names starting with a dot never do.", "*"
    )
    exclude: str = setting(
        "Globs of files and folders that are not listed, separated by commas: drafts,*_thumb.jpg,raw/*.dng; "
        "one with a slash is matched against the path below the source. Files that systems leave behind, such as "
        "Thumbs.db, are never listed.",
        "",
    )
    max_pixels: int = setting(
        "Photos with more pixels are quarantined before they are decoded.", PHOTO_PIXELS, minimum=1, maximum=MAX_PIXELS
    )
    max_bytes: int = setting(
        "Files with more bytes are quarantined without being read.", 256 * 2**20, minimum=1, maximum=2**30
    )
    content: str = setting(
        "keep puts a copy of each photo into the store. reference does not: extract, validate and the pages read it at "
        "its source again, and what has changed there in the meantime gets no vector.",
        KEEP,
        choices=(KEEP, REFERENCE),
    )
    on_empty: str = setting("What to do when a partition has no files.", "fail", choices=("fail", "skip"))
    extractor: str = setting(
        "The same as for extract. With image, a file whose header is not that of an image is quarantined; with "
        "another extractor, headers are not checked.",
        PHOTOS,
    )
    within: str = setting(
        "Folders, one a line, that no link in the source may lead out of; empty: links are followed anywhere.",
        "",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        check_extractor(self.extractor)
        source = check_location("source", self.source.replace("{partition}", self.partition))
        object.__setattr__(self, "source", source)


@dataclass(frozen=True, kw_only=True)
class ExtractSettings(ModelSettings, Settings):
    """Settings of `extract`: which extractor, which model, and how to run it."""

    extractor: str = setting(EXTRACTOR_HELP, PHOTOS)
    resources: str = setting(
        "Resources per Spark task: narrow, one core; wide, all cores of its executor; gpu, one GPU and its share of "
        "the cores. auto is gpu where the model runs on one, else narrow.",
        "auto",
        choices=("auto", "narrow", "wide", "gpu"),
    )
    batch_size: int = setting("Photos per model call.", 16, minimum=1, maximum=1024)
    lookback: int = setting(
        "How many earlier partitions to look through for vectors to reuse.", 7, minimum=0, maximum=366
    )
    recompute: bool = setting("Compute every photo again, even where its vector is already known.", False)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_extractor(self.extractor)
        if self.resources == "gpu" and "cpu" in (self.device, "cpu" if self.engine == "openvino" else ""):
            raise BadSetting(
                "contradiction", "resources gpu needs the model to run on one.", "Use device cuda, or resources wide."
            )


@dataclass(frozen=True, kw_only=True)
class ValidateSettings(Settings):
    """Settings of `validate`: the limits a run must keep to be published."""

    max_failed_fraction: float = setting(
        "Largest share of listed files that may be quarantined (0 to 1).", 0.1, minimum=0, maximum=1
    )
    warn_failed_fraction: float = setting(
        "Largest share of listed files that may be quarantined without a warning (0 to 1); 1: never a warning.",
        0.05,
        minimum=0,
        maximum=1,
    )
    max_drift: float = setting(
        "Largest drift of the features against recent partitions (0 to 1); 1 never fails.", 0.5, minimum=0, maximum=1
    )
    warn_drift: float = setting(
        "Largest drift without a warning (0 to 1); 1: never a warning.", 0.3, minimum=0, maximum=1
    )
    max_identical_fraction: float = setting(
        "Largest share of distinct photos that may have the vector of another photo with other pixels (0 to 1).",
        0.5,
        minimum=0,
        maximum=1,
    )
    max_constant: int = setting(
        "Most vectors that may be zero or the same value throughout.", 0, minimum=0, maximum=2**31
    )
    min_features: int = setting("Fewest vectors that a partition must have.", 1, minimum=1, maximum=2**31)
    min_row_ratio: float = setting(
        "Fewest vectors, as a share of the median of recent partitions (0 to 1). At 0.5, half to twice as many pass.",
        0.5,
        minimum=0,
        maximum=1,
    )
    warn_row_ratio: float = setting(
        "As min-row-ratio, for a warning, where check-levels makes an error of row_count (0 to 1); 0: no such warning.",
        0.0,
        minimum=0,
        maximum=1,
    )
    max_poor_rise: float = setting(
        "Largest rise of the share of blank, of dark or of blurred photos over the median of recent partitions, less "
        "what chance may do (0 to 1); beyond it check photo_quality is a warning; 1: never.",
        0.1,
        minimum=0,
        maximum=1,
    )
    min_cosine: float = setting(
        "Smallest cosine between a vector and its recomputation (0 to 1); 0: the limit of the precision or extractor.",
        0.0,
        minimum=0,
        maximum=1,
    )
    check_levels: str = setting(
        "Checks with another level than usual (error, warning or off): drift=warning,row_count=off. A check that is "
        f"off is not run. {', '.join(checks.FIXED[:-1])} and {checks.FIXED[-1]} are always errors.",
        "",
    )
    history: int = setting(
        "How many earlier partitions drift and row count are compared with.", 7, minimum=0, maximum=366
    )
    recheck: int = setting(
        "How many photos, drawn at random, are computed again with plain torchvision; eight times as many for int8 "
        "and for fast and scaled decoding; 0 for none.",
        8,
        minimum=0,
        maximum=1000,
    )
    weights_within: str = setting(WEIGHTS_WITHIN_HELP, "")
    no_publish: bool = setting("Check and report, but leave the published data as it is.", False)

    def __post_init__(self) -> None:
        super().__post_init__()
        checks.levels(self.check_levels)

    @property
    def levels(self) -> dict[str, str]:
        """The level of every check."""
        return checks.levels(self.check_levels)

    @property
    def warn_limits(self) -> dict[str, float]:
        """Check → the limit beyond which it is a warning, of those that have one."""
        return {check: float(getattr(self, name)) for check, name in checks.WARN_LIMITS.items()}


@dataclass(frozen=True, kw_only=True)
class MaintainSettings(JobSettings):
    """Settings of `maintain`: how long replaced data is kept, and what is done at all."""

    run_id: str = setting("Id of this maintenance; empty: the present moment.", "")
    retention_hours: int = setting(
        "Retention: for so many hours, replaced data and the files of failed runs are kept; undo and time travel reach "
        "back so far. Files that a running run may need are kept whatever this says.",
        168,
        minimum=1,
        maximum=MAX_RETENTION_HOURS,
    )
    content_days: int = setting(
        "The copies of photos that were published more than so many days ago are let go of: the column content of the "
        "table images is emptied, and the pages read the photos at their source again. 0: they are kept.",
        0,
        minimum=0,
        maximum=36_500,
    )
    no_compact: bool = setting("Do not merge small files.", False)
    dry_run: bool = setting("Dry run: print the files that would be deleted, and change nothing.", False)

    def __post_init__(self) -> None:
        super().__post_init__()
        name_after_now(self)

    @property
    def folder(self) -> str:
        """This maintenance's folder in the store."""
        return join(self.store, "maintenance", self.run.folder)


@dataclass(frozen=True, kw_only=True)
class UndoSettings(JobSettings):
    """Settings of `undo`: whose publication is taken back, and how far."""

    run_id: str = setting("Id of this undo; empty: the present moment.", "")
    partition: str = setting("Partition key, usually the day: 2026-11-22.")
    model: str = setting("What the features are published under, for example resnet50-imagenet1k_v2-fp32.")
    to_version: int = setting(
        "Version of the table features to put back, as --list shows it; 0: the one before.", 0, minimum=0, maximum=2**53
    )
    list: bool = setting("Show what has been published, and change nothing.", False)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_partition(self.partition)
        name_after_now(self)

    @property
    def folder(self) -> str:
        """This undo's folder in the store; not with those of the partition's runs, which publish."""
        return join(self.store, "undo", self.partition, path_safe(self.model), self.run.folder)


@dataclass(frozen=True, kw_only=True)
class EraseSettings(JobSettings):
    """Settings of `erase`: which photos are forgotten, and what is told of it."""

    run_id: str = setting("Id of this erasure; empty: the present moment, and four digits by chance.", "")
    image_id: str = setting("The photo with this sha256, under whatever names it lies.", "")
    uri: str = setting("The photo that was read here: a path, or a URI as the tables have it; its copies go, too.", "")
    uri_prefix: str = setting(
        "All photos whose uri begins so, a folder with a slash behind it, and their copies. What comes below it later "
        "is taken.",
        "",
    )
    list: str = setting(
        "File or URI with an image_id or uri on each line. So no name is on a command line, or in what Airflow keeps.",
        "",
    )
    reason: str = setting("Why, for tombstone and receipt; without names.", "")
    requested_by: str = setting("Who wants it, for tombstone and receipt; empty: the user of the job.", "")
    dry_run: bool = setting("Dry run: say how much would be removed where, and change nothing.", False)
    verify: bool = setting(
        "Only look through every byte of the store for the photos that were erased, and for those given; fails with "
        "the places where it finds one.",
        False,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.image_id and not is_image_id(self.image_id):
            raise BadSetting(
                "bad_image_id", "image-id is no sha256.", "Give the 64 hexadecimal digits of the column image_id."
            )
        if not self.run_id:  # two of one second must not write one tombstone
            name_after_now(self)
            object.__setattr__(self, "run_id", f"{self.run_id}-{secrets.token_hex(2)}")

    @property
    def folder(self) -> str:
        """This erasure's folder in the store, with tombstone and receipt."""
        return join(self.store, "erasures", self.run.folder)

    @property
    def unnamed(self) -> EraseSettings:
        """The same without what says which photos: as it may be kept."""
        return replace(self, image_id="", uri="", uri_prefix="", list="")


def name_after_now(settings: JobSettings) -> None:
    """Gives settings without a run id that of the present moment."""
    if not settings.run_id:
        object.__setattr__(settings, "run_id", datetime.now(UTC).strftime("%Y-%m-%dT%H%M%SZ"))


SETTINGS: dict[str, type[Settings]] = {
    "ingest": IngestSettings,
    "extract": ExtractSettings,
    "validate": ValidateSettings,
}
"""The stages of the pipeline, in their order."""
