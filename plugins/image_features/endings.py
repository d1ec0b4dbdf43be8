"""What follows when a stage has ended, whoever submitted its job: a line in the log, metrics, what others ask for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

from image_features import lineage, stats, wording
from image_features.outcomes import Outcome
from spark_apps.contract import JobError


@contextmanager
def group(log: Any, name: str) -> Iterator[None]:
    """Lines of the task's log that Airflow folds away under a name."""
    log.info("::group::%s", name)
    try:
        yield
    finally:
        log.info("::endgroup::")


def ended(
    task: Any, found: Callable[[], Outcome], reached: Callable[[], AbstractContextManager[None]] = nullcontext
) -> None:
    """Keeps what became of the stage, as `task.outcome`, for callbacks, and `task.lineage`; says it, and sends the
    metrics. The task does not depend on any of it. `reached`: inside of which the store can be read."""
    try:
        with reached():
            outcome = task.outcome = found()
            task.lineage = lineage.of(outcome)
    except (JobError, ValueError) as problem:
        task.log.warning("What became of the job cannot be told: %s", problem)
        return
    say = {"warning": task.log.warning, "bad": task.log.error}.get(outcome.tone, task.log.info)
    say("%s", line(outcome))
    stats.send(outcome, task.dag_id, task.task_id)


def line(found: Outcome) -> str:
    """The one that a person reads first: what came out, and what to do."""
    total = found.seconds.get("total")
    took = f" in {total:,.1f} s" if total is not None else ""
    checks = "; ".join(
        f"{check['name']} {wording.value(check['name'], check['value'])} ({wording.limits(check)})"
        for check in found.checks
    )
    what, to_do = found.said()
    said = " ".join(filter(None, [what, f"{checks}." if checks else "", to_do]))
    return f"{' '.join(filter(None, [found.stage, found.partition]))}: {found.status}{took}. {said}"
