"""One run: its verdict, checks, counts, and the files that it set aside."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel

from image_features.web.answers.overview import FollowUp, JobErrorInfo, Status
from image_features.web.answers.stores import StoreChoice, StoreState


class DagRunInfo(BaseModel):
    """What Airflow says of the run. `state`: queued, running, success or failed."""

    dag_run_id: str
    state: str
    started_at: str | None
    ended_at: str | None


class Verdict(BaseModel):
    """The first thing to read: `status` (see `Status`), a sentence, and what to do, which may be empty.

    `tone` is good, warning, bad or neutral (running, queued, skipped). `question`: where a person may answer
    what is asked about the run, as a path below Airflow's address; null where nobody is asked.
    """

    status: Status
    tone: Literal["good", "warning", "bad", "neutral"]
    message: str
    hint: str
    question: str | None = None


class Stage(BaseModel):
    """One stage of the run. `unreadable`: its manifest is half-written or of a newer version.

    `seconds`: by phase, without `total`; `total_seconds` may be a little more than their sum. `counts`: files or
    photos by name.
    """

    name: Literal["ingest", "extract", "validate", "index", "duplicates"]
    state: Literal["done", "failed", "running", "missing", "unreadable"]
    started_at: str | None
    finished_at: str | None
    total_seconds: float | None
    seconds: dict[str, float]
    counts: dict[str, int]


class CheckRow(BaseModel):
    """One check. `severity`: its level; one that is off was not run, and `passed` is null then. `value` and `limit` are
    null where there was nothing to compare. `warn_limit`: a narrower limit, beyond which the check is a failed warning;
    null without one. `relation`: how they compare when the check passes, `within` being between
    the limit and its inverse; null where the check is off, or by a rule of a newer version. `offenders`: names of the
    first files that break the rule, at most 10.
    """

    name: str
    severity: Literal["error", "warning", "off"]
    passed: bool | None
    value: float | None
    limit: float | None
    warn_limit: float | None
    relation: Literal["at_most", "at_least", "equals", "within"] | None
    message: str
    offenders: list[str]


class Counts(BaseModel):
    """Files of the source: listed = featured + quarantined. Photos: distinct = computed + reused + resumed + refused by
    extract; `resumed`: an earlier attempt of this run had computed or copied them.

    Null where no stage has said so yet.
    """

    listed: int | None
    computed: int | None
    reused: int | None
    resumed: int | None
    featured: int | None
    quarantined: int | None
    bytes: int | None


class Norms(BaseModel):
    """Euclidean norms of the vectors. `edges` is one longer than `counts`; all are empty without vectors."""

    edges: list[float]
    counts: list[int]
    quantiles: dict[str, float]


class Day(BaseModel):
    """A published partition of the same model, or this run, for the charts of norm and drift.

    `norm_low`, `norm_median`, `norm_high`: 5 %, 50 % and 95 % quantiles of the norms. `drift`: of that day against the
    days before it. `distance`: drift of this run against that day alone. `rows`: vectors.
    """

    partition: str
    current: bool
    rows: int | None
    norm_low: float | None
    norm_median: float | None
    norm_high: float | None
    drift: float | None
    distance: float | None


class MovedPhoto(BaseModel):
    """A photo that moved the drift: `moved`, -1 to 1, is its part of a mean over the day; about 0 of usual photos."""

    image_id: str
    name: str
    moved: float


class SecondOpinion(BaseModel):
    """What a comparison of `today` vectors of the run with `before` vectors of the days before says, drawn by lot.

    `auc`: how often a classifier finds which of two vectors is the run's, 0.5 by chance. `p`: how often two samples of
    one kind differ as much, 0 to 1. `mmd2`: squared maximum mean discrepancy.
    """

    today: int
    before: int
    mmd2: float
    p: float
    auc: float


class Drift(BaseModel):
    """Drift of this run, 0 to 1, and its limit; `value` is null without an earlier day of this model.

    `days`: oldest first, this run last. `moved`: the photos that moved it most, the first first; none without a drift,
    and none that were erased since. `second_opinion`: null without one.
    """

    value: float | None
    limit: float | None
    days: list[Day]
    moved: list[MovedPhoto] = []
    second_opinion: SecondOpinion | None = None


class QuarantineCode(BaseModel):
    """How many files were quarantined for one reason, and what a person can do about it."""

    code: str
    count: int
    hint: str


class Calibration(BaseModel):
    """How an int8 model was made, and how the cosines of its features to fp32 lie over photos it has not seen.

    `photos`: calibrated on; `held_out`: compared on. `below`: share with a cosine below 0.99. What is null was not
    noted when the model was made.
    """

    partition: str | None = None
    photos: int | None = None
    held_out: int | None = None
    cosine_min: float | None = None
    cosine_q01: float | None = None
    cosine_q05: float | None = None
    cosine_median: float | None = None
    below: float | None = None


class ModelInfo(BaseModel):
    """The model of the run. `key` is what its features are published under. `calibration`: of an int8 model."""

    key: str
    fingerprint: str
    backbone: str
    weights: str
    weights_sha256: str
    precision: str
    engine: str
    device: str | None
    dim: int
    calibration: Calibration | None


class Progress(BaseModel):
    """How far a running extract is. `eta_s`: seconds left, null when not known yet. `at`: when this was written."""

    stage: str
    total: int
    done: int
    failed: int
    resumed: int = 0
    images_per_second: float
    eta_s: float | None
    at: str


class RunPart(BaseModel):
    """One of several things that a run works on. `branch`: the tasks that do, where there are several chains of them;
    `map_index`: of the mapped tasks. `model`: as far as it is known."""

    key: str
    partition: str
    store: StoreChoice
    branch: str
    map_index: int | None
    model: str | None
    status: Status | None


class RunReport(BaseModel):
    """Everything about one run. Ask again every few seconds while `live` is true.

    `parts`: what the run works on, as far as its tasks have told; `part`: the one that is shown; empty and null for a
    run that has told nothing. `chosen_store`: where that is.

    `partition` and `run_id` are null when the run was refused before it had a partition. `source`: where the photos
    came from. `published`: readers see this run's vectors now. `published_run_id`: whose they see. `search`: null where
    the model has no search index and the run made none; `duplicates`: where the run has not looked for any. What that
    has checked is among the `checks`.
    """

    store: StoreState
    dag_run: DagRunInfo
    chosen_store: StoreChoice
    parts: list[RunPart]
    part: str | None
    partition: str | None
    verdict: Verdict
    live: bool
    published: bool
    published_run_id: str | None
    source: str | None
    stages: list[Stage]
    checks: list[CheckRow]
    counts: Counts
    quarantine: list[QuarantineCode]
    norms: Norms
    drift: Drift
    model: ModelInfo | None
    versions: dict[str, str]
    table_versions: dict[str, int]
    progress: Progress | None
    error: JobErrorInfo | None
    search: FollowUp | None = None
    duplicates: FollowUp | None = None


class QuarantinedFile(BaseModel):
    """One quarantined file. `name`: relative to the source. `image_id`: sha256 of its bytes, null when it could
    not be read. `thumbnail`: its bytes are in the store, so a thumbnail may be asked for; that can still be a 404.
    """

    name: str
    image_id: str | None
    stage: str
    code: str
    message: str
    hint: str
    size_bytes: int | None
    thumbnail: bool


class QuarantinePage(BaseModel):
    """A page of the quarantined files, by code and name; `total` counts them all."""

    partition: str
    page: int
    pages: int
    total: int
    files: list[QuarantinedFile]
