"""Drift that explains itself: the number, the photos that moved it most, and a second opinion by other means."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from spark_apps import storage
from spark_apps.contract import ModelInfo, StagedFile
from spark_apps.pipeline import drift, keys, places, samples, two_samples
from spark_apps.pipeline.measure import Measured
from spark_apps.pipeline.two_samples import Opinion
from spark_apps.spark.spreading import Spread
from spark_apps.tables import schemas

NAMED = 12
"""Photos that a report names."""


@dataclass(frozen=True)
class Moved:
    """A photo, and what it moved the drift by (`drift.moved`). `uri`: of the first of its files by the alphabet."""

    image_id: str
    uri: str
    moved: float


@dataclass(frozen=True)
class Drift:
    """`value`: None without a history to compare with. `sketch`: of the day, None without a sound vector. `sketches`:
    of the history, by partition. `moved`: those that moved it most, the first first; none without a drift."""

    value: float | None
    sketch: drift.Sketch | None
    sketches: Mapping[str, drift.Sketch]
    moved: Sequence[Moved] = ()
    opinion: Opinion | None = None

    def to_record(self, limit: float) -> dict[str, Any]:
        """As a report has it."""
        today = self.sketch
        return {
            "value": self.value,
            "limit": limit,
            "sketch": today,
            "by_partition": {key: drift.drift(today, [one]) for key, one in self.sketches.items()} if today else {},
            "moved": [asdict(one) for one in self.moved],
            "second_opinion": None if self.opinion is None else asdict(self.opinion),
        }


def explained(
    spread: Spread,
    store: str,
    features: Sequence[StagedFile],
    measured: Measured,
    model: ModelInfo,
    sketches: Mapping[str, drift.Sketch],
) -> Drift:
    """The drift of what was `measured` against the `sketches` of earlier partitions. Of `features`, the staged files,
    the column image_id is read again where there is a drift. Raises Unreachable."""
    images, values = measured.by_image()
    if not len(images) or not sketches:
        return Drift(None, measured.sketch(), sketches)
    today, history = drift.sketch(values), list(sketches.values())
    value = drift.drift(today, history)
    parts = drift.moved(values, today, history) if value > 0 else np.zeros(len(images))
    first = np.lexsort((images, -parts))[:NAMED]
    most = {int(images[row]): drift.significant(parts[row]) for row in first if parts[row] > 0}
    with storage.reaching("store", store):
        before = samples.former(store, model.key, list(sketches), model.dim)
    opinion = two_samples.compare(measured.sample.vectors, before)
    return Drift(value, today, sketches, _named(spread, store, features, most), opinion)


def _named(spread: Spread, store: str, features: Sequence[StagedFile], most: Mapping[int, float]) -> list[Moved]:
    """The photos with these keys, in this order."""
    wanted = places.Wanted(store, schemas.FEATURES, "image_id", np.array(sorted(most), np.uint64))
    found: dict[int, tuple[str, str]] = {}
    for rows in places.rows(spread, features, wanted, ["uri", "image_id"]):
        images = rows["image_id"].to_pylist()
        for key, uri, image in zip(map(int, keys.of(images)), rows["uri"].to_pylist(), images, strict=True):
            found[key] = min(found.get(key, (uri, image)), (uri, image))
    return [Moved(found[key][1], found[key][0], moved) for key, moved in most.items() if key in found]
