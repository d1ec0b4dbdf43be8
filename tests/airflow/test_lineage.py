"""What OpenLineage's backends receive of our stages, by the provider's own extractor, adapter and HTTP transport."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import types
import typing
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import attr
import jsonschema
import pyarrow as pa
import pytest
from airflow.providers.openlineage.extractors.manager import ExtractorManager
from airflow.providers.openlineage.plugins.adapter import OpenLineageAdapter
from airflow.utils.state import TaskInstanceState
from deltalake import write_deltalake
from image_features import lineage, outcomes
from openlineage.client import facet_v2
from openlineage.client.generated import base

from spark_apps import contract
from tests.airflow import loopback
from tests.airflow.test_notifier import FAILED, MODEL, PASSED, WARNED, publishes, rejects, reports
from tests.airflow.test_operators import DAY, FakeSpark, context, operator, spark  # noqa: F401  # the fixture
from tests.airflow.test_stats import AnyEvent

RUN_UUID, DAG_UUID = "0197b1a4-0000-7000-8000-000000000001", "0197b1a4-0000-7000-8000-000000000002"
INFO = contract.ModelInfo(key=MODEL, fingerprint="f" * 16, backbone="resnet18", weights_sha256="0" * 64, dim=512)
Event = dict[str, Any]


@pytest.fixture
def received(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], Event]]:
    """A function that runs a stage and gives the event that was received of its end."""
    with loopback.webhook() as (port, got):
        transport = {"type": "http", "url": f"http://127.0.0.1:{port}", "endpoint": "lineage"}
        monkeypatch.setenv("AIRFLOW__OPENLINEAGE__TRANSPORT", json.dumps(transport))
        _forget_configuration()

        def run(stage: str) -> Event:
            task, error = operator(stage), None
            try:
                task.execute({**context(), "outlet_events": AnyEvent()})
            except Exception as raised:
                error = raised
            state = TaskInstanceState.FAILED if error else TaskInstanceState.SUCCESS
            of = types.SimpleNamespace(run_id="r")
            metadata = ExtractorManager().extract_metadata(of, task, state, types.SimpleNamespace(task=task))
            kinds = facet_v2.parent_run
            job = kinds.Job(namespace="default", name="image_features")
            parent = kinds.ParentRunFacet(run=kinds.Run(runId=DAG_UUID), job=job)
            known = {"run_id": RUN_UUID, "job_name": f"image_features.{stage}", "task": metadata, "owners": ["airflow"]}
            known |= {"end_time": "2026-11-22T07:43:15Z", "nominal_start_time": None, "nominal_end_time": None}
            known |= {"job_description": None, "tags": [], "run_facets": {"parent": parent}}
            adapter = OpenLineageAdapter()
            adapter.fail_task(**known, error=error) if error else adapter.complete_task(**known)
            (path, _, event), *more = got
            assert (path, more) == ("/lineage", [])
            check(event)
            wrong = {"parent": {**event["run"]["facets"]["parent"], "no_field": 1}}
            with pytest.raises(AssertionError, match="Additional properties"):
                check({**event, "run": {**event["run"], "facets": wrong}})
            return typing.cast(Event, event)

        yield run
    monkeypatch.undo()
    _forget_configuration()


def _forget_configuration() -> None:
    from airflow.providers.openlineage import conf

    for one in vars(conf).values():
        if hasattr(one, "cache_clear"):
            one.cache_clear()


def check(event: Event) -> None:
    """Raises ValidationError: the event, or a facet of it, is not what the specification says, as the client's classes
    have it, which are generated from that. Our own facet is checked as the RunFacet that it says to be."""
    facets = event["run"]["facets"] | event["job"]["facets"]
    for one in [*event["inputs"], *event["outputs"]]:
        facets = {**facets, **{f"{one['name']} {key}": each for key, each in one["facets"].items()}}
        for group in ("inputFacets", "outputFacets"):
            facets |= {f"{one['name']} {key}": each for key, each in one.get(group, {}).items()}
    known = {kind._get_schema(): kind for kind in _kinds(base.BaseFacet) if "_get_schema" in vars(kind)}
    for key, facet in facets.items():
        try:
            jsonschema.validate(facet, _schema(known[facet["_schemaURL"]]))
        except jsonschema.ValidationError as error:
            raise AssertionError(f"{key}: {error.message}") from error
    jsonschema.validate(event, _schema(base.RunEvent), format_checker=jsonschema.FormatChecker())


def _kinds(kind: Any) -> Iterator[Any]:
    for one in kind.__subclasses__():
        yield one
        yield from _kinds(one)


def _schema(kind: Any) -> dict[str, Any]:
    """JSON Schema of a class of the client. Facets of facets are looked at by themselves."""
    known: dict[str, Any] = {}
    return {**_of_type(kind, known), "$defs": known}


def _of_type(kind: Any, known: dict[str, Any]) -> dict[str, Any]:
    if attr.has(kind):
        if kind.__name__ not in known:
            known[kind.__name__] = {}
            known[kind.__name__] |= _of_class(kind, known)
        return {"$ref": f"#/$defs/{kind.__name__}"}
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        return {"anyOf": [_of_type(one, known) for one in arguments]}
    if origin is list:
        return {"type": "array", "items": _of_type(arguments[0], known)}
    if origin is dict:
        return {"type": "object"}
    if kind is base.EventType:
        return {"enum": [one.value for one in base.EventType]}
    plain = {str: "string", bool: "boolean", int: "integer", float: "number", type(None): "null"}
    return {"type": plain[kind]}


def _of_class(kind: Any, known: dict[str, Any]) -> dict[str, Any]:
    fields = attr.fields(attr.resolve_types(kind))
    properties = {field.name: _of_type(field.type, known) for field in fields}
    return {
        "type": "object",
        "properties": properties | ({"runId": {"type": "string", "format": "uuid"}} if kind is base.Run else {}),
        "required": [field.name for field in fields if field.default is attr.NOTHING],
        "additionalProperties": kind in (base.RunFacet, base.JobFacet, base.DatasetFacet),
    }


def tables(spark: FakeSpark) -> None:  # noqa: F811
    """The tables after another day, and then this one, were published."""
    for day, rows in (("2026-11-19", 5), (DAY, 38)):
        photos = {"uri": [f"s3://photos/{number}.jpg" for number in range(rows)], "partition": [day] * rows}
        write_deltalake(str(spark.store / "images"), pa.table(photos), partition_by=["partition"], mode="append")
        found = pa.table({**photos, "features": [[0.5, 0.5]] * rows, "model": [MODEL] * rows})
        write_deltalake(str(spark.store / "features"), found, partition_by=["partition", "model"], mode="append")


def facets(dataset: dict[str, Any]) -> dict[str, Any]:
    return {**dataset["facets"], **dataset.get("inputFacets", {}), **dataset.get("outputFacets", {})}


def by_name(event: Event, side: str) -> dict[str, dict[str, Any]]:
    return {dataset["name"].rsplit("/", 1)[-1]: facets(dataset) for dataset in event[side]}


def published(spark: FakeSpark, warnings: list[str]) -> None:  # noqa: F811
    tables(spark)
    publishes(spark, warnings)
    checks = [WARNED, PASSED] if warnings else [PASSED]
    reports(spark, [*checks, {**PASSED, "name": "norms", "severity": "off", "passed": None}])
    outcome = {"verdict": contract.WITH_WARNINGS if warnings else contract.PUBLISHED, "warnings": warnings}
    outcome |= {"table_versions": {"images": 1, "features": 1}, "off": ["norms"], "report": "r"}
    spark.succeeds(
        "validate",
        counts={"listed": 41, "accepted": 38, "featured": 38, "quarantined": 3},
        settings={"store": str(spark.store)},
        outcome=outcome,
        model=INFO.to_record(),
    )


@pytest.mark.parametrize("warnings", [[], ["failed_fraction"]])
def test_a_published_run_says_what_was_written_and_what_was_checked(
    warnings: list[str],
    spark: FakeSpark,  # noqa: F811
    received: Callable[[str], Event],
) -> None:
    published(spark, warnings)
    event = received("validate")
    assert (event["eventType"], event["job"]["name"]) == ("COMPLETE", "image_features.validate")
    assert event["run"]["facets"]["parent"]["run"]["runId"] == DAG_UUID
    features = by_name(event, "outputs")["features"]
    assert features["version"]["datasetVersion"] == "1"
    statistics = features["outputStatistics"]
    assert (statistics["rowCount"], statistics["fileCount"]) == (38, 1), "of this day alone"
    assert statistics["size"] == sum(
        file.stat().st_size for file in (spark.store / "features" / f"partition={DAY}").rglob("*.parquet")
    )
    assert [(field["name"], field["type"]) for field in features["schema"]["fields"]][1:3] == [
        ("partition", "string"),
        ("features", "list<element: double>"),
    ]
    (part,) = features["subset"]["outputCondition"]["partitions"]
    assert part["dimensions"] == {"partition": DAY, "model": MODEL}
    assert by_name(event, "outputs")["images"]["outputStatistics"]["rowCount"] == 38
    said = by_name(event, "inputs")["features"]["dataQualityAssertions"]["assertions"]
    told = {one["name"]: (one["success"], one["severity"], one["actual"]) for one in said}
    warned = {"failed_fraction": (False, "warn", "9 %")} if warnings else {}
    assert told == {"drift": (True, "error", "0.6667"), **warned}
    run = event["run"]["facets"][lineage.FACET]
    verdict = "published_with_warnings" if warnings else "published"
    assert (run["verdict"], run["checksOff"], run["counts"]["featured"]) == (verdict, ["norms"], 38)
    assert run["model"]["fingerprint"] == INFO.fingerprint
    assert run["model"]["weights_sha256"] == INFO.weights_sha256


def test_a_rejected_run_has_the_checks_and_the_code_and_no_output(
    spark: FakeSpark,  # noqa: F811
    received: Callable[[str], Event],
) -> None:
    tables(spark)
    rejects(spark)
    event = received("validate")
    assert (event["eventType"], event["outputs"]) == ("FAIL", [])
    said = by_name(event, "inputs")["features"]["dataQualityAssertions"]["assertions"]
    assert [(one["severity"], one["success"]) for one in said] == [("warn", False), ("error", False), ("error", True)]
    assert said[1]["expected"] == "at most 10 %, warning above 5 %"
    run = event["run"]["facets"][lineage.FACET]
    exit_code = int(contract.ExitCode.QUALITY_FAILED)
    assert (run["verdict"], run["code"], run["exitCode"]) == ("rejected", "quality_failed", exit_code)
    assert "Check failed_fraction failed." in event["run"]["facets"]["errorMessage"]["message"]
    assert run["model"] == {"key": MODEL}
    text = json.dumps(event)
    assert not any(photo.rsplit("/", 1)[-1] in text for photo in FAILED["offenders"]), "it names a photo"
    assert "secret" not in text


def test_a_killed_job_has_no_word_and_what_it_was_to_read(
    spark: FakeSpark,  # noqa: F811
    received: Callable[[str], Event],
) -> None:
    spark.does("import signal\nos.kill(os.getpid(), signal.SIGKILL)\n")
    event = received("ingest")
    run = event["run"]["facets"][lineage.FACET]
    assert (event["eventType"], run["verdict"], run["code"]) == ("FAIL", "failed", "no_word")
    (source,) = event["inputs"]
    assert (source["namespace"], source["name"]) == ("file", "/photos")
    (part,) = source["inputFacets"]["subset"]["inputCondition"]["partitions"]
    assert part == {"dimensions": {"partition": DAY}, "identifier": f"/photos/{DAY}"}


def test_ingest_and_extract_stage_files_that_no_version_shows_yet(
    spark: FakeSpark,  # noqa: F811
    received: Callable[[str], Event],
) -> None:
    tables(spark)
    staged = {"features": [vars(contract.StagedFile("data/x.parquet", 4_000, 38))], "quarantine": []}
    counts = {"listed": 41, "accepted": 38, "featured": 38, "quarantined": 3}
    settings = {"store": str(spark.store)}
    spark.succeeds("extract", counts=counts, staged=staged, model=INFO.to_record(), settings=settings)
    event = received("extract")
    features = by_name(event, "outputs")["features"]
    assert "version" not in features
    statistics = features["outputStatistics"]
    assert (statistics["rowCount"], statistics["size"], statistics["fileCount"]) == (38, 4_000, 1)
    assert by_name(event, "outputs")["quarantine"]["outputStatistics"]["rowCount"] == 3
    model = by_name(event, "inputs")[INFO.fingerprint]
    assert (model["datasetType"]["datasetType"], model["version"]["datasetVersion"]) == ("MODEL", INFO.fingerprint)


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("/data/features", ("file", "/data/features")),
        ("file:///data/features", ("file", "/data/features")),
        ("s3a://bucket/a/features", ("s3://bucket", "a/features")),
        ("abfss://photos@account.dfs.core.windows.net/a", ("abfss://photos@account.dfs.core.windows.net", "a")),
        ("gs://bucket/a", ("gs://bucket", "a")),
        ("hdfs://name:8020/a", ("hdfs://name:8020", "/a")),
        ("postgresql://me:secret@db:5432/photos?x=y", ("postgres://db:5432", "photos")),
        ("s3://key:secret@bucket/a", ("s3://bucket", "a")),
    ],
)
def test_data_sets_are_named_by_the_conventions_of_openlineage(uri: str, expected: tuple[str, str]) -> None:
    assert lineage.naming(uri) == expected


def test_a_source_is_one_data_set_for_all_its_days() -> None:
    assert lineage._above("s3://photos/berlin/2026-11-20/jpg", "2026-11-20") == "s3://photos/berlin"
    assert lineage._above("s3://photos/2026-11-20", "2026-11-20") == "s3://photos"
    assert lineage._above("/2026-11-20", "2026-11-20") == "/2026-11-20"
    assert lineage._above("/photos", "2026-11-20") == "/photos"


@pytest.mark.parametrize("stage", ["maintain", "erase", "index", "sync", "duplicates", "undo"])
def test_what_other_stages_have_written(stage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lineage, "is_wanted", lambda: True)
    fake = FakeSpark(tmp_path, tmp_path / "store")
    tables(fake)
    about: dict[str, dict[str, Any]] = {
        "maintain": {"tables": {"images": {}, "features": {}}},
        "erase": {"removed": {"rows": {}}},
        "index": {"model": MODEL},
        "sync": {"model": MODEL, "to": "qdrant://db:6333/photos", "features_version": 1},
        "duplicates": {"model": MODEL, "features_version": 1},
        "undo": {"verdict": contract.PUBLISHED, "table_versions": {"features": 1}},
    }
    record = {"stage": stage, "run_id": "r", "partition": "", "counts": {"brought": 2, "upserted": 2}, "seconds": {}}
    record |= {"started_at": "", "finished_at": "", "settings": {"partition": DAY}, "versions": {}, "code_hash": ""}
    manifest = contract.Manifest.from_record({**record, "outcome": about[stage], "model": INFO.to_record()})
    found = outcomes.Outcome(stage=stage, store=str(fake.store), folder="", manifest=manifest)
    known = lineage.of(found)
    assert known is not None
    written = {one.uri.rsplit("/", 1)[-1]: (one.version, one.rows) for one in known.outputs}
    expected: dict[str, dict[str, tuple[str, int | None]]] = {
        "maintain": {"images": ("1", 43), "features": ("1", 43)},
        "erase": {"images": ("1", 43), "features": ("1", 43), "quarantine": ("", None)},
        "index": {f"{MODEL}.lance": ("", 2)},
        "sync": {"photos": ("", 2)},
        "duplicates": {"duplicates": ("", None)},
        "undo": {"features": ("1", 38)},
    }
    assert written == expected[stage]


def test_without_the_provider_nothing_is_imported_and_nothing_happens() -> None:
    """In a process of its own, where the provider cannot be found. (make test-install: a whole Airflow without it.)"""
    script = """
import importlib.util, sys
found = importlib.util.find_spec
importlib.util.find_spec = lambda name, *more: None if "openlineage" in name else found(name, *more)
from image_features import lineage, outcomes
task = lineage.Reports()
assert task.get_openlineage_facets_on_complete(None) is None
known = lineage.of(outcomes.Outcome(stage="validate", store="/nowhere", folder="", report={"checks": []}))
assert known is None, known
assert not [name for name in sys.modules if "openlineage" in name or name in ("airflow.models", "deltalake")]
"""
    known = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=known)
    assert done.returncode == 0, done.stderr
