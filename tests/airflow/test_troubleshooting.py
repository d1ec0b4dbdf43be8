"""Promises: the messages that docs/troubleshooting.md quotes are what the code prints; each failure is made here."""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
import sys
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from spark_apps import contract, ingest, storage, validate
from spark_apps.model import fetching
from spark_apps.pipeline import keys, quality
from spark_apps.pipeline.measure import Found, Measured
from spark_apps.spark import environment_checks, failures
from tests.airflow.test_operators import context, operator

REPO = Path(__file__).resolve().parents[2]
PAGE = REPO / "docs" / "troubleshooting.md"
RUN = {"store": "/store", "partition": "d1", "run_id": "r"}

Maker = Callable[[Path, pytest.MonkeyPatch], str | None]
MAKERS: dict[str, Maker] = {}
"""Message as the page quotes it → what makes the failure: raises it, or returns the text."""


def prints(message: str) -> Callable[[Maker], Maker]:
    def known(maker: Maker) -> Maker:
        MAKERS[message] = maker
        return maker

    return known


def task(**conf: Any) -> None:
    """The first task of a run that was triggered with `conf`."""
    operator("ingest").execute(context(**conf))


def listed(source: Path) -> None:
    @contextmanager
    def phase(name: str) -> Iterator[None]:
        yield

    settings = contract.IngestSettings(source=str(source), **RUN)  # type: ignore[arg-type]
    ingest.ingest(settings, SimpleNamespace(phase=phase))  # type: ignore[arg-type]


def imported(plugins: Path) -> str:
    shutil.copytree(REPO / "plugins" / "image_features", plugins / "image_features")
    code = f"import sys; sys.path.insert(0, {str(plugins)!r}); import image_features"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=plugins, env={})
    return done.stderr.strip().splitlines()[-1].partition(": ")[2]


@prints("Image Features needs Airflow 3.1 or newer; this is ….")
def _(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import image_features

    monkeypatch.setattr(image_features, "version", lambda _: "2.11.2")
    image_features._check_airflow()


@prints("Image Features: the folder spark_apps is missing in …")
def _(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    return imported(tmp_path / "plugins")


@prints("Image Features: another package named spark_apps (…) hides ours.")
def _(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "plugins" / "spark_apps").mkdir(parents=True)
    return imported(tmp_path / "plugins")


@prints("No source is configured.")
def _(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AIRFLOW__IMAGE_FEATURES__SOURCE")
    task()


@prints("No store is configured.")
def _(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from image_features.web import store_state, stores

    monkeypatch.delenv("AIRFLOW__IMAGE_FEATURES__STORE")
    with pytest.raises(store_state.StoreProblem, match="No store is configured"):
        store_state.published(stores.of_dag("image_features")[0])
    task()


@prints("The Spark connection 'spark_default' does not exist, or it cannot be parsed.")
def _(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AIRFLOW_CONN_SPARK_DEFAULT")
    task()


@prints("The Spark connection 'spark_default' leads to …, which is not a valid Spark master.")
def _(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_SPARK_DEFAULT", '{"conn_type": "spark", "host": "example.org"}')
    task()


@prints("Spark needs Java, and there is no java on the PATH.")
def _(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("JAVA_HOME", "SPARK_HOME", "SPARK_CONF_DIR", "PYSPARK_PYTHON", "PYSPARK_SUBMIT_ARGS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    environment_checks.check_before_jvm()


@prints("spark-submit is not on PATH. Install pyspark beside Airflow.")
def _(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))  # spark-submit is looked for beside it, too
    task()


@prints("The Python on … has no package ….")
def _(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    return str(failures.unfit_worker("Traceback\nModuleNotFoundError: No module named 'pyarrow'", "10.0.0.7"))


@prints("The Python on … is …, that of the driver is …; Spark needs the same.")
def _(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    told = "RuntimeError: Python in worker has different version: 3.12 than that in driver: 3.11, PySpark cannot run"
    return str(failures.unfit_worker(told, "10.0.0.7"))


@prints("This run has neither a partition nor a logical date.")
def _(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    task(partition=None)


def started(start: str, end: str, **facts: Any) -> None:
    """The first task of a run with a data interval in UTC."""
    interval = {"data_interval_start": moment(start), "data_interval_end": moment(end)}
    run = context(partition=None)
    operator("ingest").execute({**run, **interval, "dag_run": SimpleNamespace(conf={}, **facts)})


def moment(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@prints("The data interval of this run has no length, …")
def _(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started("2026-11-20", "2026-11-20")


@prints("The data interval of this run and the next would both publish the partition …")
def _(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started("2026-11-20T07:00", "2026-11-20T08:00")


@prints("The partition key of this run, …, is not a valid partition key here.")
def _(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started("2026-11-20", "2026-11-21", partition_key="2026-11-20T00:00:00")


@prints("Unknown setting …")
def _(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    task(batchsize=8)


@prints("The source … does not exist.")
def _(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    listed(tmp_path / "nowhere")


@prints("The source … has no files that match ….")
def _(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    listed(tmp_path)


@prints("The source … is not allowed in this Airflow.")
def _(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    task(source="/elsewhere")


@prints("Access to the … is denied: …")
def _(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with storage.reaching("store", "/store"):  # who runs the tests may be root, to whom nothing is denied
        raise PermissionError(13, "Permission denied", "/store/features")


@prints("The store … cannot be used: …")
def _(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    with storage.reaching("store", str(tmp_path / "file")):
        storage.ensure_folder(str(tmp_path / "file" / "runs"))


@prints("The weights … cannot be fetched from …")
def _(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}/resnet50.pth"
    with fetching.download("The weights IMAGENET1K_V2 of resnet50", url):
        urllib.request.urlopen(url)


@prints("The weights … do not exist.")
def _(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fetching._stored(str(tmp_path / "weights.pth"), ())


@prints("Check … failed: …")
def _(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    settings = contract.ValidateSettings(**RUN)  # type: ignore[arg-type]
    measured = Measured(listed=keys.of(["a", "b"]), refused=Found.of(["a"]), codes=Counter({"corrupt": 1}))
    day = SimpleNamespace(settings=settings, measured=measured)
    check = quality.RULES["failed_fraction"](day)  # type: ignore[arg-type]
    assert check.passed is False
    return validate._say([check])


def test_each_quoted_message_is_made_here() -> None:
    """What the items of the page's lists begin with, in code."""
    items = re.findall(r"^\* ((?:`[^`]+`(?: or )?)+)", PAGE.read_text(), re.MULTILINE)
    assert {message for item in items for message in re.findall(r"`([^`]+)`", item)} == set(MAKERS)


@pytest.mark.usefixtures("airflow_app")  # one of them looks for a Dag in the database
@pytest.mark.parametrize("message", MAKERS)
def test_the_code_says_it_like_this(message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    try:
        said = MAKERS[message](tmp_path, monkeypatch)
    except Exception as error:
        said = str(error)
    assert re.match(".+".join(map(re.escape, message.split("…"))), said or ""), said
