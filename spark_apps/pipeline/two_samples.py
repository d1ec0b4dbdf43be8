"""A second opinion on drift: whether two samples of vectors, seen in all their dimensions, are of one kind.

Maximum mean discrepancy with a Gaussian kernel, k(a, b) = exp(-|a - b|² / (2 σ²)), σ the median distance of all pairs,
the unbiased estimate of its square, and a p-value by permutation: Gretton, Borgwardt, Rasch, Schölkopf, Smola, "A
kernel two-sample test", J. Mach. Learn. Res. 13, 2012, lemma 6. And how well a classifier tells the samples apart on
vectors that it has not seen (Lopez-Paz, Oquab, "Revisiting classifier two-sample tests", 2017), by the area under its
ROC curve. The classifier is the witness function of Gretton et al.: a vector's mean kernel with the one sample less
that with the other.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FOLDS = 5
LEAST = 2 * FOLDS
"""Vectors on either side, fewer than which say nothing."""
PERMUTATIONS = 499
DIGITS = 9
"""Of a kernel's value and a score: what BLAS adds up in another order leaves no trace in a rank."""

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Opinion:
    """`today`, `before`: vectors of either sample. `mmd2`: squared maximum mean discrepancy, about 0 for one kind, at
    most 2. `p`: the share of random divisions of all vectors, and this one, with so large a discrepancy: 1 / 500 at
    least. `auc`: how often the classifier finds which of two vectors, one of either sample, is today's; 0.5: by chance.
    """

    today: int
    before: int
    mmd2: float
    p: float
    auc: float


def compare(today: NDArray[np.float32], before: NDArray[np.float32]) -> Opinion | None:
    """The opinion on two samples [n, dim] and [m, dim], drawn by lot and in that order; None with less than `LEAST`."""
    n, m = len(today), len(before)
    if min(n, m) < LEAST:
        return None
    kernel = _kernel(np.concatenate([today, before]).astype(np.float64))
    labels = np.repeat([True, False], [n, m])
    dice = np.random.default_rng(0)
    shuffled = np.column_stack([labels, *(dice.permutation(labels) for _ in range(PERMUTATIONS))])
    found = np.round(_mmd2(kernel, shuffled), DIGITS)
    p = float((found >= found[0]).mean())
    return Opinion(n, m, float(found[0]), round(p, 4), round(_auc(kernel, labels), 4))


def _kernel(vectors: Floats) -> Floats:
    """The kernel of all pairs [n + m, n + m]."""
    centred = vectors - vectors.mean(axis=0)
    squares = np.einsum("ij,ij->i", centred, centred)
    distances = np.maximum(squares[:, None] + squares - 2 * centred @ centred.T, 0)
    np.fill_diagonal(distances, 0)
    pairs = distances[np.triu_indices(len(distances), 1)]
    median = float(np.median(pairs)) or float(pairs.mean()) or 1.0
    kernel: Floats = np.round(np.exp(-distances / (2 * median)), DIGITS)
    return kernel


def _mmd2(kernel: Floats, labels: NDArray[np.bool_]) -> Floats:
    """The unbiased estimate for each division of the vectors, a column of `labels` [n + m, divisions]."""
    one = labels.astype(np.float64)
    n, m = one[:, 0].sum(), len(one) - one[:, 0].sum()
    sums = kernel @ one
    within = np.einsum("ij,ij->j", one, sums)
    across = np.einsum("ij,ij->j", 1 - one, sums)
    rest = kernel.sum() - within - 2 * across
    found: Floats = (within - n) / (n * (n - 1)) + (rest - m) / (m * (m - 1)) - 2 * across / (n * m)
    return found


def _auc(kernel: Floats, labels: NDArray[np.bool_]) -> float:
    """Mean over the folds: each is judged by the vectors of the others."""
    places = np.concatenate([np.arange(labels.sum()), np.arange((~labels).sum())]) % FOLDS
    areas = []
    for fold in range(FOLDS):
        held = places == fold
        score = np.round(_mean(kernel, held, labels & ~held) - _mean(kernel, held, ~labels & ~held), DIGITS)
        ours, theirs = score[labels[held]], score[~labels[held]]
        above = np.sign(ours[:, None] - theirs)
        areas.append(float((above.mean() + 1) / 2))
    return float(np.mean(areas))


def _mean(kernel: Floats, held: NDArray[np.bool_], known: NDArray[np.bool_]) -> Floats:
    found: Floats = kernel[np.ix_(held, known)].mean(axis=1)
    return found
