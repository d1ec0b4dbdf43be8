"""Which sink a URI means, and sinks of one's own."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

from spark_apps.contract import BadSetting, JobError
from spark_apps.sinks.parquet import ParquetSink
from spark_apps.sinks.pgvector import PgvectorSink
from spark_apps.sinks.qdrant import QdrantSink
from spark_apps.sinks.sink import Sink

SCHEMES: dict[str, Callable[[str], Sink]] = {
    "qdrant": QdrantSink.at,
    "qdrants": QdrantSink.at,
    "postgresql": PgvectorSink.at,
    "postgres": PgvectorSink.at,
}
"""Scheme of a URI → what opens it; every other one is a folder of Parquet files."""


def open_sink(to: str, kind: str = "") -> Sink:
    """The place `to`: a folder or URI of Parquet files, qdrant://host:6333/collection or
    postgresql://host/database?table=name. `kind`: a class of one's own, as `module:Class` or `/path/file.py:Class`,
    which is called with `to`.

    Raises:
        BadSetting: a package is missing, or the class cannot be loaded.
        Unreachable: the place cannot be reached.
    """
    if kind:
        return _own(kind)(to)
    return SCHEMES.get(to.partition("://")[0], ParquetSink)(to)


def _own(kind: str) -> Callable[[str], Sink]:
    where, _, name = kind.rpartition(":")
    try:
        found: Any = getattr(_from_file(Path(where)) if where.endswith(".py") else importlib.import_module(where), name)
    except Exception as error:
        raise BadSetting(
            "bad_sink",
            f"The sink {kind} cannot be loaded: {type(error).__name__}: {error}.",
            "Write module:Class or /path/file.py:Class; it must be where the job runs, with the packages it needs.",
        ) from error

    def opened(to: str) -> Sink:
        try:
            sink: Sink = found(to)
        except JobError:
            raise
        except Exception as error:
            raise JobError("sink_failed", f"{kind} cannot open {to}: {type(error).__name__}: {error}.") from error
        return sink

    return opened


def _from_file(path: Path) -> Any:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None, "a file of Python has both"
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
