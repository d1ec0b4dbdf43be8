"""What follows a publication, in words: whether search holds what is published, of one run for its page and of a model
for the overview; and what a run has found of duplicates."""

from __future__ import annotations

import dataclasses

from image_features.web import run_documents, search_index, store_state
from image_features.web.airflow_runs import Attempt
from image_features.web.answers import FollowUp, JobErrorInfo
from image_features.web.stores import Place
from spark_apps import catalog, contract


def documents(attempt: Attempt, stage: str) -> tuple[contract.Manifest | None, JobErrorInfo | None]:
    """Manifest and error that the run's task of a stage, index or duplicates, has left; none of an earlier attempt.
    They are not with those of the run's other stages. Raises StoreProblem."""
    if attempt.partition is None:
        return None, None
    kinds: dict[str, type[contract.ModelSettingsOfARun]] = {
        "index": contract.IndexSettings,
        "duplicates": contract.DuplicatesSettings,
    }
    run = dataclasses.asdict(attempt.run)
    job = kinds[stage](store=attempt.place.store, partition=attempt.partition, **run)
    with store_state.reading(attempt.place):
        found = [catalog.left_by(job, name) for name in (f"{stage}.json", "error.json")]
    manifest, error = run_documents.manifest_of(found[0]), run_documents.job_error(found[1])
    told = [manifest.finished_at if manifest else None, error.at if error else None]
    fresh = [(at := run_documents.moment(one)) and not (attempt.began and at < attempt.began) for one in told]
    return manifest if fresh[0] else None, error if fresh[1] else None


def of_run(attempt: Attempt, model: str | None) -> FollowUp | None:
    """What became of the run's task index, and whether search is behind; None where there is neither. Raises
    StoreProblem."""
    _, error = documents(attempt, "index")
    behind = of_model(attempt.place, model) if model else None
    if error is None:
        return behind
    words = f" {behind.message}" if behind and behind.tone == "warning" else ""
    return FollowUp(
        tone="warning", message=f"The task index failed: {error.message}{words}", hint=error.hint or "Clear that task."
    )


def of_duplicates(manifest: contract.Manifest | None, error: JobErrorInfo | None) -> FollowUp | None:
    """What the run's task duplicates has found, by what it has left; None where that is nothing."""
    if error is not None:
        message = f"The task duplicates failed: {error.message}"
        return FollowUp(tone="warning", message=message, hint=error.hint or "Clear that task.")
    if manifest is None or "twins" not in manifest.counts:
        return None
    files = _counted(manifest.counts["twins"], "file")
    alike = "shows" if manifest.counts["twins"] == 1 else "show"
    return FollowUp(tone="neutral", message=f"{files} of this partition {alike} the same picture as another.", hint="")


def of_model(place: Place, model: str) -> FollowUp | None:
    """Whether the model's index holds what is published; None where there is no index. Raises StoreProblem."""
    standing = search_index.of(place, model)
    if standing.state == "none":
        return None
    if standing.state == "unavailable":
        return FollowUp(
            tone="warning",
            message=f"The search index of {model} cannot be read here.",
            hint="The api-server's log says why. The command spark_apps.index with --rebuild makes it anew.",
        )
    if standing.behind:
        rows = _counted(sum(standing.behind.values()), "vector")
        partitions = _counted(len(standing.behind), "partition")
        return FollowUp(
            tone="warning",
            message=f"Search is behind: {rows} of {partitions} of {model} differ from what is published.",
            hint="The next run of the task index brings them in, whichever partition it is for.",
        )
    assert standing.index is not None
    return FollowUp(
        tone="good", message=f"Search holds all {standing.index.rows:,} published vectors of {model}.", hint=""
    )


def _counted(count: int, word: str) -> str:
    return f"{count:,} {word}{'' if count == 1 else 's'}"
