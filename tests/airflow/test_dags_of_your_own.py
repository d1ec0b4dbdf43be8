"""What Dags of one's own hand to the operators: values of every type, one place in several spellings, a run's conf."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import DAG, Label, Param, TaskGroup, cross_downstream, task
from airflow.sdk.exceptions import AirflowException, AirflowFailException
from image_features import ImageFeaturesTaskGroup, arguments, assets, form, run_key
from image_features.operators import (
    DuplicatesOperator,
    EraseOperator,
    ExtractOperator,
    IndexOperator,
    IngestOperator,
    StageOperator,
    SyncOperator,
    UndoOperator,
    ValidateOperator,
)

from spark_apps import contract
from spark_apps.contract import BadSetting
from spark_apps.spark import jobs
from tests.airflow.test_arguments import allowed, context, job
from tests.airflow.test_operators import DAY, FakeSpark, spark

__all__ = ["allowed", "spark"]

SPELLINGS = [
    ("/data/x/", "/data/x"),
    ("file:///data/x", "/data/x"),
    ("FILE:/data/x/", "file://localhost/data/x"),
    ("s3a://features/x", "s3://features/x/"),
]
SECRET = "very-private"
KEY = "resnet50-imagenet1k_v2-fp32"


def made(operator: type[StageOperator], params: Any = None, **given: Any) -> StageOperator:
    with DAG("d", schedule=None, params=params):
        return operator(task_id="t", **given)


# --- values of other types --------------------------------------------------------------------------------------------


def test_a_folder_may_be_a_path_and_a_partition_a_day_or_a_number() -> None:
    assert job(made(IngestOperator, store=Path("/data/x"), partition=DAY)).store == "/data/x"
    assert job(made(IngestOperator, partition=date(2026, 11, 22))).partition == "2026-11-22"
    assert job(made(IngestOperator, partition=20261122)).partition == "20261122"
    with pytest.raises(BadSetting, match="The store '/elsewhere' is not allowed"):
        made(IngestOperator, store=Path("/elsewhere"))


@pytest.mark.parametrize(
    ("operator", "given", "words"),
    [
        (IngestOperator, {"store": ["/data/x"]}, "Task t: store .* is not a text"),
        (IngestOperator, {"exclude": ["a", "b"]}, "Task t: exclude .* is not a text"),
        (ValidateOperator, {"check_levels": {"drift": "off"}}, "Task t: check-levels .* is not a text"),
        (IngestOperator, {"partition": datetime(2026, 11, 22)}, "Task t: '2026-11-22 00:00:00' is not a valid"),
    ],
)
def test_a_literal_of_a_wrong_type_is_refused_while_the_dag_is_parsed(
    operator: type[StageOperator], given: dict[str, Any], words: str
) -> None:
    with pytest.raises(BadSetting, match=words):
        made(operator, **given)


@pytest.mark.parametrize("rendered", [date(2026, 11, 22), 20261122])
def test_a_dag_that_renders_native_objects_gives_partitions(rendered: Any) -> None:
    templated = made(IngestOperator, partition="{{ x }}")
    templated.partition = rendered
    assert job(templated).partition == str(rendered)


@pytest.mark.parametrize(("asked", "key"), [(20261122, "20261122"), (["a"], None), ({"day": 1}, None)])
def test_a_partition_of_another_type_in_the_conf_is_taken_or_refused(asked: Any, key: str | None) -> None:
    any_type = made(IngestOperator, params={"partition": Param(None)})
    if key:
        assert job(any_type, partition=asked).partition == key
    else:
        with pytest.raises(BadSetting, match="is not a valid partition key"):
            job(any_type, partition=asked)


def test_a_number_in_the_conf_may_be_written_as_text() -> None:
    assert job(made(ExtractOperator, params={"batch_size": Param(3)}, partition=DAY), batch_size="5").batch_size == 5


# --- one place in several spellings -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("one", "other"), SPELLINGS)
def test_one_store_in_two_spellings_is_one_store(one: str, other: str) -> None:
    with DAG("d", schedule=None) as dag:
        IngestOperator(task_id="i", store=one) >> ExtractOperator(task_id="a", store=other)
        dag.resolve_template_files()
        with pytest.raises(BadSetting, match="a and b would publish the same partition and model"):
            ExtractOperator(task_id="b", store=one)
    assert assets.features(KEY, one) == assets.features(KEY, other)


def test_one_partition_as_number_and_text_is_one_partition() -> None:
    with DAG("d", schedule=None) as dag:
        IngestOperator(task_id="i", partition=20261122) >> ExtractOperator(task_id="e", partition="20261122")
    dag.resolve_template_files()


def test_the_configured_place_and_model_count_where_none_is_given(tmp_path: Path) -> None:
    with DAG("d", schedule=None) as dag:
        IngestOperator(task_id="i", store=f"{tmp_path}/store/") >> ExtractOperator(task_id="a")
        dag.resolve_template_files()
        for same in ({"store": f"file://{tmp_path}/store"}, {"model": "resnet50"}, {"precision": "fp32"}):
            with pytest.raises(BadSetting, match="would publish the same partition and model"):
                ExtractOperator(task_id=f"b{next(iter(same))}", **same)
    with DAG("form", schedule=None, params=form.params()):
        ExtractOperator(task_id="a")
        ExtractOperator(task_id="b", model="resnet50")  # what a is, the form of each run says


def test_the_asset_of_the_configured_store_is_found_in_any_spelling(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("AIRFLOW__IMAGE_FEATURES__STORE", f"file://{tmp_path}/store")
    empty: dict[str, Any] = {field.name: {} for field in dataclasses.fields(contract.Manifest)}
    store = {"store": f"{tmp_path}/store"}
    manifest = contract.Manifest(
        **{
            **empty,
            "settings": store,
            "outcome": {"verdict": "published"},
            "model": contract.ModelInfo(key=KEY, fingerprint="f"),
        }
    )
    assert assets.of(manifest) == [assets.features(KEY), assets.image_features()]


@pytest.mark.parametrize(
    ("model", "store", "words"),
    [
        (KEY, "features", "neither an absolute path nor a URI"),
        (KEY, "s3://", "neither an absolute path nor a URI"),
        (KEY, "/data/../x", "contains '..'"),
        ("", "/data/x", "'' is not a valid model"),
        (None, "/data/x", "None is not a valid model"),
    ],
)
def test_an_asset_of_a_place_or_model_that_cannot_be_is_refused(model: Any, store: str, words: str) -> None:
    with pytest.raises(BadSetting, match=words):
        assets.features(model, store)


# --- chains -----------------------------------------------------------------------------------------------------------

CHAINS: dict[str, Callable[[Any, Any], Any]] = {
    "in a list": lambda ingest, extract: [ingest] >> extract,
    "backwards": lambda ingest, extract: extract << ingest,
    "with a label": lambda ingest, extract: ingest >> Label("x") >> extract,
    "through another task": lambda ingest, extract: ingest >> EmptyOperator(task_id="between") >> extract,
    "between groups": lambda ingest, extract: ingest.task_group >> extract.task_group,
    "to a group": lambda ingest, extract: ingest >> extract.task_group,
    "crossed": lambda ingest, extract: cross_downstream([ingest], [extract]),
}


@pytest.mark.parametrize("way", CHAINS)
@pytest.mark.parametrize("mapped", [False, True])
def test_a_stage_that_would_look_elsewhere_is_refused_however_the_chain_is_written(way: str, mapped: bool) -> None:
    with DAG("d", schedule=None) as dag:
        with TaskGroup("a"):
            ingest = IngestOperator(task_id="i", store="/data/a")
        with TaskGroup("b"):
            if mapped:
                extract: Any = ExtractOperator.partial(task_id="e", store="/data/b").expand(model=["resnet18"])
            else:
                extract = ExtractOperator(task_id="e", store="/data/b")
            validate = ValidateOperator(task_id="v", store="/data/b")
        CHAINS[way](ingest, extract)
        extract >> validate
    with pytest.raises(BadSetting, match=r"a\.i and b\.\w have different values of store: '/data/a' and '/data/b'"):
        dag.resolve_template_files()


def test_pipelines_of_several_stores_may_follow_one_another() -> None:
    with DAG("d", schedule=None) as dag:
        ends = [ImageFeaturesTaskGroup(name, store=f"/data/{name}") for name in ("a", "b", "c")]
        ends[0] >> ends[1]
        dag.get_task("b.extract") >> dag.get_task("c.ingest")
    dag.resolve_template_files()


def test_a_mapped_task_takes_its_place_from_default_args() -> None:
    with DAG("d", schedule=None, default_args={"store": "/data/a"}) as dag:
        IngestOperator(task_id="i") >> ExtractOperator.partial(task_id="e").expand(model=["resnet18", "resnet34"])
    dag.resolve_template_files()


def test_a_validate_of_several_extracts_is_refused_when_the_dag_is_complete() -> None:
    with DAG("d", schedule=None) as dag:
        extracts = [ExtractOperator(task_id=model, model=model) for model in ("resnet18", "resnet34")]
        IngestOperator(task_id="i") >> extracts >> ValidateOperator(task_id="v")
    with pytest.raises(BadSetting, match="v follows several tasks of the stage extract: resnet18, resnet34"):
        dag.resolve_template_files()


# --- mapped tasks -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"batch_size": 0}, "Task t: batch-size 0 is out of bounds"),
        ({"store": "/elsewhere"}, "Task t: The store '/elsewhere' is not allowed"),
        ({"application": "x.py"}, "ExtractOperator does not take the argument application"),
    ],
)
def test_a_wrong_literal_of_a_mapped_task_is_refused_while_the_dag_is_parsed(given: dict[str, Any], words: str) -> None:
    with DAG("d", schedule=None), pytest.raises((BadSetting, ValueError), match=words):
        ExtractOperator.partial(task_id="t", **given)


def test_what_a_mapped_task_is_given_in_pieces_is_judged_as_a_whole_in_the_run() -> None:
    with DAG("d", schedule=None):
        ExtractOperator.partial(task_id="t", model="resnet18").expand(weights=["IMAGENET1K_V1"])
        ExtractOperator.partial(task_id="u", weights="keras-v1").expand(model=["resnet50"])


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"model": "resnet9000"}, "'resnet9000' is not a valid model"),
        ({"partition": "a/b"}, "'a/b' is not a valid partition key"),
        ({"store": "/elsewhere"}, "The store '/elsewhere' is not allowed"),
        ({"weights": "keras-v1"}, "keras-v1 are a resnet50"),
        ({"store": None}, "The argument store was given nothing in this run"),
    ],
)
def test_what_a_mapping_gives_is_refused_in_the_run_without_a_retry(
    given: dict[str, Any], words: str, spark: FakeSpark
) -> None:
    with DAG("d", schedule=None):
        mapped = ExtractOperator.partial(task_id="t").expand_kwargs([{"partition": DAY, "model": "resnet18", **given}])
    unmapped: Any = mapped.unmap({"partition": DAY, "model": "resnet18", **given})  # as Airflow does in the run
    refused(unmapped, words, {})
    assert not spark.was_called


def test_a_mapped_task_may_leave_an_argument_out() -> None:
    with DAG("d", schedule=None):
        mapped = ExtractOperator.partial(task_id="t", model=None).expand(partition=[DAY])
    assert job(mapped.unmap({"partition": DAY})).model == "resnet50"


# --- what a run asks for ----------------------------------------------------------------------------------------------


def refused(task: StageOperator, words: str, conf: dict[str, Any], params: Any = None) -> None:
    given = context(task, conf=conf)
    with pytest.raises(AirflowFailException, match=words):
        task.execute({**given, "params": {**given["params"], **(params or {})}})


def test_a_store_that_a_run_asks_for_and_does_not_get_is_refused(spark: FakeSpark) -> None:
    ingest = made(IngestOperator, params={"store": Param("/data/x"), "partition": Param(DAY)})
    refused(ingest, "The store of this Dag is .*, not '/data/y'", {"store": "/data/y"})
    assert not spark.was_called
    form.check_conf(ingest, context(ingest, conf={"store": None}), job(ingest))
    chosen = made(IngestOperator, params={"camera": Param("a")}, store="{{ dag_run.conf['store'] }}", partition=DAY)
    chosen.store = "/data/y"  # as Airflow renders it
    form.check_conf(chosen, context(chosen, conf={"store": "y"}), job(chosen))


def test_conf_that_this_airflow_does_not_let_override_params_is_refused(spark: FakeSpark) -> None:
    ingest = made(IngestOperator, params=form.params(), partition=DAY)
    refused(ingest, "a run's conf does not override params: pattern", {"pattern": "*.jpg"}, {"pattern": "*"})
    assert not spark.was_called


def test_conf_that_does_not_override_params_does_not_let_the_param_win_over_the_argument() -> None:
    extract = made(ExtractOperator, params={"model": Param("resnet50")}, partition=DAY, model="resnet18")
    given = context(extract, conf={"model": "vit_b_16"})
    assert extract.job_settings({**given, "params": {"model": "resnet50"}}).model == "resnet18"


def test_another_task_may_read_the_conf_for_an_argument() -> None:
    with DAG("d", schedule=None):

        @task
        def pick(dag_run: Any = None) -> str:
            return str(dag_run.conf["partition"])

        by_argument = IngestOperator(task_id="i", partition=pick())
        by_template = IngestOperator(task_id="j", partition="{{ ti.xcom_pull('pick') }}")
    for ingest in (by_argument, by_template):
        assert ingest.reads_conf
        form.check_conf(ingest, context(ingest, conf={"partition": DAY}), None)  # type: ignore[arg-type]


# --- undo -------------------------------------------------------------------------------------------------------------


def test_the_model_of_an_undo_is_no_backbone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__IMAGE_FEATURES__MODEL", "resnet18")
    with pytest.raises(BadSetting, match="The argument model is missing"):
        job(made(UndoOperator, partition=DAY))
    with DAG("d", schedule=None, params=form.params()):
        ExtractOperator(task_id="e")
        undo = UndoOperator(task_id="u", partition=DAY, model=KEY)
    assert job(undo, model="resnet50").model == KEY
    alone = made(UndoOperator, params={"model": Param(None), "partition": Param(None)}, model=KEY)
    assert job(alone, model="text", partition=DAY).model == "text"


def test_duplicates_are_of_the_model_that_the_task_names(spark: FakeSpark, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__IMAGE_FEATURES__MODEL", "resnet18")
    with pytest.raises(BadSetting, match="The argument model is missing"):
        job(made(DuplicatesOperator))
    task = made(DuplicatesOperator, model=KEY, max_distance=6)
    settings = task.job_settings(context(task))
    assert (settings.model, settings.max_distance) == (KEY, 6)
    manifest = jobs.Timings().manifest("duplicates", settings, counts={"groups": 2})
    left = Path(settings.folder, "duplicates.json")
    left.parent.mkdir(parents=True)
    spark.does(f"open({str(left)!r}, 'w').write({manifest.to_json()!r})\n")
    assert task.execute(context(task)) == {"groups": 2}


def test_an_erasure_hides_the_names_and_a_verification_that_finds_one_fails_at_once(
    spark: FakeSpark, monkeypatch: pytest.MonkeyPatch
) -> None:
    masked: list[str] = []
    monkeypatch.setattr("image_features.operators.mask_secret", masked.append)
    task = made(EraseOperator, uri="s3://photos/a person.jpg", params={"list": Param(None), "verify": Param(False)})
    settings = task.job_settings(context(task, conf={"list": "/requests/7.txt"}))
    assert (settings.uri, settings.list, settings.verify) == ("s3://photos/a person.jpg", "/requests/7.txt", False)
    error = contract.QualityFailed("still_there", "Erased photos are still in 2 files: x, y.")
    left = Path(settings.folder, "error.json")
    left.parent.mkdir(parents=True)
    record = json.dumps(contract.error_record("erase", error, settings.run))
    spark.does(f"open({str(left)!r}, 'w').write({record!r})\nsys.exit(3)\n")
    with pytest.raises(AirflowFailException, match="still in 2 files"):
        task.execute(context(task))
    assert masked == ["s3://photos/a person.jpg"]


@pytest.mark.parametrize(
    ("connection", "expected"),
    [
        (
            {"conn_type": "postgres", "host": "db", "port": 5433, "schema": "search", "login": "me", "password": SECRET}
            | {"extra": {"sslmode": "require", "cursor": "dictcursor"}},
            {"PGHOST": "db", "PGPORT": "5433", "PGDATABASE": "search", "PGUSER": "me", "PGPASSWORD": SECRET}
            | {"PGSSLMODE": "require"},
        ),
        ({"conn_type": "postgres", "password": SECRET}, {"PGPASSWORD": SECRET}),
        (
            {"conn_type": "qdrant", "host": "q", "password": SECRET},
            {"QDRANT_URL": "http://q:6333", "QDRANT_API_KEY": SECRET},
        ),
        ({"conn_type": "qdrant", "host": "q", "extra": {"https": True}}, {"QDRANT_URL": "https://q:6333"}),
        ({"conn_type": "qdrant", "extra": {"url": "https://q:1"}}, {"QDRANT_URL": "https://q:1"}),
        (
            {"conn_type": "mine", "host": "h", "login": "me", "password": SECRET},
            {"IMAGE_FEATURES_SINK_URI": f"mine://me:{SECRET}@h"},
        ),
    ],
)
def test_what_reaches_another_store_is_in_the_environment_of_the_job_and_in_no_argument(
    spark: FakeSpark, monkeypatch: pytest.MonkeyPatch, connection: dict[str, Any], expected: dict[str, str]
) -> None:
    monkeypatch.setenv("AIRFLOW__IMAGE_FEATURES__MODEL", "resnet18")
    monkeypatch.setenv("AIRFLOW_CONN_SEARCH_DB", json.dumps(connection))
    task = made(SyncOperator, model=KEY, to="postgresql:///?table=cars", sink_conn_id="search_db")
    settings = task.job_settings(context(task))
    manifest = jobs.Timings().manifest("sync", settings, counts={"rows": 2})
    left = Path(settings.folder, "sync.json")
    left.parent.mkdir(parents=True)
    spark.does(f"open({str(left)!r}, 'w').write({manifest.to_json()!r})\n")
    assert task.execute(context(task)) == {"rows": 2}
    arguments, environment = spark.called
    known = {
        name: environment[name] for name in environment if name.startswith(("PG", "QDRANT", "IMAGE_FEATURES_SINK"))
    }
    assert known == expected
    assert SECRET not in str(arguments) and f"--to {task.to}" in " ".join(arguments)


def test_a_sync_needs_a_place_and_its_connection(spark: FakeSpark) -> None:
    with pytest.raises(BadSetting, match="The argument to is missing"):
        job(made(SyncOperator, model=KEY))
    task = made(SyncOperator, model=KEY, to="/data/x", sink_conn_id="nowhere")
    with pytest.raises(AirflowFailException, match="'nowhere' to the vector store does not exist"):
        task.execute(context(task))
    asked = made(
        SyncOperator, params={"to": Param("/data/theirs"), "sink": Param("os:system")}, model=KEY, to="/data/x"
    )
    found = job(asked, to="/data/elsewhere", sink="os:system")
    assert (found.to, found.sink) == ("/data/x", "")


# --- index ------------------------------------------------------------------------------------------------------------


def test_an_index_takes_the_model_of_its_run_or_one_that_it_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__IMAGE_FEATURES__MODEL", "resnet18")
    of_a_run = job(made(IndexOperator, partition=DAY))
    assert (of_a_run.partition, of_a_run.model, of_a_run.run_id) == (DAY, "", of_a_run.run.run_id)
    by_hand = job(made(IndexOperator, model=KEY))
    assert (by_hand.partition, by_hand.model) == ("", KEY)


def test_what_follows_in_a_group_is_there_for_each_model_in_the_branch_of_its_extract() -> None:
    with DAG("d", schedule=None) as dag:
        models = [{"model": "resnet50"}, {"model": "convnext_tiny"}]
        given = {"index": True, "duplicates": True, "driver_rows": 7, "candidates": 3}
        ImageFeaturesTaskGroup(group_id="f", partition=DAY, models=models, **given)
        sync = SyncOperator(task_id="sync", partition=DAY, to="/data/x")
        dag.task_dict["f.duplicates_resnet50"] >> sync
    indexes = {name: task for name, task in dag.task_dict.items() if isinstance(task, IndexOperator)}
    assert {name: task.upstream_task_ids for name, task in indexes.items()} == {
        "f.index_resnet50": {"f.validate_resnet50"},
        "f.index_convnext_tiny": {"f.validate_convnext_tiny"},
    }
    for name, index in indexes.items():
        validate = dag.task_dict[name.replace("index", "validate")]
        assert job(index).branch == job(validate).branch != ""
        assert (job(index).model, job(index).driver_rows) == ("", 7)
        duplicates = dag.task_dict[name.replace("index", "duplicates")]
        assert duplicates.upstream_task_ids == {name}
        assert (job(duplicates).branch, job(duplicates).model) == (job(validate).branch, "")
        assert job(duplicates).candidates == 3
    assert (job(sync).model, job(sync).branch) == ("", job(dag.task_dict["f.validate_resnet50"]).branch)


def test_what_is_told_a_model_may_follow_several_and_what_is_not_must_follow_an_extract() -> None:
    with DAG("d", schedule=None) as dag:
        ImageFeaturesTaskGroup(group_id="f", partition=DAY, models=[{"model": "resnet50"}, {"model": "resnet18"}])
        together = DuplicatesOperator(task_id="t", model=KEY)
        ambiguous = SyncOperator(task_id="s", to="/data/x")
        alone = SyncOperator(task_id="a", to="/data/x")
        [dag.task_dict[f"f.validate_{name}"] for name in ("resnet50", "resnet18")] >> together >> ambiguous
    together.resolve_template_files()
    assert (job(together).model, job(together).partition, job(together).branch) == (KEY, "", "")
    with pytest.raises(BadSetting, match="follows several tasks of the stage extract"):
        ambiguous.resolve_template_files()
    with pytest.raises(BadSetting, match="or let a follow an extract"):
        job(alone)


def test_without_index_a_group_has_none_unless_it_is_configured(monkeypatch: pytest.MonkeyPatch) -> None:
    def tasks(**arguments: Any) -> set[str]:
        with DAG("d", schedule=None) as dag:
            ImageFeaturesTaskGroup(group_id="f", partition=DAY, **arguments)
        return {task.stage for task in dag.tasks if isinstance(task, StageOperator)}

    assert tasks() == set(contract.STAGES)
    monkeypatch.setenv("AIRFLOW__IMAGE_FEATURES__INDEX", "true")
    assert tasks() == {*contract.STAGES, "index"}
    assert tasks(index=False) == set(contract.STAGES)
    monkeypatch.setenv("AIRFLOW__IMAGE_FEATURES__DUPLICATES", "true")
    assert tasks() == {*contract.STAGES, "index", "duplicates"}
    assert tasks(index=False, duplicates=False) == set(contract.STAGES)


def test_a_person_is_asked_about_each_model_by_itself() -> None:
    models = [{"model": "resnet50"}, {"model": "resnet18"}]
    with DAG("d", schedule=None, default_args={"retries": 2, "on_success_callback": print}) as dag:
        asking = {"response_timeout": timedelta(hours=1)}
        given = {"storage_conn_id": "aws", "store": "/data/x", "partition": DAY, "index": True}
        ImageFeaturesTaskGroup(group_id="f", models=models, ask_to_publish=asking, **given)
    for ending in ("resnet50", "resnet18"):
        ask, approve, published, index = (
            dag.task_dict[f"f.{name}_{ending}"] for name in ("ask", "approve", "published", "index")
        )
        assert ask.upstream_task_ids == {f"f.validate_{ending}"}
        assert (ask.store, ask.storage_conn_id) == (approve.store, approve.storage_conn_id) == ("/data/x", "aws")
        assert (ask.partition, approve.partition) == (DAY, DAY)
        assert ask.response_timeout == timedelta(hours=1)
        assert {task.task_id for task in (approve.checks.operator, approve.reason.operator)} == {ask.task_id}
        assert published.upstream_task_ids == {f"f.validate_{ending}", approve.task_id}
        assert index.upstream_task_ids == {published.task_id}
        assert not published.on_success_callback, "else Airflow would start a process for it"
        approve.resolve_template_files()
        index.resolve_template_files()
        validate = job(dag.task_dict[f"f.validate_{ending}"])
        assert job(index).branch == validate.branch and run_key.branch(ask) == run_key.branch(approve) != ""


def test_an_index_that_fails_fails_alone_and_one_that_ends_says_what_it_counted(spark: FakeSpark) -> None:
    task = made(IndexOperator, partition=DAY, model=KEY)
    settings = task.job_settings(context(task))
    manifest = jobs.Timings().manifest("index", settings, counts={"brought": 3, "differing": 0})
    Path(settings.folder).mkdir(parents=True)
    left = Path(settings.folder, "index.json")
    spark.does(f"open({str(left)!r}, 'w').write({manifest.to_json()!r})\n")
    assert task.execute(context(task)) == {"brought": 3, "differing": 0}
    error = contract.error_record("index", contract.JobError("index_contended", "Too many write."), settings.run)
    spark.does(f"open({str(Path(settings.folder, 'error.json'))!r}, 'w').write({json.dumps(error)!r})\nsys.exit(1)\n")
    with pytest.raises(AirflowException, match="Too many write"):
        task.execute(context(task))


def test_every_argument_by_another_task_makes_it_go_first() -> None:
    for operator in (
        IngestOperator,
        ExtractOperator,
        ValidateOperator,
        UndoOperator,
        IndexOperator,
        DuplicatesOperator,
        EraseOperator,
        SyncOperator,
        EraseOperator,
    ):
        for name in [*map(arguments.argument, arguments.names(operator.kind())), "storage_conn_id"]:
            with DAG("d", schedule=None):
                first = made_by_task()
                assert operator(task_id="t", **{name: first}).upstream_task_ids == {"made_by_task"}


@task
def made_by_task() -> str:
    return ""


def test_a_param_may_be_one_that_each_run_must_give(spark: FakeSpark) -> None:
    asked = {"partition": DAY, "model": KEY}
    with DAG("d", schedule=None, params={name: Param(None, type="string") for name in asked}):
        task = UndoOperator(task_id="undo")
    run = {**context(made(UndoOperator, partition=DAY, model=KEY), conf=asked), "params": asked}
    assert (task.job_settings(run).partition, task.job_settings(run).model) == (DAY, KEY)
    spark.does("sys.exit(1)")
    with pytest.raises(AirflowException, match="undo ended with exit code 1"):
        task.execute(run)
