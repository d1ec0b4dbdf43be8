"""The wheel holds all that runs, and what stands in its way is said in a sentence."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.install.environments import REPOSITORY, build_wheel


@pytest.fixture(scope="module")
def names(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    with zipfile.ZipFile(build_wheel(tmp_path_factory.mktemp("wheel"))) as archive:
        return set(archive.namelist())


@pytest.mark.parametrize(
    ("folder", "package"),
    [
        ("spark_apps", "spark_apps"),
        ("plugins/image_features", "image_features"),
        ("dags", "image_features/example_dags"),
    ],
)
def test_every_file_is_in_the_wheel(names: set[str], folder: str, package: str) -> None:
    tracked = subprocess.run(
        ["git", "ls-files", "--cached", folder], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    files = [Path(name).relative_to(folder).as_posix() for name in tracked.stdout.splitlines()]
    assert files
    assert {f"{package}/{file}" for file in files if (REPOSITORY / folder / file).exists()} <= names


def test_licences_are_in_the_wheel(names: set[str]) -> None:
    licences = [name for name in names if name.endswith("LICENSE") and ".dist-info/licenses/" in name]
    assert len(licences) == 2, names  # ours and that of the chart library


def _import(*path: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, path))}
    command = [sys.executable, "-c", "import image_features; print(image_features.JOBS)"]
    return subprocess.run(command, env=environment, cwd=path[0], capture_output=True, text=True)


def test_a_checkout_brings_its_own_jobs(tmp_path: Path) -> None:
    done = _import(tmp_path, REPOSITORY / "plugins")
    assert done.stdout.strip() == str(REPOSITORY / "spark_apps"), done.stderr


@pytest.mark.parametrize("with_init", [True, False])
def test_a_foreign_package_of_the_name_is_a_sentence(tmp_path: Path, with_init: bool) -> None:
    (tmp_path / "spark_apps").mkdir()
    (tmp_path / "spark_apps" / ("__init__.py" if with_init else "theirs.py")).touch()
    done = _import(tmp_path, REPOSITORY / "plugins")
    last = done.stderr.strip().splitlines()[-1]
    assert "another package named spark_apps" in last and str(tmp_path) in last and "PYTHONPATH" in last


def test_without_the_jobs_a_sentence_says_how_to_get_them(tmp_path: Path) -> None:
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins" / "image_features").symlink_to(REPOSITORY / "plugins" / "image_features")
    package = tmp_path / "alone" / "image_features"
    package.mkdir(parents=True)
    (package / "__init__.py").write_bytes((REPOSITORY / "plugins" / "image_features" / "__init__.py").read_bytes())
    done = _import(tmp_path / "alone")
    assert "pip install image-features" in done.stderr.strip().splitlines()[-1]


@pytest.mark.parametrize(("distribution", "version"), [("apache-airflow", "2.11.0"), ("apache-airflow-core", "3.0.6")])
def test_an_older_airflow_is_refused_in_a_sentence(tmp_path: Path, distribution: str, version: str) -> None:
    found = tmp_path / f"{distribution.replace('-', '_')}-{version}.dist-info"
    found.mkdir()
    (found / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(REPOSITORY / "plugins")])}
    command = [sys.executable, "-S", "-c", "import image_features"]  # without the packages that are installed here
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True)
    assert f"needs Airflow 3.1 or newer; this is {version}" in done.stderr.strip().splitlines()[-1]
