"""The checks that stand between a run and its publication, as declared rules over measured values."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from spark_apps import catalog, contract
from spark_apps.contract.photo_quality import POOR
from spark_apps.pipeline.measure import OFFENDERS, Found, Measured
from spark_apps.pipeline.reconcile import Reconciled
from spark_apps.pipeline.twins import Sharing, Twins

ERROR, WARNING, OFF = contract.LEVELS
AT_MOST, AT_LEAST, EQUALS, WITHIN = contract.RELATIONS
MIN_COSINE_APPROXIMATE = 0.99
"""Smallest cosine to the recomputation, which decodes photos in full, where they were decoded at a fraction of their
size; else that of `contract.PRECISIONS`."""
MIN_COSINE_EVER = 0.5
"""What no vector of a lossy model may fall below, however few they are: such a one is wrong, not rounded."""
MAX_BELOW = 0.05
"""Share of a partition's vectors that int8 or approximate decoding may leave below their limit."""
CONFIDENCE = 0.95
"""How sure the sample must make us that more than that share is below, before a partition is rejected for it."""
LOSSY_SAMPLE = 8
"""int8 and approximate decoding have so many times `--recheck` photos computed again: a share is not seen in eight."""


@dataclass(frozen=True)
class Check:
    """One declared rule and its outcome. `value` and `limit` are numbers, or None where there is nothing to compare.

    `passed`: None where the check is off. `relation`: how the value of one that passes relates to the limit, one of
    `contract.RELATIONS`, or None where the check is off. `offenders`: the first uris that break the rule. `severity`:
    its level, error, warning or off; warning of a check that keeps its `limit` and not its `warn_limit`, which is None
    where there is none that is narrower. The rules leave both to `checks`.
    """

    name: str
    passed: bool | None
    value: float | None
    relation: str | None
    limit: float | None
    message: str
    offenders: tuple[str, ...] = ()
    severity: str = ERROR
    warn_limit: float | None = None

    def failed(self, severity: str) -> bool:
        """Whether it was run at this level and did not pass."""
        return self.passed is False and self.severity == severity

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "offenders": list(self.offenders)}


@dataclass(frozen=True)
class Evidence:
    """Everything the checks look at. `history`: published partitions before this one, nearest first.

    `neighbour_fingerprints`: by partition, those of the same model key around this one. `cosines`: uri and cosine of
    each recomputed photo; `not_read`: photos of that sample that are no longer at their source. `drift`: against the
    history, 0 to 1, None without one. `looks_before`: `Measured.looks` of the
    history. `twins`: None where few enough photos share a vector, so that nobody had to look at their pixels.
    """

    settings: contract.ValidateSettings
    measured: Measured
    reconciled: Reconciled
    sharing: Sharing
    model: contract.ModelInfo
    history: list[catalog.Partition]
    neighbour_fingerprints: dict[str, str]
    cosines: list[tuple[str, float]]
    drift: float | None
    twins: Twins | None = None
    not_read: int = 0
    looks_before: Sequence[Mapping[str, int]] = ()


def checks(evidence: Evidence) -> list[Check]:
    """Every declared check, in the order a reader wants them, at its level; what is off is not run."""
    levels, warn = evidence.settings.levels, evidence.settings.warn_limits
    return [
        Check(name, None, None, None, None, "Turned off by check-levels: not run.", severity=OFF)
        if levels[name] == OFF
        else _at_level(RULES[name](evidence), levels[name], warn.get(name))
        for name in contract.CHECKS
    ]


def _at_level(check: Check, level: str, warn: float | None) -> Check:
    """The check at its level, or as a failed warning where it keeps its limit and not the narrower one, `warn`."""
    if warn is None or check.relation is None or check.limit is None or HOLDS[check.relation](check.limit, warn):
        return replace(check, severity=level)
    if check.passed and check.value is not None and not HOLDS[check.relation](check.value, warn):
        return replace(check, passed=False, severity=WARNING, warn_limit=warn)
    return replace(check, severity=level, warn_limit=warn)


def reconciliation(evidence: Evidence) -> Check:
    """Every listed file is in exactly one of features and quarantine, once."""
    found, measured = evidence.reconciled, evidence.measured
    featured, quarantined = len(measured.featured), measured.refused.count
    message = f"{found.listed:,} listed = {featured:,} featured + {quarantined:,} quarantined"
    bad = found.lost + found.doubled + found.strangers
    if bad.count:
        lost, doubled, strangers = found.lost.count, found.doubled.count, found.strangers.count
        message = f"{lost:,} files lost, {doubled:,} counted twice, {strangers:,} never listed."
    first = dict.fromkeys(found.lost.first + found.doubled.first + found.strangers.first)
    return judged("reconciliation", bad.count, EQUALS, 0, message, tuple(first))


def dimension(evidence: Evidence) -> Check:
    """Every vector has the model's length."""
    bad = evidence.measured.wrong_length
    message = f"Vectors that are not {evidence.model.dim} long."
    return judged("dimension", bad.count, EQUALS, 0, message, bad.first)


def finite(evidence: Evidence) -> Check:
    """No vector holds NaN or infinity."""
    bad = evidence.measured.not_finite
    return judged("finite", bad.count, EQUALS, 0, "Vectors with NaN or infinite values.", bad.first)


def constant(evidence: Evidence) -> Check:
    """No vector is zero or has the same value throughout."""
    bad, limit = evidence.measured.constant, evidence.settings.max_constant
    message = "Vectors that are zero or the same value throughout."
    return judged("constant", bad.count, AT_MOST, limit, message, bad.first)


def identical(evidence: Evidence) -> Check:
    """Different photos have different vectors. A few twins are natural (a photo saved twice), half a day is not, unless
    their pixels are the same."""
    fraction, twins = evidence.sharing.fraction, evidence.twins
    message = "Share of distinct photos whose vector another photo has too."
    if twins is not None:
        fraction *= twins.fraction
        message = (
            "Share of distinct photos whose vector another photo with other pixels has too, by a look at "
            f"{twins.photos:,} of those that share one."
        )
    limit = evidence.settings.max_identical_fraction
    return judged("identical_vectors", fraction, AT_MOST, limit, message, evidence.reconciled.alike.first)


def fingerprint(evidence: Evidence) -> Check:
    """All vectors, here and in the neighbouring partitions of the same model key, come from one and the same model."""
    own = evidence.model.fingerprint
    inside = sum(count for found, count in evidence.measured.fingerprints.items() if found != own)
    others = [partition for partition, found in evidence.neighbour_fingerprints.items() if found != own]
    message = f"Vectors and neighbouring partitions of {evidence.model.key} with another fingerprint than {own}."
    if others:
        message += f" Different: {', '.join(others[:OFFENDERS])}. Use other weights names, or publish those days again."
    return judged("fingerprint", inside + len(others), EQUALS, 0, message)


def failed_fraction(evidence: Evidence) -> Check:
    """The share of quarantined files keeps its limit. Erased ones are no failures, nor are they asked for."""
    refused, erased = evidence.measured.refused, evidence.measured.codes["erased"]
    value = (refused.count - erased) / max(1, len(evidence.measured.listed) - erased)
    codes = ", ".join(f"{count} {code}" for code, count in sorted(evidence.measured.codes.items()))
    message = f"Share of listed files in quarantine{': ' + codes if codes else ''}."
    limit = evidence.settings.max_failed_fraction
    return judged("failed_fraction", value, AT_MOST, limit, message, refused.first)


def some_features(evidence: Evidence) -> Check:
    """A day with files gives at least one vector; an empty partition would hide the failure from its readers."""
    count = len(evidence.measured.featured)
    limit = evidence.settings.min_features
    bad = Found() if count >= limit else evidence.measured.refused
    return judged("some_features", count, AT_LEAST, limit, "Vectors in this partition.", bad.first)


def row_count(evidence: Evidence) -> Check:
    """The number of vectors is of the size of recent days."""
    if not evidence.history:
        return Check("row_count", True, None, WITHIN, None, "No earlier partition to compare with.")
    usual = float(np.median([partition.rows for partition in evidence.history]))
    ratio = len(evidence.measured.featured) / max(1.0, usual)
    limit = evidence.settings.min_row_ratio
    message = f"Vectors relative to the median of {len(evidence.history)} recent partitions ({usual:,.0f})."
    return judged("row_count", ratio, WITHIN, limit, message)


def drifted(evidence: Evidence) -> Check:
    """The distribution of the features is that of recent partitions."""
    limit = evidence.settings.max_drift
    if evidence.drift is None:
        return Check("drift", True, None, AT_MOST, limit, "No earlier partition of this model to compare with.")
    message = "Drift of the features against recent partitions (0 to 1)."
    return judged("drift", evidence.drift, AT_MOST, limit, message)


def photo_quality(evidence: Evidence) -> Check:
    """No more photos are blank, dark or blurred than on recent days: a lens, a lamp or a codec may have failed.

    Of today's share counts what is left of it by the lower bound of Wilson's interval (J. Am. Stat. Assoc. 22, 1927,
    pages 209 to 212) at 95 % confidence, one-sided: two dark photos of a day of five say nothing.
    """
    limit, looks = evidence.settings.max_poor_rise, evidence.measured.looks
    before = [look for look in evidence.looks_before if look["measured"]]
    if not before or not looks["measured"]:
        return Check("photo_quality", True, None, AT_MOST, limit, "No measured photos to compare, today or before.")
    usual = {kind: float(np.median([look[kind] / look["measured"] for look in before])) for kind in POOR}
    rises = {kind: _surely(looks[kind], looks["measured"]) - usual[kind] for kind in POOR}
    told = ", ".join(f"{looks[kind] / looks['measured']:.1%} {kind} ({usual[kind]:.1%})" for kind in POOR)
    message = f"Rise of the share of poor photos against the median of {len(before)} recent partitions: {told}."
    return judged("photo_quality", max(0.0, *rises.values()), AT_MOST, limit, message, evidence.measured.poor.first)


def _surely(count: int, total: int) -> float:
    """Wilson's lower bound of a share."""
    z = 1.645
    share = count / total
    middle = share + z * z / (2 * total)
    half = z * math.sqrt(share * (1 - share) / total + z * z / (4 * total * total))
    return max(0.0, (middle - half) / (1 + z * z / total))


def recomputed(evidence: Evidence) -> Check:
    """A random sample, computed again by the extractor's slow way (photos: plain torchvision in fp32), is the same.

    Exact models: every vector keeps the limit. int8 and approximate decoding have a tail, so there the sample is judged
    as a sample: the partition is rejected when `CONFIDENCE` says that more than `MAX_BELOW` of all vectors are below,
    that is, when the lower bound of Clopper and Pearson (Biometrika 26, 1934, pages 404 to 413) is above that share.
    The value is the smallest cosine but for as many as the sample may have below.
    """
    limit = evidence.model.min_cosine or contract.PRECISIONS[evidence.model.precision].min_cosine
    if evidence.model.approximate:
        limit = min(limit, MIN_COSINE_APPROXIMATE)
    limit = evidence.settings.min_cosine or limit
    left_out = f" {evidence.not_read:,} more are no longer at their source as ingest read them." * bool(
        evidence.not_read
    )
    if not evidence.cosines:
        return Check("recomputation", True, None, AT_LEAST, limit, f"No photo was computed again.{left_out}")
    ordered = sorted((cosine if cosine == cosine else -1.0 for _, cosine in evidence.cosines))
    below = sum(cosine < limit for cosine in ordered)
    bad = [uri for uri, cosine in evidence.cosines if not cosine >= limit]
    if not lossy(evidence.model):
        message = (
            f"Smallest cosine between {len(ordered)} stored vectors and their independent recomputation.{left_out}"
        )
        return Check("recomputation", not bad, ordered[0], AT_LEAST, limit, message, tuple(bad[:OFFENDERS]))
    allowed = most_below(len(ordered))
    wrong = ordered[0] < min(MIN_COSINE_EVER, limit)
    value = ordered[0] if wrong else ordered[min(allowed, len(ordered) - 1)]
    message = (
        f"Cosine between {len(ordered)} stored vectors and their independent recomputation, but for the {allowed} "
        f"smallest: {below} are below, the smallest is {ordered[0]:.4g}.{left_out}"
    )
    return Check(
        "recomputation", below <= allowed and not wrong, value, AT_LEAST, limit, message, tuple(bad[:OFFENDERS])
    )


def lossy(model: contract.ModelInfo) -> bool:
    """Whether a few vectors of a sound model may be far from fp32. An extractor's own `min_cosine` holds for each."""
    return not model.min_cosine and (contract.PRECISIONS[model.precision].has_tail or model.approximate)


def most_below(sample: int) -> int:
    """The largest number of vectors below the limit in a `sample` that says nothing against a share of `MAX_BELOW`.

    Clopper and Pearson's lower bound for `count` of `sample` is above a share just when so many or more have, at that
    share, a probability less than 1 - `CONFIDENCE`.
    """
    less = 0.0
    for count in range(sample + 1):
        if 1 - less < 1 - CONFIDENCE - 1e-9:  # of a single vector both sides are the same, but for rounding
            return count - 1
        ways = math.lgamma(sample + 1) - math.lgamma(count + 1) - math.lgamma(sample - count + 1)
        less += math.exp(ways + count * math.log(MAX_BELOW) + (sample - count) * math.log(1 - MAX_BELOW))
    return sample


RULES: dict[str, Callable[[Evidence], Check]] = {
    "reconciliation": reconciliation,
    "some_features": some_features,
    "failed_fraction": failed_fraction,
    "dimension": dimension,
    "finite": finite,
    "constant": constant,
    "identical_vectors": identical,
    "fingerprint": fingerprint,
    "recomputation": recomputed,
    "drift": drifted,
    "row_count": row_count,
    "photo_quality": photo_quality,
}


HOLDS: Mapping[str, Callable[[float, float], bool]] = {
    AT_MOST: lambda value, limit: value <= limit,
    AT_LEAST: lambda value, limit: value >= limit,
    EQUALS: lambda value, limit: value == limit,
    WITHIN: lambda value, limit: limit <= value and value * limit <= 1,
}


def judged(
    name: str, value: float, relation: str, limit: float, message: str, offenders: tuple[str, ...] = ()
) -> Check:
    """A check that passes while its value is in this relation to its limit. Its level is error."""
    passed = bool(HOLDS[relation](value, limit))
    return Check(name, passed, float(value), relation, limit, message, offenders[:OFFENDERS])
