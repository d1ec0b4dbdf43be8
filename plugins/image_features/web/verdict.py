"""The first thing to read of a run: what became of it, in a sentence, and what to do."""

from __future__ import annotations

from image_features import wording
from image_features.web import questions, run_documents
from image_features.web.answers import JobErrorInfo, Status, Verdict
from image_features.web.overview import judge
from image_features.web.run_lookup import Run

BELOW = "The checks below say by how much, and which files."


def verdict(run: Run, summary: run_documents.Summary | None, error: JobErrorInfo | None, readable: bool) -> Verdict:
    attempt = run.attempt
    done = run.ended_well
    rejected = summary is not None and summary.verdict == "rejected"
    question = questions.of_part(attempt) if rejected else None
    if attempt.active and not done and question and summary:
        return _asked(question, summary)
    if attempt.active and not done:
        status: Status = "running" if attempt.state == "running" else "queued"
        message = "The run is in progress." if attempt.state == "running" else "The run waits for its turn."
        if error:
            message += f" Its {error.stage} failed and is tried again: {error.message}"
        return Verdict(status=status, tone="warning" if error else "neutral", message=message, hint="")
    stands = "What was published before still stands." if run.published and not run.shown else ""
    standing = run.shown and (done or attempt.state == "success")
    status = run.standing if standing else judge(attempt, run.folder).status
    if not readable:
        return Verdict(
            status="unknown",
            tone="bad",
            message="The report of this run cannot be read: it is half-written or of a newer version.",
            hint="Clear the task validate to write it again, or update this plugin.",
        )
    after = "A task after the publication failed: its log says why." if attempt.state == "failed" else ""
    if standing and after and attempt.alone and summary is not None:
        message = f"{summary.counts.get('featured', 0):,} vectors are published. {after}"
        return Verdict(status=status, tone="warning", message=message, hint="Readers have these vectors.")
    if standing and summary is not None:
        featured = summary.counts.get("featured", 0)
        message, hint = wording.published(featured, summary.warned, summary.off, summary.approval)
        return Verdict(status=status, tone="warning" if summary.warned else "good", message=message, hint=hint)
    if standing:
        return Verdict(status=status, tone="good", message="The vectors of this run are published.", hint="")
    if status == "rejected" and summary is not None:
        left = f"{wording.left_rejected(question.by, question.answered_at, question.reason)}" if question else ""
        message = " ".join(filter(None, [wording.rejected(summary.failed), left, stands]))
        return Verdict(status=status, tone="bad", message=message, hint=BELOW)
    if status == "failed":
        message = f"{error.stage} failed: {error.message}" if error else "The run failed before it could say why here."
        hint = error.hint if error else "The log of the failed task has the reason."
        return Verdict(status=status, tone="bad", message=f"{message} {stands}".strip(), hint=hint)
    if status in wording.SAID:
        return Verdict(status=status, tone="neutral", message=wording.SAID[status], hint="")
    return Verdict(
        status=status, tone="bad", message="There is no report of this run.", hint="It may have been removed."
    )


def _asked(question: questions.Question, summary: run_documents.Summary) -> Verdict:
    """Of a rejected run that a person is asked about, or was a moment ago."""
    message = wording.rejected(summary.failed)
    if question.answered_at is None:
        message += " A person is asked whether it is published all the same."
        return Verdict(status="rejected", tone="warning", message=message, hint=BELOW, question=question.path)
    if question.approved:
        return Verdict(status="running", tone="neutral", message=f"{question.by} has approved it.", hint="")
    left = wording.left_rejected(question.by, question.answered_at, question.reason)
    return Verdict(status="rejected", tone="bad", message=f"{message} {left}", hint=BELOW)
