"""The order of partition keys: what comes before what, and which of them are one series.

The one place that says so, for `--lookback`, `--history`, the catalog and the pages.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

_OFFSET = re.compile(r"(?<=T\d\d)(-?\d\d)?([-_])(\d\d)(\d\d)$", re.ASCII)
"""The offset from UTC behind an hour, with `_` for `+`: 2026-10-25T02_0200."""


def order(key: str) -> tuple[bool, tuple[str | int, ...], int, str]:
    """What keys are sorted by, the oldest first.

    Numbers in a key count as numbers: batch-7 comes before batch-10, 2026-W5 before 2026-W12, a day before its hours.
    Of an hour that the clock shows twice, the one with the greater offset from UTC was first. Keys that begin with a
    number come last, so that the newest day heads a list of the newest, whatever names there are beside the days.
    """
    east, plain = _split(key)
    parts = re.split("([0-9]+)", plain)
    numbered = tuple(int(part) if place % 2 else part for place, part in enumerate(parts))
    return not parts[0], numbered, -east, key


def series(key: str) -> str:
    """What a key has in common with the others of its series: all but its numbers, each of which is a #.

    So the days are a series, the hours are another, and those of each camera are, in cam-a_2026-11-22. A name without a
    number is alone.
    """
    return re.sub("[0-9]+", "#", _split(key)[1])


def earlier(key: str, others: Iterable[str]) -> list[str]:
    """Those of `others` that come before `key` in its series, the nearest first: what it is compared with."""
    own, at = series(key), order(key)
    return sorted((other for other in others if series(other) == own and order(other) < at), key=order, reverse=True)


def to_reuse_from(key: str, others: Iterable[str]) -> list[str]:
    """Where vectors of the same photos may be found for `key`: in what is `earlier`, then in other series, the newest
    first. What comes after it in its series is left out."""
    others, own = set(others), series(key)
    return [
        *earlier(key, others),
        *sorted((other for other in others if series(other) != own), key=order, reverse=True),
    ]


def _split(key: str) -> tuple[int, str]:
    """The offset from UTC in minutes, east of Greenwich greater, and the key without it."""
    found = _OFFSET.search(key)
    if not found:
        return 0, key
    minutes, sign, hours, rest = found.groups()
    east = 60 * int(hours) + int(rest)
    return east if sign == "_" else -east, f"{key[: found.start()]}{minutes or ''}_"
