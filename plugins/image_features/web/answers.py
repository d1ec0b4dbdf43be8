"""What the pages' API answers, model by model. This is the contract between the server and the pages.

All addresses are below `/image-features` of the api-server; pages use relative ones (`api/…`, `static/…`), so that a
sub-path in `[api] base_url` changes nothing.

| request | answer |
|---|---|
| GET `/` (`?dag_id=&store=&model=`, all optional) | `pages/overview.html` |
| GET `/runs?dag_id=&run_id=` (`&task_id=` from a task's tab, `&part=`) | `pages/run.html` |
| GET `/explore?dag_id=&store=&partition=&model=&image=` (all optional) | `pages/explore.html` |
| GET `/static/<name>` | a file below `static/`, sub-folders included, from a list made at start |
| GET `/api/dags` | `Dags`: the pipeline's Dags that the caller may read, with their stores |
| GET `/api/overview?store=&model=` | `Overview` of all of these Dags |
| GET `/api/<dag_id>/overview?store=&model=` | `Overview` |
| GET `/api/<dag_id>/runs/<dag_run_id>?part=` | `RunReport` |
| GET `/api/<dag_id>/runs/<dag_run_id>/quarantine?part=&page=` | `QuarantinePage` |
| GET `/api/<dag_id>/runs/<dag_run_id>/photos?part=&count=` | `Sample`: drawn at random by run, the same each time |
| GET `/api/<dag_id>/partitions/<partition>/photos?store=&model=&page=` | `PhotoPage` |
| GET `/api/<dag_id>/partitions/<partition>/neighbours?store=&model=&image=&k=` | `Neighbours` |
| POST `/api/<dag_id>/partitions/<partition>/neighbours?store=&model=&k=` | `Neighbours`; see below |
| GET `/api/<dag_id>/thumbnails/<partition>/<image_id>?store=` | image/webp, at most 256 pixels a side, or 404 |

`store` is the key of one of the Dag's stores, never a place; without it the first is meant, in an overview all. `part`
is the key of one of a run's parts; without it the first that failed is meant, else the first.

The navigation shows `static/icon.svg`, in the dark theme `static/icon-dark.svg`.

The POST takes the photo itself as body (at most 20 MB), with `Content-Type: image/<anything>` or
`application/octet-stream` and the header `X-Image-Features: 1`, which no other site's form can send.

Pages are counted from 1. `model` may be left out: the newest published model is meant. Every refusal, whatever its
status, is a `Problem`. The state of the store comes inside an ordinary answer (`StoreState`), because a page has to
draw it; where there would be nothing else to answer, it is a `Problem` with the same code and words.

Times are ISO 8601 with their zone, in UTC. Every field is always there; null means not known or not applicable.
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel


class Problem(BaseModel):
    """Why a request was refused. Never holds a path or a secret.

    `code` is stable: not_signed_in, not_allowed, not_our_dag, no_such_store, no_such_run, no_such_part,
    no_such_partition, no_such_photo, no_thumbnail, bad_partition, bad_image_id, bad_request, not_same_origin,
    upload_too_large, busy, no_model_artifact, own_extractor, the codes of `StoreState`, and those of
    `contract.QUARANTINE_CODES` for an uploaded photo; `unexpected` else.
    """

    code: str
    message: str
    hint: str = ""


class StoreState(BaseModel):
    """Whether the store can be read, in words: not `ok` means that the rest of the answer is empty or incomplete.

    `missing`: the folder is not there. `empty`: nothing was published yet, show how to start. `newer_schema`: written
    by a later version of this project or of Delta Lake. `not_allowed`: a run names it, but neither its Dag nor the
    configuration does.
    """

    code: Literal[
        "ok",
        "not_configured",
        "not_allowed",
        "missing",
        "empty",
        "denied",
        "unreachable",
        "damaged",
        "newer_schema",
        "unexpected",
    ]
    message: str = ""
    hint: str = ""


class StoreChoice(BaseModel):
    """One store of a Dag. `key` stands for it in requests; `name` is the end of its path, as much of it as
    tells the stores apart."""

    key: str
    name: str


class DagStores(BaseModel):
    """A Dag and its stores, the first one to be shown first."""

    dag_id: str
    stores: list[StoreChoice]


class Dags(BaseModel):
    """The pipeline's Dags that the caller may read; the first one is to be shown. Empty: none of them."""

    dag_ids: list[str]
    dags: list[DagStores]


# --- overview ---------------------------------------------------------------------------------------------------------

Status = Literal[
    "published",
    "published_with_warnings",
    "checked",
    "superseded",
    "rejected",
    "failed",
    "running",
    "queued",
    "skipped",
    "unknown",
]
"""Of the newest run of a partition. published: readers see it; with_warnings: a check warned. checked: it passed and
was not to be published. superseded: a later run of the partition stands. rejected: a check failed, nothing was
published. failed: it ended with an error before the checks. skipped: it had nothing to do. unknown: its report cannot
be read."""


class JobErrorInfo(BaseModel):
    """The `error.json` of a run: why `stage` failed. `at`: when."""

    stage: str
    code: str
    message: str
    hint: str
    at: str | None


class PartitionRow(BaseModel):
    """One partition and model of a store: its newest run. The numbers are those of that run, as far as it got.

    `dag_id`: whose run it is; null where that is not known. `store`: the key of the store. `part`: of the run, null
    where it has but one.

    `published_run_id` is the run whose vectors readers see; another one than `run_id` after a failure: the old vectors
    still stand. `rows` is their number (vectors). `dag_run_id` is null for a run outside Airflow. `model` is null
    when a run failed before it was known.

    Counts are files. `computed` + `reused` are photos (copies within a day count once). `images_per_second`: computed
    photos by the seconds of extract's phase compute; null when nothing was computed. `drift` and `max_drift`: 0 to 1.
    `seconds`: from the start of ingest to the end of validate, without what Airflow waits in between.
    """

    dag_id: str | None
    store: str
    partition: str
    model: str | None
    status: Status
    run_id: str | None
    part: str | None
    dag_run_id: str | None
    published_run_id: str | None
    rows: int | None
    finished_at: str | None
    listed: int | None
    featured: int | None
    quarantined: int | None
    computed: int | None
    reused: int | None
    images_per_second: float | None
    seconds: float | None
    bytes: int | None
    drift: float | None
    max_drift: float | None
    checks_passed: list[str]
    checks_warned: list[str]
    checks_failed: list[str]
    checks_off: list[str]
    error: JobErrorInfo | None


class FollowUp(BaseModel):
    """What has become of what follows a publication, in a sentence, and what to do, which may be empty: whether a
    model's search index holds what is published, how many of a run's files have a twin."""

    tone: Literal["good", "warning", "neutral"]
    message: str
    hint: str


class OverviewStore(StoreChoice):
    """A store that the overview shows, the Dags whose it is, and whether it can be read."""

    dag_ids: list[str]
    state: StoreState


class Overview(BaseModel):
    """The partitions, newest key first. `models`: all that are published, the newest first; `model`: the one asked for.

    `store`: of all stores together, well where one of them is. A failed run whose model is not known is in the list
    whatever `model` is. `search`: of the model that is shown, or the newest, in each store where its index is behind.
    """

    store: StoreState
    stores: list[OverviewStore]
    models: list[str]
    model: str | None
    partitions: list[PartitionRow]
    search: list[FollowUp] = []


# --- one run ----------------------------------------------------------------------------------------------------------


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


# --- photos -----------------------------------------------------------------------------------------------------------


class Photo(BaseModel):
    """One distinct photo. `name`: of its first file, relative to the source. `copies`: files with the same bytes.

    `label` and `score` (0 to 1): the model's first guess, null for a model without labels.
    """

    image_id: str
    name: str
    copies: int
    label: str | None
    score: float | None


class Sample(BaseModel):
    """A few photos of a run, drawn at random; empty when the run is not the one that is published."""

    partition: str
    model: str | None
    photos: list[Photo]


class PoorPhoto(Photo):
    """One distinct photo with its contrast, brightness or sharpness."""

    value: float


class PoorPhotosOfAKind(BaseModel):
    """`kind`: blank, dark or blurred. `measure`: what says so, and `limit` below which value. `total`: files of the
    kind; `photos`: the first of them, the poorest first, and of the dark and blurred further ones, which are not."""

    kind: str
    measure: str
    limit: float
    total: int
    photos: list[PoorPhoto]


class PoorPhotos(BaseModel):
    """The poorest photos of a run. `measured`: files; no kinds without any, or when the run is not published."""

    partition: str
    model: str | None
    measured: int
    kinds: list[PoorPhotosOfAKind]


class PartitionModels(BaseModel):
    """A published partition and the models it is published under."""

    partition: str
    models: list[str]


class PhotoPage(BaseModel):
    """A page of the distinct photos of a partition. `total` counts those that can be paged through; a partition may
    hold more (`truncated`), which neighbours are still found among.

    `extractor`: what made the vectors: image, text, audio or a module's own. `words`: whether they can be searched by
    words. `partitions`: all that are published, newest first, to pick another.
    """

    partition: str
    model: str
    extractor: str
    words: bool
    partitions: list[PartitionModels]
    page: int
    pages: int
    total: int
    truncated: bool
    photos: list[Photo]


class DuplicateFile(BaseModel):
    """A file of a group. `kind`: exact or near; `similarity`, `distance`: of the picture most like it, as in the table
    duplicates. `width`, `height` in pixels, where they are known."""

    partition: str
    image_id: str
    name: str
    keeper: bool
    kind: str
    similarity: float
    distance: int
    width: int | None
    height: int | None


class DuplicateGroup(BaseModel):
    """Files that show the same picture, the one to keep first; `size`: how many, of which the first are given."""

    group_id: str
    size: int
    files: list[DuplicateFile]


class DuplicatesPage(BaseModel):
    """A page of groups. `looked`: whether anybody has looked for duplicates in this store. `partitions`: those with a
    file in any group of the model, newest first."""

    looked: bool
    partition: str | None
    model: str
    models: list[str]
    partitions: list[str]
    page: int
    pages: int
    groups_total: int
    files_total: int
    groups: list[DuplicateGroup]


class Neighbour(Photo):
    """`cosine`: similarity, -1 to 1. `distance`: 1 - cosine. `partition`: where it was published."""

    partition: str
    cosine: float
    distance: float


class Compared(BaseModel):
    """What a search looked through: partitions from `first` to `last`, `partitions` of them. `exact`: every vector was
    compared; else the search index chose those that were, and it may have missed one.

    `index`: the state of the model's search index: ok; none: there is none; unavailable: it cannot be read here.
    Without it a search goes through one partition. `behind_partitions`, `behind_rows`: what was left out, because the
    index does not hold it as it is published.
    """

    first: str
    last: str
    partitions: int
    exact: bool
    index: Literal["ok", "none", "unavailable"]
    behind_partitions: int = 0
    behind_rows: int = 0


class Neighbours(BaseModel):
    """The nearest photos, nearest first, each photo once. The photo asked about is not among its own neighbours; the
    copy of an uploaded one is, with a cosine of 1.

    `query`: the photo asked about; name and image_id are empty for an upload. `searched` of `total` vectors were
    compared, fewer only when time ran out; `note` says then, or when the partition is too large to be kept, what that
    means, and is empty else. `seconds`: of the search. `more`: there is a further page.
    """

    partition: str
    model: str
    query: Photo
    neighbours: list[Neighbour]
    searched: int
    total: int
    seconds: float
    note: str
    compared: Compared
    page: int
    more: bool
