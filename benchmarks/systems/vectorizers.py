"""The model inside a framework: eager torch, or our engine. Both load on construction and take batches of JPEGs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from benchmarks.protocol import Job


class Vectorizer(Protocol):
    def features(self, contents: Sequence[bytes]) -> np.ndarray:
        """float32 [n, dim]."""
        ...


class Eager:
    """Eager torch as its documentation shows."""

    def __init__(self, job: Job) -> None:
        from benchmarks.systems import eager

        self._run, self._model = eager.features, eager.load(job.model)

    def features(self, contents: Sequence[bytes]) -> np.ndarray:
        return self._run(self._model, contents)


def load(job: Job) -> Vectorizer:
    """The vectorizer that `job.engine` names."""
    if job.engine == "eager":
        return Eager(job)
    from benchmarks.systems.our_engine import Vectorizer as Ours

    return Ours(job)
