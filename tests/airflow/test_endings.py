"""A task's log: what Spark says is folded away, and one line says what came out and what to do."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import suppress

import pytest
from image_features import endings
from image_features.outcomes import Outcome

from spark_apps import contract
from tests.airflow.test_notifier import publishes, rejects
from tests.airflow.test_operators import DAY, FakeSpark, context, operator, spark  # noqa: F401  # the fixture
from tests.airflow.test_stats import AnyEvent

LIMITS = "(at most 10 %, warning above 5 %)"
Logged = Callable[[str], list[tuple[str, str]]]


@pytest.fixture
def logged(capsys: pytest.CaptureFixture[str]) -> Logged:
    """A function that runs a stage: the level and the words of what its task logs."""

    def run(stage: str) -> list[tuple[str, str]]:
        with suppress(Exception):
            operator(stage).execute({**context(), "outlet_events": AnyEvent()})
        return re.findall(r"^\S+ \[(\w+) *\] (.*?) +\[airflow\.task", capsys.readouterr().out, re.MULTILINE)

    return run


def test_what_spark_says_is_in_a_group_and_the_line_is_not(
    spark: FakeSpark,  # noqa: F811
    logged: Logged,
) -> None:
    publishes(spark, ["failed_fraction"])
    lines = logged("validate")
    words = [message for _, message in lines]
    groups = [message for message in words if message.startswith("::")]
    assert groups == [
        "::group::Settings and connections",
        "::endgroup::",
        "::group::The Spark job validate",
        "::endgroup::",
    ]
    (place,) = (at for at, message in enumerate(words) if message.startswith(f"validate {DAY}: "))
    assert place > max(at for at, message in enumerate(words) if message == "::endgroup::")
    assert lines[place] == (
        "warning",
        f"validate {DAY}: published with warnings. 38 vectors are published. Worth a look: failed fraction. "
        f"failed_fraction 9 % {LIMITS}. A warning does not hold a publication back.",
    )


def test_a_group_ends_also_where_the_job_fails(spark: FakeSpark, logged: Logged) -> None:  # noqa: F811
    rejects(spark)
    lines = logged("validate")
    words = [message for _, message in lines]
    assert words.count("::endgroup::") == 2
    (said,) = (line for line in lines if line[1].startswith(f"validate {DAY}: "))
    assert said == (
        "error",
        f"validate {DAY}: rejected. Not published, because of failed fraction. failed_fraction 66.67 % {LIMITS}; "
        f"failed_fraction 9 % {LIMITS}. What was published before stays.",
    )


def test_ingest_says_what_was_set_aside_and_what_to_do(spark: FakeSpark, logged: Logged) -> None:  # noqa: F811
    counts = {"listed": 41, "accepted": 38, "quarantined": 3}
    spark.succeeds("ingest", counts=counts, quarantined={"empty": 1, "truncated": 2}, seconds={"total": 3.21})
    (said,) = (line for line in logged("ingest") if line[1].startswith(f"ingest {DAY}: "))
    counted = "41 listed, 38 accepted, 3 quarantined (2 truncated, 1 empty)."
    advice = contract.QUARANTINE_CODES["truncated"]
    assert said == ("info", f"ingest {DAY}: done in 3.2 s. {counted} truncated: {advice}")


def test_what_is_refused_before_a_job_is_said_too() -> None:
    error = contract.BadSetting("bad_connection", "The connection leads nowhere.", "Correct it.")
    said = endings.line(Outcome(stage="extract", store="", folder="", error=error))
    assert said == "extract: failed. The connection leads nowhere. Correct it."
