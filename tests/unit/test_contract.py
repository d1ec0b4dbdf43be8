"""The settings mean the same on both sides, wrong ones are refused in plain words, and errors and manifests survive."""

from __future__ import annotations

import dataclasses
import json
import pickle
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from spark_apps import contract
from spark_apps.contract import (
    BadSetting,
    ExtractSettings,
    IngestSettings,
    JobError,
    Manifest,
    ModelInfo,
    NothingToDo,
    QualityFailed,
    Settings,
    StagedFile,
    Unreachable,
    ValidateSettings,
)

COMMON: dict[str, Any] = {"store": "/data/features", "partition": "2026-11-22", "run_id": "manual__2026-11-22T00:00:00"}
OF_A_DAG: dict[str, Any] = {**COMMON, "dag_id": "my.dag", "map_index": 3, "branch": "a/b", "submission": "second"}
PLAIN: dict[type[Settings], dict[str, Any]] = {
    IngestSettings: {**COMMON, "source": "/data/photos"},
    ExtractSettings: COMMON,
    ValidateSettings: COMMON,
}
EVERYTHING: dict[type[Settings], dict[str, Any]] = {
    IngestSettings: {
        **OF_A_DAG,
        "source": "s3://bucket/photos",
        "pattern": "* *.jp[e]g",
        "exclude": "drafts, *_thumb.jpg,raw/*",
        "max_pixels": 1,
        "max_bytes": 2**30,
        "on_empty": "skip",
        "content": "reference",
        "within": "/photos\n/more photos",
        "extractor": "text",
    },
    ExtractSettings: {
        **OF_A_DAG,
        "extractor": "/my extractors/mine.py:Mine",
        "model": "s3://bucket/my model.onnx",
        "layer": "/head/vector:0",
        "weights": "default",
        "weights_sha256": "0f" * 32,
        "weights_within": "/models\nhttps://models.example/ours",
        "engine": "openvino",
        "precision": "bf16",
        "device": "cpu",
        "decode": "scaled",
        "resize": "256x128",
        "crop": "256x128",
        "mean": "-0.5,0,0.5",
        "std": "0.25",
        "interpolation": "bicubic",
        "layout": "NHWC",
        "color": "srgb",
        "raw": "developed",
        "resources": "wide",
        "batch_size": 1024,
        "lookback": 0,
        "recompute": True,
    },
    ValidateSettings: {
        **OF_A_DAG,
        "max_failed_fraction": 0.0,
        "weights_within": "/models",
        "warn_failed_fraction": 0.2,
        "max_drift": 1 / 3,
        "warn_drift": 0.25,
        "max_identical_fraction": 0.75,
        "max_constant": 3,
        "min_features": 2,
        "min_row_ratio": 0.25,
        "warn_row_ratio": 0.5,
        "max_poor_rise": 0.4,
        "min_cosine": 0.97,
        "check_levels": "drift=warning,row_count=off",
        "history": 0,
        "recheck": 0,
        "no_publish": True,
    },
}
KINDS = pytest.mark.parametrize("kind", EVERYTHING, ids=lambda kind: kind.__name__)


def parse(kind: type[Settings], *argv: str) -> Settings:
    return contract.parse(kind, argv, "job", "What it does.")


# --- arguments --------------------------------------------------------------------------------------------------------


@KINDS
@pytest.mark.parametrize("values", [PLAIN, EVERYTHING], ids=["defaults", "everything set"])
def test_settings_survive_the_command_line(kind: type[Settings], values: dict[type[Settings], dict[str, Any]]) -> None:
    settings = kind(**values[kind])
    args = contract.to_args(settings)
    assert all(isinstance(arg, str) for arg in args)
    assert parse(kind, *args) == settings


@KINDS
def test_every_setting_was_set_to_something_else_than_its_default(kind: type[Settings]) -> None:
    fields = {spec.name: spec.default for spec in dataclasses.fields(kind)}
    assert EVERYTHING[kind].keys() == fields.keys(), "the round trip above must cover every setting"
    assert [name for name, default in fields.items() if EVERYTHING[kind][name] == default] == []


@pytest.mark.parametrize("value", ["-7", "--recompute", "a b", "ä:+%/'\"$", "="])
def test_odd_text_survives_the_command_line(value: str) -> None:
    settings = IngestSettings(**{**PLAIN[IngestSettings], "run_id": value, "pattern": value})
    assert parse(IngestSettings, *contract.to_args(settings)) == settings


def test_an_empty_pattern_stays_empty() -> None:
    settings = IngestSettings(**PLAIN[IngestSettings], pattern="")
    assert parse(IngestSettings, *contract.to_args(settings)).pattern == ""


@KINDS
def test_help_explains_every_setting(kind: type[Settings], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        parse(kind, "--help")
    assert end.value.code == 0
    text = " ".join(capsys.readouterr().out.split())
    for spec in dataclasses.fields(kind):
        assert f"--{spec.name.replace('_', '-')} " in text
        assert spec.metadata["help"].split()[0] in text


def test_a_relative_folder_means_the_callers_own(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    args = ["--partition", "p", "--run-id", "r"]
    settings = parse(IngestSettings, "--store", "out/", "--source", "../in/{partition}", *args)
    assert settings.store == str(tmp_path / "out")
    assert vars(settings)["source"] == str(tmp_path.parent / "in" / "p")


def test_the_partition_is_filled_into_the_source() -> None:
    settings = IngestSettings(**{**PLAIN[IngestSettings], "source": "s3://bucket/{partition}/raw/{partition}/"})
    assert settings.source == "s3://bucket/2026-11-22/raw/2026-11-22"


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("file:/data/photos", "file:///data/photos"),
        ("file:///data/photos", "file:///data/photos"),
        ("file://localhost/data/photos", "file:///data/photos"),
        ("FILE://LOCALHOST/data/photos", "file:///data/photos"),
        ("S3://bucket/photos", "s3://bucket/photos"),
    ],
)
def test_a_location_is_what_it_says_however_it_is_written(given: str, meant: str) -> None:
    argv = ["--store", given, "--partition", "d1", "--run-id", "r", "--source", given]
    settings = contract.parse(IngestSettings, argv, "ingest", "")
    assert (settings.store, settings.source) == (meant, meant)


@pytest.mark.parametrize(
    "place", ["file:data", "file://server/data", "file:", "file://", "s3:/bucket/x", "C:\\photos", "c:/photos", "s3:"]
)
def test_what_looks_like_a_uri_is_never_a_folder_of_that_name(place: str) -> None:
    argv = ["--store", "/s", "--partition", "d1", "--run-id", "r", "--source", place]
    with pytest.raises(BadSetting) as refused:
        contract.parse(IngestSettings, argv, "ingest", "")
    assert refused.value.code == "bad_source"


@pytest.mark.parametrize("place", ["/data/../etc", "file:///data/%2e%2e/etc", "s3://b/%2E%2E/c", "/data/.%2e/etc"])
def test_a_location_does_not_climb_however_it_is_written(place: str) -> None:
    with pytest.raises(BadSetting, match="contains"):
        IngestSettings(store="/s", partition="d1", run_id="r", source=place)


@pytest.mark.parametrize(
    "place",
    [
        *("/d/a%2Fb", "/d/%41", "/d/a%20b", "/d/a\\b", "file:///d/a%252Fb", "file:///d/a%5Cb"),
        *("s3://b/a%2Fb", "s3://b/%41", "s3://b/a#b", "s3://b/a?b"),
    ],
)
def test_a_store_that_delta_rs_would_take_for_another_place_is_refused(place: str) -> None:
    with pytest.raises(BadSetting, match="another place"):
        ExtractSettings(store=place, partition="d1", run_id="r")


# --- refusals ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "change", "code"),
    [
        *((ExtractSettings, {"partition": key}, "bad_partition") for key in ("../../x", "a/b", ".hidden", "-x", "a\n")),
        *((ExtractSettings, {"partition": key}, "bad_partition") for key in ("", "é", "a b", "a" * 65, "a:b", "{ds}")),
        *(
            (ExtractSettings, {"store": place}, "bad_store")
            for place in ("", "data", "./data", "/data/../etc", "s3:/b")
        ),
        *((ExtractSettings, {"store": place}, "bad_store") for place in ("s3://", "s3:///", "file:///", "~/data")),
        (IngestSettings, {"source": "photos"}, "bad_source"),
        (IngestSettings, {"source": "/photos/../../etc"}, "bad_source"),
        (IngestSettings, {"source": ""}, "bad_source"),
        (IngestSettings, {"max_pixels": 0}, "bad_max_pixels"),
        (IngestSettings, {"max_pixels": contract.MAX_PIXELS + 1}, "bad_max_pixels"),
        (IngestSettings, {"max_bytes": 0}, "bad_max_bytes"),
        (IngestSettings, {"on_empty": "ignore"}, "bad_on_empty"),
        (ExtractSettings, {"run_id": ""}, "bad_run_id"),
        (ExtractSettings, {"model": "resnet51"}, "bad_model"),
        (ExtractSettings, {"model": ""}, "bad_model"),
        (ExtractSettings, {"weights": ""}, "bad_weights"),
        (ExtractSettings, {"weights_sha256": "abc"}, "bad_weights_sha256"),
        (ExtractSettings, {"weights_sha256": "g" * 64}, "bad_weights_sha256"),
        (ExtractSettings, {"engine": "onnx"}, "bad_engine"),
        (ExtractSettings, {"precision": "fp16"}, "bad_precision"),
        (ExtractSettings, {"device": "tpu"}, "bad_device"),
        (ExtractSettings, {"batch_size": 0}, "bad_batch_size"),
        (ExtractSettings, {"batch_size": 1025}, "bad_batch_size"),
        (ExtractSettings, {"lookback": -1}, "bad_lookback"),
        (ExtractSettings, {"engine": "openvino", "device": "cuda"}, "contradiction"),
        (ExtractSettings, {"weights": "keras-v1", "model": "resnet18"}, "contradiction"),
        (ValidateSettings, {"max_failed_fraction": float("nan")}, "bad_max_failed_fraction"),
        (ValidateSettings, {"max_failed_fraction": 1.01}, "bad_max_failed_fraction"),
        (ValidateSettings, {"max_drift": -0.1}, "bad_max_drift"),
        (ValidateSettings, {"check_levels": "drift"}, "bad_check_levels"),
        (ValidateSettings, {"check_levels": "drift=quiet"}, "bad_check_levels"),
        (ValidateSettings, {"check_levels": "drft=off"}, "bad_check_levels"),
        (ValidateSettings, {"check_levels": "drift=off,drift=error"}, "bad_check_levels"),
        (ValidateSettings, {"max_drift": float("inf")}, "bad_max_drift"),
        (ValidateSettings, {"recheck": -1}, "bad_recheck"),
    ],
)
def test_a_wrong_setting_is_refused_with_advice(kind: type[Settings], change: dict[str, Any], code: str) -> None:
    with pytest.raises(BadSetting) as caught:
        kind(**{**PLAIN[kind], **change})
    assert caught.value.code == code
    assert caught.value.message and caught.value.hint
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    "extra",
    [
        ["--unknown", "x"],
        ["--batch", "8"],  # no abbreviations: what is short today may be ambiguous tomorrow
        ["--batch-size", "many"],
        ["--batch-size", "1.5"],
        ["--batch-size"],
        ["--batch-size", "0"],
        ["stray"],
    ],
)
def test_a_wrong_argument_is_refused(extra: list[str]) -> None:
    with pytest.raises(BadSetting) as caught:
        parse(ExtractSettings, *contract.to_args(ExtractSettings(**COMMON)), *extra)
    assert caught.value.hint


def test_a_missing_argument_is_named() -> None:
    with pytest.raises(BadSetting, match="--run-id"):
        parse(ExtractSettings, "--store", "/s", "--partition", "p")


@pytest.mark.parametrize("key", ["2026-11-22", "a", "0", "A.b_c-d", "a" * 64, "a..b"])
def test_a_plain_partition_key_is_taken(key: str) -> None:
    assert contract.check_partition(key) == key


@pytest.mark.parametrize(
    ("given", "taken"),
    [
        ("/data/", "/data"),
        ("/", "/"),
        ("s3://bucket", "s3://bucket"),
        ("s3://bucket/a//", "s3://bucket/a"),
        ("file:///data", "file:///data"),
        ("hdfs:///data", "hdfs:///data"),
        ("/data/a..b", "/data/a..b"),
    ],
)
def test_a_location_is_taken_without_its_last_slash(given: str, taken: str) -> None:
    assert contract.check_location("store", given) == taken


# --- names and places -------------------------------------------------------------------------------------------------


def test_different_run_ids_have_different_folders_that_are_plain_names() -> None:
    ids = [
        "a:b",
        "a+b",
        "a_b",
        "a b",
        "a/b",
        "a.b",
        "..",
        ".",
        "manual__2026-11-22T00:00:00+00:00",
        "é",
        "e",
        "é" * 300,
    ]
    ids += ["x" * 120, "x" * 121, "x" * 122, "../../x"]
    folders = [contract.path_safe(run_id) for run_id in ids]
    assert len(set(folders)) == len(ids)
    assert all(folder.replace("-", "").replace("_", "").isalnum() and len(folder) < 200 for folder in folders)
    assert contract.path_safe("a_b") == "a_b", "an id that is a plain name already stays as it is"
    assert contract.path_safe("manual__2026-11-22T00:00:00").startswith("manual__2026-11-22T00_00_00-")


def test_the_folder_of_a_run_lies_in_its_partition() -> None:
    assert ExtractSettings(**{**COMMON, "run_id": "r1"}).folder == "/data/features/runs/2026-11-22/r1"
    assert contract.run_folder("s3://b/store/", "p", "r") == "s3://b/store/runs/p/r"


def test_the_model_key_is_readable_and_safe() -> None:
    assert contract.model_key("resnet50", "IMAGENET1K_V2", "fp32") == "resnet50-imagenet1k_v2-fp32"
    assert contract.model_key("resnet18", "random:0", "int8") == "resnet18-random_0-int8"
    assert contract.model_key("resnet18", "random:0", "fp32", "scaled") == "resnet18-random_0-fp32-scaled"
    assert contract.model_key("resnet18", "random:0", "fp32", "fast") == "resnet18-random_0-fp32-fast"
    assert contract.model_key("resnet18", "random:0", "fp32", "scaled", "layer3", "srgb") == (
        "resnet18-random_0-fp32-layer3-scaled-srgb"
    )
    assert contract.model_key("resnet18", "random:0", "fp32", raw="developed") == "resnet18-random_0-fp32-developed"
    assert "/" not in contract.model_key("resnet50", "s3://bucket/a b.pth", "fp32")


@pytest.mark.parametrize(
    ("kind", "name", "expected"),
    [
        (ExtractSettings, "batch_size", {"type": int, "default": 16, "minimum": 1, "maximum": 1024, "choices": None}),
        (ExtractSettings, "engine", {"type": str, "default": "auto", "choices": ("auto", "torch", "openvino")}),
        (ExtractSettings, "recompute", {"type": bool, "default": False}),
        (ValidateSettings, "max_drift", {"type": float, "default": 0.5, "minimum": 0, "maximum": 1}),
        (IngestSettings, "source", {"type": str, "default": None}),
    ],
)
def test_a_form_learns_all_about_a_setting(kind: type[Settings], name: str, expected: dict[str, Any]) -> None:
    described = contract.describe(kind, name)
    assert {key: described[key] for key in expected} == expected
    assert described["help"].endswith(".")


# --- errors and manifests ---------------------------------------------------------------------------------------------


def test_the_design_names_every_quarantine_code_and_every_check() -> None:
    text = (Path(__file__).parents[2] / "docs" / "design.md").read_text()
    codes = text.partition("## Quarantine codes")[2].partition("## ")[0]
    assert [code for code in contract.QUARANTINE_CODES if f"`{code}`" not in codes] == []
    table = text.partition("## The checks")[2].partition("**Drift**")[0]
    assert [name for name in contract.CHECKS if f"`{name}`" not in table] == []


@pytest.mark.parametrize(
    ("kind", "exit_code"), [(JobError, 1), (BadSetting, 2), (QualityFailed, 3), (Unreachable, 4), (NothingToDo, 5)]
)
def test_an_error_survives_its_record_and_pickling(kind: type[JobError], exit_code: int) -> None:
    error = kind("some_code", "It broke: “ä”.", "Fix it.")
    record = json.loads(json.dumps(contract.error_record("extract", error)))
    assert (record["stage"], record["exit_code"]) == ("extract", exit_code)
    for copy in (contract.error_from_record(record), pickle.loads(pickle.dumps(error))):
        assert type(copy) is kind
        assert (copy.code, copy.message, copy.hint) == (error.code, error.message, error.hint)
    assert str(error) == "It broke: “ä”. Fix it."


def test_a_record_of_another_version_still_gives_an_error() -> None:
    assert type(contract.error_from_record({"exit_code": 77, "message": "Odd."})) is JobError
    assert contract.error_from_record({}).code == "unknown"


def test_a_manifest_survives_its_file() -> None:
    manifest = Manifest(
        stage="ingest",
        run_id="r",
        partition="p",
        started_at=contract.now(),
        finished_at=contract.now(),
        counts={"listed": 3},
        seconds={"total": 1.5},
        settings={"store": "/ä"},
        versions={"python": "3.11"},
        code_hash="abc",
        staged={"images": [StagedFile("a", rows=1, row_groups=(1,))]},
        quarantined={"empty": 1},
        outcome={"bytes": 5},
    )
    assert Manifest.from_record(json.loads(manifest.to_json())) == manifest
    extracted = replace(manifest, stage="extract", model=OF_PHOTOS)
    assert Manifest.from_record(json.loads(extracted.to_json())) == extracted


OF_PHOTOS = ModelInfo(
    key="resnet18-random_0-fp32",
    fingerprint="0" * 16,
    backbone="resnet18",
    preprocessing={"resize": 256, "crop": 224},
    dim=512,
    classes=1000,
    categories=["tench", "goldfish"],
    files={"a.xml": "ab"},
)
OF_OTHERS = ModelInfo(key="own", fingerprint="1" * 16, extractor="a.b:Own", import_="a.b:Own", dim=3, min_cosine=0.9)


@pytest.mark.parametrize("info", [OF_PHOTOS, OF_OTHERS])
def test_a_model_survives_its_file_and_a_newer_version_s_fields_are_left_out(info: ModelInfo) -> None:
    record = json.loads(json.dumps(info.to_record()))
    assert ModelInfo.from_record(record) == info
    assert ModelInfo.from_record({**record, "of_a_newer_version": {"a": 1}}) == info


def test_a_model_is_written_as_older_versions_read_it() -> None:
    """Those took what is missing for photos', and looked for the class of another extractor under `import`."""
    assert not {"extractor", "import", "import_", "min_cosine"} & set(OF_PHOTOS.to_record())
    assert {"calibration", "categories"} <= set(OF_PHOTOS.to_record())
    assert OF_OTHERS.to_record()["import"] == OF_OTHERS["import"] == "a.b:Own"
    with pytest.raises(KeyError, match="nothing"):
        OF_OTHERS["nothing"]
    assert not {"preprocessing", "calibration", "classes"} & set(OF_OTHERS.to_record())


@pytest.mark.parametrize("record", [None, 7, "text", [], {}, {"key": "k"}, ["key"]])
def test_what_does_not_describe_a_model_is_refused(record: object) -> None:
    with pytest.raises(ValueError, match="not the description of a model"):
        ModelInfo.from_record(record)


@pytest.mark.parametrize("text", ['{"stage": "ingest", "run_', "", '{"stage": "ingest"}', "[]", '{"unknown": 1}'])
def test_text_that_is_not_a_manifest_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"not a manifest|Unterminated string|Expecting value"):
        Manifest.from_record(json.loads(text))


def test_now_is_in_utc() -> None:
    before = datetime.now(UTC)
    moment = datetime.fromisoformat(contract.now())
    assert moment.utcoffset() == timedelta(0)
    assert before - timedelta(seconds=1) < moment <= datetime.now(UTC), "to the second"
