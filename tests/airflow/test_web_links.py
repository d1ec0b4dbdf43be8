"""The links on the tasks: where they lead, and that they appear while the job still runs."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk import DAG
from image_features import links
from image_features.operators import ExtractOperator, MaintainOperator, StageOperator

INSTANCE: Any = SimpleNamespace(dag_id="image_features", run_id="manual__2026-11-22T08:00:00+00:00")
REPORT = "/dags/image_features/runs/manual__2026-11-22T08%3A00%3A00%2B00%3A00/plugin/image-features-run"


def operator(kind: type[StageOperator] = ExtractOperator) -> StageOperator:
    with DAG("image_features", schedule=None):
        return kind(task_id="task")


@pytest.mark.parametrize(
    ("base_url", "link"),
    [
        ("http://airflow.example.org:8080", REPORT),
        ("https://example.org/data/airflow/", f"/data/airflow{REPORT}"),
        ("", REPORT),
    ],
)
def test_the_report_is_a_tab_of_the_run_below_airflow_s_own_address(
    base_url: str, link: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW__API__BASE_URL", base_url)
    assert links.ReportLink().get_link(operator(), ti_key=INSTANCE) == link


def test_the_tab_that_the_report_leads_to_is_there() -> None:
    from image_features.web import views

    (tab,) = [view for view in views.EXTERNAL_VIEWS if view["destination"] == "dag_run"]
    assert REPORT.endswith(f"/plugin/{tab['url_route']}")


@pytest.mark.parametrize(
    ("hook", "link"),
    [
        ({}, "http://history:18080"),
        ({"_yarn_application_id": "application_1_2"}, "http://history:18080/history/application_1_2/"),
        ({"_kubernetes_application_id": "spark-abc"}, "http://history:18080/history/spark-abc/"),
    ],
)
def test_spark_s_history_server_shows_the_job_where_its_id_is_known(
    hook: dict[str, str], link: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = operator()
    task._hook = SimpleNamespace(**hook)  # type: ignore[assignment]
    assert links.SparkLink().get_link(task, ti_key=INSTANCE) == ""
    monkeypatch.setenv("AIRFLOW__IMAGE_FEATURES__HISTORY_SERVER", "http://history:18080/")
    assert links.SparkLink().get_link(task, ti_key=INSTANCE) == link


@pytest.mark.parametrize(
    ("kind", "keys"),
    [(ExtractOperator, ["_link_ReportLink", "_link_SparkLink"]), (MaintainOperator, ["_link_SparkLink"])],
)
def test_links_appear_before_the_job_starts(kind: type[StageOperator], keys: list[str]) -> None:
    shown: dict[str, str] = {}
    instance = SimpleNamespace(**vars(INSTANCE), xcom_push=lambda key, value: shown.update({key: value}))
    operator(kind).pre_execute({"ti": instance})  # type: ignore[typeddict-item]
    assert list(shown) == keys
