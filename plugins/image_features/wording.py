"""What is said of a run, in the same words on its page, in a notification and in a task's log."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import unquote

from spark_apps import contract

SHARES = ("failed_fraction", "identical_vectors")
"""Checks whose value is a share, which is written in per cent."""
RELATIONS = {"at_most": "at most", "at_least": "at least", "equals": "exactly"}
SAID = {
    "superseded": "Another run of this partition is published now.",
    "checked": "Every check has passed; the run was asked not to publish.",
    "skipped": "There was nothing to do.",
}
"""What became of a run that did neither publish nor fail."""


def published(
    featured: int, warned: Iterable[str], off: Iterable[str], approval: Mapping[str, Any] | None = None
) -> tuple[str, str]:
    """Of a published run with so many vectors: a sentence, and what to do. `warned`, `off`: names of checks;
    `approval`: that of a report, where a person has overruled some."""
    vectors, warned, off = f"{featured:,} vectors are published", words(warned), words(off)
    turned_off = f" Turned off: {off}." if off else ""
    if approval:
        who, when = approval["by"], str(approval["at"])[:16].replace("T", " ")
        decided = f"{words(approval['checks'])} overruled by {who} on {when} UTC"
        reason = str(approval["reason"]).rstrip(".")
        return f"{vectors}, {decided}: {reason}.{turned_off}", "A person has decided this, not the checks."
    if warned:
        return f"{vectors}. Worth a look: {warned}.{turned_off}", "A warning does not hold a publication back."
    if off:
        return f"{vectors}, and every check that was run has passed.{turned_off}", ""
    return f"{vectors}, and every check has passed.", ""


STANDS = "What was published before stays."
NO_ANSWER = "Nobody has answered in time, so it stays rejected."
NO_REASON = "none given"


def left_rejected(who: str, when: datetime | None, reason: str) -> str:
    """Of a rejected run that a person was asked about; `who`: empty where nobody has answered."""
    if not who:
        return NO_ANSWER
    at = f" on {when.astimezone(UTC):%Y-%m-%d %H:%M} UTC" if when else ""
    return f"{who} has left it so{at}; reason: {reason.rstrip('.') or NO_REASON}."


def rejected(failed: Iterable[str]) -> str:
    """Of a run that its checks have held back."""
    return f"Not published, because of {words(failed)}."


def words(names: Iterable[str]) -> str:
    """Names of checks as words."""
    return ", ".join(name.replace("_", " ") for name in names)


def counts(found: Mapping[str, int], codes: Mapping[str, int]) -> str:
    """What a stage counted, the files that were quarantined by code, the most frequent first."""
    by_code = ", ".join(f"{count:,} {code}" for code, count in sorted(codes.items(), key=lambda item: -item[1]))
    named = [
        f"{count:,} {name}" + (f" ({by_code})" if name == "quarantined" and by_code else "")
        for name, count in found.items()
    ]
    return ", ".join(named)


def value(check: str, number: float | None) -> str:
    """A value of a check, or a limit, in its unit."""
    if number is None:
        return "unknown"
    return f"{100 * number:.4g} %" if check in SHARES else f"{number:.4g}"


def limits(check: Mapping[str, Any]) -> str:
    """The limits of a check of a report: at most 10 %, warning above 5 %."""
    found = [] if check.get("limit") is None else [_limit(check, check["limit"])]
    if (narrower := check.get("warn_limit")) is not None:
        beyond = {"at_least": "below", "within": "outside"}.get(str(check.get("relation")), "above")
        found.append(f"warning {beyond} {_limit(check, narrower).removeprefix(_word(check)).strip()}")
    return ", ".join(found)


def _limit(check: Mapping[str, Any], limit: float) -> str:
    name, relation = str(check["name"]), check.get("relation")
    if relation == "within" and limit > 0:
        return f"{value(name, limit)} to {value(name, 1 / limit)}"
    return f"{_word(check)} {value(name, limit)}"


def _word(check: Mapping[str, Any]) -> str:
    return RELATIONS.get(str(check.get("relation")), "limit")


def name_of(uri: str, source: str | None) -> str:
    """The name of a file relative to the folder of the photos; its last part when it lies elsewhere."""
    path, root = _plain(uri), _plain(source or "").rstrip("/")
    return path[len(root) + 1 :] if root and path.startswith(root + "/") else path.rsplit("/", 1)[-1]


def _plain(uri: str) -> str:
    return unquote(uri.removeprefix("file://")) if uri.startswith("file://") else uri


def redacted(text: str) -> str:
    """`text` without the user part and the query of addresses, where passwords and signatures are."""
    text = re.sub(r"(\b[a-z][a-z0-9+.-]*://)[^/\s@]+@", r"\1…@", text)
    return re.sub(r"(\b[a-z][a-z0-9+.-]*://[^\s?]+)\?[^\s'\"]+", r"\1?…", text)


def advice(codes: Mapping[str, int]) -> str:
    """What to do about the quarantined files, of the most frequent code; empty without any."""
    for code in sorted(codes, key=lambda code: -codes[code]):
        if hint := contract.QUARANTINE_CODES.get(code):
            return f"{code}: {hint}"
    return ""
