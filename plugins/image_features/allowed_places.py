"""Where a run may read: whoever triggers a Dag chooses among the places that Airflow's administrator allows."""

from __future__ import annotations

import re
from collections.abc import Sequence

from spark_apps.contract import BadSetting
from spark_apps.contract.locations import is_below, local_path, parts

NAMED_WEIGHTS = r"\w+|keras-v1|random:.*"
"""Weights that are named, not at a location: the hub's, the registry's, random ones."""


OPTIONS = {
    "store": ("stores", "another"),
    "source": ("sources", "another"),
    "weights": ("weights_locations", "named ones"),
    "model": ("weights_locations", "named ones"),
}
"""Setting → the option that allows places for it, and what to use where none is allowed."""


def check(name: str, location: str, allowed: Sequence[str]) -> None:
    """Refuses a location that is none of `allowed` and lies below none of them.

    Raises:
        BadSetting: it says which option allows it.
    """
    if not is_below(location, allowed):
        option, else_ = OPTIONS[name]
        raise BadSetting(
            f"{name}_not_allowed",
            f"The {name} {location!r} is not allowed in this Airflow.",
            f"Use {' or '.join(allowed) or else_}, or let an administrator of Airflow add its folder to "
            f"[image_features] {option}.",
        )


def above_partition(source: str, partition: str) -> str:
    """The folder that holds all partitions of a source with {partition} in it; where that is a whole machine or scheme,
    the place of this one partition."""
    above, placeholder, _ = source.partition("{partition}")
    above = above.rpartition("/")[0] if placeholder else source
    found = parts(above)
    if found is None or found in (("file", ""), (found[0], "")):
        return source.replace("{partition}", partition)
    return above


def is_named(weights: str) -> bool:
    """Whether `weights` are known by name, so that nothing is read at a place of the caller's choice."""
    return re.fullmatch(NAMED_WEIGHTS, weights, re.IGNORECASE) is not None


def is_file_below(uri: str, allowed: Sequence[str]) -> bool:
    """Whether a file that ingest has listed lies below one of `allowed`. In an object store its name is taken letter
    for letter, as it is read: keys may hold what a location may not."""
    if is_below(uri, allowed):
        return True
    steps = uri.split("/")
    return (
        local_path(uri) is None
        and not {".", ".."} & {*steps}
        and any(uri.startswith(place.rstrip("/") + "/") for place in allowed if "://" in place)
    )


def folders(allowed: Sequence[str]) -> str:
    """Those of `allowed` that are folders of this machine, as the setting `within` of ingest takes them."""
    return "\n".join(path for path in map(local_path, allowed) if path is not None)
