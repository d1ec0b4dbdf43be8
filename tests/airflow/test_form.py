"""The trigger form says what the contract says: every setting once, the same bounds, choices and defaults."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk.exceptions import ParamValidationError
from image_features import arguments, form, run_settings

from spark_apps import contract
from spark_apps.contract import BadSetting

NOT_IN_THE_FORM = {"store", "no_publish"} | arguments.FROM_AIRFLOW | arguments.FROM_ADMINISTRATOR
"""Configured, given by Airflow, and a switch for the command line."""

SETTINGS = {
    field.name: kind
    for kind in contract.SETTINGS.values()
    for field in dataclasses.fields(kind)
    if field.name not in NOT_IN_THE_FORM
}


def test_the_form_has_every_setting_once() -> None:
    listed = [name for fields in form.FIELDS.values() for _, name, _ in fields]
    assert sorted(listed) == sorted(SETTINGS)
    assert list(form.params()) == listed


@pytest.mark.parametrize("name", SETTINGS)
def test_a_field_has_section_title_and_description(name: str) -> None:
    param = form.params()[name]
    assert param.schema["section"] in form.FIELDS
    assert param.schema["title"]
    assert param.description


@pytest.mark.parametrize("name", [name for name, kind in SETTINGS.items() if contract.describe(kind, name)["choices"]])
def test_choices_are_a_drop_down(name: str) -> None:
    assert form.params()[name].schema["enum"] == list(contract.describe(SETTINGS[name], name)["choices"])


@pytest.mark.parametrize(
    "name", [name for name, kind in SETTINGS.items() if contract.describe(kind, name)["maximum"] is not None]
)
def test_form_and_contract_refuse_the_same_numbers(name: str) -> None:
    about = contract.describe(SETTINGS[name], name)
    for bound, beyond in ((about["minimum"], about["minimum"] - 1), (about["maximum"], about["maximum"] + 1)):
        assert form.params()[name].resolve(bound) == bound
        _job(**{name: bound})
        with pytest.raises(ParamValidationError):
            form.params()[name].resolve(beyond)
        with pytest.raises(BadSetting):
            _job(**{name: beyond})


def test_an_untouched_form_means_the_contract_s_defaults() -> None:
    untouched = {name: param.resolve() for name, param in form.params().items()}
    for stage, kind in contract.SETTINGS.items():
        made = _of(stage, {**untouched, "partition": "2026-11-20"})
        for field in dataclasses.fields(kind):
            if field.default is not dataclasses.MISSING and field.name not in ("dag_id", "within"):
                assert getattr(made, field.name) == field.default, field.name


def test_configured_defaults_are_what_the_form_proposes(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, text in {"model": "resnet18", "batch_size": "64", "max_drift": "0.25", "recompute": "true"}.items():
        monkeypatch.setenv(f"AIRFLOW__IMAGE_FEATURES__{name.upper()}", text)
    proposed = {name: param.value for name, param in form.params().items()}
    assert (proposed["model"], proposed["batch_size"]) == ("resnet18", 64)
    assert (proposed["max_drift"], proposed["recompute"]) == (0.25, True)


def test_a_configured_default_of_the_wrong_type_names_where_to_correct_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__IMAGE_FEATURES__BATCH_SIZE", "many")
    with pytest.raises(BadSetting, match=r"'many' is not a valid int.*AIRFLOW__IMAGE_FEATURES__BATCH_SIZE"):
        form.params()


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("check_levels", "drift=loud", "'drift=loud' has no level"),
        ("check_levels", "finite=off", "finite is always an error"),
        ("weights_sha256", "abc", "not a sha256"),
        ("layer", "layer 3", "not a valid layer"),
        ("extractor", "faces", "not a valid extractor"),
    ],
)
def test_a_configured_default_that_no_run_could_use_is_refused_with_its_name(
    name: str, text: str, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"AIRFLOW__IMAGE_FEATURES__{name.upper()}", text)
    with pytest.raises(
        BadSetting, match=rf"^\[image_features\] {name} = .*{says}.*AIRFLOW__IMAGE_FEATURES__{name.upper()}"
    ):
        form.params()


@pytest.mark.parametrize(
    ("name", "text"), [("check_levels", "drift=warning"), ("weights", "keras-v1"), ("device", "cuda")]
)
def test_a_configured_default_that_a_run_can_use_is_proposed(
    name: str, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"AIRFLOW__IMAGE_FEATURES__{name.upper()}", text)
    assert form.params()[name].value == text


def test_models_are_proposed_by_the_sources_that_are_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    for allowed in ("torchvision,timm", "timm"):
        monkeypatch.setenv("AIRFLOW__IMAGE_FEATURES__MODEL_SOURCES", allowed)
        expected = [one for name in allowed.split(",") for one in contract.MODEL_SOURCES[name].examples]
        assert form.params()["model"].schema["examples"] == expected
        assert form.params()["model"].resolve("timm:convnext_tiny.in12k") == "timm:convnext_tiny.in12k"


def test_the_source_of_the_form_wins_over_the_configured_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__IMAGE_FEATURES__SOURCES", "s3://bucket")
    assert _job(source=None).source == "/photos/2026-11-20"
    assert _job(source="s3://bucket/{partition}").source == "s3://bucket/2026-11-20"


def test_an_unknown_key_is_refused_with_the_nearest_known_one() -> None:
    with pytest.raises(BadSetting, match="'batchsize' \\(did you mean 'batch_size'\\?\\)"):
        form.check_keys(["model", "batchsize"], known=form.params())
    form.check_keys(["model", "batch_size"], known=form.params())


def _job(**values: Any) -> Any:
    """Settings of the job that `values` belong to."""
    (stage,) = [stage for stage, kind in contract.SETTINGS.items() if SETTINGS[next(iter(values))] is kind]
    return _of(stage, {"partition": "2026-11-20", **values})


def _of(stage: str, values: dict[str, Any]) -> Any:
    """Settings of a stage's job in a run with these params."""
    task = SimpleNamespace(stage=stage, dag_id="d", params=values, dag=SimpleNamespace(params={}, tasks=[]))
    context = {"run_id": "r", "params": values, "dag_run": SimpleNamespace(conf={}), "ti": None}
    return run_settings.of(contract.SETTINGS[stage], {}, task, context)
