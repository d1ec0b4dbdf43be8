"""What waits in Airflow's triggerer, without a worker slot: for photos to be there, and for jobs to have ended.

A trigger's arguments are kept in Airflow's database, so they hold no credentials: those are looked up by the id of
their connection, again for each look. Here is nothing of pyspark and nothing of a model.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from airflow.triggers.base import BaseTrigger, TriggerEvent
from asgiref.sync import sync_to_async

from image_features import storage_connection
from spark_apps import contract
from spark_apps.contract import BadSetting, Unreachable

if TYPE_CHECKING:
    from spark_apps.catalog import Landed

REFUSED = ("source_denied", "bucket_missing", "source_no_folder", "store_denied")
"""Codes of what is reached and will not be there however long one waits."""
TELL_AGAIN_SECONDS = 600
"""A wait in which nothing changes is told of so often."""
LAST_LOOK_SECONDS = 60
"""How long a look at the deadline may take."""
SOONEST_SECONDS = 10
"""A younger trigger tells nothing: a task that goes on before Airflow's scheduler has heard that it deferred is taken
for one that was killed, and tried again. A busy scheduler was seen to hear of it after six seconds."""
THREADS = ThreadPoolExecutor(4, "image_features")
"""Looks at stores, for all triggers of this process: one that hangs keeps none of Airflow's own threads."""

Answer = TypeVar("Answer")


async def in_thread(storage_conn_id: str, look: Callable[[], Answer], timeout: float) -> Answer:
    """What `look` says in a thread of its own, where stores are reached by the connection, or as the environment says.

    Raises:
        TimeoutError: it has not answered for `timeout` seconds.
        JobError: the connection cannot be used, or what `look` raises.
    """
    # sync_to_async: Airflow 3.1 hands out connections to a trigger's own thread, or to one that asgiref has made
    variables = await sync_to_async(storage_connection.variables)(storage_conn_id)
    loop = asyncio.get_running_loop()
    return await asyncio.wait_for(loop.run_in_executor(THREADS, _reached, variables, look), timeout)


def _reached(variables: dict[str, str], look: Callable[[], Answer]) -> Answer:
    from spark_apps import catalog  # not at the top: the Dag processor imports this module, and needs no pyarrow

    with catalog.reached_with(variables):
        return look()


@dataclass(frozen=True)
class Landing:
    """A folder that photos land in, and when it is complete: with a file `marker` in it (a name or a glob) or, without
    one, when it has files and the same for `settle` seconds. The other fields are those of ingest."""

    source: str
    marker: str = ""
    settle: float = 600
    pattern: str = "*"
    exclude: str = ""
    store: str = ""
    within: str = ""

    def listing(self) -> Landed | None:
        """What lies there. Raises as `catalog.landed`."""
        from spark_apps import catalog

        return catalog.landed(self.source, self.pattern, self.exclude, self.store, self.within)

    def found_marker(self) -> str | None:
        """The marker's name. Raises as `catalog.landed`."""
        from spark_apps import catalog

        return catalog.marker(self.source, self.marker)


@dataclass
class Watch:
    """What a wait has seen so far; all times are seconds since 1970, of this machine's clock."""

    landing: Landing
    landed: Landed | None = None
    since: float = 0
    """Since when it is the same."""

    def see(self, landed: Landed | None, now: float) -> bool:
        """Takes in a listing; whether the folder is complete by it."""
        if landed != self.landed or not self.since:
            self.landed, self.since = landed, now
        return bool(landed and landed.files) and now - self.since >= self.landing.settle

    def state(self, now: float) -> str:
        """What is there, as a sentence."""
        if self.landing.marker:
            return f"There is no {self.landing.marker} in {self.landing.source}."
        return f"{self.content()} {self._unchanged(now)}" if self.landed else self.content()

    def content(self) -> str:
        """What the last listing held, as a sentence."""
        place, landed = self.landing.source, self.landed
        if landed is None:
            return f"The folder {place} is not there."
        if not landed.files:
            return f"The folder {place} has no files that ingest would list."
        files = f"{landed.files:,} {'file' if landed.files == 1 else 'files'}"
        newest = f", the newest of {landed.newest:%Y-%m-%d %H:%M:%S} UTC" if landed.newest else ""
        return f"{place} holds {files} of {_size(landed.bytes)}{newest}."

    def _unchanged(self, now: float) -> str:
        since = datetime.fromtimestamp(self.since, UTC)
        return f"That is so since {since:%H:%M:%S} UTC, for {_span(now - self.since)} of {_span(self.landing.settle)}."


class Trigger(BaseTrigger):
    """Looks again and again, and fires one event: a dict with an `outcome`.

    `refused`: no look will see it; `error` says why, as `contract.error_record` writes it. `late`: it was not there by
    `deadline`; `message` says what was. What else there is, is for the trigger itself to say.

    :param deadline: seconds since 1970; a triggerer that is started again keeps to it.
    :param poll_interval: seconds between two looks.
    :param about: what the task is to be told with the event, as `about`; `airflow dags test` hands it nothing else.
    """

    def __init__(
        self,
        *,
        deadline: float,
        poll_interval: float = 60,
        storage_conn_id: str = "",
        about: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.deadline, self.poll_interval, self.storage_conn_id = deadline, poll_interval, storage_conn_id
        self.about = about or {}
        self.problem = ""
        self._told: tuple[str, float] = ("", 0)

    def arguments(self) -> dict[str, Any]:
        """What the trigger is made with, as Airflow keeps it in its database."""
        return {name: getattr(self, name) for name in ("deadline", "poll_interval", "storage_conn_id", "about")}

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """The class and its arguments."""
        return f"{type(self).__module__}.{type(self).__name__}", self.arguments()

    async def look(self) -> dict[str, Any] | None:
        """The event, when what is waited for is there. Raises JobError, or TimeoutError for no answer."""
        raise NotImplementedError

    def seen(self, now: float) -> tuple[str, str]:
        """What there is, as a sentence, and what of it is news when it changes."""
        raise NotImplementedError

    async def last_words(self, now: float) -> str:
        """What was seen until the deadline."""
        return self.problem or self.seen(now)[0]

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Yields the one event."""
        soonest = time.monotonic() + SOONEST_SECONDS
        event = await self._wait()
        await asyncio.sleep(max(0, soonest - time.monotonic()))
        yield TriggerEvent({"about": self.about, **event})  # type: ignore[no-untyped-call]

    async def _wait(self) -> dict[str, Any]:
        while True:
            try:
                found = await self.look()
                self.problem = ""
                if found:
                    return found
            except TimeoutError:
                self.problem = "The store has not answered since it was asked."
            except (BadSetting, Unreachable) as error:
                if isinstance(error, BadSetting) or error.code in REFUSED:
                    return {"outcome": "refused", "error": contract.error_record("", error)}
                self.problem = str(error)
            now = time.time()
            self._tell(now)
            if now >= self.deadline:
                return {"outcome": "late", "message": await self.last_words(now)}
            await asyncio.sleep(min(self.poll_interval, self.deadline - now))

    def _tell(self, now: float) -> None:
        """Says in the log what is new, and every ten minutes what is not."""
        sentence, news = (self.problem, self.problem) if self.problem else self.seen(now)
        if news != self._told[0] or now - self._told[1] >= TELL_AGAIN_SECONDS:
            self._told = (news, now)
            (self.log.warning if self.problem else self.log.info)("%s", sentence)

    async def _ask(self, look: Callable[[], Answer]) -> Answer:
        return await in_thread(self.storage_conn_id, look, max(self.deadline - time.time(), LAST_LOOK_SECONDS))


class LandingTrigger(Trigger):
    """Fires when a `Landing` is complete: `outcome` is `landed`, with `marker`, or with `files`, `bytes` and `newest`.

    A triggerer that is started again cannot know since when a folder has not changed: that begins anew.
    """

    def __init__(
        self,
        *,
        deadline: float,
        poll_interval: float = 60,
        storage_conn_id: str = "",
        about: dict[str, Any] | None = None,
        **landing: Any,
    ) -> None:
        super().__init__(deadline=deadline, poll_interval=poll_interval, storage_conn_id=storage_conn_id, about=about)
        self.landing = Landing(**landing)
        self.watch = Watch(self.landing)

    def arguments(self) -> dict[str, Any]:
        """As the landing has them, too."""
        return {**super().arguments(), **vars(self.landing)}

    async def look(self) -> dict[str, Any] | None:
        """The event, when the folder is complete."""
        if not self.landing.marker:
            landed = await self._ask(self.landing.listing)
            return _event(landed) if self.watch.see(landed, time.time()) and landed else None
        marker = await self._ask(self.landing.found_marker)
        if marker is None:
            return None
        self.log.info("%s is there.", contract.join(self.landing.source, marker))
        return {"outcome": "landed", "marker": marker}

    def seen(self, now: float) -> tuple[str, str]:
        """What is there, and since when."""
        return self.watch.state(now), self.landing.marker or repr(self.watch.landed)

    async def last_words(self, now: float) -> str:
        """As any trigger; where a marker was waited for, it looks once at what else is there."""
        said = await super().last_words(now)
        if self.landing.marker and not self.problem:
            with suppress(TimeoutError, contract.JobError):
                self.watch.landed = await in_thread(self.storage_conn_id, self.landing.listing, LAST_LOOK_SECONDS)
                return f"{said} {self.watch.content()}"
        return said


class StageTrigger(Trigger):
    """Fires when a job has left its manifest, `outcome` is `done`, or its error: `failed`, with the `error` as it is in
    the store.

    :param store: the store. :param folder: that of the run in it. :param stage: the job's.
    :param submission: the name by which the job's documents are known; empty: by the moment `since`, ISO 8601, or all.
    """

    def __init__(
        self,
        *,
        stage: str,
        store: str,
        folder: str,
        submission: str,
        since: str,
        deadline: float,
        poll_interval: float = 60,
        storage_conn_id: str = "",
        about: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(deadline=deadline, poll_interval=poll_interval, storage_conn_id=storage_conn_id, about=about)
        self.stage, self.store, self.folder, self.submission, self.since = stage, store, folder, submission, since
        self.other = ""

    def arguments(self) -> dict[str, Any]:
        """With those that say which job it is."""
        names = ("stage", "store", "folder", "submission", "since")
        return {**super().arguments(), **{name: getattr(self, name) for name in names}}

    async def look(self) -> dict[str, Any] | None:
        """The event, when the job has ended."""
        return self.outcome(*await self._ask(self.documents))

    def outcome(self, manifest: Any, error: Any) -> dict[str, Any] | None:
        """The event that these documents are; None when neither is of the job that is waited for."""
        if manifest and self._is_ours(manifest, f"{self.stage}.json", "started_at"):
            return {"outcome": "done"}
        if error and error.get("stage") == self.stage and self._is_ours(error, "error.json", "at"):
            return {"outcome": "failed", "error": error}
        return None

    def seen(self, now: float) -> tuple[str, str]:
        """What lies in the run's folder."""
        said = f"{self.stage} has left neither a manifest nor an error in {self.folder} yet."
        return f"{said} {self.other}".strip(), self.other or self.folder

    def documents(self) -> tuple[Any, Any]:
        """The manifest and the error in the run's folder, as JSON; None for what is not there. Raises Unreachable."""
        from spark_apps import catalog

        try:
            manifest = catalog.left_in(self.store, self.folder, f"{self.stage}.json")
            return manifest, catalog.left_in(self.store, self.folder, "error.json")
        except ValueError as error:
            raise Unreachable("store_damaged", f"A document in {self.folder} cannot be read: {error}.") from None

    def _is_ours(self, record: Any, name: str, moment: str) -> bool:
        since = datetime.fromisoformat(self.since) if self.since else None
        if contract.is_left_by(record, self.submission, since):
            return True
        of = f"another submission than {self.submission}" if self.submission else f"a time before {self.since}"
        self.other = f"{name} there is of {of}: of {record.get(moment)}."
        return False


def _event(landed: Landed) -> dict[str, Any]:
    newest = landed.newest.isoformat(timespec="seconds") if landed.newest else None
    return {"outcome": "landed", "files": landed.files, "bytes": landed.bytes, "newest": newest}


def _size(count: float) -> str:
    unit, *larger = ("bytes", "kB", "MB", "GB")
    while count >= 1000 and larger:
        count, unit, *larger = count / 1000, *larger
    return f"{count:,.0f} bytes" if unit == "bytes" else f"{count:,.1f} {unit}"


def _span(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds)))
