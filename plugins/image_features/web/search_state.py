"""Whether search holds what is published, in words: of one run for its page, of a model for the overview."""

from __future__ import annotations

from image_features.web import run_documents, search_index, store_state
from image_features.web.airflow_runs import Attempt
from image_features.web.answers import JobErrorInfo, SearchState
from image_features.web.stores import Place
from spark_apps import catalog, contract


def documents(attempt: Attempt) -> tuple[contract.Manifest | None, JobErrorInfo | None]:
    """Manifest and error that the run's task index has left; none of an earlier attempt. Raises StoreProblem."""
    if attempt.partition is None:
        return None, None
    folder = contract.join(attempt.place.store, "search", "runs", attempt.partition, attempt.run.folder)
    with store_state.reading(attempt.place):
        found = [catalog.left_in(attempt.place.store, folder, name) for name in ("index.json", "error.json")]
    manifest, error = run_documents.manifest_of(found[0]), run_documents.job_error(found[1])
    told = [manifest.finished_at if manifest else None, error.at if error else None]
    fresh = [(at := run_documents.moment(one)) and not (attempt.began and at < attempt.began) for one in told]
    return manifest if fresh[0] else None, error if fresh[1] else None


def of_run(attempt: Attempt, model: str | None) -> SearchState | None:
    """What became of the run's task index, and whether search is behind; None where there is neither. Raises
    StoreProblem."""
    _, error = documents(attempt)
    behind = of_model(attempt.place, model) if model else None
    if error is None:
        return behind
    words = f" {behind.message}" if behind and behind.tone == "warning" else ""
    return SearchState(
        tone="warning", message=f"The task index failed: {error.message}{words}", hint=error.hint or "Clear that task."
    )


def of_model(place: Place, model: str) -> SearchState | None:
    """Whether the model's index holds what is published; None where there is no index. Raises StoreProblem."""
    standing = search_index.of(place, model)
    if standing.state == "none":
        return None
    if standing.state == "unavailable":
        return SearchState(
            tone="warning",
            message=f"The search index of {model} cannot be read here.",
            hint="The api-server's log says why. The command spark_apps.index with --rebuild makes it anew.",
        )
    if standing.behind:
        rows = _counted(sum(standing.behind.values()), "vector")
        partitions = _counted(len(standing.behind), "partition")
        return SearchState(
            tone="warning",
            message=f"Search is behind: {rows} of {partitions} of {model} differ from what is published.",
            hint="The next run of the task index brings them in, whichever partition it is for.",
        )
    assert standing.index is not None
    return SearchState(
        tone="good", message=f"Search holds all {standing.index.rows:,} published vectors of {model}.", hint=""
    )


def _counted(count: int, word: str) -> str:
    return f"{count:,} {word}{'' if count == 1 else 's'}"
