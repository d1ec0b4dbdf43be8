"""The search indexes of the stores' models, as the pages have them open: few, read only, and never what is unpublished.

An index may hold what is no longer published, until the task `index` has run again. What differs from what is published
is left out of every search, and counted.
"""

from __future__ import annotations

import logging
import threading
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal

from image_features.web import store_state
from image_features.web.caches import Fresh
from image_features.web.stores import Place
from spark_apps.contract import BadSetting, JobError
from spark_apps.search import reading

log = logging.getLogger(__name__)

REOPENED_SECONDS = 300.0
"""After so long an index is opened anew: its connection's keys may be others."""
LOOKED_SECONDS = 5.0
"""How long the newest version of an index is believed to be that."""
OPEN, CACHE_BYTES = 4, 256 * 2**20
"""Indexes that are open at a time, and the memory that each may keep parts of itself in."""

State = Literal["ok", "none", "unavailable"]
Key = tuple[Place, str]


@dataclass(frozen=True)
class Standing:
    """An index against what is published: `current`, the partitions that it holds as they are published; `behind`,
    partition → rows that differ. `index`: None where there is none, or none that can be read here."""

    state: State
    index: reading.Index | None
    current: frozenset[str]
    behind: dict[str, int]


def of(place: Place, model: str) -> Standing:
    """The index of a model in a store. Raises StoreProblem."""
    published = {item.partition: item for item in store_state.published(place).partitions if item.model == model}
    rows = {key: item.rows for key, item in published.items()}
    found = _open.get((place, model), _opened)
    if not isinstance(found, reading.Index):
        _open.forget((place, model))  # it may be made at any time
        return Standing(found, None, frozenset(), rows)
    with store_state.reading(place):
        _looked.get((place, model), lambda _: _refreshed(found))
    current = {
        key
        for key, held in found.held.items()
        if key in published and (held.publication, held.rows) == (published[key].contents, published[key].rows)
    }
    gone = {key: held.rows for key, held in found.held.items() if key not in published}
    return Standing("ok", found, frozenset(current), gone | {key: rows[key] for key in rows if key not in current})


def warm(place: Place, model: str) -> None:
    """Opens the index in a thread of its own, so that the first search need not wait for that."""
    if (place, model) not in _warmed:
        _warmed.add((place, model))
        threading.Thread(target=_warm, args=(place, model), name="image-features-warm", daemon=True).start()


def _warm(place: Place, model: str) -> None:
    with suppress(store_state.StoreProblem):  # for the search to tell
        of(place, model)


_warmed: set[Key] = set()


def _opened(key: Key) -> reading.Index | State:
    place, model = key
    try:
        with store_state.reading(place):
            return _try(place, model)
    except store_state.StoreProblem:
        return "unavailable"


def _try(place: Place, model: str) -> reading.Index | State:
    try:
        return reading.open_index(place.store, model, CACHE_BYTES)
    except BadSetting as error:
        if error.code != "no_index":
            log.warning("Image features: %s", error)
        return "none" if error.code == "no_index" else "unavailable"
    except JobError as error:
        log.warning("Image features: %s", error)
        return "unavailable"


def _refreshed(index: reading.Index) -> bool:
    index.refresh()
    return True


_open: Fresh[Key, reading.Index | State] = Fresh(REOPENED_SECONDS, OPEN)
_looked: Fresh[Key, bool] = Fresh(LOOKED_SECONDS, OPEN)


def forget() -> None:
    """Opens every index anew."""
    _open.forget()
    _looked.forget()
