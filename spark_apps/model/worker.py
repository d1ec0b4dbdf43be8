"""One loaded engine per worker process and model, kept for all tasks and jobs that the process serves."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

from spark_apps.model.engines import Engine, load

loads = 0
"""How often this process opened a model."""

_engines: dict[tuple[Any, ...], Engine] = {}
_lock = threading.Lock()


def engine(info: dict[str, Any], folder: Path, threads: int, device: str | None = None) -> Engine:
    """`engines.load`, once per process for each fingerprint, engine, device and number of threads."""
    global loads
    device = device or info["device"]
    # With the process id: an engine inherited by fork has lost its threads and would wait for them for ever.
    key = (os.getpid(), info["fingerprint"], info["engine"], device, threads)
    with _lock:
        if key not in _engines:
            _engines[key] = load(info, folder, threads, device)
            loads += 1
        return _engines[key]
