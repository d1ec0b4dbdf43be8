"""How far the features of a day have moved from those of the days before: one number from 0 (not) to 1 (entirely).

The features are projected on `DIRECTIONS` fixed random unit vectors (comparing distributions slice by slice: Rabin et
al., "Wasserstein barycenter and its application to texture mixing", 2011); together with the norm that gives as many
one-dimensional samples. Each is compared with its history by the two-sample Kolmogorov-Smirnov statistic D, the largest
distance between the two empirical distribution functions. From D the critical value of its test is taken away,
`sqrt(-ln(alpha / 2) / 2) * sqrt((n + m) / (n * m))` (Smirnov, "Table for estimating the goodness of fit of empirical
distributions", 1948), so that a small day, whose D is large by chance alone, does not count as drift. The drift is the
mean over all slices.

A day is kept as a sketch (quantiles of each slice), so that history costs kilobytes and no second reading of vectors.

**What moved it.** Let F be the distribution functions of a slice, x the value at which those of today and of the
history are furthest apart, s the sign of F_today(x) - F_history(x). F_today(x) is the share of today's n photos whose
value is at most x, so D is a mean over photos, of c_i = s * ([x_i <= x] - F_history(x)). Without photo i, at the same
x, D is less by (c_i - D) / (n - 1): the photos with the largest c_i are those that leaving out would lower it most.
What a photo moved is the sum of its c_i over the slices whose D exceeds the critical value, divided by the number of
all slices. Its mean over the day is the drift and what was taken away of these slices; of photos like the history's it
is about 0.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

DIRECTIONS = 32
QUANTILES = 64
ALPHA = 0.01
ROUNDED = 5e-6
"""Part of a value by which the six digits that a sketch keeps may be off."""

Floats = NDArray[np.float32]
Sketch = dict[str, Any]
"""`n`: vectors it is made of. `slices`: per slice QUANTILES + 1 quantiles at equal steps of probability."""


def slices(vectors: Floats | NDArray[np.float64]) -> Floats:
    """The one-dimensional views of `vectors` [n, dim] that are compared: float32 [n, DIRECTIONS + 1], the norm last.

    Summed up in double precision and then rounded, so that the order of the sums, which BLAS chooses by shape, threads
    and processor, leaves no trace.
    """
    wide = vectors.astype(np.float64, copy=False)
    return single(np.column_stack([wide @ _directions(wide.shape[1]), norms(wide)]))


def norms(vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    """Euclidean norms of `vectors` [n, dim]; not finite where a vector is not."""
    found: NDArray[np.float64] = np.sqrt(np.einsum("ij,ij->i", vectors, vectors))
    return found


def single(values: NDArray[np.float64]) -> Floats:
    """In single precision, the largest number of which stands for what is beyond it."""
    largest = np.finfo(np.float32).max
    return np.clip(values, -largest, largest).astype(np.float32)


@lru_cache(maxsize=1)
def _directions(dim: int) -> NDArray[np.float64]:
    directions = np.random.default_rng(0).standard_normal((dim, DIRECTIONS)).astype(np.float32)
    directions /= np.linalg.norm(directions, axis=0)
    return directions.astype(np.float64)


def sketch(values: Floats) -> Sketch:
    """The quantiles of `slices` of one day, float32 [n, DIRECTIONS + 1]; n is at least 1."""
    quantiles = np.quantile(values, np.linspace(0, 1, QUANTILES + 1), axis=0).T
    return {"n": len(values), "slices": [[significant(value) for value in row] for row in quantiles]}


def significant(value: float) -> float:
    """The value with the six digits that a report keeps."""
    return float(f"{value:.6g}")


def drift(today: Sketch, history: list[Sketch]) -> float:
    """The drift of `today` against all days of `history` together, 0 to 1; see the module's first lines."""
    return float(np.mean([max(0.0, gap.excess) for gap in _gaps(today, history)]))


def moved(values: Floats, today: Sketch, history: list[Sketch]) -> NDArray[np.float64]:
    """What each photo moved the drift by, -1 to 1: float64 [n]; see the module's first lines. Nothing without a drift.

    `values`: `slices` of the photos that `today` is a sketch of, float32 [n, DIRECTIONS + 1]. Exact but for the sketch:
    the mean of so much is right within 1 / QUANTILES.
    """
    total = np.zeros(len(values))
    for index, gap in enumerate(_gaps(today, history)):
        if gap.excess > 0:
            below = values[:, index] <= np.float64(gap.at + abs(gap.at) * ROUNDED)  # in double precision
            total += np.sign(gap.distance) * (below - gap.before)
    total /= values.shape[1]
    return total


@dataclass(frozen=True)
class _Gap:
    """Where a slice of today is furthest from its history. `before`: the history's distribution function `at` this
    value. `distance`: today's less that. `excess`: its size less the critical value."""

    at: float
    before: float
    distance: float
    excess: float


def _gaps(today: Sketch, history: list[Sketch]) -> list[_Gap]:
    """Of each slice."""
    past = sum(day["n"] for day in history)
    allowance = math.sqrt(-math.log(ALPHA / 2) / 2) * math.sqrt((today["n"] + past) / (today["n"] * past))
    return [
        _gap(np.array(now), [(day["n"] / past, np.array(day["slices"][index])) for day in history], allowance)
        for index, now in enumerate(today["slices"])
    ]


def _gap(now: NDArray[np.float64], past: list[tuple[float, NDArray[np.float64]]], allowance: float) -> _Gap:
    """Between a sample and a mixture of samples, each given by its quantiles: Kolmogorov-Smirnov D, with its sign."""
    grid = np.unique(np.concatenate([now, *(quantiles for _, quantiles in past)]))
    mixture = sum((share * _distribution(quantiles, grid) for share, quantiles in past), np.zeros(len(grid)))
    apart = _distribution(now, grid) - mixture
    place = int(np.abs(apart).argmax())
    distance = float(apart[place])
    return _Gap(float(grid[place]), float(mixture[place]), distance, abs(distance) - allowance)


def _distribution(quantiles: NDArray[np.float64], at: NDArray[np.float64]) -> NDArray[np.float64]:
    """The distribution function that has these quantiles, linear between them; a repeated quantile is a step."""
    probabilities = np.linspace(0, 1, len(quantiles))
    values, first = np.unique(quantiles, return_index=True)
    last = np.append(first[1:], len(quantiles)) - 1
    found: NDArray[np.float64] = np.interp(at, values, probabilities[last], left=0.0, right=1.0)
    return found
