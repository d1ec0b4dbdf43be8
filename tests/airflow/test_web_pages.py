"""What the pages say of the store and of a run: whole, half-written, missing, broken, or of a newer version."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import quote

import pytest
from fastapi.testclient import TestClient

from spark_apps import contract
from tests.airflow.web import API, Run, published
from tests.shelf import MODEL, Shelf, image_id

DAY = "2026-11-20"
LATER = datetime.now(UTC) + timedelta(hours=1)


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    """The store that is configured."""
    return Shelf(str(tmp_path / "store"))


@pytest.fixture(autouse=True)
def no_runs(airflow_app: Any) -> None:
    """Airflow's database without the runs of other tests."""
    from airflow.models.dagrun import DagRun
    from airflow.utils.session import create_session
    from sqlalchemy import delete

    with create_session() as session:
        session.execute(delete(DagRun))


@pytest.fixture
def get(clients: Callable[[str], TestClient]) -> Callable[[str], Any]:
    """The decoded answer to a viewer; nothing that was kept from before counts."""
    viewer = clients("viewer")

    def ask(path: str) -> Any:
        from image_features.web import store_state

        store_state._published.forget()
        answer = viewer.get(f"{API}/{path}")
        assert answer.status_code == 200, answer.text
        return answer.json()

    return ask


def run_path(run: Run, rest: str = "") -> str:
    return f"runs/{quote(run.run_id)}{rest}"


# --- the overview -----------------------------------------------------------------------------------------------------


def test_partitions_are_listed_by_number_and_a_run_stands_among_its_series(get: Any, shelf: Shelf) -> None:
    keys = ["texts", "batch-7", "batch-10", "batch-9", "2026-11-21", "2026-11-22T07", "2026-11-22"]
    runs = {key: published(shelf, key) for key in keys}
    failed = Run(shelf.store, "batch-8", state="failed").enter()
    failed.fails("ingest", contract.Unreachable("x", "Not there."))
    listed = [row["partition"] for row in get("overview")["partitions"]]
    named = ["texts", "batch-10", "batch-9", "batch-8", "batch-7"]
    assert listed == ["2026-11-22T07", "2026-11-22", "2026-11-21", *named]
    for key, days in {"batch-10": ["batch-7", "batch-9"], "2026-11-22": ["2026-11-21"], "texts": []}.items():
        assert [day["partition"] for day in get(run_path(runs[key]))["drift"]["days"]] == [*days, key]
    offered = [found["partition"] for found in get("partitions/texts/photos")["partitions"]]
    assert offered == [key for key in listed if key != "batch-8"]


def test_published_partitions_come_newest_first_with_the_numbers_of_their_report(get: Any, shelf: Shelf) -> None:
    runs = [published(shelf, day) for day in ("2026-11-19", DAY)]
    overview = get("overview")
    assert overview["store"] == {"code": "ok", "message": "", "hint": ""}
    assert overview["models"] == [MODEL]
    assert [row["partition"] for row in overview["partitions"]] == [DAY, "2026-11-19"]
    newest = overview["partitions"][0]
    assert newest["run_id"] == newest["dag_run_id"] == newest["published_run_id"] == runs[1].run_id
    expected = {
        **{"status": "published", "model": MODEL, "rows": 3, "listed": 3, "featured": 2, "quarantined": 1},
        **{"computed": 2, "reused": 0, "images_per_second": 4.0, "seconds": 8.0, "drift": 0.1, "max_drift": 0.5},
        **{"checks_passed": ["drift", "row_count"], "checks_warned": [], "checks_failed": [], "checks_off": []},
        "error": None,
    }
    assert {name: newest[name] for name in expected} == expected


@pytest.mark.parametrize("state", ["failed", "running", "queued"])
def test_a_newer_run_that_did_not_publish_is_shown_over_what_stands(state: str, get: Any, shelf: Shelf) -> None:
    standing = published(shelf)
    newer = Run(shelf.store, DAY, state=state, began=LATER).enter()
    newer.fails("ingest", contract.Unreachable("source_unreachable", "s3://user:secret@bucket does not answer."))
    (row,) = get("overview")["partitions"]
    assert (row["status"], row["run_id"], row["published_run_id"]) == (state, newer.run_id, standing.run_id)
    if state == "failed":
        assert row["error"]["message"] == "s3://…@bucket does not answer."
        assert row["rows"] == 3


def test_a_failed_run_that_was_repeated_since_is_history(get: Any, shelf: Shelf) -> None:
    Run(shelf.store, DAY, state="failed").enter().fails("extract", contract.JobError("unexpected", "Out of memory."))
    published(shelf)
    assert [row["status"] for row in get("overview")["partitions"]] == ["published"]


def test_a_run_in_progress_comes_before_one_that_failed_meanwhile(get: Any, shelf: Shelf) -> None:
    running = Run(shelf.store, DAY, state="running").enter()
    Run(shelf.store, DAY, state="failed", began=LATER).enter()
    (row,) = get("overview")["partitions"]
    assert (row["status"], row["run_id"]) == ("running", running.run_id)


def test_a_rejected_run_says_which_check(get: Any, shelf: Shelf) -> None:
    rejected = Run(shelf.store, DAY, state="failed").enter().reports("rejected")
    rejected.fails("validate", contract.QualityFailed("quality_failed", "Check drift failed."), minute=5)
    overview = get("overview")
    (row,) = overview["partitions"]
    assert (row["status"], row["checks_failed"], row["published_run_id"]) == ("rejected", ["drift"], None)
    assert overview["store"]["code"] == "missing" or overview["store"]["code"] == "empty"


def test_failures_stay_in_sight_whatever_model_is_asked_for(get: Any, shelf: Shelf) -> None:
    published(shelf, "2026-11-18")
    Run(shelf.store, DAY, state="failed").enter()
    Run(shelf.store, "2026-11-19", state="failed").enter().reports("rejected")
    rows = get(f"overview?model={MODEL}")["partitions"]
    assert [(row["partition"], row["status"]) for row in rows] == [
        (DAY, "failed"),
        ("2026-11-19", "rejected"),
        ("2026-11-18", "published"),
    ]
    assert [row["partition"] for row in get("overview?model=another")["partitions"]] == [DAY]


def test_a_model_that_failed_does_not_hide_another_that_is_published(get: Any, shelf: Shelf) -> None:
    published(shelf)
    other = {"key": "other-model", "fingerprint": "f"}
    failed = Run(shelf.store, DAY, state="failed", began=LATER).enter().finishes("ingest", "extract", model=other)
    rows = {row["model"]: row["status"] for row in get("overview")["partitions"]}
    assert rows == {MODEL: "published", "other-model": "failed"}
    assert failed.run_id


def test_a_run_that_is_tried_again_does_not_show_what_it_failed_of_before(get: Any, shelf: Shelf) -> None:
    again = Run(shelf.store, DAY, state="failed", began=LATER).enter()
    again.fails("ingest", contract.JobError("unexpected", "The first try."), minute=-600)
    (row,) = get("overview")["partitions"]
    assert (row["status"], row["error"]) == ("failed", None)


@pytest.mark.parametrize("content", ['{"report_version": 1, "run', "[]", '{"report_version": 2}', "{}", '"text"'])
def test_a_report_that_cannot_be_read_is_a_state(content: str, get: Any, shelf: Shelf) -> None:
    published(shelf, "2026-11-19")
    run = published(shelf).leaves("report.json", content)
    row, other = get("overview")["partitions"]
    assert (row["status"], row["rows"], row["listed"]) == ("unknown", 3, None)
    assert other["status"] == "published"
    assert get(run_path(run))["verdict"]["status"] == "unknown"


@pytest.mark.parametrize(
    "oddity",
    [
        {"counts": {"listed": "many"}},
        {"counts": []},
        {"checks": [{"name": "drift", "passed": True, "severity": "error"}]},
        {"checks": None},
        {"drift": {"value": "x", "limit": None}},
        {"norms": {}},
        {"seconds": []},
        {"model": None},
        {"at": 7},
    ],
)
def test_a_report_with_something_else_in_it_spoils_only_its_own_row(
    oddity: dict[str, Any], get: Any, shelf: Shelf
) -> None:
    published(shelf, "2026-11-19")
    run = published(shelf)
    run.leaves("report.json", {**json.loads((run.folder / "report.json").read_text()), **oddity})
    overview = get("overview")
    assert overview["store"]["code"] == "ok"
    assert [row["partition"] for row in overview["partitions"]] == [DAY, "2026-11-19"]
    assert overview["partitions"][1]["status"] == "published"
    report = get(run_path(run))
    assert report["verdict"]["status"] == "unknown" or report["verdict"]["tone"] == "good"


# --- the store --------------------------------------------------------------------------------------------------------


def _log(store: str, table: str = "features") -> Path:
    return Path(store, table, "_delta_log")


def _next_commit(store: str, content: str) -> None:
    number = max(int(path.stem) for path in _log(store).glob("*.json")) + 1
    (_log(store) / f"{number:020}.json").write_text(content)


def _break(store: str, how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    future = {"readerFeatures": ["fromTheFuture"], "writerFeatures": ["fromTheFuture"]}
    match how:
        case "not_configured":
            monkeypatch.setenv("AIRFLOW__IMAGE_FEATURES__STORE", "")
        case "relative":
            monkeypatch.setenv("AIRFLOW__IMAGE_FEATURES__STORE", "features")
        case "missing":
            Path(store).rename(store + " elsewhere")
        case "newer protocol":
            _next_commit(store, json.dumps({"protocol": {"minReaderVersion": 3, "minWriterVersion": 7, **future}}))
        case "newer columns":
            for path in _log(store).glob("*.json"):
                path.write_text(path.read_text().replace('\\"uri\\"', '\\"address\\"'))
        case "half-written commit":
            _next_commit(store, '{"add": {"path": "da')
        case "unreachable":
            monkeypatch.setenv("AIRFLOW__IMAGE_FEATURES__STORE", "s3://bucket-of-nobody/features")
            monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
            monkeypatch.setenv("AWS_ALLOW_HTTP", "true")
            monkeypatch.setenv("AWS_ACCESS_KEY_ID", "planted-key")
            monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "planted-secret")
            monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")


@pytest.mark.parametrize(
    ("how", "code"),
    [
        ("not_configured", "not_configured"),
        ("relative", "not_configured"),
        ("missing", "missing"),
        ("newer protocol", "newer_schema"),
        ("newer columns", "newer_schema"),
        ("half-written commit", "damaged"),
        ("unreachable", "unreachable"),
    ],
)
def test_a_broken_store_is_a_sentence_on_every_page(
    how: str, code: str, get: Any, clients: Any, shelf: Shelf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = published(shelf)
    _break(shelf.store, how, monkeypatch)
    overview, report = get("overview"), get(run_path(run))
    assert overview["store"]["code"] == code
    assert overview["store"]["message"] and overview["store"]["hint"]
    if how != "missing":
        assert report["store"]["code"] == code
    refusal = clients("viewer").get(f"{API}/partitions/{DAY}/photos")
    assert (refusal.status_code, refusal.json()["code"]) == (503, code)
    for text in (json.dumps(overview), json.dumps(report), refusal.text):
        assert str(tmp_path) not in text.replace("/photos", "") and "planted" not in text and "127.0.0.1" not in text


def test_failures_are_seen_while_the_store_is_not(get: Any, shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    Run(shelf.store, DAY, state="failed").enter()
    monkeypatch.setenv("AIRFLOW__IMAGE_FEATURES__STORE", "")
    overview = get("overview")
    assert overview["store"]["code"] == "not_configured"
    assert [(row["partition"], row["status"]) for row in overview["partitions"]] == [(DAY, "failed")]


def test_an_empty_store_says_how_to_start(get: Any, shelf: Shelf) -> None:
    shelf.publish(DAY, "r", {})
    overview = get("overview")
    assert (overview["store"]["code"], overview["partitions"]) == ("empty", [])
    assert "Trigger" in overview["store"]["hint"]


# --- one run ----------------------------------------------------------------------------------------------------------


def test_a_published_run_s_report(get: Any, shelf: Shelf) -> None:
    before, run = published(shelf, "2026-11-19"), published(shelf)
    report = get(run_path(run))
    assert report["partition"] == DAY
    assert report["verdict"] == {
        "status": "published",
        "tone": "good",
        "message": "2 vectors are published, and every check has passed.",
        "hint": "",
        "question": None,
    }
    assert (report["published"], report["published_run_id"], report["live"]) == (True, run.run_id, False)
    assert [stage["state"] for stage in report["stages"]] == ["done"] * 3
    assert report["stages"][0]["total_seconds"] == 2.5
    assert {name: report["counts"][name] for name in ("listed", "featured", "quarantined")} == {
        "listed": 3,
        "featured": 2,
        "quarantined": 1,
    }
    assert report["checks"][0] | {"message": ""} == {
        **{"name": "drift", "severity": "error", "passed": True, "value": 0.1, "limit": 0.5, "message": ""},
        **{"relation": "at_most", "warn_limit": None, "offenders": []},
    }
    assert report["checks"][1]["relation"] == "at_least"
    assert [(day["partition"], day["current"]) for day in report["drift"]["days"]] == [
        ("2026-11-19", False),
        (DAY, True),
    ]
    assert report["drift"]["days"][0]["norm_median"] == 2.0
    assert report["drift"]["moved"] == [{"image_id": image_id("A"), "name": "a b.jpg", "moved": 0.25}]
    assert report["drift"]["second_opinion"] == {"today": 20, "before": 30, "mmd2": 0.01, "p": 0.04, "auc": 0.75}
    assert report["quarantine"][0]["code"] == "empty" and "Send it again" in report["quarantine"][0]["hint"]
    assert report["model"]["key"] == MODEL
    assert report["model"]["calibration"] is None
    assert before.run_id


@pytest.mark.parametrize("noted", [("cosine_min", "cosine_median"), ("cosine_min", "cosine_q05", "below")])
def test_the_page_of_an_int8_run_shows_how_close_its_model_is(get: Any, shelf: Shelf, noted: tuple[str, ...]) -> None:
    run = published(shelf)
    manifest = json.loads((run.folder / "extract.json").read_text())
    said = {"partition": "d1", "photos": 150, "held_out": 32, "uncalibrated": "ab", **dict.fromkeys(noted, 0.5)}
    manifest["model"] |= {"precision": "int8", "calibration": said}
    (run.folder / "extract.json").write_text(json.dumps(manifest))
    shown = get(run_path(run))["model"]["calibration"]
    assert {name: value for name, value in shown.items() if value is not None} == {
        name: value for name, value in said.items() if name != "uncalibrated"
    }


def test_a_check_that_was_turned_off_is_told_and_not_counted_as_passed(get: Any, shelf: Shelf) -> None:
    run = published(shelf)
    report = json.loads((run.folder / "report.json").read_text())
    report["checks"][0] |= {"severity": "off", "passed": None, "value": None, "limit": None}
    run.leaves("report.json", report)
    (row,) = get("overview")["partitions"]
    assert (row["status"], row["checks_passed"], row["checks_off"]) == ("published", ["row_count"], ["drift"])
    told = get(run_path(run))
    assert (told["checks"][0]["severity"], told["checks"][0]["passed"]) == ("off", None)
    assert told["verdict"]["message"].endswith("every check that was run has passed. Turned off: drift.")


def test_a_check_s_limit_is_shown_as_the_report_says_it(get: Any, shelf: Shelf) -> None:
    run = published(shelf)
    report = json.loads((run.folder / "report.json").read_text())
    check, told = report["checks"][0], [*contract.RELATIONS, None, "of a newer version", ["?"]]
    report["checks"] = [{**check, "name": "row_count", "relation": relation} for relation in told]
    report["checks"].append({**check, "name": "row_count"})
    run.leaves("report.json", report)
    shown = [check["relation"] for check in get(run_path(run))["checks"]]
    assert shown == [*contract.RELATIONS, None, None, None, "at_least"], "the last as by a report that does not say it"


def test_a_run_that_has_just_ended_is_judged_by_what_is_published_now(
    clients: Callable[[str], TestClient], get: Any, shelf: Shelf
) -> None:
    assert get("overview")["store"]["code"] == "missing"
    viewer, run = clients("viewer"), published(shelf)  # within the seconds for which the answer above is believed
    assert viewer.get(f"{API}/{run_path(run)}").json()["verdict"]["status"] == "published"
    again = published(shelf)
    overview = viewer.get(f"{API}/overview").json()
    assert [(row["run_id"], row["status"]) for row in overview["partitions"]] == [(again.run_id, "published")]
    assert viewer.get(f"{API}/{run_path(run)}").json()["verdict"]["status"] == "superseded"


def test_a_warning_is_published_and_worth_a_look(get: Any, shelf: Shelf) -> None:
    run = published(shelf)
    warned = json.loads((run.folder / "report.json").read_text())
    warned["checks"][1]["passed"] = False
    run.leaves("report.json", warned)
    verdict = get(run_path(run))["verdict"]
    assert (verdict["tone"], verdict["status"]) == ("warning", "published_with_warnings")
    assert "row count" in verdict["message"]
    assert [row["status"] for row in get("overview")["partitions"]] == ["published_with_warnings"]


def test_what_a_person_has_overruled_is_published_with_a_name_and_a_reason(get: Any, shelf: Shelf) -> None:
    run = published(shelf)
    report = json.loads((run.folder / "report.json").read_text())
    report["checks"][0] |= {"passed": False, "severity": "warning"}
    decided = {"by": "A. Person", "reason": "A new camera.", "at": "2026-11-20T09:15:00+00:00", "checks": ["drift"]}
    run.leaves("report.json", report | {"approval": decided})
    verdict = get(run_path(run))["verdict"]
    assert (verdict["tone"], verdict["status"]) == ("warning", "published_with_warnings")
    said = "2 vectors are published, drift overruled by A. Person on 2026-11-20 09:15 UTC: A new camera."
    assert (verdict["message"], verdict["hint"]) == (said, "A person has decided this, not the checks.")


def test_a_rejected_run_that_a_person_is_asked_about_says_where_and_then_what_the_answer_was(
    get: Any, shelf: Shelf
) -> None:
    def asked(**answer: Any) -> Any:
        run = Run(shelf.store, "2026-11-20", state="running", began=datetime.now(UTC) - timedelta(minutes=10))
        run.reports("rejected").fails("validate", contract.QualityFailed("quality_failed", "Check drift failed."))
        return run.enter().asks("ask", **answer)

    open_one = asked()
    verdict = get(run_path(open_one))["verdict"]
    assert (verdict["status"], verdict["tone"]) == ("rejected", "warning")
    assert verdict["message"].endswith("A person is asked whether it is published all the same.")
    run_id = quote(open_one.run_id, safe="")
    assert verdict["question"] == f"dags/image_features/runs/{run_id}/tasks/ask/required_actions"
    at = datetime(2026, 11, 20, 9, 15, tzinfo=UTC)
    answer = {"responded_at": at, "responded_by": {"id": "1", "name": "A. Person"}, "params_input": {"reason": "Dark."}}
    verdict = get(run_path(asked(chosen_options=["Reject"], **answer)))["verdict"]
    said = "Not published, because of drift. A. Person has left it so on 2026-11-20 09:15 UTC; reason: Dark."
    assert (verdict["status"], verdict["tone"], verdict["question"]) == ("rejected", "bad", None)
    assert verdict["message"] == said
    verdict = get(run_path(asked(chosen_options=["Approve"], **answer)))["verdict"]
    assert (verdict["status"], verdict["message"]) == ("running", "A. Person has approved it.")
    verdict = get(run_path(asked(chosen_options=["Reject"], responded_at=at)))["verdict"]
    assert verdict["message"].endswith("Nobody has answered in time, so it stays rejected.")


def test_of_a_run_in_parts_each_is_asked_about_by_itself(get: Any, shelf: Shelf) -> None:
    began = datetime.now(UTC) - timedelta(minutes=10)
    first, second = (
        Run(shelf.store, "2026-11-20", "manual__parts", "running", began, branch=name) for name in ("a", "b")
    )
    first.enter()
    for run in (first, second):
        run.tells(f"validate_{run.branch}", "validate", folder=str(run.folder)).reports("rejected")
    first.asks("ask_a")
    parts = {part["branch"]: part["key"] for part in get(run_path(first))["parts"]}
    assert get(f"{run_path(first)}?part={parts['a']}")["verdict"]["question"].endswith("/tasks/ask_a/required_actions")
    assert get(f"{run_path(first)}?part={parts['b']}")["verdict"]["question"] is None


def test_a_check_beyond_its_narrower_limit_is_shown_with_both(get: Any, shelf: Shelf) -> None:
    run = published(shelf)
    warned = json.loads((run.folder / "report.json").read_text())
    warned["verdict"] = "published_with_warnings"
    warned["checks"][0] |= {"passed": False, "severity": "warning", "value": 0.4, "warn_limit": 0.3}
    run.leaves("report.json", warned)
    shown = get(run_path(run))
    check = shown["checks"][0]
    assert (check["value"], check["limit"], check["warn_limit"], shown["checks"][1]["warn_limit"]) == (
        0.4,
        0.5,
        0.3,
        None,
    )
    assert shown["verdict"]["message"] == "2 vectors are published. Worth a look: drift."
    (row,) = get("overview")["partitions"]
    assert (row["status"], row["checks_warned"]) == ("published_with_warnings", ["drift"])
    again = published(shelf)
    assert get(run_path(run))["verdict"]["status"] == "superseded", "by a run without a warning"
    assert get(run_path(again))["verdict"]["status"] == "published"


def test_what_moved_the_drift_is_told_without_what_was_erased_since(get: Any, shelf: Shelf) -> None:
    run = published(shelf)
    report = json.loads((run.folder / "report.json").read_text())
    left = [{"image_id": "(erased)", "uri": "(erased)", "moved": 0.5}, *report["drift"]["moved"]]
    run.leaves("report.json", {**report, "drift": {**report["drift"], "moved": left, "second_opinion": None}})
    drift = get(run_path(run))["drift"]
    assert [photo["name"] for photo in drift["moved"]] == ["a b.jpg"]
    assert drift["second_opinion"] is None
    before = {name: report["drift"][name] for name in ("value", "limit", "sketch", "by_partition")}
    run.leaves("report.json", {**report, "drift": before})
    drift = get(run_path(run))["drift"]
    assert (drift["value"], drift["moved"], drift["second_opinion"]) == (0.1, [], None), "a report of an older version"


def test_a_rejected_run_s_report_names_the_files(get: Any, shelf: Shelf) -> None:
    published(shelf)
    run = Run(shelf.store, DAY, state="failed", began=LATER).enter().reports("rejected")
    (run.folder / "validate.json").unlink()
    report = get(run_path(run))
    assert report["verdict"]["status"] == "rejected" and report["verdict"]["tone"] == "bad"
    assert "drift" in report["verdict"]["message"] and "still stands" in report["verdict"]["message"]
    assert report["checks"][0]["offenders"] == ["a b.jpg"]
    assert report["stages"][2]["seconds"] == {"read": 1.0}
    assert report["published"] is False


def test_a_failed_run_speaks_with_the_words_of_its_job(get: Any, shelf: Shelf) -> None:
    run = Run(shelf.store, DAY, state="failed").enter().finishes("ingest")
    run.fails("extract", contract.BadSetting("bad_weights", "No such weights.", "Use DEFAULT."))
    report = get(run_path(run))
    assert report["verdict"] == {
        **{"status": "failed", "tone": "bad"},
        **{"message": "extract failed: No such weights.", "hint": "Use DEFAULT.", "question": None},
    }
    assert [stage["state"] for stage in report["stages"]] == ["done", "failed", "missing"]
    assert report["counts"]["quarantined"] == 1
    assert report["error"]["code"] == "bad_weights"


def test_a_running_run_shows_how_far_it_is(get: Any, shelf: Shelf) -> None:
    run = Run(shelf.store, DAY, state="running").enter().finishes("ingest")
    progress = {
        **{"stage": "extract", "total": 100, "resumed": 30, "done": 40, "failed": 2},
        **{"images_per_second": 8.5, "eta_s": 7, "at": run.at(2)},
    }
    run.leaves("progress.json", progress)
    report = get(run_path(run))
    assert (report["live"], report["verdict"]["status"]) == (True, "running")
    assert [stage["state"] for stage in report["stages"]] == ["done", "running", "missing"]
    assert report["progress"] == progress


@pytest.mark.parametrize("content", ["{", "[]", '{"stage": "extract"}', '{"total": "many"}'])
def test_a_half_written_progress_note_is_left_out(content: str, get: Any, shelf: Shelf) -> None:
    run = Run(shelf.store, DAY, state="running").enter().finishes("ingest").leaves("progress.json", content)
    assert get(run_path(run))["progress"] is None


@pytest.mark.parametrize("name", ["ingest.json", "extract.json", "validate.json", "error.json"])
@pytest.mark.parametrize("content", ["{", "[]", '{"stage": 1}', "null", '{"stage": "x", "new": {}}'])
def test_half_written_documents_are_states(name: str, content: str, get: Any, shelf: Shelf) -> None:
    run = published(shelf).leaves(name, content)
    report = get(run_path(run))
    stage = name.removesuffix(".json")
    if stage in contract.STAGES:
        states = {found["name"]: found["state"] for found in report["stages"]}
        assert states[stage] == ("missing" if content == "null" else "unreadable")
    assert get("overview")["partitions"][0]["rows"] == 3


def test_manifests_of_an_earlier_attempt_do_not_count(get: Any, shelf: Shelf) -> None:
    run = Run(shelf.store, DAY, state="running").enter().reports()
    again = Run(shelf.store, DAY, run_id=run.run_id, began=run.began + timedelta(hours=1))
    again.finishes("ingest")
    report = get(run_path(run))
    assert [stage["state"] for stage in report["stages"]] == ["done", "running", "missing"]
    assert report["checks"] == []


def test_a_run_without_a_partition_says_so(get: Any, shelf: Shelf) -> None:
    run = Run(shelf.store, "none", state="failed").enter(conf={"partition": "../x"})
    report = get(run_path(run))
    assert report["partition"] is None
    assert "no partition" in report["verdict"]["message"]


def test_the_days_of_a_backfill_each_have_their_own_run(get: Any, shelf: Shelf) -> None:
    assert _partition_of({}, DAY_19) == "2026-11-19"
    assert _partition_of({"partition": "batch-7"}, DAY_19) == "batch-7"
    assert _partition_of(None) is None
    assert _partition_of({"partition": 7}) is None


def test_a_run_with_a_partition_key_has_that_partition(get: Any, shelf: Shelf) -> None:
    run = Run(shelf.store, "2026-W47", state="failed").enter(conf={}, partition_key="2026-W47")
    assert get(run_path(run))["partition"] == "2026-W47"
    assert _partition_of({"partition": "batch-7"}, DAY_19, partition_key="2026-W47") == "batch-7"
    assert _partition_of({}, DAY_19, partition_key="2026-W47") == "2026-W47"


def test_the_partition_is_that_of_the_configured_time_zone(monkeypatch: pytest.MonkeyPatch) -> None:
    in_berlin = datetime(2026, 11, 18, 23, tzinfo=UTC), datetime(2026, 11, 19, 23, tzinfo=UTC)
    assert _partition_of({}, in_berlin) == "2026-11-18"
    monkeypatch.setenv("AIRFLOW__IMAGE_FEATURES__TIMEZONE", "Europe/Berlin")
    assert _partition_of({}, in_berlin) == "2026-11-19"


def test_a_run_that_would_be_refused_today_has_a_partition_only_if_an_older_version_ran_it() -> None:
    trigger = DAY_19[0], DAY_19[0]
    hour = DAY_19[0], DAY_19[0] + timedelta(hours=1)
    for interval in (trigger, hour):
        assert _partition_of({}, interval, state="failed") is None
        assert _partition_of({}, interval, state="success") == "2026-11-19"


DAY_19 = datetime(2026, 11, 19, tzinfo=UTC), datetime(2026, 11, 20, tzinfo=UTC)


def _partition_of(conf: Any, interval: Any = (None, None), partition_key: str | None = None, state: str = "") -> Any:
    from image_features.web.airflow_runs import partition_of

    named = {"data_interval_start": interval[0], "data_interval_end": interval[1], "partition_key": partition_key}
    return partition_of(SimpleNamespace(conf=conf, state=state, **named))


# --- quarantine and sample --------------------------------------------------------------------------------------------


def test_quarantined_files_come_in_pages_with_advice(get: Any, shelf: Shelf) -> None:
    run = published(shelf)
    staged = shelf.quarantine(DAY, run.key, [f"file:///photos/day/deep/x{number:02}.jpg" for number in range(30)])
    run.finishes("ingest", staged={"quarantine": staged}).finishes("extract", staged={}, outcome={})
    first, second = get(run_path(run, "/quarantine")), get(run_path(run, "/quarantine?page=2"))
    assert (first["total"], first["pages"], len(first["files"]), len(second["files"])) == (30, 2, 25, 5)
    assert first["files"][0]["name"] == "deep/x00.jpg"
    assert first["files"][0]["code"] == "empty" and first["files"][0]["thumbnail"] is False
    assert get(run_path(run, "/quarantine?page=9"))["page"] == 2


def test_a_sample_is_the_same_each_time_and_only_of_what_is_published(get: Any, shelf: Shelf) -> None:
    old = published(shelf)
    sample = get(run_path(old, "/photos?count=1"))
    assert sample == get(run_path(old, "/photos?count=1"))
    assert sample["photos"][0]["image_id"] in (image_id("A"), image_id("B"))
    published(shelf)
    assert get(run_path(old, "/photos"))["photos"] == []


def test_the_poorest_photos_come_with_their_values_and_once_each(get: Any, shelf: Shelf) -> None:
    files = {f"file:///photos/day/{name}{copy}.jpg": name for name in "ABCDEFGH" for copy in "12"}
    dark = [uri for uri, name in files.items() if name in "CF"]
    run = Run(shelf.store, DAY)
    shelf.publish(DAY, run.key, files, dark=dark)
    run.enter()
    found = get(run_path(run, "/poor"))
    kinds = {kind["kind"]: kind for kind in found["kinds"]}
    assert (found["measured"], list(kinds)) == (16, ["blank", "dark", "blurred"])
    assert {name: kind["total"] for name, kind in kinds.items()} == {"blank": 0, "dark": 4, "blurred": 0}
    assert kinds["blank"]["photos"] == []
    shown = [(photo["image_id"], photo["value"], photo["copies"]) for photo in kinds["dark"]["photos"]]
    assert shown[:2] == [(image_id("C"), 9, 2), (image_id("F"), 9, 2)]
    assert len(shown) == 6 and {value for _, value, _ in shown[2:]} == {90}
    shelf.publish(DAY, "another", files)
    assert get(run_path(run, "/poor"))["kinds"] == []


# --- photos -----------------------------------------------------------------------------------------------------------


def test_a_photo_with_copies_is_shown_once(get: Any, shelf: Shelf) -> None:
    published(shelf)
    page = get(f"partitions/{DAY}/photos")
    assert [(photo["name"], photo["copies"]) for photo in page["photos"]] == [("a.jpg", 2), ("b.jpg", 1)]
    assert (page["total"], page["pages"], page["model"], page["extractor"]) == (2, 1, MODEL, "image")


def test_every_published_partition_can_be_gone_to(get: Any, shelf: Shelf) -> None:
    published(shelf)
    shelf.publish("2026-11-19", "other", {"file:///photos/x.jpg": "X"}, model="words_4")
    shelf.publish(DAY, "other", {"file:///photos/x.jpg": "X"}, model="words_4")
    expected = [
        {"partition": DAY, "models": [MODEL, "words_4"]},
        {"partition": "2026-11-19", "models": ["words_4"]},
    ]
    for model in (MODEL, "words_4"):
        assert get(f"partitions/{DAY}/photos?model={model}")["partitions"] == expected


def test_neighbours_leave_out_the_photo_itself_and_its_copies(get: Any, shelf: Shelf) -> None:
    published(shelf)
    found = get(f"partitions/{DAY}/neighbours?image={image_id('A')}")
    assert found["query"]["image_id"] == image_id("A")
    assert [neighbour["image_id"] for neighbour in found["neighbours"]] == [image_id("B")]
    assert found["neighbours"][0]["cosine"] + found["neighbours"][0]["distance"] == pytest.approx(1)
    assert (found["searched"], found["total"], found["note"]) == (2, 2, "")


def test_vectors_that_may_not_be_kept_are_read_for_every_search(
    get: Any, shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    from image_features.web import neighbours

    published(shelf)
    kept = get(f"partitions/{DAY}/neighbours?image={image_id('A')}")
    monkeypatch.setenv("AIRFLOW__IMAGE_FEATURES__WEB_CACHE_MB", "0")
    monkeypatch.setattr(neighbours, "_kept", neighbours.Kept())
    read = get(f"partitions/{DAY}/neighbours?image={image_id('A')}")
    assert [one["image_id"] for one in read["neighbours"]] == [one["image_id"] for one in kept["neighbours"]]
    assert read["neighbours"][0]["cosine"] == pytest.approx(kept["neighbours"][0]["cosine"], abs=1e-6)
    assert "web_cache_mb" in read["note"] and read["searched"] == 3


def test_a_partition_that_is_published_again_is_read_again(get: Any, shelf: Shelf) -> None:
    published(shelf)
    assert get(f"partitions/{DAY}/photos")["total"] == 2
    published(shelf, files={"file:///photos/day/new.jpg": "N"})
    assert [photo["name"] for photo in get(f"partitions/{DAY}/photos")["photos"]] == ["new.jpg"]
