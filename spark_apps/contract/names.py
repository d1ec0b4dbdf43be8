"""Names and places, and the forms that they must have."""

from __future__ import annotations

import hashlib
import re

from spark_apps.contract.errors import BadSetting

PARTITION_PATTERN = r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}"
STAGES = ("ingest", "extract", "validate")
ENVIRONMENT = "environment"
"""Where an executor finds a packed environment, in its working folder; see `spark_apps.pack`."""
ENVIRONMENT_PYTHON = f"./{ENVIRONMENT}/bin/python"


def check_partition(key: str) -> str:
    """`key` when it may name a partition; it becomes a folder, so nothing else may pass.

    Raises:
        BadSetting: the key is not of the form `PARTITION_PATTERN`.
    """
    if not re.fullmatch(PARTITION_PATTERN, key):
        raise BadSetting(
            "bad_partition",
            f"{key!r} is not a partition key.",
            "Use 1 to 64 letters, digits, dots, dashes or underscores, the first a letter or digit, "
            "for example 2026-11-22.",
        )
    return key


def path_safe(run_id: str) -> str:
    """A folder name for a run id (Airflow's hold `:` and `+`): readable, and different for different ids."""
    safe = re.sub(r"[^A-Za-z0-9_-]", "_", run_id)[:120]
    if safe == run_id:
        return safe
    return f"{safe}-{hashlib.sha256(run_id.encode()).hexdigest()[:8]}"


def join(uri: str, *parts: str) -> str:
    """`uri` with path parts appended; works for plain paths and for `scheme://` URIs."""
    return "/".join([uri.rstrip("/"), *parts])


def run_folder(store: str, partition: str, run_id: str) -> str:
    """Where one run keeps its manifests, its listing and its report."""
    return join(store, "runs", check_partition(partition), path_safe(run_id))


def model_key(backbone: str, weights: str, precision: str, decode: str = "exact", layer: str = "") -> str:
    """The readable name that features are published under, for example `resnet50-imagenet1k_v2-fp32`."""
    parts = (backbone, weights, precision, *([layer] if layer else []), *([] if decode == "exact" else [decode]))
    return "-".join(re.sub(r"[^a-z0-9_.]+", "_", part.lower()) for part in parts)


def check_location(name: str, location: str) -> str:
    """`location` without a trailing slash, when it is an absolute path or a URI.

    Raises:
        BadSetting: it is empty or relative (executors may run in another folder), or climbs with `..`.
    """
    if not re.match(r"(/|[a-z][a-z0-9+.-]*:///?[^/])", location):
        raise BadSetting(
            f"bad_{name}",
            f"{name} {location!r} is neither an absolute path nor a URI.",
            "Write /folder or s3://bucket/folder.",
        )
    if ".." in location.split("/"):
        raise BadSetting(f"bad_{name}", f"{name} {location!r} climbs with '..'.", "Write the location without '..'.")
    return location.rstrip("/") or "/"
