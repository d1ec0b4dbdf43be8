"""The store as the pages see it: where it is, what is published, and in plain words why it cannot be read."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime

from image_features.web.answers import StoreState
from image_features.web.caches import Fresh, forget_everything
from image_features.web.refusals import Refused
from image_features.web.stores import Place
from spark_apps import catalog, contract
from spark_apps.contract import JobError, Unreachable

log = logging.getLogger(__name__)

CREDENTIALS_SECONDS = 60.0
"""How long the keys of a connection are believed."""
FRESH_SECONDS = 5.0
"""How long what the store said is believed; a page that is looked at asks every few seconds."""

_WORDS: dict[str, tuple[str, str]] = {
    "not_configured": (
        "No store is configured.",
        "Set [image_features] store, or AIRFLOW__IMAGE_FEATURES__STORE, to a folder or URI and restart the api-server.",
    ),
    "not_allowed": (
        "The store of this run is none that may be read here.",
        "An administrator of Airflow can add its folder to [image_features] stores.",
    ),
    "missing": (
        "The store is not there.",
        "The first run creates it. If there have been runs, check that its disk is mounted where the api-server runs.",
    ),
    "empty": (
        "Nothing has been published yet.",
        "Trigger the Dag for a partition; what it publishes appears here.",
    ),
    "denied": (
        "Access to the store is denied.",
        "Check the permissions and credentials of the api-server; storage_conn_id names the connection it uses.",
    ),
    "unreachable": (
        "The store cannot be reached.",
        "Check that it is mounted or reachable from the api-server; its log has the details.",
    ),
    "damaged": (
        "A table of the store cannot be read: it is damaged or half-written.",
        "The api-server's log has the details. What was published before can be put back with spark_apps.undo.",
    ),
    "newer_schema": (
        "A table of the store was written by a newer version.",
        "Update this plugin and deltalake where the api-server runs.",
    ),
    "unexpected": ("The store could not be read.", "The api-server's log has the details."),
}
OK = StoreState(code="ok")

COLUMNS = {
    "uri": "string",
    "image_id": "string",
    "features": "list",
    "model_fingerprint": "string",
    "top1_label": "string",
    "top1_score": "float",
    "run_id": "string",
}
"""Columns of the table features that the pages read, and how Arrow calls their types."""


class StoreProblem(Refused):
    """The store cannot be read; `code` is one of `answers.StoreState`."""

    def __init__(self, code: str) -> None:
        super().__init__(503, code, *_WORDS[code])

    @property
    def state(self) -> StoreState:
        return StoreState(code=self.code, message=self.message, hint=self.hint)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Published:
    """What readers see: the partitions of all models, newest key first."""

    place: Place
    partitions: list[catalog.Partition]

    def of_dag(self, dag_id: str) -> Published:
        """The same without what is known to be of other Dags: a right to read one Dag is none to read another's."""
        own = [item for item in self.partitions if contract.is_of_dag(item.folder, dag_id) is not False]
        return Published(self.place, own)

    @property
    def latest(self) -> dict[str, int]:
        """Published model → when it was published most recently, in milliseconds since 1970."""
        latest: dict[str, int] = {}
        for item in self.partitions:
            latest[item.model] = max(latest.get(item.model, 0), item.modified_ms)
        return latest

    def find(self, partition: str, model: str | None) -> catalog.Partition:
        """The published (partition, model); without a model the most recently published one. Raises Refused."""
        found = [item for item in self.partitions if item.partition == partition and model in (None, item.model)]
        if not found:
            raise Refused(
                404,
                "no_such_partition",
                "Nothing is published for this partition and model.",
                "Pick another partition; a run that failed publishes nothing.",
            )
        return max(found, key=lambda item: item.modified_ms)


@contextmanager
def reading(place: Place) -> Iterator[None]:
    """Reads a store with its own connection, and turns whatever goes wrong there into a StoreProblem.

    The details go to the log. Threads that are started inside have to do the same. The api-server's environment stays
    as it is.
    """
    with catalog.reached_with(_connection(place)):
        try:
            yield
        except Refused:
            raise
        except Unreachable as error:
            problem = StoreProblem(_code(error))
            log.warning("Image features: %s", error)
            raise problem from None
        except (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError):
            # A document that is half-written, or one of the right form with something else in it.
            log.exception("Image features: a file of the store is damaged.")
            raise StoreProblem("damaged") from None


def _connection(place: Place) -> dict[str, str]:
    """What the place is read with, as the tasks read it. Raises StoreProblem."""
    if place.problem:
        raise StoreProblem(place.problem)
    try:
        return _connections.get(place.conn_id, _variables)
    except (JobError, ImportError) as error:
        log.error("Image features: no storage credentials: %s", error)
        raise StoreProblem("denied") from None


def _variables(conn_id: str) -> dict[str, str]:
    if not conn_id:
        return {}
    from image_features import storage_connection  # Airflow's connections are needed where there is one

    return storage_connection.variables(conn_id)


_connections: Fresh[str, dict[str, str]] = Fresh(CREDENTIALS_SECONDS)


def heed_erasures(place: Place) -> None:
    """Forgets what the pages keep of photos when some were erased from the store, or are being erased.

    A store that cannot be read now keeps no page from showing what it knows.
    """
    with suppress(StoreProblem):
        marks = _erasures.get(place, _marks)
        if _heeded.setdefault(place, marks) != marks:
            _heeded[place] = marks
            forget_everything()


def _marks(place: Place) -> frozenset[tuple[str, datetime]]:
    with reading(place):
        return catalog.erasure_marks(place.store)


_erasures: Fresh[Place, frozenset[tuple[str, datetime]]] = Fresh(FRESH_SECONDS)
_heeded: dict[Place, frozenset[tuple[str, datetime]]] = {}


def published(place: Place, after: datetime | None = None) -> Published:
    """What is published now, or was at most `FRESH_SECONDS` ago. Raises StoreProblem, `empty` included.

    `after`: what was read before that moment does not count. Of a run that has just ended it would say that other
    vectors than the run's are published.
    """
    if place.problem:
        raise StoreProblem(place.problem)
    heed_erasures(place)
    outcome, read_at = _published.get(place, _look)
    if after is not None and read_at <= after:
        _published.forget(place)
        outcome, _ = _published.get(place, _look)
    if isinstance(outcome, str):
        raise StoreProblem(outcome)
    return outcome


def _look(place: Place) -> tuple[Published | str, datetime]:
    """What is published, or the code of a problem, which is kept too: not every request is to ask a store that hangs.

    And the moment before it was read.
    """
    now = datetime.now(UTC)
    return _read(place), now


def _read(place: Place) -> Published | str:
    try:
        with reading(place):
            table = catalog.table(place.store, "features")
            if table is None:
                raise StoreProblem("empty" if catalog.exists(place.store) else "missing")
            types = {field.name: str(field.type).lower() for field in catalog.columns(table)}
            if any(kind not in types.get(name, "") for name, kind in COLUMNS.items()):
                raise StoreProblem("newer_schema")
            partitions = catalog.published(table)
            if not partitions:
                raise StoreProblem("empty")
            return Published(place, partitions)
    except StoreProblem as problem:
        return problem.code
    except Exception:
        log.exception("Image features: the store could not be read.")
        return "unexpected"


_published: Fresh[Place, tuple[Published | str, datetime]] = Fresh(FRESH_SECONDS)


def _code(error: Unreachable) -> str:
    text = str(error.__cause__)
    if error.code == "store_empty":
        return "empty"
    if error.code == "store_denied":
        return "denied"
    if "nsupported" in text or "No match for FieldRef" in text:
        return "newer_schema"
    if error.code == "store_missing" or any(sign in text for sign in ("Json error", "Parquet", "Invalid", "Corrupt")):
        return "damaged"
    return "unreachable"
