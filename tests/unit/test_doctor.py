"""The doctor names what keeps a function from the workers, and is silent about a function that reaches them."""

from __future__ import annotations

import importlib
import os
import re
import subprocess
import sys
import textwrap
import threading
import time
import types
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pyspark.cloudpickle import dumps

from spark_apps.contract import BadSetting
from spark_apps.doctor import check_closure, explain_closure, main
from tests import closures
from tests.conftest import REPOSITORY

LOCK = threading.Lock()
HOLDERS = closures.holders(LOCK)
INNOCENTS = closures.innocents()


def holding(thing: Any) -> Callable[[], Any]:
    return lambda: thing


@pytest.mark.parametrize("name", HOLDERS)
def test_what_a_function_holds_is_found_and_named_by_its_path(name: str) -> None:
    fn, path = HOLDERS[name]
    with pytest.raises(Exception, match=r"cannot pickle|recursion"):
        dumps(fn)
    finding = explain_closure(fn)[0]
    assert finding.fatal
    assert finding.path.endswith(path)
    assert finding.what == "a lock"
    assert "Make it in the worker" in finding.fix


def test_what_cannot_be_pickled_is_named_whatever_it_is() -> None:
    with ExitStack() as open_things:
        for name, thing in closures.things(open_things).items():
            fn = holding(thing)
            with pytest.raises(Exception):  # noqa: B017, PT011  pickling raises whatever the object likes
                dumps(fn)
            finding = explain_closure(fn)[0]
            assert finding.fatal, name
            assert re.fullmatch(r"holding.<lambda> → thing[^→]*", finding.path), name
            assert finding.fix, name


@pytest.mark.parametrize("name", INNOCENTS)
def test_no_false_alarm(name: str) -> None:
    dumps(INNOCENTS[name])
    assert explain_closure(INNOCENTS[name]) == []
    check_closure(INNOCENTS[name])


@pytest.mark.parametrize(
    "name",
    [
        *("pyspark.sql.session.SparkSession", "pyspark.sql.connect.session.SparkSession", "pyspark.SparkContext"),
        *("pyspark.sql.classic.dataframe.DataFrame", "pyspark.sql.connect.dataframe.DataFrame", "pyspark.RDD"),
        *("pyspark.sql.classic.column.Column", "py4j.java_gateway.JavaObject", "py4j.java_gateway.JVMView"),
    ],
)
def test_spark_is_known_by_its_classes_in_both_variants(name: str) -> None:
    module, kind = name.rsplit(".", 1)
    hollow = object.__new__(getattr(importlib.import_module(module), kind))  # needs no JVM and no server
    finding = explain_closure(holding(hollow))[0]
    assert finding.fatal
    assert (finding.path, finding.what.split()[1]) == ("holding.<lambda> → thing", kind)


def test_clients_of_databases_and_clouds_are_known() -> None:
    import boto3
    import sqlalchemy

    engine = sqlalchemy.create_engine("sqlite://")
    client = boto3.client("s3", region_name="eu-central-1", aws_access_key_id="a", aws_secret_access_key="b")
    with engine.connect() as connection:
        for thing in (engine, connection, client):
            with pytest.raises(Exception):  # noqa: B017, PT011
                dumps(holding(thing))
            finding = explain_closure(holding(thing))[0]
            assert finding.path == "holding.<lambda> → thing"
            assert "open it in the worker" in finding.fix


def test_a_torch_module_is_innocent_but_for_what_hangs_on_it() -> None:
    module = torch.nn.Linear(2, 2)
    assert explain_closure(holding(module)) == []
    module.register_forward_hook(lambda *given: LOCK)
    assert explain_closure(holding(module))[0].path.endswith(" → LOCK")


def test_a_function_in_a_udf_is_judged_not_the_udf_around_it() -> None:
    from pyspark.sql.functions import udf
    from pyspark.sql.types import StringType

    assert explain_closure(udf(holding(LOCK), StringType()))[0].path == "holding.<lambda> → thing"
    assert explain_closure(udf(holding(1), StringType())) == []


def test_large_arrays_are_told_but_do_not_stop_anything() -> None:
    array = np.zeros(2**18)
    module = torch.nn.Sequential(torch.nn.Linear(600, 600), torch.nn.Linear(600, 600))
    notes = explain_closure(holding({"table": array, "model": module}))
    assert [(note.path.split(" → ")[1], note.fatal) for note in notes] == [
        ("thing['table']", False),
        ("thing['model']", False),
    ]
    assert notes[0].what == "an ndarray of 2.1 MB"
    assert notes[1].what == "a Sequential of 2.9 MB"
    assert "broadcast" in notes[0].fix
    with pytest.warns(UserWarning, match=r"table.*2\.1 MB"):
        check_closure(holding({"table": array}))
    assert (
        "small objects" in explain_closure(holding([b"x" * 1000 + bytes([row % 256]) for row in range(2000)]))[0].what
    )
    assert explain_closure(holding(np.zeros(1000))) == []


def test_an_open_text_file_travels_as_its_text(tmp_path: Path) -> None:
    (tmp_path / "words").write_text("one\ntwo\n")
    with (tmp_path / "words").open() as file:
        file.readline()
        dumps(holding(file))
        notes = explain_closure(holding(file))
        assert [(note.what, note.fatal) for note in notes] == [("an open text file", False)]
        assert file.readline() == "two\n"


def test_a_session_in_a_module_is_told_since_the_module_is_imported_anew() -> None:
    config = types.ModuleType("a_config")
    config.spark = object.__new__(importlib.import_module("pyspark.sql").SparkSession)  # type: ignore[attr-defined]
    config.size = 3  # type: ignore[attr-defined]
    sys.modules["a_config"] = config
    try:
        notes = explain_closure(lambda rows: [config.spark.range(row + config.size) for row in rows])
    finally:
        del sys.modules["a_config"]
    assert [(note.path.split(" → ", 1)[1], note.fatal) for note in notes] == [("config.spark", False)]
    assert "imports that module anew" in notes[0].reason


def test_what_lies_beyond_the_bounds_is_found_by_pickling() -> None:
    finding = explain_closure(holding([*range(20_000), LOCK]))[0]
    assert finding.fatal
    assert finding.path == "something in holding.<lambda>"
    assert "cannot pickle '_thread.lock' object" in finding.reason


def test_it_ends_soon_in_a_large_world() -> None:
    begin = time.process_time()
    assert explain_closure(holding([[{"row": [row]}] for row in range(100_000)])) == []
    assert time.process_time() - begin < 20


def test_nothing_is_used_up_or_left_behind() -> None:
    rows = (row for row in range(3))
    counted = iter([1, 2, 3])
    explain_closure(holding([rows, counted]))
    assert (list(rows), list(counted)) == ([0, 1, 2], [1, 2, 3])
    assert explain_closure(closures.logged, by_value=["tests.closures"]) == []
    from pyspark.cloudpickle import cloudpickle

    assert cloudpickle.list_registry_pickle_by_value() == set()


def test_check_closure_raises_with_the_path_and_the_fix() -> None:
    with pytest.raises(
        BadSetting, match=r"cannot send holding\.<lambda> .*holding\.<lambda> → thing is a lock"
    ) as raised:
        check_closure(holding(LOCK))
    assert raised.value.code == "driver_only"
    assert raised.value.hint.startswith("Make it in the worker")


def test_neither_pyspark_nor_torch_is_loaded_for_it() -> None:
    source = """
import sys, threading
from spark_apps.doctor import explain_closure
lock = threading.Lock()
print([finding.path for finding in explain_closure(lambda: lock)], explain_closure(lambda: sys.stdout))
print({"pyspark", "torch", "cloudpickle", "numpy"} & sys.modules.keys())
"""
    told = subprocess.run([sys.executable, "-c", source], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert told.stdout.splitlines() == ["['<lambda> → lock'] []", "set()"]


SCRIPT = """
import functools, sys, threading
from dataclasses import dataclass, field
from pyspark.cloudpickle import dumps
from spark_apps.doctor import explain_closure

lock = threading.Lock()

class Vectorizer:
    def __init__(self, batch_size=16):
        self.batch_size = batch_size
    def extract(self, content):
        return len(content)
    def process(self, frame):
        with lock:
            return frame

@dataclass
class Settings:
    size: int = 3
    sizes: list = field(default_factory=list)

@functools.cache
def remembered(value):
    return value

def uses_the_cache(value):
    return remembered(value)

def innocent(value):
    print(value, file=sys.stdout)
    return Settings(value).size, Settings, sys.stderr

for fn in (Vectorizer().extract, innocent, uses_the_cache):
    try:
        dumps(fn)
        pickles = True
    except Exception:
        pickles = False
    print(pickles, [finding.path for finding in explain_closure(fn)])
"""


def test_what_a_script_defines_travels_with_its_globals(tmp_path: Path) -> None:
    (tmp_path / "job.py").write_text(SCRIPT)
    told = run_in(tmp_path, "job.py")
    assert told.stdout.splitlines() == [
        "False ['Vectorizer.extract → self → Vectorizer.process → lock']",
        "True []",
        # It is pickled by its name in __main__, which a worker has not: it fails there.
        "True ['uses_the_cache → remembered']",
    ]


JOB = """
import threading
lock = threading.Lock()

def extract(content):
    with lock:
        return len(content)

def plain(content):
    return len(content)

class Vectorizer:
    def __init__(self, lock):
        self.lock = lock
    def run(self, content):
        return content

vectorizer = Vectorizer(lock)
"""


def run_in(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    return subprocess.run(
        [sys.executable, *arguments], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


def test_the_command(tmp_path: Path) -> None:
    (tmp_path / "my_job.py").write_text(textwrap.dedent(JOB))
    good = run_in(tmp_path, "-m", "spark_apps.doctor", "my_job:plain")
    assert (good.returncode, good.stdout, good.stderr) == (0, "my_job:plain can be sent to Spark's workers.\n", "")
    bad = run_in(tmp_path, "-m", "spark_apps.doctor", "my_job:extract")
    assert (bad.returncode, bad.stderr) == (1, "")
    assert bad.stdout.startswith("extract → lock is a lock, which belongs to this process. Make it in the worker")


@pytest.fixture
def my_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    (tmp_path / "my_job.py").write_text(textwrap.dedent(JOB))
    (tmp_path / "broken_job.py").write_text("raise RuntimeError('no such table')")
    (tmp_path / "script_job.py").write_text("import sys; sys.exit(3)")
    monkeypatch.syspath_prepend(str(tmp_path))
    yield
    sys.modules.pop("my_job", None)


@pytest.mark.parametrize(
    ("asked", "status", "says"),
    [
        ("my_job:vectorizer.run", 1, r"^Vectorizer.run → self.lock is a lock, "),
        ("my_job:Vectorizer", 0, r"^note: my_job:Vectorizer is a class; (.|\n)* can be sent"),
        ("my_job:extrakt", 2, r"^There is no extrakt in my_job. Did you mean extract\?"),
        ("my_job:zzz", 2, r"^There is no zzz in my_job. Name what stands"),
        ("my_job", 2, r"not of the form module:function"),
        ("my_job.py:extract", 2, r"not of the form module:function"),
        ("not_there:extract", 2, r"^The module not_there cannot be imported \(ModuleNotFoundError"),
        ("broken_job:extract", 2, r"cannot be imported \(RuntimeError: no such table\)"),
        ("script_job:extract", 2, r"cannot be imported \(SystemExit: 3\)"),
    ],
)
def test_every_answer_of_the_command(
    my_job: None, capsys: pytest.CaptureFixture[str], asked: str, status: int, says: str
) -> None:
    assert main([asked]) == status
    told = capsys.readouterr()
    assert re.search(says, told.err if status == 2 else told.out)


def test_the_command_explains_itself(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--help"])
    assert ended.value.code == 0
    assert "module:function" in capsys.readouterr().out
