"""The wheel in an Airflow from the registry: plugin, provider and Dags are found, and one day is published."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest
from image_features.options import OPTIONS, SECTION

from tests.install import environments
from tests.install.conftest import DAY, PHOTOS

AIRFLOWS: Mapping[str, str | None] = {"3.3": None, "3.2": "2026-05-01", "3.1": "2026-02-15"}
"""Version → the day whose packages it is installed with; None: the newest."""

COUNT = "from spark_apps import catalog; print(catalog.dataset('{store}', '{table}').count_rows())"


@pytest.mark.parametrize(
    "version",
    [
        pytest.param("3.3", marks=pytest.mark.install),
        *(pytest.param(v, marks=pytest.mark.versions) for v in ("3.2", "3.1")),
    ],
)
def test_a_day_in_an_airflow_from_the_registry(version: str, wheel: Path, source: str, tmp_path: Path) -> None:
    pins = (f"apache-airflow=={version}.*", "pyspark==4.2.0")
    with environments.made(tmp_path / "env", wheel, "airflow", *pins, as_of=AIRFLOWS[version]) as installed:
        run_a_day(installed, version, source, tmp_path)


def run_a_day(installed: environments.Environment, version: str, source: str, tmp_path: Path) -> None:
    store = tmp_path / "store"
    settings = {
        "AIRFLOW_HOME": str(tmp_path / "home"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__DAGS_FOLDER": str(installed.packages / "image_features" / "example_dags"),
        "AIRFLOW__IMAGE_FEATURES__STORE": str(store),
        "AIRFLOW__IMAGE_FEATURES__SOURCE": source,
        "AIRFLOW__IMAGE_FEATURES__MODEL": "resnet18",
        "AIRFLOW__IMAGE_FEATURES__WEIGHTS": "random:0",
        "AIRFLOW_CONN_SPARK_DEFAULT": json.dumps({"conn_type": "spark", "host": "local[2]"}),
    }

    def airflow(*arguments: str) -> str:
        return installed.run("airflow", *arguments, cwd=tmp_path, **settings)

    assert f"{version}." in airflow("version")
    airflow("db", "migrate")
    plugins = airflow("plugins", "-o", "json")
    assert all(place in plugins for place in ("image-features-run", "image-features-task", "dag_run", "nav")), plugins
    assert "image-features" in airflow("providers", "list", "-o", "plain")
    options = " ".join(airflow("config", "list", "--section", SECTION, "--defaults").replace("\n# ", " ").split())
    for option in OPTIONS.values():
        described = option.for_airflow()["description"].replace("\n", " ")  # with type, range and default
        assert described in options, options
        assert f"Variable: {option.variable}" in options
    assert "No data found" in airflow("dags", "list-import-errors")
    conf = {"partition": DAY, "max_failed_fraction": 0.5}
    airflow("dags", "test", "image_features", "--conf", json.dumps(conf))

    def rows(table: str) -> int:
        program = COUNT.format(store=store, table=table)
        return int(installed.run("python", "-c", program, cwd=tmp_path).splitlines()[-1])

    assert rows("features") == PHOTOS
    assert rows("quarantine") == 1
