"""The overview: a row for each partition, newest first."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel

from image_features.web.answers.stores import StoreChoice, StoreState

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
