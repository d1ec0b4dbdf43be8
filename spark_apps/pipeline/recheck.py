"""A random sample of vectors, computed again by the extractor's slow and independent way."""

from __future__ import annotations

from typing import Any

import numpy as np

from spark_apps import extractors
from spark_apps.contract import BadFile, ModelInfo, Staged
from spark_apps.pipeline import keys, places
from spark_apps.pipeline.measure import Drawn
from spark_apps.spark.spreading import Spread
from spark_apps.tables import contents, schemas


def recheck(
    spread: Spread,
    store: str,
    staged: Staged,
    drawn: Drawn,
    info: ModelInfo,
    max_pixels: int,
    weights_within: str = "",
    within: str = "",
) -> tuple[list[tuple[str, float]], int]:
    """(uri, cosine) of each row that was drawn. And how many of them cannot be computed again, as their source no
    longer has what ingest read: their vectors were made of what was there. `within`: as in `contents.of`.

    Raises Unreachable.
    """
    uris = {uri for _, uri in drawn.rows}
    if not uris:
        return [], 0
    ordered = np.sort(keys.of(sorted(uris)))
    features = places.Wanted(store, schemas.FEATURES, "uri", ordered)
    images = places.Wanted(store, schemas.IMAGES, "uri", ordered)
    by_uri: dict[str, Any] = {}
    for rows in places.rows(spread, staged["features"], features, ["uri", "features"]):
        by_uri.update(zip(rows["uri"].to_pylist(), rows["features"].to_pylist(), strict=True))
    extractor = extractors.opened(info, max_pixels, weights_within=weights_within)
    cosines: list[tuple[str, float]] = []
    gone = 0
    for rows in places.rows(spread, staged["images"], images, contents.COLUMNS):
        listed = [row for row in rows.to_pylist() if row["uri"] in uris]
        for row, content in zip(listed, contents.of(listed, within), strict=True):
            if isinstance(content, BadFile):
                gone += 1
            else:
                vector = np.array(by_uri[row["uri"]], np.float64)
                cosines.append((row["uri"], cosine(extractor.reference(content), vector)))
    return cosines, gone


def cosine(one: Any, other: Any) -> float:
    """0 where a vector is zero or not finite, so that it can never pass for a match."""
    one, scale = np.asarray(one, np.float64), np.linalg.norm(one) * np.linalg.norm(other)
    return float(one @ other / scale) if len(one) == len(other) and np.isfinite(scale) and scale > 0 else 0.0
