"""Our engine and our decoding inside somebody else's framework, and without one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.protocol import Job
from spark_apps import model
from spark_apps.media import imaging
from spark_apps.media.fitting import Preprocessing

MAX_PIXELS = 100_000_000


class Vectorizer:
    """JPEGs to features, on one thread."""

    def __init__(self, job: Job) -> None:
        info = job.artifact()
        self._engine = model.load(info, Path(job.model), 1)
        decode = {} if job.decode == "exact" else {"decode": job.decode}
        self._preprocessing = Preprocessing.of({**info.preprocessing, **decode})

    def features(self, contents: Sequence[bytes]) -> np.ndarray:
        """float32 [n, dim]."""
        pixels = [imaging.decode(content, self._preprocessing, MAX_PIXELS) for content in contents]
        return self._engine.run(np.stack(pixels)).features
