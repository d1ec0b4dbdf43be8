"""A cluster whose nodes know nothing of this project, and the Pythons they have."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from spark_apps.spark import packages
from tests.cluster.standalone import Standalone


@pytest.fixture(scope="package")
def bare_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Python with its standard library and nothing else, under its usual names."""
    folder = tmp_path_factory.mktemp("bare")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    return folder / "bin" / "python"


@pytest.fixture(scope="package")
def node_python(bare_python: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with what a worker needs, each file a link: what an unpacked environment looks like."""
    folder = tmp_path_factory.mktemp("node")
    for name, content in packages.environment_files(packages.worker()):
        place = folder / name
        place.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, Path):
            place.symlink_to(content)
        else:
            place.write_bytes(content)
            place.chmod(0o755)
    return folder / "bin" / "python"


@pytest.fixture(scope="package")
def cluster(bare_python: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Standalone]:
    """One master and two workers."""
    standalone = Standalone(tmp_path_factory.mktemp("cluster") / "spark", bare_python.parent)
    try:
        yield standalone
    finally:
        standalone.stop()
