"""What waits in Airflow's triggerer, without a worker slot: for a folder of photos to be complete.

A trigger's arguments are kept in Airflow's database, so they hold no credentials: those are looked up by the id of
their connection, again for each look. Here is nothing of pyspark and nothing of a model.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from airflow.triggers.base import BaseTrigger, TriggerEvent
from asgiref.sync import sync_to_async

from image_features import storage_connection
from spark_apps import contract
from spark_apps.contract import BadSetting, Unreachable

if TYPE_CHECKING:
    from spark_apps.catalog import Landed

REFUSED = ("source_denied", "bucket_missing", "source_no_folder")
"""Codes of a source that is reached and will not be there however long one waits."""
TELL_AGAIN_SECONDS = 600
"""A wait in which nothing changes is told of so often."""
LAST_LOOK_SECONDS = 60
"""How long a look at the deadline may take."""
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
    problem: str = ""
    """Why the last look failed."""
    told: str = ""
    told_at: float = field(default=0, repr=False)

    def see(self, landed: Landed | None, now: float) -> bool:
        """Takes in a listing; whether the folder is complete by it."""
        self.problem = ""
        if landed != self.landed or not self.since:
            self.landed, self.since = landed, now
        return bool(landed and landed.files) and now - self.since >= self.landing.settle

    def state(self, now: float) -> str:
        """What is there, as a sentence."""
        if self.problem:
            return self.problem
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

    def news(self, now: float) -> str:
        """What is to be told in the log now; empty when it was told lately."""
        state, key = self.state(now), self.problem or self.landing.marker or repr(self.landed)
        if key == self.told and now - self.told_at < TELL_AGAIN_SECONDS:
            return ""
        self.told, self.told_at = key, now
        return state


class LandingTrigger(BaseTrigger):
    """Fires when a `Landing` is complete, or is refused, or is not complete by `deadline`.

    The event is a dict. `outcome` is `landed`, with `files`, `bytes`, `newest` and `marker`; `refused`, with the
    `error` as `contract.error_record` writes it; or `late`, with a `message`.

    :param deadline: seconds since 1970; a triggerer that is started again keeps to it. Since when a folder has not
        changed it cannot know: that begins anew.
    :param poll_interval: seconds between two looks.
    """

    def __init__(
        self, *, deadline: float, poll_interval: float = 60, storage_conn_id: str = "", **landing: Any
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.deadline, self.poll_interval, self.storage_conn_id = deadline, poll_interval, storage_conn_id
        self.landing = Landing(**landing)

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """The class and its arguments, as Airflow keeps them in its database."""
        own = {name: getattr(self, name) for name in ("deadline", "poll_interval", "storage_conn_id")}
        return "image_features.triggers.LandingTrigger", {**own, **vars(self.landing)}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Looks again and again, and yields one event."""
        yield TriggerEvent(await self._wait(Watch(self.landing)))  # type: ignore[no-untyped-call]

    async def _wait(self, watch: Watch) -> dict[str, Any]:
        while True:
            try:
                if found := await self._look(watch):
                    return found
            except TimeoutError:
                watch.problem = f"{self.landing.source} has not answered since it was asked for its files."
            except Unreachable as error:
                if error.code in REFUSED:
                    return {"outcome": "refused", "error": contract.error_record("landing", error)}
                watch.problem = str(error)
            except BadSetting as error:
                return {"outcome": "refused", "error": contract.error_record("landing", error)}
            now = time.time()
            if news := watch.news(now):
                (self.log.warning if watch.problem else self.log.info)("%s", news)
            if now >= self.deadline:
                return {"outcome": "late", "message": await self._last_words(watch, now)}
            await asyncio.sleep(min(self.poll_interval, self.deadline - now))

    async def _look(self, watch: Watch) -> dict[str, Any] | None:
        """The event, when the folder is complete."""
        left = max(self.deadline - time.time(), LAST_LOOK_SECONDS)
        if not self.landing.marker:
            landed = await in_thread(self.storage_conn_id, self.landing.listing, left)
            return _event(landed) if watch.see(landed, time.time()) and landed else None
        marker = await in_thread(self.storage_conn_id, self.landing.found_marker, left)
        watch.problem = ""
        if marker is None:
            return None
        self.log.info("%s is there.", contract.join(self.landing.source, marker))
        return {"outcome": "landed", "marker": marker}

    async def _last_words(self, watch: Watch, now: float) -> str:
        """What was seen until the deadline. Where a marker was waited for, this looks once at what else is there."""
        said = watch.state(now)
        if self.landing.marker and not watch.problem:
            try:
                watch.landed = await in_thread(self.storage_conn_id, self.landing.listing, LAST_LOOK_SECONDS)
            except (TimeoutError, contract.JobError):
                return said
            said = f"{said} {watch.content()}"
        return said


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
