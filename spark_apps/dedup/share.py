"""The check on the share of a partition's files that have a twin, against recent partitions. It comes after the
publication, so it is a warning and holds nothing back."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from spark_apps import contract
from spark_apps.dedup.groups import Member
from spark_apps.pipeline.quality import AT_MOST, WARNING, Check, judged

NAME = "duplicates"


def twins(members: Iterable[Member]) -> Counter[str]:
    """Partition → how many of its files have a twin."""
    return Counter(member.file.partition for member in members)


def check(partition: str, twins: Mapping[str, int], rows: Mapping[str, int], history: int, limit: float) -> Check:
    """Whether the share of `partition` is at most `limit` above the median of up to `history` partitions before it.

    `twins`, `rows`: by partition, files that have a twin, and all that are published.
    """
    before = contract.partitions.earlier(partition, rows)[:history]
    if not before:
        return Check(NAME, True, None, AT_MOST, limit, "No earlier partition to compare with.", severity=WARNING)
    usual = float(np.median(_shares(before, twins, rows)))
    (share,) = _shares([partition], twins, rows)
    message = (
        f"Share of files that show the same picture as another, {share:.0%}, above the median of {len(before)} recent "
        f"partitions, {usual:.0%}."
    )
    return replace(judged(NAME, max(0.0, share - usual), AT_MOST, limit, message), severity=WARNING)


def _shares(partitions: Sequence[str], twins: Mapping[str, int], rows: Mapping[str, int]) -> list[float]:
    return [twins.get(key, 0) / max(1, rows[key]) for key in partitions]
