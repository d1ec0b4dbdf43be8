"""How many cores and threads this process may use, which in a container are fewer than the machine has."""

from __future__ import annotations

import math
import os
from contextlib import suppress
from pathlib import Path

from spark_apps.contract import BadSetting

CGROUP_V1 = ("cpu,cpuacct", "cpu")
"""How the controller's folder is called below /sys/fs/cgroup."""


def available(root: Path = Path("/")) -> int:
    """The cores that this process may use: at most those it is bound to, and those that its control group's quota pays
    for, rounded up as the JVM does for `local[*]`. `root`: where /proc and /sys are found."""
    bound = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, math.ceil(min(bound, _quota(root))))


def threads(default: int) -> int:
    """The threads that OMP_NUM_THREADS allows, `default` without it. Spark sets it to `spark.task.cpus`.

    It may be a list, of which the first number counts here: the others are for nested regions (OpenMP 5.2, 21.2.2).

    Raises:
        BadSetting: it is not a whole number above zero.
    """
    value = os.environ.get("OMP_NUM_THREADS", "").strip()
    if not value:
        return default
    first = value.split(",")[0].strip()
    if not first.isdecimal() or int(first) < 1:
        message = f"OMP_NUM_THREADS is {value!r}, which is not a valid number of threads."
        raise BadSetting("bad_omp_num_threads", message, "Set it to a whole number such as 2, or unset it.")
    return int(first)


def _quota(root: Path) -> float:
    """Cores of the smallest quota, of the process's control group or one above it; infinite without any."""
    found = [math.inf]
    with suppress(OSError):
        for line in (root / "proc/self/cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            inside = Path(path.lstrip("/"))
            mount = root / "sys/fs/cgroup"
            if not controllers:  # version 2
                found += [_max(mount / folder / "cpu.max") for folder in (inside, *inside.parents)]
            elif "cpu" in controllers.split(","):
                found += [_cfs(mount / name / folder) for name in CGROUP_V1 for folder in (inside, *inside.parents)]
    return min(found)


def _max(file: Path) -> float:
    """Version 2: `<quota> <period>` in microseconds; the quota may be `max`."""
    with suppress(OSError, ValueError, ZeroDivisionError):
        quota, period = file.read_text().split()
        return int(quota) / int(period)
    return math.inf


def _cfs(folder: Path) -> float:
    """Version 1: two files with microseconds; a quota of -1 is none."""
    with suppress(OSError, ValueError, ZeroDivisionError):
        quota = int((folder / "cpu.cfs_quota_us").read_text())
        if quota > 0:
            return quota / int((folder / "cpu.cfs_period_us").read_text())
    return math.inf
