"""What a Spark task gets, for the three shapes of cluster."""

from __future__ import annotations

import pytest

from spark_apps.contract import BadSetting, ExtractSettings
from spark_apps.spark.resources import task_settings

CLUSTER = {"spark.master": "spark://host:7077", "spark.executor.cores": "8"}
GPUS = {**CLUSTER, "spark.executor.resource.gpu.amount": "2"}


@pytest.mark.parametrize(
    ("resources", "on_gpu", "known", "expected"),
    [
        ("auto", False, CLUSTER, {}),
        ("narrow", False, {"spark.master": "local[4,4]"}, {}),
        ("wide", False, {"spark.master": "local[4,4]"}, {"spark.task.cpus": "4"}),
        ("wide", False, {"spark.master": "local"}, {"spark.task.cpus": "1"}),
        ("wide", False, CLUSTER, {"spark.task.cpus": "8"}),
        ("gpu", True, GPUS, {"spark.task.resource.gpu.amount": "1", "spark.task.cpus": "4"}),
        ("auto", True, GPUS, {"spark.task.resource.gpu.amount": "1", "spark.task.cpus": "4"}),
        ("auto", True, {"spark.master": "local[4,4]"}, {"spark.task.cpus": "4"}),
        ("auto", True, CLUSTER, {}),
        ("auto", False, GPUS, {}),
    ],
)
def test_tasks_get_what_their_shape_needs(
    resources: str, on_gpu: bool, known: dict[str, str], expected: dict[str, str]
) -> None:
    assert task_settings(resources, on_gpu, known.get) == expected


@pytest.mark.parametrize(
    ("resources", "known", "code", "setting"),
    [
        ("wide", {"spark.master": "yarn"}, "no_executor_cores", "spark.executor.cores"),
        ("gpu", CLUSTER, "no_executor_gpus", "spark.executor.resource.gpu.amount"),
    ],
)
def test_an_untold_cluster_is_told_what_to_set(resources: str, known: dict[str, str], code: str, setting: str) -> None:
    with pytest.raises(BadSetting) as caught:
        task_settings(resources, True, known.get)
    assert caught.value.code == code
    assert setting in caught.value.hint


@pytest.mark.parametrize(
    "values",
    [
        {"precision": "int8", "engine": "torch"},
        {"precision": "int8", "device": "cuda"},
        {"resources": "gpu", "device": "cpu"},
        {"resources": "gpu", "engine": "openvino"},
    ],
)
def test_what_contradicts_itself_is_refused(values: dict[str, str]) -> None:
    with pytest.raises(BadSetting) as caught:
        ExtractSettings(store="/s", partition="p", run_id="r", **values)
    assert caught.value.code == "contradiction"
