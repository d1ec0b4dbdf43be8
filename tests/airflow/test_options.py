"""The options of [image_features]: one table, of which everything is read, shown and checked."""

from __future__ import annotations

import ast
import importlib.resources
import json
import logging
import os
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from image_features import form, provider, settings
from image_features.options import OPTIONS, SECTION, TYPES

from spark_apps import contract

REPO = Path(__file__).resolve().parents[2]
SOURCES = [*(REPO / "plugins").rglob("*.py"), *(REPO / "dags").rglob("*.py")]
READER = REPO / "plugins" / "image_features" / "settings.py"
UNSET = [name for name in OPTIONS if name not in ("store", "source")]  # those are set for every test here

VALUES = """
import json
from image_features import settings
from image_features.options import OPTIONS
found = {name: settings.value(name) for name in OPTIONS}
found["lists"] = [settings.extractors(), settings.sources(), settings.weights_locations(), settings.dag_ids()]
print(json.dumps([settings.conf.has_option("image_features", "schedule"), found]))
"""


def _set(patch: pytest.MonkeyPatch, name: str, text: str) -> None:
    patch.setenv(f"AIRFLOW__{SECTION}__{name}".upper(), text)


def _calls(path: Path, *functions: str) -> list[tuple[str, list[ast.expr]]]:
    nodes = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
    return [(ast.unparse(node.func), node.args) for node in nodes if ast.unparse(node.func) in functions]


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(REPO)))
def test_only_the_settings_read_the_configuration(path: Path) -> None:
    imported = {
        f"{node.module}.{name.name}"
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("airflow")
        for name in node.names
    }
    reads = {name for name in imported if name.endswith((".conf", ".configuration"))}
    assert bool(reads) == (path == READER), reads


def test_every_read_is_of_the_table_and_every_option_is_read() -> None:
    of_section = [args for _, args in _calls(READER, "conf.get") if ast.unparse(args[0]) != "'api'"]
    assert [ast.unparse(args[1]) for args in of_section] == ["option.name"]
    fields = {name for fields in form.FIELDS.values() for _, name, _ in fields}
    read = {
        args[0].value
        for path in SOURCES
        for _, args in _calls(path, "value", "_list", "settings.value", "settings.default")
        if isinstance(args[0], ast.Constant)
    }
    of_maintenance = {"retention_hours", "content_days"}
    assert read | fields - {"partition"} | of_maintenance == set(OPTIONS)


def test_what_is_not_in_the_table_cannot_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    _set(monkeypatch, "surprise", "yes")
    with pytest.raises(KeyError):
        settings.value("surprise")


def test_airflow_takes_the_document_of_the_provider() -> None:
    schema = json.loads((importlib.resources.files("airflow") / "provider_info.schema.json").read_text())
    described = provider.get_provider_info()
    jsonschema.validate(described, schema)
    for option in described["config"][SECTION]["options"].values():
        assert set(option) <= set(schema["definitions"]["option"]["properties"])
        assert isinstance(option["default"], str | None)  # Airflow's own ConfigParser takes nothing else
        assert not set("{}%") & set(option["default"] or "")  # Airflow 3.1 takes them for its own variables


@pytest.mark.parametrize("name", UNSET)
def test_an_option_that_is_not_set_has_its_default(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert settings.value(name) == OPTIONS[name].default
    _set(monkeypatch, name, "  ")
    assert settings.value(name) == OPTIONS[name].default


@pytest.mark.parametrize("name", [name for name, option in OPTIONS.items() if option.default is not None])
def test_a_default_is_a_value_of_its_type_that_its_own_text_gives(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    option = OPTIONS[name]
    assert type(option.default) is option.kind
    _set(monkeypatch, name, option.for_airflow()["default"])
    assert settings.value(name) == option.default


@pytest.mark.parametrize("name", [name for name, option in OPTIONS.items() if option.minimum is not None])
def test_a_number_beyond_its_bounds_is_refused_with_where_it_stands(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    option = OPTIONS[name]
    assert option.minimum is not None
    beyond = [option.minimum - 1] + ([] if option.maximum is None else [option.maximum + 1])
    for text in [*map(str, beyond), "many", *(["nan"] if option.kind is float else [])]:
        _set(monkeypatch, name, text)
        with pytest.raises(contract.BadSetting, match=rf"\[image_features\] {name} = '{text}'.*{option.variable}"):
            settings.value(name)


@pytest.mark.parametrize(("name", "text"), [("precision", "int4"), ("model", "resnet5"), ("recompute", "perhaps")])
def test_a_word_that_is_not_allowed_is_refused_with_where_it_stands(
    name: str, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    _set(monkeypatch, name, text)
    with pytest.raises(contract.BadSetting, match=f"{name} = '{text}'.*{OPTIONS[name].variable}"):
        form.params()


@pytest.mark.parametrize(("text", "meaning"), [("True", True), ("1", True), ("f", False), ("true  # for now", True)])
def test_truth_values_are_written_as_in_the_rest_of_airflow(
    text: str, meaning: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    _set(monkeypatch, "recompute", text)
    assert settings.value("recompute") is meaning


def test_an_unknown_option_is_a_warning_with_the_nearest_name(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    assert settings.unknown() == {}
    _set(monkeypatch, "batchsize", "64")
    _set(monkeypatch, "zzz", "1")
    assert settings.unknown() == {"batchsize": "batch_size", "zzz": ""}
    settings.warn_of_unknown.cache_clear()
    with caplog.at_level(logging.WARNING):
        form.params()
        form.params()
    said = [record.getMessage() for record in caplog.records if record.name == settings.__name__]
    assert len(said) == 2, said  # one for each, however often the Dag is parsed
    assert "batchsize is not an option, did you mean batch_size?" in said[0]


def test_an_unknown_option_is_found_in_the_file_too() -> None:
    settings.conf.read_dict({SECTION: {"stroe": "/data/store", "lookback": "3"}})  # as airflow.cfg is read
    try:
        assert settings.unknown() == {"stroe": "store"}
        assert settings.value("lookback") == 3
    finally:
        settings.conf.remove_section(SECTION)


def test_weights_known_by_name_are_no_place_to_read_from(monkeypatch: pytest.MonkeyPatch) -> None:
    assert settings.weights_locations() == []
    _set(monkeypatch, "weights", "/models/a.pth")
    assert settings.weights_locations() == ["/models/a.pth"]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment of a process in which Airflow finds the package by its entry points, as the wheel gives them."""
    folder = tmp_path_factory.mktemp("site")
    project = tomllib.loads((REPO / "pyproject.toml").read_text())["project"]
    info = folder / f"image_features-{project['version']}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: image-features\nVersion: {project['version']}\n")
    points = [
        line
        for group, entries in project["entry-points"].items()
        for line in (f"[{group}]", *(f"{name} = {target}" for name, target in entries.items()))
    ]
    (info / "entry_points.txt").write_text("\n".join(points) + "\n")
    path = os.pathsep.join([str(folder), str(REPO / "plugins"), str(REPO)])
    return _environment(AIRFLOW__CORE__PLUGINS_FOLDER=str(folder), AIRFLOW_HOME=str(folder), PYTHONPATH=path)


def _environment(**more: str) -> dict[str, str]:
    prefix = f"AIRFLOW__{SECTION}__".upper()
    return {**{name: value for name, value in os.environ.items() if not name.startswith(prefix)}, **more}


def _run(environment: dict[str, str], *command: str) -> str:
    done = subprocess.run([sys.executable, *command], env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-4000:]
    return done.stdout


def test_installed_or_laid_beside_one_another_the_values_are_the_same(installed: dict[str, str]) -> None:
    beside = _environment(PYTHONPATH=os.pathsep.join([str(REPO / "plugins"), str(REPO)]))
    knows, values = json.loads(_run(installed, "-c", VALUES).splitlines()[-1])
    assert knows, "Airflow does not know the defaults: the provider was not found"
    knows, others = json.loads(_run(beside, "-c", VALUES).splitlines()[-1])
    assert not knows
    assert values == others
    assert {name: values[name] for name in OPTIONS} == {name: option.default for name, option in OPTIONS.items()}


def test_airflow_lists_every_option(installed: dict[str, str]) -> None:
    listed = _run(installed, "-m", "airflow", "config", "list", "--section", SECTION, "--defaults", "--show-values")
    blocks: dict[str, Any] = {}
    lines: list[str] = []
    for line in listed.splitlines():
        lines.append(line)
        name, equals, value = line.removeprefix("# ").partition(" = ")
        if equals and name in OPTIONS:
            blocks[name] = (" ".join(lines), value)
            lines = []
    assert set(blocks) == set(OPTIONS), listed
    for name, option in OPTIONS.items():
        text, value = blocks[name]
        assert option.description in text
        assert option.field in text
        assert f"Type: {TYPES[option.kind]}" in text
        assert option.variable in text
        assert option.example is None or option.example in text
        assert value == ("" if option.default is None else str(option.default))
