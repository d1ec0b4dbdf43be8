"""What all tests share."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]


def pytest_configure(config: pytest.Config) -> None:
    """What tests, their servers and the jobs that they kill leave in the temporary folder goes when the tests end. And
    what a user does by hand works in a folder whose name has blanks."""
    spark = importlib.util.find_spec("pyspark")
    if " " in sys.executable and spark and spark.origin:  # Spark's own scripts look for it by a path without blanks
        os.environ.setdefault("SPARK_HOME", str(Path(spark.origin).parent))
    if hasattr(config, "workerinput"):  # pytest-xdist: it inherits the folder
        return
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", tempfile.gettempdir())  # tmp_path is kept apart, after a failure
    folder = tempfile.mkdtemp(prefix="image-features-tests-")
    config.add_cleanup(partial(shutil.rmtree, folder, ignore_errors=True))
    Path(folder).chmod(0o1777)  # as /tmp: some tests run a job as another user
    os.environ["TMPDIR"] = tempfile.tempdir = folder
    options = os.environ.get("SPARK_SUBMIT_OPTS", "")
    os.environ["SPARK_SUBMIT_OPTS"] = f"{options} -Djava.io.tmpdir={folder}".strip()  # a JVM does not look at TMPDIR


@pytest.fixture(scope="session")
def optional_data() -> Path:
    """The optional test data (reference weights, odd images); tests that want it are skipped without it."""
    folder = Path(os.environ.get("IMAGE_FEATURES_TEST_DATA") or REPOSITORY.parent / "shared" / "data")
    if not folder.is_dir():
        pytest.skip("the optional test data is not there; IMAGE_FEATURES_TEST_DATA names its folder")
    return folder


@pytest.fixture(autouse=True)
def _no_connection_is_left() -> Iterator[None]:
    """A process reads stores with one connection at a time: the next test is to begin without any."""
    yield
    from spark_apps.storage import filesystems

    filesystems.use({})
