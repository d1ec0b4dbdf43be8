"""How far the features of a day have moved from those of the days before: one number from 0 (not) to 1 (entirely).

The features are projected on `DIRECTIONS` fixed random unit vectors (comparing distributions slice by slice: Rabin et
al., "Wasserstein barycenter and its application to texture mixing", 2011); together with the norm that gives as many
one-dimensional samples. Each is compared with its history by the two-sample Kolmogorov-Smirnov statistic D, the largest
distance between the two empirical distribution functions. From D the critical value of its test is taken away,
`sqrt(-ln(alpha / 2) / 2) * sqrt((n + m) / (n * m))` (Smirnov, "Table for estimating the goodness of fit of empirical
distributions", 1948), so that a small day, whose D is large by chance alone, does not count as drift. The drift is the
mean over all slices.

A day is kept as a sketch (quantiles of each slice), so that history costs kilobytes and no second reading of vectors.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

DIRECTIONS = 32
QUANTILES = 64
ALPHA = 0.01

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
    return {"n": len(values), "slices": [[float(f"{value:.6g}") for value in row] for row in quantiles]}


def drift(today: Sketch, history: list[Sketch]) -> float:
    """The drift of `today` against all days of `history` together, 0 to 1; see the module's first lines."""
    past = sum(day["n"] for day in history)
    allowance = math.sqrt(-math.log(ALPHA / 2) / 2) * math.sqrt((today["n"] + past) / (today["n"] * past))
    excess = [
        max(
            0.0,
            _distance(np.array(now), [(day["n"] / past, np.array(day["slices"][index])) for day in history])
            - allowance,
        )
        for index, now in enumerate(today["slices"])
    ]
    return float(np.mean(excess))


def _distance(now: NDArray[np.float64], past: list[tuple[float, NDArray[np.float64]]]) -> float:
    """Kolmogorov-Smirnov D between a sample and a mixture of samples, each given by its quantiles."""
    grid = np.unique(np.concatenate([now, *(quantiles for _, quantiles in past)]))
    mixture = sum((share * _distribution(quantiles, grid) for share, quantiles in past), np.zeros(len(grid)))
    return float(np.abs(_distribution(now, grid) - mixture).max())


def _distribution(quantiles: NDArray[np.float64], at: NDArray[np.float64]) -> NDArray[np.float64]:
    """The distribution function that has these quantiles, linear between them; a repeated quantile is a step."""
    probabilities = np.linspace(0, 1, len(quantiles))
    values, first = np.unique(quantiles, return_index=True)
    last = np.append(first[1:], len(quantiles)) - 1
    found: NDArray[np.float64] = np.interp(at, values, probabilities[last], left=0.0, right=1.0)
    return found
