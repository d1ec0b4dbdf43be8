"""Every setting of a stage is an argument of its operator: what is refused when, and who wins over whom."""

from __future__ import annotations

import dataclasses
import inspect
import pickle
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk import DAG, Param, chain, task_group
from airflow.sdk.exceptions import AirflowException, AirflowFailException
from airflow.serialization.serialized_objects import DagSerialization
from image_features import ImageFeaturesTaskGroup, arguments, form
from image_features.operators import (
    DuplicatesOperator,
    EraseOperator,
    ExtractOperator,
    IndexOperator,
    IngestOperator,
    MaintainOperator,
    StageOperator,
    SyncOperator,
    UndoOperator,
    ValidateOperator,
)

from spark_apps import contract
from spark_apps.contract import BadSetting
from tests.airflow.test_operators import DAY, FakeSpark, Said, spark

__all__ = ["spark"]

OPERATORS: dict[str, type[StageOperator]] = {
    kind.stage: kind
    for kind in (
        *(IngestOperator, ExtractOperator, ValidateOperator, IndexOperator),
        *(MaintainOperator, UndoOperator, DuplicatesOperator, SyncOperator, EraseOperator),
    )
}
PLACES = {"stores": "s3://features,/data", "sources": "s3://photos", "weights_locations": "/models"}


@pytest.fixture(autouse=True)
def allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, places in PLACES.items():
        monkeypatch.setenv(f"AIRFLOW__IMAGE_FEATURES__{name.upper()}", places)


def context(task: Any, *, conf: dict[str, Any] | None = None, **more: Any) -> Any:
    """What Airflow hands to a task of a run that was triggered with `conf`."""
    params = {name: getattr(param, "value", param) for name, param in {**task.dag.params, **task.params}.items()}
    run = SimpleNamespace(conf=conf or {}, partition_key=None)
    return {"run_id": "r", "params": {**params, **(conf or {})}, "dag_run": run, "ti": Said(), **more}


def job(task: Any, **conf: Any) -> Any:
    return task.job_settings(context(task, conf=conf))


# --- the arguments are those of the contract --------------------------------------------------------------------------


@pytest.mark.parametrize("stage", OPERATORS)
def test_each_setting_of_the_stage_is_a_documented_typed_and_templated_argument(stage: str) -> None:
    operator, kind = OPERATORS[stage], contract.COMMANDS[stage]
    by_airflow = {"run_id", "dag_id", "map_index", "branch", "submission", "within", "weights_within"}
    signature = inspect.signature(operator.__init__)
    for field in dataclasses.fields(kind):
        if field.name in by_airflow | arguments.NOT_FOR_A_TASK.get(kind, frozenset()):
            assert field.name not in signature.parameters
            continue
        name = arguments.argument(field.name)
        assert (signature.parameters[name].default, signature.parameters[name].kind.name) == (None, "KEYWORD_ONLY")
        assert str(contract.describe(kind, field.name)["type"].__name__) in signature.parameters[name].annotation
        assert field.metadata["help"] in (operator.__init__.__doc__ or "")
        assert arguments.attribute(field.name) in operator.template_fields


@pytest.mark.parametrize("stage", OPERATORS)
def test_each_argument_reaches_the_job(stage: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__IMAGE_FEATURES__WEIGHTS_LOCATIONS", "/models")
    kind = contract.COMMANDS[stage]
    others = {
        "store": "/data/x", "partition": "p1", "source": "s3://photos/x", "on_empty": "skip", "extractor": "text",
        "engine": "openvino", "precision": "fp32", "device": "cpu", "decode": "scaled", "weights": "default",
        "weights_sha256": "a" * 64, "layer": "vector", "model": "/models/m.onnx", "resources": "wide",
        "resize": "64", "crop": "32", "mean": "0", "std": "1", "interpolation": "box", "layout": "NCHW",
        "check_levels": "drift=off", "image_id": "a" * 64, "uri": "s3://photos/a b.jpg", "uri_prefix": "s3://photos/c/",
        "list": "s3://photos/list.txt", "reason": "asked for", "requested_by": "somebody",
        "pattern": "*.jpg", "exclude": "drafts", "content": "reference", "color": "srgb", "raw": "developed",
        "to": "/data/y", "sink": "module:Class",
    }  # fmt: skip
    given = {}
    for name in arguments.names(kind):
        about = contract.describe(kind, name)
        given[name] = others[name] if about["type"] is str else not about["default"]
        if about["type"] in (int, float):
            given[name] = about["type"](about["maximum"] if about["maximum"] <= 2**31 else 7)
    with DAG("d", schedule=None):
        task = OPERATORS[stage](task_id="t", **{arguments.argument(name): value for name, value in given.items()})
    made = job(task)
    assert {name: getattr(made, name) for name in given} == given


def test_a_group_shows_the_settings_of_all_its_stages() -> None:
    shown = set(inspect.signature(ImageFeaturesTaskGroup).parameters)
    assert {arguments.argument(name) for kind in contract.SETTINGS.values() for name in arguments.names(kind)} < shown


def test_a_dag_with_arguments_of_every_kind_is_serialised() -> None:
    with DAG("d", schedule=None) as dag:
        for kind in OPERATORS.values():
            if kind is not UndoOperator:
                kind(task_id=kind.stage, store="s3://features/a", storage_conn_id="aws")
        UndoOperator.partial(task_id="undo", model="m").expand(partition=["a", "b"])
        MaintainOperator(task_id="dry", dry_run="{{ params.dry }}")
    found = {task["__var"]["task_id"]: task["__var"] for task in DagSerialization.to_dict(dag)["dag"]["tasks"]}
    assert (found["ingest"]["store"], found["ingest"]["storage_conn_id"]) == ("s3://features/a", "aws")
    assert found["dry"]["is_dry_run"] == "{{ params.dry }}"


def test_default_args_reach_the_operators_that_have_them() -> None:
    given = {"store": "s3://features/a", "model": "resnet18", "pool": "spark", "queue": "big"}
    with DAG("d", schedule=None, default_args=given):
        tasks = [IngestOperator(task_id="i"), ExtractOperator(task_id="e")]
    assert [(task.given, task.pool, task.queue) for task in tasks] == [
        ({"store": "s3://features/a"}, "spark", "big"),
        ({"store": "s3://features/a", "model": "resnet18"}, "spark", "big"),
    ]


def test_what_airflow_gives_any_task_is_passed_on() -> None:
    def called(context: Any) -> None:
        """A callback."""

    given = {
        "pool": "spark", "queue": "big", "priority_weight": 7, "executor_config": {"pod_override": "x"}, "retries": 4,
        "on_failure_callback": called, "on_success_callback": called, "on_skipped_callback": called,
        "trigger_rule": "all_done",
    }  # fmt: skip
    with DAG("d", schedule=None):
        one = ValidateOperator(task_id="v", **given)
        group = ImageFeaturesTaskGroup("f", default_args=given)
    assert list(group.children) == ["f.ingest", "f.extract", "f.validate"]
    for task in (one, *group.children.values()):
        for name, value in given.items():
            found = getattr(task, name)
            assert (found == [value] or list(found) == [value]) if callable(value) else found == value, name


# --- who wins ---------------------------------------------------------------------------------------------------------


def test_conf_wins_over_the_argument_that_over_the_param_that_over_the_configuration(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    partition = {"partition": DAY}
    with DAG("plain", schedule=None):
        plain, given = (
            ExtractOperator(task_id="a", **partition),
            ExtractOperator(task_id="b", model="resnet34", **partition),
        )
    with DAG("form", schedule=None, params={"model": Param("resnet50"), "partition": Param(DAY)}):
        form_only, both = ExtractOperator(task_id="a"), ExtractOperator(task_id="b", model="resnet34")
    assert job(plain).model == "resnet50"
    monkeypatch.setenv("AIRFLOW__IMAGE_FEATURES__MODEL", "resnet18")
    assert [job(task).model for task in (plain, given, form_only, both)] == [
        "resnet18", "resnet34", "resnet50", "resnet34",
    ]  # fmt: skip
    assert [job(task, model="vit_b_16").model for task in (form_only, both)] == ["vit_b_16", "vit_b_16"]
    assert job(given, model="vit_b_16").model == "resnet34", "the Dag has no such param"


def test_whoever_triggers_a_run_does_not_choose_the_store(tmp_path: Any) -> None:
    with DAG("d", schedule=None, params={"store": Param("/data/of-a-param"), "partition": Param(DAY)}):
        task = IngestOperator(task_id="i")
    assert job(task, store="/data/of-the-conf").store == str(tmp_path / "store")


# --- templates --------------------------------------------------------------------------------------------------------


def test_rendered_text_becomes_the_type_of_the_setting() -> None:
    with DAG("d", schedule=None):
        task = ExtractOperator(
            task_id="e", partition="{{ x }}", batch_size="{{ x }}", recompute="{{ x }}", lookback="3", layer="{{ x }}"
        )
    task.partition, task.batch_size, task.recompute, task.layer = " d1 ", "32", "True", ""
    made = job(task)
    assert (made.partition, made.batch_size, made.recompute, made.lookback, made.layer) == ("d1", 32, True, 3, "")


@pytest.mark.parametrize("rendered", ["", "  ", "None", None])
@pytest.mark.parametrize("name", ["store", "partition", "batch_size", "model"])
def test_a_template_that_gives_nothing_is_refused(name: str, rendered: Any, spark: FakeSpark) -> None:
    with DAG("d", schedule=None):
        task = ExtractOperator(task_id="e", **{"partition": DAY, name: "{{ x }}"})
    setattr(task, name, rendered)
    with pytest.raises(AirflowFailException, match=f"The argument {name} was given nothing in this run"):
        task.execute(context(task))
    assert not spark.was_called


@pytest.mark.parametrize(
    ("name", "rendered", "words"),
    [
        ("partition", "a/b", "'a/b' is not a valid partition key"),
        ("source", "s3://elsewhere/x", "The source 's3://elsewhere/x' is not allowed .* sources"),
        ("source", "/etc", "is not allowed"),
        ("store", "s3://elsewhere/x", "The store 's3://elsewhere/x' is not allowed .* stores"),
        ("store", "s3://features/../x", "contains '..'"),
        ("max_bytes", "many", "is not a whole number"),
    ],
)
def test_what_a_template_gives_is_checked_in_the_run(
    name: str,
    rendered: str,
    words: str,
    spark: FakeSpark,
) -> None:
    with DAG("d", schedule=None):
        task = IngestOperator(task_id="i", **{"partition": DAY, name: "{{ x }}"})
    setattr(task, name, rendered)
    with pytest.raises(AirflowFailException, match=words):
        task.execute(context(task))
    assert not spark.was_called


# --- what is refused while the Dag is parsed --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("stage", "given", "words"),
    [
        ("ingest", {"partition": "a/b"}, "Task t: 'a/b' is not a valid partition key"),
        ("ingest", {"source": "s3://elsewhere/{partition}"}, "is not allowed in this Airflow.*sources"),
        ("ingest", {"source": "photos"}, "neither an absolute path nor a URI"),
        ("ingest", {"store": "s3://elsewhere"}, "The store .* is not allowed .* stores"),
        ("ingest", {"store": "{{ x }}", "source": "/etc"}, "The source '/etc' is not allowed"),
        ("ingest", {"extractor": "os:getcwd"}, "is not allowed"),
        ("ingest", {"on_empty": "sleep"}, "'sleep' is not a valid on-empty"),
        ("extract", {"batch_size": 0}, "out of bounds"),
        ("extract", {"batch_size": "many"}, "is not a whole number"),
        ("extract", {"engine": "openvino", "device": "cuda"}, "does not run on device cuda"),
        ("extract", {"partition": "{{ ds }}", "weights": "keras-v1", "model": "resnet18"}, "keras-v1 are a resnet50"),
        ("extract", {"weights": "http://169.254.169.254/x"}, "is not allowed .* weights_locations"),
        ("validate", {"check_levels": "drift=loud"}, "check"),
        ("maintain", {"retention_hours": 0}, "out of bounds"),
        ("duplicates", {"model": "m", "max_distance": 33}, "out of bounds"),
        ("sync", {"model": "m", "to": "postgresql://me:secret@host/db"}, "to holds a password or a key"),
        ("undo", {"model": "m", "partition": "../x"}, "is not a valid partition key"),
    ],
)
def test_a_wrong_literal_is_refused_while_the_dag_is_parsed(stage: str, given: dict[str, Any], words: str) -> None:
    with DAG("d", schedule=None), pytest.raises(BadSetting, match=words):
        OPERATORS[stage](task_id="t", **given)


@pytest.mark.parametrize(
    ("stage", "name", "words"),
    [
        ("ingest", "batch_size", "It is a setting of extract"),
        ("extract", "batchsize", "Did you mean batch_size?"),
        ("extract", "retention_hours", "It is a setting of maintain"),
        ("ingest", "retires", "Did you mean retries?"),
    ],
)
def test_an_unknown_argument_is_refused_with_the_one_that_was_meant(stage: str, name: str, words: str) -> None:
    with DAG("d", schedule=None), pytest.raises(TypeError, match=f"has no argument {name}") as refused:
        OPERATORS[stage](task_id="t", **{name: 1})
    assert words in str(refused.value)
    with DAG("d", schedule=None), pytest.raises(TypeError, match=name):
        OPERATORS[stage].partial(task_id="t", **{name: 1})


@pytest.mark.parametrize("name", ["store", "partition"])
def test_two_stages_of_a_chain_in_different_places_are_refused(name: str) -> None:
    here, there = ("/data/a", "/data/b") if name == "store" else ("a", "b")
    for other in ({name: there}, {}):
        with DAG("d", schedule=None) as dag:
            IngestOperator(task_id="i", **{name: here}) >> ExtractOperator(task_id="e", **other)
        with pytest.raises(BadSetting, match=f"i and e have different values of {name}"):
            dag.resolve_template_files()  # as Airflow does when it has parsed the Dag
    with DAG("d", schedule=None) as dag:
        templated = ExtractOperator(task_id="t", **{name: "{{ x }}"})
        IngestOperator(task_id="i", **{name: here}) >> templated >> ValidateOperator(task_id="v", **{name: "{{ x }}"})
    dag.resolve_template_files()


def test_two_groups_that_publish_the_same_are_refused() -> None:
    with DAG("d", schedule=None):
        ImageFeaturesTaskGroup("one", partition="{{ ds }}")
        with pytest.raises(BadSetting, match=r"one\.extract and two\.extract would publish the same partition"):
            ImageFeaturesTaskGroup("two", partition="{{ ds }}")
        ImageFeaturesTaskGroup("three", partition="{{ ds }}", model="resnet18")
        ImageFeaturesTaskGroup("four", partition="{{ ds }}", store="s3://features/other")


def test_two_tasks_of_a_run_that_come_to_publish_the_same_are_refused(spark: FakeSpark) -> None:
    with DAG("d", schedule=None):
        one = ExtractOperator(task_id="one", partition="{{ a }}")
        two = ExtractOperator(task_id="two", partition="{{ b }}")
    one.partition = two.partition = DAY
    told = Said()
    with pytest.raises(AirflowException, match="left no manifest"):
        one.execute({**context(one), "ti": told})
    with pytest.raises(AirflowFailException, match="one and two would publish the same partition"):
        two.execute({**context(two), "ti": _Both(told)})


class _Both(Said):
    """The task instance of a second task, which also sees what a first one has said."""

    def __init__(self, first: Said) -> None:
        self.first = first

    def xcom_pull(self, task_ids: Any, key: str) -> list[Any]:
        return [*self.first.xcom_pull(task_ids, key), *super().xcom_pull(task_ids, key)]


# --- a run's own settings ---------------------------------------------------------------------------------------------


def test_what_a_run_asks_for_and_no_task_reads_is_refused(spark: FakeSpark) -> None:
    with DAG("d", schedule=None):
        deaf = IngestOperator(task_id="i", partition=DAY)
    with pytest.raises(AirflowFailException, match="This Dag takes no model from a run"):
        deaf.execute(context(deaf, conf={"model": "resnet18", "of their own": 1}))
    assert not spark.was_called
    with DAG("d", schedule=None):
        hearing = IngestOperator(task_id="i", partition=DAY, pattern="{{ dag_run.conf['pattern'] }}")
    hearing.pattern = "*.jpg"
    spark.does("sys.exit(1)")
    with pytest.raises(AirflowException, match="ingest ended with exit code 1"):
        hearing.execute(context(hearing, conf={"pattern": "*.jpg"}))


def test_the_first_task_refuses_what_a_later_one_would(spark: FakeSpark) -> None:
    with DAG("d", schedule=None, params=form.params()):
        tasks = [kind(task_id=stage) for stage, kind in OPERATORS.items() if stage in contract.STAGES[:1]]
        tasks += [ExtractOperator(task_id="e", model="resnet18"), ValidateOperator(task_id="v")]
        chain(*tasks)
    with pytest.raises(AirflowFailException, match="keras-v1 are a resnet50, not a resnet18"):
        tasks[0].execute(context(tasks[0], conf={"partition": DAY, "weights": "keras-v1"}))
    assert not spark.was_called


# --- the group --------------------------------------------------------------------------------------------------------


def test_a_group_has_one_ingest_and_a_chain_for_each_model() -> None:
    with DAG("d", schedule=None) as dag:
        ImageFeaturesTaskGroup(
            "f",
            store="s3://features/cameras",
            source="s3://photos/{partition}",
            partition="{{ ds }}",
            batch_size=8,
            max_drift=0.2,
            models=[{"model": "resnet50"}, {"model": "vit_b_16", "batch_size": 4, "max_drift": 0.9}],
            conn_id="cluster",
            default_args={"pool": "spark"},
        )
    shape = {task.task_id: task.downstream_task_ids for task in dag.tasks}
    assert shape == {
        "f.ingest": {"f.extract_resnet50", "f.extract_vit_b_16"},
        "f.extract_resnet50": {"f.validate_resnet50"},
        "f.extract_vit_b_16": {"f.validate_vit_b_16"},
        "f.validate_resnet50": set(),
        "f.validate_vit_b_16": set(),
    }
    place = {"store": "s3://features/cameras", "partition": "{{ ds }}"}
    assert dag.get_task("f.ingest").given == {**place, "source": "s3://photos/{partition}"}
    assert dag.get_task("f.extract_vit_b_16").given == {**place, "model": "vit_b_16", "batch_size": 4}
    assert dag.get_task("f.validate_resnet50").given == {**place, "max_drift": 0.2}
    assert {(task.conn_id, task.pool) for task in dag.tasks} == {("cluster", "spark")}


def test_models_of_one_name_are_told_apart() -> None:
    models = [{"model": "resnet50", "weights": weights} for weights in ("IMAGENET1K_V1", "IMAGENET1K_V2")]
    with DAG("d", schedule=None) as dag:
        ImageFeaturesTaskGroup("f", models=models)
    assert {"f.extract_resnet50_1", "f.extract_resnet50_2"} < set(dag.task_ids)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"sorce": "x"}, "ImageFeaturesTaskGroup has no argument sorce. Did you mean source?"),
        ({"retention_hours": 3}, "It is a setting of maintain"),
        ({"models": [{"modle": "x"}]}, "A model of ImageFeaturesTaskGroup has no argument modle. Did you mean model?"),
        ({"models": [{"source": "x"}]}, "It is a setting of ingest"),
    ],
)
def test_an_unknown_argument_of_a_group_is_refused(given: dict[str, Any], words: str) -> None:
    with DAG("d", schedule=None), pytest.raises(TypeError) as refused:
        ImageFeaturesTaskGroup(**given)
    assert words in str(refused.value)


def test_a_group_may_be_mapped_from_outside() -> None:
    @task_group
    def camera(source: Any, store: Any) -> None:
        ImageFeaturesTaskGroup("f", source=source, store=store)

    with DAG("d", schedule=None) as dag:
        camera.expand_kwargs([{"source": "s3://photos/a", "store": "s3://features/a"}])
    assert {"camera.f.ingest", "camera.f.extract", "camera.f.validate"} == set(dag.task_ids)
    DagSerialization.to_dict(dag)


def test_an_operator_is_pickled_and_copied() -> None:
    with DAG("d", schedule=None):
        task = ExtractOperator(task_id="e", store="s3://features/a", model="{{ x }}")
    again = pickle.loads(pickle.dumps(task))
    assert (again.given, again.templated) == (task.given, {"model"})
