"""One loaded model per worker process, kept for all tasks and jobs that the process serves."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from spark_apps.contract import ModelInfo
from spark_apps.model.engines import Engine, load

loads = 0
"""How often this process opened a model."""

_kept: dict[tuple[Any, ...], Any] = {}
_lock = threading.Lock()


def kept(key: tuple[Any, ...], make: Callable[[], Any]) -> Any:
    """What `make` gives, made once per process for each key."""
    global loads
    # With the process id: an engine inherited by fork has lost its threads and would wait for them for ever.
    key = (os.getpid(), *key)
    with _lock:
        if key not in _kept:
            _kept[key] = make()
            loads += 1
        return _kept[key]


def engine(info: ModelInfo, folder: Path, threads: int, device: str | None = None, streams: int = 1) -> Engine:
    """`engines.load`, once per process for each fingerprint, engine, device and number of threads and streams."""
    device = device or info.device
    key = (info.fingerprint, info.engine, device, threads, streams)
    found: Engine = kept(key, lambda: load(info, folder, threads, device, streams))
    return found
