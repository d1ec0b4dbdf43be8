"""The checks that stand between a run and its publication, as declared rules over measured values."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from spark_apps import catalog, contract, drift, storage, store

ERROR, WARNING = "error", "warning"
OFFENDERS = 10
"""Offending uris that a check names."""
MIN_COSINE = {"fp32": 0.9999, "bf16": 0.999, "int8": 0.99}
"""Smallest cosine between a stored vector and its fp32 recomputation."""
MIN_COSINE_SCALED = 0.99
"""The same where photos were decoded at a fraction of their size: the recomputation decodes them in full."""
MAX_IDENTICAL_FRACTION = 0.5
ROW_COUNT_RATIO = 0.5
"""A day with less than this share of the recent median, or more than its inverse, is worth a look."""


@dataclass(frozen=True)
class Check:
    """One declared rule and its outcome. `value` and `limit` are numbers, or None where there is nothing to compare.

    `offenders`: the first uris that break the rule.
    """

    name: str
    severity: str
    passed: bool
    value: float | None
    limit: float | None
    message: str
    offenders: tuple[str, ...] = ()

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


def measure(store_uri: str, files: Sequence[dict[str, Any]], dim: int) -> Measured:
    """Reads the staged features back, one row group in memory at a time.

    Raises OSError or pyarrow.ArrowException when a file is missing or damaged.
    """
    filesystem, root = storage.filesystem(store.FEATURES.uri(store_uri))
    uris: list[str] = []
    image_ids: list[str] = []
    digests: list[bytes] = []
    fingerprints: Counter[str] = Counter()
    seen: set[str] = set()
    arrays: dict[str, list[NDArray[Any]]] = {"norms": [], "wrong": [], "finite": [], "constant": [], "slices": []}
    for file in files:
        parquet = pq.ParquetFile(f"{root}/{file['path']}", filesystem=filesystem)
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

    `cosines`: uri and cosine of each recomputed photo; `sketches`: those of the history that have one.
    """

    settings: contract.ValidateSettings
    listed: list[str]
    quarantined: list[str]
    quarantine_codes: dict[str, int]
    measured: Measured
    model: dict[str, Any]
    history: list[catalog.Partition]
    neighbour_fingerprints: dict[str, str]
    cosines: list[tuple[str, float]]
    drift: float | None


def checks(evidence: Evidence) -> list[Check]:
    """Every declared check, in the order a reader wants them."""
    return [rule(evidence) for rule in RULES]


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
    return _check("reconciliation", ERROR, len(bad), 0, message, bad)


def dimension(evidence: Evidence) -> Check:
    """Every vector has the model's length."""
    bad = evidence.measured.where(evidence.measured.wrong_length)
    return _check("dimension", ERROR, len(bad), 0, f"Vectors that are not {evidence.model['dim']} long.", bad)


def finite(evidence: Evidence) -> Check:
    """No vector holds NaN or infinity."""
    bad = evidence.measured.where(evidence.measured.not_finite)
    return _check("finite", ERROR, len(bad), 0, "Vectors with NaN or infinite values.", bad)


def constant(evidence: Evidence) -> Check:
    """No vector is zero or has the same value throughout."""
    measured = evidence.measured
    bad = measured.where(measured.constant & ~measured.not_finite & ~measured.wrong_length)
    return _check("constant", ERROR, len(bad), 0, "Vectors that are zero or the same value throughout.", bad)


def identical(evidence: Evidence) -> Check:
    """Different photos have different vectors. A few twins are natural (a photo saved twice), half a day is not."""
    images_of: dict[bytes, set[str]] = {}
    for image_id, digest in zip(evidence.measured.image_ids, evidence.measured.digests, strict=True):
        images_of.setdefault(digest, set()).add(image_id)
    shared = {digest for digest, images in images_of.items() if len(images) > 1}
    images = len(set(evidence.measured.image_ids))
    fraction = sum(len(images_of[digest]) for digest in shared) / images if images else 0.0
    pairs = zip(evidence.measured.uris, evidence.measured.digests, strict=True)
    bad = [uri for uri, digest in pairs if digest in shared]
    message = "Share of distinct photos whose vector another photo has too."
    return _check("identical_vectors", ERROR, fraction, MAX_IDENTICAL_FRACTION, message, bad)


def fingerprint(evidence: Evidence) -> Check:
    """All vectors, here and in the neighbouring partitions of the same model key, come from one and the same model."""
    own = evidence.model["fingerprint"]
    inside = sum(count for found, count in evidence.measured.fingerprints.items() if found != own)
    others = [partition for partition, found in evidence.neighbour_fingerprints.items() if found != own]
    message = f"Vectors and neighbouring partitions of {evidence.model['key']} with another fingerprint than {own}."
    if others:
        message += f" Different: {', '.join(others[:OFFENDERS])}. Use other weights names, or publish those days again."
    return _check("fingerprint", ERROR, inside + len(others), 0, message, [])


def failed_fraction(evidence: Evidence) -> Check:
    """The share of quarantined files keeps its limit."""
    value = len(evidence.quarantined) / max(1, len(evidence.listed))
    codes = ", ".join(f"{count} {code}" for code, count in sorted(evidence.quarantine_codes.items()))
    message = f"Share of listed files in quarantine{': ' + codes if codes else ''}."
    limit = evidence.settings.max_failed_fraction
    return _check("failed_fraction", ERROR, value, limit, message, evidence.quarantined)


def some_features(evidence: Evidence) -> Check:
    """A day with files gives at least one vector; an empty partition would hide the failure from its readers."""
    count = len(evidence.measured.uris)
    bad = [] if count else evidence.quarantined
    return Check("some_features", ERROR, count > 0, count, 1, "Vectors in this partition.", tuple(bad[:OFFENDERS]))


def row_count(evidence: Evidence) -> Check:
    """The number of vectors is of the size of recent days."""
    if not evidence.history:
        return Check("row_count", WARNING, True, None, None, "No earlier partition to compare with.")
    usual = float(np.median([partition.rows for partition in evidence.history]))
    ratio = len(evidence.measured.uris) / max(1.0, usual)
    passed = ROW_COUNT_RATIO <= ratio <= 1 / ROW_COUNT_RATIO
    message = f"Vectors relative to the median of {len(evidence.history)} recent partitions ({usual:,.0f})."
    return Check("row_count", WARNING, passed, ratio, ROW_COUNT_RATIO, message)


def drifted(evidence: Evidence) -> Check:
    """The distribution of the features is that of recent partitions."""
    limit = evidence.settings.max_drift
    if evidence.drift is None:
        return Check("drift", ERROR, True, None, limit, "No earlier partition of this model to compare with.")
    return _check(
        "drift", ERROR, evidence.drift, limit, "Drift of the features against recent partitions (0 to 1).", []
    )


def recomputed(evidence: Evidence) -> Check:
    """A random sample, computed again by the extractor's slow way (photos: plain torchvision in fp32), is the same."""
    limit = evidence.model.get("min_cosine") or MIN_COSINE[evidence.model["precision"]]
    if evidence.model.get("preprocessing", {}).get("decode") == "scaled":
        limit = min(limit, MIN_COSINE_SCALED)
    if not evidence.cosines:
        return Check("recomputation", ERROR, True, None, limit, "No photo was computed again.")
    worst = min(cosine for _, cosine in evidence.cosines)
    bad = [uri for uri, cosine in evidence.cosines if not cosine >= limit]
    message = f"Smallest cosine between {len(evidence.cosines)} stored vectors and their independent recomputation."
    return Check("recomputation", ERROR, not bad, worst, limit, message, tuple(bad[:OFFENDERS]))


RULES: tuple[Callable[[Evidence], Check], ...] = (
    reconciliation,
    some_features,
    failed_fraction,
    dimension,
    finite,
    constant,
    identical,
    fingerprint,
    recomputed,
    drifted,
    row_count,
)


def _check(name: str, severity: str, value: float, limit: float, message: str, offenders: Sequence[str]) -> Check:
    """A check that passes up to its limit."""
    return Check(name, severity, bool(value <= limit), float(value), limit, message, tuple(offenders[:OFFENDERS]))
