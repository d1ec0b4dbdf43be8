"""The stores of a Dag: those that it names, and those that its runs have named and that are allowed. No others."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from image_features import settings
from image_features.web import facts, our_dags
from image_features.web.answers import StoreChoice
from image_features.web.caches import Fresh
from image_features.web.our_dags import LATER, OurDag, Said
from image_features.web.refusals import Refused
from image_features.wording import redacted
from spark_apps import contract
from spark_apps.contract import BadSetting, locations

log = logging.getLogger(__name__)

FRESH_SECONDS = 10.0
"""How long it is believed which stores the runs of a Dag have named."""


@dataclass(frozen=True)
class Place:
    """A store and the Airflow connection that it is read with; "": the environment. What is kept of a store is kept by
    both: one name may mean other data at another endpoint.

    `problem`: a code of `answers.StoreState` where it cannot even be tried.
    """

    store: str
    conn_id: str = ""
    problem: str = ""

    @cached_property
    def key(self) -> str:
        """What stands for it in addresses, so that no address has to name a place."""
        return hashlib.sha256("\n".join((self.store, self.conn_id, self.problem)).encode()).hexdigest()[:16]


def of_dag(dag_id: str) -> list[Place]:
    """The stores of a Dag, the first one to be shown first; never empty."""
    dag = _dag(dag_id)
    found = dict.fromkeys(named(dag))
    if any(said.store is LATER for said in dag.said):
        found |= dict.fromkeys(_told.get(dag_id, lambda _: _allowed(dag)))
    return list(found) or [Place("", problem="empty" if dag.said else "not_configured")]


def choices(places: Iterable[Place]) -> dict[Place, StoreChoice]:
    """What a viewer picks each of these places by: as much of the end of its path as tells it from the others."""
    places = list(dict.fromkeys(places))
    paths = {place: redacted(place.store).partition("://")[2] or place.store for place in places}
    parts = {place: path.strip("/").split("/") for place, path in paths.items()}
    found = {}
    for place in places:
        others = [parts[other] for other in places if other.store != place.store]
        own = parts[place]
        depth = next((n for n in range(1, len(own)) if all(other[-n:] != own[-n:] for other in others)), len(own))
        name = "/".join(own[-depth:])
        if sum(other.store == place.store for other in places) > 1:
            name += f" ({place.conn_id or 'environment'})"
        found[place] = StoreChoice(key=place.key, name=name)
    return found


def chosen(dag_id: str, key: str | None) -> Place:
    """The store of the Dag that a key stands for, without one the first. Raises Refused."""
    places = of_dag(dag_id)
    if not key:
        return places[0]
    if key not in {place.key for place in places}:
        _told.forget(dag_id)  # a run may just have named it
        places = of_dag(dag_id)
    for place in places:
        if place.key == key:
            return place
    raise no_store()


def no_store() -> Refused:
    """The refusal of a key that stands for no store."""
    return Refused(404, "no_such_store", "This Dag has no such store.", "Pick one of its stores.")


def named(dag: OurDag) -> list[Place]:
    """The stores that the Dag's tasks name, or leave to the configuration; each once, by the first task that does."""
    found: dict[str, Place] = {}
    for said in dag.said or (Said(""),):
        if said.store is not LATER:
            place = _place(said.store, said)
            found.setdefault(place.store, place)
    return list(found.values())


def of_fact(dag_id: str, fact: facts.Fact) -> Place:
    """The store that a task has told, where it may be opened: one that the Dag names, or one within the configured
    store or [image_features] stores."""
    return _of_fact(_dag(dag_id), fact)


def overlap(one: str, other: str) -> bool:
    """Whether two Dags may have a store in common."""
    first, second = _dag(one), _dag(other)
    if any(said.store is LATER for said in (*first.said, *second.said)):
        return True
    return bool({place.store for place in named(first)} & {place.store for place in named(second)})


def _of_fact(dag: OurDag, fact: facts.Fact) -> Place:
    for place in named(dag):
        if place.store == fact.store and not place.problem:
            return place
    if not locations.is_below(fact.store, settings.stores()):
        return Place(fact.store, problem="not_allowed")
    return _place(fact.store, next((said for said in dag.said if said.task_id == fact.task_id), Said("")))


def _allowed(dag: OurDag) -> list[Place]:
    places = dict.fromkeys(_of_fact(dag, fact) for fact in facts.newest(dag.dag_id))
    return [place for place in places if place.problem != "not_allowed"]


_told: Fresh[str, list[Place]] = Fresh(FRESH_SECONDS, limit=1000)


def _dag(dag_id: str) -> OurDag:
    return our_dags.ours().get(dag_id) or OurDag(dag_id)


def _place(store: Any, said: Said) -> Place:
    """`store`: None for the configured one. It is read as the task reads it."""
    location = _checked(store or settings.store())
    if not location:
        return Place("", problem="not_configured")
    if said.storage_conn_id is LATER:
        return Place(location, problem="denied")  # with another connection's keys it must not be read
    return Place(location, said.storage_conn_id or settings.storage_conn_id())


def _checked(store: str) -> str:
    """The store as the tasks write it; "" for what is no valid one."""
    try:
        return contract.check_store(store) if store else ""
    except BadSetting as error:
        log.error("Image features: %s", error)
        return ""
