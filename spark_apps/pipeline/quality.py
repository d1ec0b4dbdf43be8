"""The checks that stand between a run and its publication, as declared rules over measured values."""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spark_apps import catalog, contract
from spark_apps.contract import StagedFile
from spark_apps.pipeline import drift
from spark_apps.pipeline.twins import Twins
from spark_apps.tables import data_files, schemas

ERROR, WARNING, OFF = contract.LEVELS
AT_MOST, AT_LEAST, EQUALS, WITHIN = contract.RELATIONS
OFFENDERS = 10
"""Offending uris that a check names."""
MIN_COSINE_SCALED = 0.99
"""Smallest cosine to the recomputation, which decodes photos in full, where they were decoded at a fraction of their
size; else that of `contract.PRECISIONS`."""
MIN_COSINE_EVER = 0.5
"""What no vector of a lossy model may fall below, however few they are: such a one is wrong, not rounded."""
MAX_BELOW = 0.05
"""Share of a partition's vectors that int8 or scaled decoding may leave below their limit."""
CONFIDENCE = 0.95
"""How sure the sample must make us that more than that share is below, before a partition is rejected for it."""
LOSSY_SAMPLE = 8
"""int8 and scaled decoding have so many times `--recheck` photos computed again: a share is not seen in eight."""


@dataclass(frozen=True)
class Check:
    """One declared rule and its outcome. `value` and `limit` are numbers, or None where there is nothing to compare.

    `passed`: None where the check is off. `relation`: how the value of one that passes relates to the limit, one of
    `contract.RELATIONS`, or None where the check is off. `offenders`: the first uris that break the rule. `severity`:
    its level, error, warning or off; the rules leave it to `checks`.
    """

    name: str
    passed: bool | None
    value: float | None
    relation: str | None
    limit: float | None
    message: str
    offenders: tuple[str, ...] = ()
    severity: str = ERROR

    def failed(self, severity: str) -> bool:
        """Whether it was run at this level and did not pass."""
        return self.passed is False and self.severity == severity

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "offenders": list(self.offenders)}


@dataclass(frozen=True)
class Measured:
    """The staged features of a run, row by row: uris and image_ids [n], norms and the rest as arrays of n.

    `slices` are those of `drift.slices`, for the first row of each distinct image only.
    """

    uris: list[str]
    image_ids: list[str]
    norms: NDArray[np.float32]
    wrong_length: NDArray[np.bool_]
    not_finite: NDArray[np.bool_]
    constant: NDArray[np.bool_]
    digests: list[bytes]
    fingerprints: Counter[str]
    slices: NDArray[np.float32]

    def where(self, rows: NDArray[np.bool_]) -> list[str]:
        return [self.uris[index] for index in np.flatnonzero(rows)]


def measure(store_uri: str, files: Sequence[StagedFile], dim: int) -> Measured:
    """Reads the staged features back, one row group in memory at a time.

    Raises OSError or pyarrow.ArrowException when a file is missing or damaged.
    """
    uris: list[str] = []
    image_ids: list[str] = []
    digests: list[bytes] = []
    fingerprints: Counter[str] = Counter()
    seen: set[str] = set()
    arrays: dict[str, list[NDArray[Any]]] = {"norms": [], "wrong": [], "finite": [], "constant": [], "slices": []}
    for _, parquet in data_files.opened(store_uri, schemas.FEATURES, files):
        for group in range(parquet.num_row_groups):
            rows = parquet.read_row_group(group, columns=["uri", "image_id", "features", "model_fingerprint"])
            column = rows["features"].combine_chunks()
            ids = rows["image_id"].to_pylist()
            uris += rows["uri"].to_pylist()
            image_ids += ids
            fingerprints.update(rows["model_fingerprint"].to_pylist())
            lengths = np.asarray(column.value_lengths().fill_null(0))
            wrong: NDArray[np.bool_] = np.asarray(lengths != dim, np.bool_)
            vectors: Any = np.zeros((len(ids), dim), np.float32)
            vectors[~wrong] = np.asarray(column.filter(~wrong).flatten(), np.float32).reshape(-1, dim)
            finite = np.isfinite(vectors).all(axis=1)
            safe = np.where(finite[:, None], vectors, 0)
            digests += [hashlib.blake2b(vector.tobytes(), digest_size=16).digest() for vector in vectors]
            arrays["norms"].append(np.linalg.norm(safe, axis=1))
            arrays["wrong"].append(np.asarray(wrong))
            arrays["finite"].append(finite)
            arrays["constant"].append(np.ptp(safe, axis=1) == 0)
            first = np.array([_is_new(image_id, seen) for image_id in ids], bool)
            arrays["slices"].append(drift.slices(safe[first & ~wrong & finite]))
    joined = {name: np.concatenate(parts) if parts else np.zeros(0) for name, parts in arrays.items()}
    return Measured(
        uris,
        image_ids,
        joined["norms"].astype(np.float32),
        joined["wrong"].astype(bool),
        ~joined["finite"].astype(bool),
        joined["constant"].astype(bool),
        digests,
        fingerprints,
        joined["slices"].astype(np.float32),
    )


def _is_new(image_id: str, seen: set[str]) -> bool:
    new = image_id not in seen
    seen.add(image_id)
    return new


@dataclass(frozen=True)
class Evidence:
    """Everything the checks look at. `history`: published partitions before this one, nearest first.

    `neighbour_fingerprints`: by partition, those of the same model key around this one. `cosines`: uri and cosine of
    each recomputed photo; `not_read`: photos of that sample that are no longer at their source. `drift`: against the
    history, 0 to 1, None without one. `twins`: None where few enough photos share a vector, so that nobody had to look
    at their pixels.
    """

    settings: contract.ValidateSettings
    listed: list[str]
    quarantined: list[str]
    quarantine_codes: dict[str, int]
    measured: Measured
    model: contract.ModelInfo
    history: list[catalog.Partition]
    neighbour_fingerprints: dict[str, str]
    cosines: list[tuple[str, float]]
    drift: float | None
    twins: Twins | None = None
    not_read: int = 0


def checks(evidence: Evidence) -> list[Check]:
    """Every declared check, in the order a reader wants them, at its level; what is off is not run."""
    levels = evidence.settings.levels
    return [
        Check(name, None, None, None, None, "Turned off by check-levels: not run.", severity=OFF)
        if levels[name] == OFF
        else replace(RULES[name](evidence), severity=levels[name])
        for name in contract.CHECKS
    ]


def sharing(measured: Measured) -> list[set[str]]:
    """The image_ids of each vector that more than one image has."""
    images_of: dict[bytes, set[str]] = {}
    for image_id, digest in zip(measured.image_ids, measured.digests, strict=True):
        images_of.setdefault(digest, set()).add(image_id)
    return [images for images in images_of.values() if len(images) > 1]


def too_many_share(measured: Measured, limit: float) -> bool:
    """Whether so many images share a vector that their pixels have to be looked at."""
    return _sharing_fraction(measured) > limit


def _sharing_fraction(measured: Measured) -> float:
    images = len(set(measured.image_ids))
    return sum(len(shared) for shared in sharing(measured)) / images if images else 0.0


def reconciliation(evidence: Evidence) -> Check:
    """Every listed file is in exactly one of features and quarantine, once."""
    counts = Counter(evidence.measured.uris)
    counts.update(evidence.quarantined)
    listed = set(evidence.listed)
    lost = [uri for uri in evidence.listed if uri not in counts]
    doubled = [uri for uri, count in counts.items() if count > 1]
    strangers = [uri for uri in counts if uri not in listed]
    message = (
        f"{len(listed):,} listed = {len(evidence.measured.uris):,} featured + {len(evidence.quarantined):,} quarantined"
    )
    bad = lost + doubled + strangers
    if bad:
        message = f"{len(lost):,} files lost, {len(doubled):,} counted twice, {len(strangers):,} never listed."
    return _check("reconciliation", len(bad), EQUALS, 0, message, bad)


def dimension(evidence: Evidence) -> Check:
    """Every vector has the model's length."""
    bad = evidence.measured.where(evidence.measured.wrong_length)
    return _check("dimension", len(bad), EQUALS, 0, f"Vectors that are not {evidence.model.dim} long.", bad)


def finite(evidence: Evidence) -> Check:
    """No vector holds NaN or infinity."""
    bad = evidence.measured.where(evidence.measured.not_finite)
    return _check("finite", len(bad), EQUALS, 0, "Vectors with NaN or infinite values.", bad)


def constant(evidence: Evidence) -> Check:
    """No vector is zero or has the same value throughout."""
    measured = evidence.measured
    bad = measured.where(measured.constant & ~measured.not_finite & ~measured.wrong_length)
    limit = evidence.settings.max_constant
    return _check("constant", len(bad), AT_MOST, limit, "Vectors that are zero or the same value throughout.", bad)


def identical(evidence: Evidence) -> Check:
    """Different photos have different vectors. A few twins are natural (a photo saved twice), half a day is not, unless
    their pixels are the same."""
    fraction, twins = _sharing_fraction(evidence.measured), evidence.twins
    suspects = set().union(*sharing(evidence.measured))
    message = "Share of distinct photos whose vector another photo has too."
    if twins is not None:
        fraction, suspects = fraction * twins.fraction, set(twins.differing)
        message = (
            "Share of distinct photos whose vector another photo with other pixels has too, by a look at "
            f"{twins.photos:,} of those that share one."
        )
    pairs = zip(evidence.measured.uris, evidence.measured.image_ids, strict=True)
    bad = [uri for uri, image_id in pairs if image_id in suspects]
    limit = evidence.settings.max_identical_fraction
    return _check("identical_vectors", fraction, AT_MOST, limit, message, bad)


def fingerprint(evidence: Evidence) -> Check:
    """All vectors, here and in the neighbouring partitions of the same model key, come from one and the same model."""
    own = evidence.model.fingerprint
    inside = sum(count for found, count in evidence.measured.fingerprints.items() if found != own)
    others = [partition for partition, found in evidence.neighbour_fingerprints.items() if found != own]
    message = f"Vectors and neighbouring partitions of {evidence.model.key} with another fingerprint than {own}."
    if others:
        message += f" Different: {', '.join(others[:OFFENDERS])}. Use other weights names, or publish those days again."
    return _check("fingerprint", inside + len(others), EQUALS, 0, message, [])


def failed_fraction(evidence: Evidence) -> Check:
    """The share of quarantined files keeps its limit."""
    value = len(evidence.quarantined) / max(1, len(evidence.listed))
    codes = ", ".join(f"{count} {code}" for code, count in sorted(evidence.quarantine_codes.items()))
    message = f"Share of listed files in quarantine{': ' + codes if codes else ''}."
    limit = evidence.settings.max_failed_fraction
    return _check("failed_fraction", value, AT_MOST, limit, message, evidence.quarantined)


def some_features(evidence: Evidence) -> Check:
    """A day with files gives at least one vector; an empty partition would hide the failure from its readers."""
    count = len(evidence.measured.uris)
    limit = evidence.settings.min_features
    bad = [] if count >= limit else evidence.quarantined
    return _check("some_features", count, AT_LEAST, limit, "Vectors in this partition.", bad)


def row_count(evidence: Evidence) -> Check:
    """The number of vectors is of the size of recent days."""
    if not evidence.history:
        return Check("row_count", True, None, WITHIN, None, "No earlier partition to compare with.")
    usual = float(np.median([partition.rows for partition in evidence.history]))
    ratio = len(evidence.measured.uris) / max(1.0, usual)
    limit = evidence.settings.min_row_ratio
    message = f"Vectors relative to the median of {len(evidence.history)} recent partitions ({usual:,.0f})."
    return _check("row_count", ratio, WITHIN, limit, message, [])


def drifted(evidence: Evidence) -> Check:
    """The distribution of the features is that of recent partitions."""
    limit = evidence.settings.max_drift
    if evidence.drift is None:
        return Check("drift", True, None, AT_MOST, limit, "No earlier partition of this model to compare with.")
    message = "Drift of the features against recent partitions (0 to 1)."
    return _check("drift", evidence.drift, AT_MOST, limit, message, [])


def recomputed(evidence: Evidence) -> Check:
    """A random sample, computed again by the extractor's slow way (photos: plain torchvision in fp32), is the same.

    Exact models: every vector keeps the limit. int8 and scaled decoding have a tail, so there the sample is judged as
    a sample: the partition is rejected when `CONFIDENCE` says that more than `MAX_BELOW` of all vectors are below, that
    is, when the lower bound of Clopper and Pearson (Biometrika 26, 1934, pages 404 to 413) is above that share. The
    value is the smallest cosine but for as many as the sample may have below.
    """
    limit = evidence.model.min_cosine or contract.PRECISIONS[evidence.model.precision].min_cosine
    if evidence.model.scaled:
        limit = min(limit, MIN_COSINE_SCALED)
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
    return not model.min_cosine and (contract.PRECISIONS[model.precision].has_tail or model.scaled)


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
}


HOLDS: Mapping[str, Callable[[float, float], bool]] = {
    AT_MOST: lambda value, limit: value <= limit,
    AT_LEAST: lambda value, limit: value >= limit,
    EQUALS: lambda value, limit: value == limit,
    WITHIN: lambda value, limit: limit <= value and value * limit <= 1,
}


def _check(name: str, value: float, relation: str, limit: float, message: str, offenders: Sequence[str]) -> Check:
    """A check that passes while its value is in this relation to its limit."""
    passed = bool(HOLDS[relation](value, limit))
    return Check(name, passed, float(value), relation, limit, message, tuple(offenders[:OFFENDERS]))
