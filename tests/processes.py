"""Processes that a test looks at while they end."""

from __future__ import annotations

import time
from collections.abc import Iterable

import psutil


def is_running(process: psutil.Process | int) -> bool:
    """Whether a process, or the one of a number, is there and no zombie; it may end while one looks."""
    try:
        process = psutil.Process(process) if isinstance(process, int) else process
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def ended(processes: Iterable[psutil.Process | int], within: float = 30) -> bool:
    """Whether all of them end within so many seconds: a signal that was sent need not have arrived."""
    processes, deadline = list(processes), time.monotonic() + within
    while any(map(is_running, processes)):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True
