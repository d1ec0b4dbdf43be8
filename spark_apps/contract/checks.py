"""The checks that stand between a run and its publication: their names, levels, which of them can be lowered, and how a
value relates to its limit."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from spark_apps.contract.errors import BadSetting

LEVELS = ("error", "warning", "off")
"""A failed error holds the publication back, a failed warning does not; what is off is not run."""
CHECKS = {
    "reconciliation": "error",
    "some_features": "error",
    "failed_fraction": "error",
    "dimension": "error",
    "finite": "error",
    "constant": "error",
    "identical_vectors": "error",
    "fingerprint": "error",
    "recomputation": "error",
    "drift": "error",
    "row_count": "warning",
    "photo_quality": "warning",
}
"""Every check, in the order a reader wants them, and its level where `--check-levels` does not name it."""
WARN_LIMITS = {
    "failed_fraction": "warn_failed_fraction",
    "drift": "warn_drift",
    "row_count": "warn_row_ratio",
}
"""Checks in two levels, and the setting with the limit beyond which they are failed warnings, though they keep that of
their level."""
RELATIONS = ("at_most", "at_least", "equals", "within")
"""How the value of a check that passes relates to its limit; within: it lies between the limit and its inverse."""
FIXED = ("reconciliation", "dimension", "finite", "fingerprint")
"""Always errors: without them what is published would not be a complete set of comparable vectors."""
OVERRULABLE = ("failed_fraction", "drift", "row_count")
"""What a person may overrule (`approve`): they compare with a limit or other days, and say nothing against a vector."""


def levels(text: str) -> dict[str, str]:
    """The level of every check, from `CHECKS` and what `text` changes: drift=warning,row_count=off.

    Raises:
        BadSetting: an unknown check or level, a check named twice, or one of `FIXED` that would be lowered.
    """
    chosen: dict[str, str] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, sign, level = (word.strip() for word in part.partition("="))
        if not sign or level not in LEVELS:
            raise _bad(f"{part!r} has no level.", f"Write check=level, with one of: {', '.join(LEVELS)}.")
        if name not in CHECKS:
            raise _bad(f"{name!r} is not a valid check.", f"The checks are: {', '.join(CHECKS)}.")
        if name in chosen:
            raise _bad(f"The check {name} is named twice.", "Give each check one level.")
        if name in FIXED and level != CHECKS[name]:
            raise _bad(
                f"The check {name} is always an error.",
                f"Without it no vector could be relied on. Leave it out; lowered can be: "
                f"{', '.join(check for check in CHECKS if check not in FIXED)}.",
            )
        chosen[name] = level
    return {**CHECKS, **chosen}


def warned(checks: Iterable[Mapping[str, Any]]) -> list[str]:
    """The names of the failed warnings among the checks of a report."""
    return [str(check["name"]) for check in checks if check["passed"] is False and check["severity"] == "warning"]


def _bad(message: str, hint: str) -> BadSetting:
    return BadSetting("bad_check_levels", message, hint)
