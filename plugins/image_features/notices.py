"""What a notification says of a run: what its page says first, the checks that did not pass, files and links."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from image_features import links, outcomes, run_key, settings, storage_connection, wording
from image_features.outcomes import Outcome, Tone
from spark_apps import contract
from spark_apps.contract import JobError

log = logging.getLogger(__name__)

FILES = 5
"""Files that are named of each check."""
PARTS = 10
"""Partitions and models that are told of one run."""
LONGEST = 1500
"""Letters of a message: an error may quote the last lines of Spark's log."""
ORDER: tuple[Tone, ...] = ("bad", "warning", "neutral", "good")
"""What is told first."""


@dataclass(frozen=True)
class FailedCheck:
    """A check that did not pass. `value` and `limits` in their units; `level`: error or warning; `files`: the first."""

    name: str
    level: str
    value: str
    limits: str
    message: str
    files: tuple[str, ...]


@dataclass(frozen=True)
class Part:
    """What became of one partition and model of a run. `partition`, `stage`, `model`: empty where not known."""

    partition: str
    stage: str
    model: str
    status: str
    tone: Tone
    message: str
    hint: str = ""
    checks: tuple[FailedCheck, ...] = ()


@dataclass(frozen=True)
class Notice:
    """`task_id`: empty where it is of a Dag run as a whole. `log`: the task's; empty without a task. `answer`: where a
    person is asked whether it is published all the same; empty where nobody is."""

    dag_id: str
    run_id: str
    task_id: str
    parts: tuple[Part, ...]
    report: str
    log: str
    answer: str = ""

    @property
    def links(self) -> list[tuple[str, str]]:
        """What a reader may want to open: a word, and its address."""
        named = (("Decide", self.answer), ("Report", self.report), ("Log", self.log))
        return [(word, address) for word, address in named if address]

    @property
    def tone(self) -> Tone:
        """That of the worst part."""
        return next(tone for tone in ORDER if tone in {part.tone for part in self.parts})

    @property
    def title(self) -> str:
        """One line: the partitions, and what became of the worst."""
        worst = next(part for part in self.parts if part.tone == self.tone)
        places = list(dict.fromkeys(part.partition for part in self.parts if part.partition))
        where = ", ".join(places[:3]) + (f" and {len(places) - 3} more" if len(places) > 3 else "")
        became = f"{worst.stage} {worst.status}".strip() if worst.status.startswith("failed") else worst.status
        return f"{where or self.task_id or self.run_id} {became} ({self.dag_id})"

    def record(self) -> dict[str, Any]:
        """JSON-able, for a webhook: these fields, `title`, `tone`, and the whole as `text`."""
        return {"title": self.title, "tone": self.tone, "text": self.text(), **dataclasses.asdict(self)}

    def text(self) -> str:
        """As plain text."""
        lines = [self.title]
        for part in self.parts:
            if len(self.parts) > 1:
                lines += ["", f"{' '.join(filter(None, [part.partition, part.model]))}: {part.status}"]
            lines += [f"{part.message} {part.hint}".strip()]
            for check in part.checks:
                lines += [f"- {check.name} {check.value} ({check.limits}): {check.message}"]
                lines += [f"    {name}" for name in check.files]
        return "\n".join([*lines, "", *(f"{word}: {address}" for word, address in self.links)])


def of(context: Mapping[str, Any]) -> Notice:
    """The notice about what Airflow calls back for: a task, or a Dag run, that has ended."""
    ti, task = context.get("ti"), context.get("task")
    of_task = "reason" not in context  # which Airflow gives to the callbacks of a Dag alone
    dag = context["dag"]
    run_id = str(context.get("run_id") or getattr(context.get("dag_run"), "run_id", ""))
    parts = _of_task(ti, task, context) if of_task else _of_run(ti, dag, context)
    return Notice(
        dag_id=dag.dag_id,
        run_id=run_id,
        task_id=task.task_id if of_task and task is not None else "",
        parts=tuple(sorted(parts, key=lambda part: ORDER.index(part.tone))[:PARTS]),
        report=links.run_page(dag.dag_id, run_id),
        log=str(getattr(ti, "log_url", "")) if of_task else "",
        answer=_answer(task, run_id, parts) if of_task else "",
    )


def _answer(task: Any, run_id: str, parts: Iterable[Part]) -> str:
    """Where a person may answer, if the task is asked about next: rejected by checks that can be overruled."""
    asks = [one for one in getattr(task, "downstream_list", []) if _asks(one)]
    failed = {check.name for part in parts for check in part.checks if check.level == "error"}
    if not asks or not failed or failed - {*contract.OVERRULABLE} or {part.status for part in parts} != {"rejected"}:
        return ""
    return links.question_page(task.dag_id, run_id, asks[0].task_id)


def _of_task(ti: Any, task: Any, context: Mapping[str, Any]) -> list[Part]:
    exception = context.get("exception")
    if decided := getattr(exception, "status", ""):  # by a person (`human_step`)
        return [
            Part(
                getattr(exception, "partition", ""),
                "",
                getattr(exception, "model", ""),
                decided,
                "bad",
                _short(exception),
            )
        ]
    if found := getattr(getattr(ti, "task", task), "outcome", None):  # the task has run in this process
        return [_part(found, exception)]
    told = None
    if run_key.stage(task) and not _asks(task):
        told = _pulled(ti, task_ids=task.task_id, map_indexes=getattr(ti, "map_index", -1))
    found = _read(told, task, getattr(ti, "start_date", None) if exception else None) if told else None
    if found is not None:
        return [_part(found, exception)]
    message = _short(exception) if exception else ""
    status, tone = ("failed", "bad") if exception else ("done", "good")
    place = told or {}
    return [Part(place.get("partition", ""), place.get("stage", ""), "", status, tone, message)]  # type: ignore[arg-type]


def _asks(task: Any) -> bool:
    return bool(getattr(task, "asks_to_publish", False))


def _of_run(ti: Any, dag: Any, context: Mapping[str, Any]) -> list[Part]:
    """Those of the stages that have come furthest, each with its own partition and model."""
    stages = [task for task in dag.tasks if run_key.stage(task)]
    told = _pulled(ti, task_ids=[task.task_id for task in stages]) if ti is not None and stages else []
    found = []
    for fact in _furthest(told or []):
        task = next((one for one in stages if one.task_id == fact["task"].partition("[")[0]), None)
        if outcome := _read(fact, task, None):
            found.append(_part(outcome, None))
    reason = str(context.get("reason") or "")
    if reason == "success":
        return found or [Part("", "", "", "done", "good", "The run has ended well.")]
    if any(part.tone == "bad" for part in found):
        return found
    return [Part("", "", "", "failed", "bad", f"The run has failed: {reason.replace('_', ' ')}."), *found]


def _furthest(told: Iterable[Any]) -> list[Mapping[str, Any]]:
    """Of what the tasks of a run have told: of each chain of stages the last, without an ingest that served others."""
    last: dict[str, Mapping[str, Any]] = {}
    for fact in told:
        if isinstance(fact, Mapping) and fact.get("stage") in contract.STAGES and fact.get("folder"):
            other = last.get(fact["folder"])
            if other is None or contract.STAGES.index(fact["stage"]) > contract.STAGES.index(other["stage"]):
                last[fact["folder"]] = fact
    further = {(fact["store"], fact["partition"]) for fact in last.values() if fact["stage"] != "ingest"}
    return [
        fact for fact in last.values() if fact["stage"] != "ingest" or (fact["store"], fact["partition"]) not in further
    ]


def _pulled(ti: Any, **which: Any) -> Any:
    """What tasks have told of themselves; None where Airflow does not say, which is no reason to say nothing."""
    try:
        return ti.xcom_pull(key=links.FACTS, **which)
    except Exception:
        log.warning("Image Features: what the tasks told of themselves cannot be had.", exc_info=True)
        return None


def _read(told: Mapping[str, Any], task: Any, since: datetime | None) -> Outcome | None:
    """What became of the job that a task has told of; None where the store cannot be read."""
    from spark_apps import catalog  # not at the top: the Dag processor needs no pyarrow

    if not told.get("folder"):  # told by an earlier version
        return None
    try:
        conn_id = getattr(task, "storage_conn_id", None) or settings.storage_conn_id()
        with catalog.reached_with(storage_connection.variables(conn_id)):
            return outcomes.read(told["stage"], told["store"], told["folder"], told["partition"], since)
    except (JobError, ValueError) as problem:
        log.warning("Image Features: %s", problem)
        return None


def _part(found: Outcome, exception: Any) -> Part:
    message, hint = found.said()
    status, tone = found.status, found.tone
    if exception and tone != "bad":  # what came after the job has failed
        status, tone, message, hint = f"{status}, then failed", "bad", f"{message} {_short(exception)}", ""
    elif exception and found.error is None:  # the job has left no word, so the task's come first, and Spark's last
        how, _, tail = _short(exception).partition("\n")
        message, hint = "\n".join(filter(None, [f"{how} {message} {hint}".strip(), tail])), ""
    return Part(
        partition=found.partition,
        stage=found.stage,
        model=found.model,
        status=status,
        tone=tone,
        message=message[:LONGEST],
        hint=hint,
        checks=tuple(map(_check, found.checks)),
    )


def _check(check: Mapping[str, Any]) -> FailedCheck:
    return FailedCheck(
        name=str(check["name"]),
        level=str(check["severity"]),
        value=wording.value(str(check["name"]), check["value"]),
        limits=wording.limits(check),
        message=wording.redacted(str(check["message"])),
        files=tuple(wording.name_of(uri, None) for uri in check["offenders"][:FILES]),
    )


def _short(exception: Any) -> str:
    return wording.redacted(str(exception).strip())[:LONGEST]
