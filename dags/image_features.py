"""The daily pipeline: photos in, checked and published feature vectors out."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from airflow.sdk import DAG, BaseOperator, chain
from image_features import assets, form, partition, settings
from image_features.operators import (
    DuplicatesOperator,
    ExtractOperator,
    IndexOperator,
    IngestOperator,
    ValidateOperator,
)

with DAG(
    dag_id="image_features",
    description="One feature vector for each photo of the day.",
    schedule=partition.timetable(),
    start_date=datetime(2000, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=settings.max_active_runs(),
    default_args={
        **settings.placement(),
        "retries": 2,
        "retry_delay": timedelta(minutes=1),
        "retry_exponential_backoff": True,
        "max_retry_delay": timedelta(minutes=5),
    },
    params=form.params(),
    tags=["images", "spark"],
    doc_md="""
### Daily image features
**ingest** lists the photos of a partition, checks each file and packs it. **extract** computes one vector for each
photo with a pretrained ResNet. **validate** accounts for every file, checks the result and publishes it in one commit;
when a check fails, what was published before stays. **index**, where `[image_features] index` is on, makes what is
published searchable, and **duplicates**, where that is on, says which files show the same picture; when they fail, it
stays published. Where `[image_features] ask_to_publish` is on, a person may overrule some of the checks: **ask** waits
for the answer, under *Required Actions*, and **approve** publishes.

* **Scheduled**: every day after midnight, in UTC or the configured time zone, for the day before. **Trigger**: the
  form's partition, else the run's partition key, else the last day that was complete at the logical date. Without any
  of them the run is refused.
* **Backfill**: `airflow backfill create --dag-id image_features --from-date 2026-11-01 --to-date 2026-11-07`
  (add `--reprocess-behavior completed` for days that have already run).
* **Again**: clearing a run, or running a day twice, replaces that day as a whole; known photos are not computed again.
* Scheduled and triggered runs take turns. A backfill runs beside them on days of its own; should two runs meet on one
  partition, the later publishes last and whole.
* A wrong setting or a failed check fails at once with its reason; an unreachable source or store is tried again.
""",
) as dag:
    ingest = IngestOperator(task_id="ingest")
    extract = ExtractOperator(task_id="extract")
    validate = ValidateOperator(task_id="validate", outlets=[assets.image_features()])

    following: list[BaseOperator] = []
    if settings.index():
        following.append(IndexOperator(task_id="index"))
    if settings.duplicates():
        following.append(DuplicatesOperator(task_id="duplicates"))

    published: BaseOperator = validate
    if settings.ask_to_publish():
        from image_features import human_step

        published = human_step.after(validate)
    chain(ingest, extract, validate)
    chain(published, *following)
