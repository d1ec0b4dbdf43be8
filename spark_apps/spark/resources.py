"""What one Spark task gets: a core, an executor's cores, or a GPU. From `--resources` to Spark's own settings."""

from __future__ import annotations

import re
from collections.abc import Callable

from spark_apps.contract import BadSetting
from spark_apps.host import cores

Get = Callable[[str], str | None]
"""Looks up one of Spark's settings."""


def task_settings(resources: str, on_gpu: bool, get: Get) -> dict[str, str]:
    """Spark settings for `resources` (see `contract.ExtractSettings`), given what is set already.

    `narrow` needs none: a task has one core unless `spark.task.cpus` says otherwise. A local master has no GPUs to hand
    out; there `gpu` runs one task at a time, on the first.

    Raises:
        BadSetting: the cluster was not told what its executors have.
    """
    if resources == "auto":
        local_or_given = _local_cores(get) or get("spark.executor.resource.gpu.amount")
        resources = "gpu" if on_gpu and local_or_given else "narrow"
    if resources == "narrow":
        return {}
    there = _local_cores(get) or int(get("spark.executor.cores") or 0)
    if not there:
        raise BadSetting(
            "no_executor_cores",
            f"Resources {resources} needs to know how many cores an executor has.",
            "Set spark.executor.cores, in spark-defaults.conf or with --conf.",
        )
    if resources == "wide" or _local_cores(get):
        return {"spark.task.cpus": str(there)}
    gpus = int(get("spark.executor.resource.gpu.amount") or 0)
    if not gpus:
        raise BadSetting(
            "no_executor_gpus",
            "Resources gpu needs executors that were given GPUs.",
            "Set spark.executor.resource.gpu.amount, and a discovery script where the cluster manager needs one.",
        )
    return {"spark.task.resource.gpu.amount": "1", "spark.task.cpus": str(max(1, there // gpus))}


def _local_cores(get: Get) -> int:
    """Cores of a local master; 0 for a cluster."""
    local = re.fullmatch(r"local(?:\[(\*|\d+)(?:,\d+)?\])?", get("spark.master") or "")
    if not local:
        return 0
    return cores.available() if local[1] == "*" else int(local[1] or 1)
