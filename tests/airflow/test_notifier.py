"""A notifier tells of a run what its page says first, to real servers on loopback."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import signal
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk import DAG
from airflow.sdk.bases.operator import BaseOperator
from airflow.sdk.exceptions import AirflowFailException
from image_features import human_step, notices
from image_features.notifier import ImageFeaturesNotifier

from spark_apps import contract
from tests.airflow import loopback
from tests.airflow.test_operators import DAY, RUN, RUN_ID, FakeSpark, context, operator, spark  # noqa: F401  # the fixture

MODEL = "resnet18-random_0-fp32"
FAILED = {
    **{"name": "failed_fraction", "severity": "error", "passed": False, "value": 0.6667, "relation": "at_most"},
    **{"limit": 0.1, "warn_limit": 0.05, "message": "Share of listed files in quarantine: 2 truncated."},
    "offenders": ["file:///photos/day/a%20b.jpg", "file:///photos/day/{{ c }}.jpg", "s3://key:secret@photos/<b>.jpg"],
}
WARNED = {**FAILED, "severity": "warning", "value": 0.09}
PASSED = {**FAILED, "name": "drift", "passed": True}
RUN_PAGE = (
    f"http://airflow.example/sub/dags/image_features/runs/{RUN_ID.replace('+', '%2B').replace(':', '%3A')}/plugin"
)


@pytest.fixture(autouse=True)
def address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__API__BASE_URL", "http://airflow.example/sub/")


Ended = Callable[..., dict[str, Any]]


@pytest.fixture
def ended(spark: FakeSpark) -> Ended:  # noqa: F811
    """Runs a stage as the test has told `spark`, and gives the context of its callback."""

    def run(stage: str = "validate") -> dict[str, Any]:
        task, given = operator(stage), context()
        exception = None
        try:
            task.execute(given)
        except Exception as raised:
            exception = raised
        return callback(task, given["ti"], exception)

    return run


def callback(task: BaseOperator, told: Any, exception: Any = None, **more: Any) -> dict[str, Any]:
    """What Airflow hands to a callback of a task, which has told of itself in its XComs."""
    ti = SimpleNamespace(
        task=task,
        map_index=-1,
        start_date=datetime.now(UTC) - timedelta(minutes=5),
        log_url="http://airflow.example/sub/dags/image_features/log",
        xcom_pull=lambda key, task_ids, map_indexes=None: told.get(key),
    )
    found = {"dag": task.dag, "task": task, "ti": ti, "run_id": RUN_ID, **more}
    return {**found, "exception": exception} if exception else found


def publishes(spark: FakeSpark, warnings: list[str]) -> None:  # noqa: F811
    verdict = contract.WITH_WARNINGS if warnings else contract.PUBLISHED
    spark.succeeds(
        "validate",
        counts={"listed": 41, "featured": 38, "quarantined": 3},
        settings={"store": str(spark.store)},
        outcome={"verdict": verdict, "warnings": warnings, "off": [], "table_versions": {"features": 2}, "report": "r"},
    )
    reports(spark, [WARNED, PASSED] if warnings else [PASSED])


def reports(spark: FakeSpark, checks: list[dict[str, Any]]) -> None:  # noqa: F811
    """The report that lies in the run's folder when the job has ended."""
    folder = Path(contract.run_folder(str(spark.store), DAY, RUN))
    folder.mkdir(parents=True, exist_ok=True)
    report = {"checks": checks, "model": {"key": MODEL}, "counts": {"listed": 3, "featured": 1, "quarantined": 2}}
    (folder / "report.json").write_text(json.dumps(report))


def rejects(spark: FakeSpark) -> None:  # noqa: F811
    spark.fails("validate", contract.QualityFailed("quality_failed", "Check failed_fraction failed.", "Look at it."))
    reports(spark, [WARNED, FAILED, PASSED])


def test_a_rejected_run_is_told_with_its_checks_and_the_first_files(spark: FakeSpark, ended: Ended) -> None:  # noqa: F811
    rejects(spark)
    notice = notices.of(ended())
    assert (notice.title, notice.tone) == (f"{DAY} rejected (image_features)", "bad")
    assert notice.report.startswith(RUN_PAGE)
    (part,) = notice.parts
    assert (part.partition, part.stage, part.model, part.status) == (DAY, "validate", MODEL, "rejected")
    assert [check.level for check in part.checks] == ["error", "warning"], "what held it back comes first"
    text = notice.text().splitlines()
    assert text[:3] == [
        f"{DAY} rejected (image_features)",
        "Not published, because of failed fraction. What was published before stays.",
        "- failed_fraction 66.67 % (at most 10 %, warning above 5 %): Share of listed files in quarantine: "
        "2 truncated.",
    ]
    assert text[3:6] == ["    a b.jpg", "    {{ c }}.jpg", "    <b>.jpg"]
    assert text[-2:] == [f"Report: {notice.report}", "Log: http://airflow.example/sub/dags/image_features/log"]
    assert "secret" not in notice.text()


def test_where_a_person_is_asked_next_the_notice_says_where(spark: FakeSpark, ended: Ended) -> None:  # noqa: F811
    def answer(checks: list[dict[str, Any]]) -> str:
        rejects(spark)
        reports(spark, checks)
        task, given = operator("validate"), context()
        with task.dag:
            human_step.after(task)
        with pytest.raises(AirflowFailException) as caught:
            task.execute(given)
        return notices.of(callback(task, given["ti"], caught.value)).answer

    place = answer([WARNED, FAILED])
    assert place == f"{RUN_PAGE.removesuffix('/plugin')}/tasks/ask/required_actions"
    assert answer([FAILED, {**FAILED, "name": "finite"}]) == "", "nobody can overrule that"
    rejects(spark)
    assert notices.of(ended()).answer == "", "nobody is asked there"


def test_what_a_person_has_left_rejected_is_told_and_that_nobody_is_asked_is_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sent: list[notices.Notice] = []
    notifier = ImageFeaturesNotifier(http_conn_id="on_call")
    monkeypatch.setattr(notifier, "_ways", {"http": sent.append})
    task = operator("validate")
    with task.dag as dag:
        human_step.after(task)
    ask = dag.task_dict["ask"]
    assert [*ask.params] == ["reason"], "the person is not asked for the params of the Dag"
    said = "Not published, because of drift. A. Person has left it so; reason: dark."
    notifier.notify(callback(ask, {}, human_step.LeftRejected(said, DAY, MODEL)))
    notifier.notify(callback(ask, {}, human_step.NothingToDecide("The run was not rejected by its checks.")))
    (notice,) = sent
    assert (notice.title, notice.tone) == (f"{DAY} left rejected (image_features)", "bad")
    assert notice.text().splitlines()[1] == said


def test_a_warned_run_and_a_good_one_differ(spark: FakeSpark, ended: Ended) -> None:  # noqa: F811
    publishes(spark, ["failed_fraction"])
    warned = notices.of(ended())
    assert (warned.title, warned.tone) == (f"{DAY} published with warnings (image_features)", "warning")
    assert "38 vectors are published. Worth a look: failed fraction." in warned.text()
    assert "failed_fraction 9 % (at most 10 %, warning above 5 %)" in warned.text()
    publishes(spark, [])
    good = notices.of(ended())
    assert (good.title, good.tone, good.parts[0].checks) == (f"{DAY} published (image_features)", "good", ())


def test_a_stage_that_failed_speaks_with_the_words_of_its_job(spark: FakeSpark, ended: Ended) -> None:  # noqa: F811
    spark.fails("extract", contract.Unreachable("no_weights", "https://me:pass@hub/x?sig=1 is away.", "Try later."))
    notice = notices.of(ended("extract"))
    assert notice.title == f"{DAY} extract failed (image_features)"
    assert notice.parts[0].message == "https://…@hub/x?… is away."
    assert notice.parts[0].hint == "Try later."


def test_a_job_that_was_killed_left_no_word_and_that_is_said(spark: FakeSpark, ended: Ended) -> None:  # noqa: F811
    reports(spark, [FAILED])  # of an earlier attempt
    spark.does(f"import signal\nos.kill(os.getpid(), signal.{signal.SIGKILL.name})\n")
    notice = notices.of(ended())
    (part,) = notice.parts
    assert (part.status, part.checks) == ("failed", ()), "the earlier attempt's checks are not told"
    first, *spark_s = part.message.splitlines()
    assert first.startswith("validate was ended by signal 9. The job left neither a manifest nor an error")
    assert first.endswith("are often a lack of memory.") and part.hint == ""
    assert not spark_s or spark_s[0].startswith("Last spark-submit output")
    assert notice.title == f"{DAY} validate failed (image_features)"


def test_what_is_refused_before_a_job_starts_is_told_by_its_sentence(spark: FakeSpark, ended: Ended) -> None:  # noqa: F811
    rejects(spark)
    ended()  # what this one leaves is of an earlier attempt
    task, given = operator("validate", conn_id="no_such_connection"), context()
    with pytest.raises(Exception, match="no_such_connection") as raised:
        task.execute(given)
    later = callback(task, given["ti"], raised.value)
    later["ti"].start_date = datetime.now(UTC) + timedelta(seconds=2)
    notice = notices.of(later)
    assert (notice.parts[0].status, notice.parts[0].checks) == ("failed", ())
    assert "no_such_connection" in notice.parts[0].message


def test_of_a_task_that_died_with_its_process_the_store_tells(spark: FakeSpark, ended: Ended) -> None:  # noqa: F811
    """Airflow calls back in another process then, where the operator knows nothing."""
    rejects(spark)
    told = ended()["ti"].xcom_pull("image_features", "validate")
    other = operator("validate")
    notice = notices.of(callback(other, {"image_features": told}, "Task killed externally"))
    assert (notice.parts[0].status, len(notice.parts[0].checks)) == ("rejected", 2)


def test_a_task_that_failed_after_its_job_is_no_good_news(spark: FakeSpark, ended: Ended) -> None:  # noqa: F811
    publishes(spark, [])
    notice = notices.of({**ended(), "exception": RuntimeError("the asset cannot be announced")})
    assert (notice.parts[0].status, notice.tone) == ("published, then failed", "bad")
    assert "the asset cannot be announced" in notice.text()


def test_a_task_of_somebody_else_is_told_by_its_exception() -> None:
    with DAG("missing_at_six") as dag:
        task = BaseOperator(task_id="look")
    notice = notices.of({"dag": dag, "task": task, "run_id": "r", "exception": RuntimeError("There are no features.")})
    assert (notice.title, notice.parts[0].message) == ("look failed (missing_at_six)", "There are no features.")


@pytest.mark.parametrize("reason", ["success", "task_failure"])
def test_a_dag_run_is_told_by_the_last_stage_of_each_of_its_parts(spark: FakeSpark, ended: Ended, reason: str) -> None:  # noqa: F811
    rejects(spark) if reason == "task_failure" else publishes(spark, ["failed_fraction"])
    validated = ended()
    told = validated["ti"].xcom_pull("image_features", "validate")
    serving = {**told, "stage": "ingest", "folder": f"{told['folder']}-before-the-branch", "task": "ingest"}
    dag = validated["dag"]
    ti = SimpleNamespace(xcom_pull=lambda key, task_ids: [serving, None, told])
    notice = notices.of({"dag": dag, "task": validated["task"], "ti": ti, "run_id": RUN_ID, "reason": reason})
    status = {"success": "published with warnings", "task_failure": "rejected"}[reason]
    assert notice.title == f"{DAY} {status} (image_features)"
    assert (notice.task_id, notice.log, len(notice.parts)) == ("", "", 1)


def test_of_a_dag_run_without_any_word_its_end_is_told() -> None:
    with DAG("image_features") as dag:
        pass
    failed = notices.of({"dag": dag, "run_id": "r", "reason": "timed_out"})
    assert (failed.title, failed.parts[0].message) == ("r failed (image_features)", "The run has failed: timed out.")
    assert notices.of({"dag": dag, "run_id": "r", "reason": "success"}).tone == "good"


# --- to whom ----------------------------------------------------------------------------------------------------------


def connect(monkeypatch: pytest.MonkeyPatch, name: str, **fields: Any) -> None:
    monkeypatch.setenv(f"AIRFLOW_CONN_{name.upper()}", json.dumps(fields))


def test_a_webhook_is_sent_json(spark: FakeSpark, ended: Ended, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    rejects(spark)
    with loopback.webhook() as (port, got):
        connect(monkeypatch, "on_call", conn_type="http", host="127.0.0.1", port=port)
        told = {**ended(), "reason_code": "P1"}
        ImageFeaturesNotifier(http_conn_id="on_call", endpoint="alert/{{ run_id }}", headers={"X-Team": "photos"})(told)
    ((path, headers, body),) = got
    assert path.startswith("/alert/manual__2026") and headers["X-Team"] == "photos"
    assert (body["title"], body["tone"]) == (f"{DAY} rejected (image_features)", "bad")
    assert body["parts"][0]["checks"][0]["value"] == "66.67 %"
    assert body["text"].startswith(body["title"])


def test_slack_is_sent_blocks_in_which_a_file_name_is_no_markup(
    spark: FakeSpark,  # noqa: F811
    ended: Ended,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rejects(spark)
    with loopback.webhook() as (port, got):
        connect(monkeypatch, "slack", conn_type="slackwebhook", password=f"http://127.0.0.1:{port}/services/T/B/x")
        ImageFeaturesNotifier(slack_webhook_conn_id="slack")(ended())
    ((path, _, body),) = got
    assert (path, body["text"]) == ("/services/T/B/x", f"{DAY} rejected (image_features)")
    header, part, links = body["blocks"]
    assert header["text"] == {"type": "plain_text", "text": f":x: {DAY} rejected (image_features)"}
    assert "*failed_fraction* 66.67 %" in part["text"]["text"] and "`&lt;b&gt;.jpg`" in part["text"]["text"]
    assert f"<{RUN_PAGE}" in links["text"]["text"]


def test_a_mail_has_the_checks_as_a_table_in_which_a_file_name_is_no_markup(
    spark: FakeSpark,  # noqa: F811
    ended: Ended,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rejects(spark)
    with loopback.mail() as (port, got):
        extra = {"disable_ssl": True, "disable_tls": True, "from_email": "airflow@example.org"}
        connect(monkeypatch, "smtp_default", conn_type="smtp", host="127.0.0.1", port=port, extra=extra)
        ImageFeaturesNotifier(to=["on-call@example.org", "photos@example.org"])(ended())
    (mail,) = got
    assert (mail["Subject"], mail["From"]) == (f"{DAY} rejected (image_features)", "airflow@example.org")
    assert mail["To"] == "on-call@example.org, photos@example.org"
    body = mail.get_body(("html",))
    assert body is not None
    html = body.get_content()
    assert "<strong>66.67 %</strong>" in html and f'href="{RUN_PAGE}' in html
    assert "<code>&lt;b&gt;.jpg</code>" in html and "{{ c }}.jpg" in html


def test_one_that_cannot_be_reached_does_not_keep_the_others_from_being_told(
    spark: FakeSpark,  # noqa: F811
    ended: Ended,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rejects(spark)
    with loopback.webhook(status=500) as (broken, refused), loopback.webhook() as (port, got):
        connect(monkeypatch, "slack", conn_type="slackwebhook", password=f"http://127.0.0.1:{broken}/x")
        connect(monkeypatch, "on_call", conn_type="http", host="127.0.0.1", port=port)
        with pytest.raises(Exception, match="500"):
            ImageFeaturesNotifier(slack_webhook_conn_id="slack", http_conn_id="on_call")(ended())
    assert (len(refused), len(got)) == (1, 1)


def test_a_quiet_notifier_tells_warnings_and_failures_alone(
    spark: FakeSpark,  # noqa: F811
    ended: Ended,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with loopback.webhook() as (port, got):
        connect(monkeypatch, "on_call", conn_type="http", host="127.0.0.1", port=port)
        for tells in (lambda: publishes(spark, []), lambda: publishes(spark, ["drift"]), lambda: rejects(spark)):
            tells()
            ImageFeaturesNotifier(http_conn_id="on_call", quiet=True)(ended())
    assert [body["tone"] for _, _, body in got] == ["warning", "bad"]


def test_the_triggerer_tells_it_too(spark: FakeSpark, ended: Ended, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    rejects(spark)
    with loopback.webhook() as (port, got):
        connect(monkeypatch, "on_call", conn_type="http", host="127.0.0.1", port=port)

        async def told() -> None:
            await ImageFeaturesNotifier(http_conn_id="on_call", context=ended())

        asyncio.run(told())
    assert len(got) == 1


def test_without_a_receiver_it_is_refused() -> None:
    with pytest.raises(contract.BadSetting, match="slack_webhook_conn_id, to, http_conn_id"):
        ImageFeaturesNotifier()


@pytest.mark.parametrize(
    ("provider", "argument"), [("slack", "slack_webhook_conn_id"), ("smtp", "to"), ("http", "http_conn_id")]
)
def test_a_provider_that_is_not_installed_is_a_sentence(
    monkeypatch: pytest.MonkeyPatch, provider: str, argument: str
) -> None:
    find = importlib.util.find_spec
    name = f"airflow.providers.{provider}"
    monkeypatch.setattr(importlib.util, "find_spec", lambda wanted: None if wanted == name else find(wanted))
    with pytest.raises(
        contract.BadSetting, match=f"{argument} .* needs the package apache-airflow-providers-{provider}"
    ):
        ImageFeaturesNotifier(**{argument: "x"})
