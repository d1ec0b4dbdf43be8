"""The app of the pages: every route, each behind Airflow's own sign-in; `answers` describes the answers."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Annotated, Any, Literal, TypeVar

from fastapi import APIRouter, Depends, FastAPI, Query, Request, Response
from starlette.requests import ClientDisconnect

from image_features.web import duplicates as twins
from image_features.web import neighbours as nearest
from image_features.web import overview as overview_page
from image_features.web import photos, quarantine, search_index, security, shield, static_files, stores, thumbnails
from image_features.web import run_report as report_page
from image_features.web.answers import (
    Dags,
    DagStores,
    DuplicatesPage,
    Neighbours,
    Overview,
    PhotoPage,
    PoorPhotos,
    QuarantinePage,
    RunReport,
    Sample,
)
from image_features.web.refusals import Refused, busy, by_status, checked_partition
from spark_apps import contract

UPLOAD_BYTES = 20 * 2**20
UPLOAD_SECONDS = 60
"""For the body to arrive."""
WORDS = 500
"""Characters of a search by words."""
UPLOADS = 4
"""That may be on their way or wait for their turn: the model looks at one after the other."""
PAGES = {"/": "overview.html", "/runs": "run.html", "/explore": "explore.html", "/duplicates": "duplicates.html"}

Result = TypeVar("Result")


class Pool:
    """Threads of the pages' own: a store that hangs must not use up those that the rest of Airflow answers with."""

    def __init__(self, name: str, threads: int, seconds: float) -> None:
        self._threads, self._seconds = ThreadPoolExecutor(threads, thread_name_prefix=f"image-features-{name}"), seconds

    async def run(self, work: Callable[..., Result], *arguments: Any) -> Result:
        """`work(*arguments)` in one of the threads. Raises Refused when that takes too long."""
        future = asyncio.get_running_loop().run_in_executor(self._threads, work, *arguments)
        try:
            return await asyncio.wait_for(future, self._seconds)
        except TimeoutError:
            raise Refused(
                503, "busy", "The store takes too long to answer.", "Try again; if it stays, check the store."
            ) from None


READING = Pool("read", 6, 30)
DRAWING = Pool("draw", 4, 30)
SEARCHING = Pool("search", 2, 180)


def create_app() -> FastAPI:
    """The app with all its routes. Nothing but them: no generated documentation, no mounted folder."""
    app = FastAPI(
        title="Image features",
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        redirect_slashes=False,
        dependencies=[Depends(security.signed_in)],
    )
    app.include_router(pages)
    app.include_router(api)
    shield.protect(app)
    return app


# --- pages and their files --------------------------------------------------------------------------------------------

pages = APIRouter()


def _page(name: str) -> Callable[[Request], Awaitable[Response]]:
    """The route of a page without data: what it shows it asks the API for."""

    async def page(request: Request) -> Response:
        return _file(request, static_files.files("pages").get(name))

    return page


for _path, _name in PAGES.items():
    pages.add_api_route(_path, _page(_name), name=_name)


@pages.get("/static/{name:path}")
async def static(request: Request, name: str) -> Response:
    """A file that the pages are made of."""
    return _file(request, static_files.files("static").get(name))


def _file(request: Request, asset: static_files.Asset | None) -> Response:
    if asset is None:
        raise by_status(404)
    headers = {"Cache-Control": "private, no-cache", "ETag": asset.etag}
    if request.headers.get("if-none-match") == asset.etag:
        return Response(status_code=304, headers=headers)
    return Response(asset.content, media_type=asset.type, headers=headers)


# --- the API ----------------------------------------------------------------------------------------------------------

api = APIRouter(prefix="/api")
dag = APIRouter(
    prefix="/{dag_id}",
    dependencies=[Depends(security.may_read_dag), Depends(security.our_dag)],
)

PageNumber = Annotated[int, Query(ge=1, le=1_000_000)]
HowMany = Annotated[int, Query(ge=1, le=100)]
Partition = Annotated[str | None, Query(max_length=64)]
Model = Annotated[str | None, Query(max_length=200)]
Key = Annotated[str | None, Query(max_length=64)]
ReadableDags = Annotated[list[str], Depends(security.readable_dags)]


@api.get("/dags")
async def dags(dag_ids: ReadableDags) -> Dags:
    """The pipeline's Dags that the caller may read, and their stores."""
    return await READING.run(lambda: Dags(dag_ids=dag_ids, dags=[_dag_stores(dag_id) for dag_id in dag_ids]))


def _dag_stores(dag_id: str) -> DagStores:
    return DagStores(dag_id=dag_id, stores=list(stores.choices(stores.of_dag(dag_id)).values()))


@api.get("/overview", response_model=Overview)
async def overview_of_all(dag_ids: ReadableDags, model: Model = None, store: Key = None) -> Response:
    """The partitions over time, of all Dags that the caller may read."""
    return await _overview(dag_ids, model, store)


@dag.get("/overview", response_model=Overview)
async def overview(dag_id: str, model: Model = None, store: Key = None) -> Response:
    """The partitions over time, of one Dag."""
    return await _overview([dag_id], model, store)


async def _overview(dag_ids: list[str], model: str | None, store: str | None) -> Response:
    """Written as JSON in the thread, because the loop has all of Airflow to serve."""
    content = await READING.run(lambda: overview_page.overview(dag_ids, model or None, store or None).model_dump_json())
    return Response(content, media_type="application/json")


@dag.get("/runs/{dag_run_id}")
async def run_report(dag_id: str, dag_run_id: str, part: Key = None) -> RunReport:
    """Everything about one run."""
    return await READING.run(report_page.report, dag_id, dag_run_id, part)


@dag.get("/runs/{dag_run_id}/quarantine")
async def run_quarantine(dag_id: str, dag_run_id: str, part: Key = None, page: PageNumber = 1) -> QuarantinePage:
    """The files that one run quarantined."""
    return await READING.run(quarantine.page, dag_id, dag_run_id, part, page)


@dag.get("/runs/{dag_run_id}/photos")
async def run_photos(dag_id: str, dag_run_id: str, part: Key = None, count: HowMany = 12) -> Sample:
    """A few photos of one run, with what the model takes them for."""
    return await READING.run(report_page.sample, dag_id, dag_run_id, part, count)


@dag.get("/runs/{dag_run_id}/poor")
async def run_poor_photos(dag_id: str, dag_run_id: str, part: Key = None) -> PoorPhotos:
    """The photos of one run that are blank, the darkest and the most blurred."""
    return await READING.run(report_page.poor, dag_id, dag_run_id, part)


@dag.get("/partitions/{partition}/photos")
async def partition_photos(
    dag_id: str, partition: str, store: Key = None, model: Model = None, page: PageNumber = 1
) -> PhotoPage:
    """The photos of a partition, to pick one."""
    key = checked_partition(partition)
    return await READING.run(_photo_page, dag_id, key, store, model or None, page)


def _photo_page(dag_id: str, partition: str, store: str | None, model: str | None, page: int) -> PhotoPage:
    """Whoever picks a photo will search for it next."""
    place = stores.chosen(dag_id, store)
    found = photos.page(place, partition, model, page)
    search_index.warm(place, found.model)
    return found


def _scope(first: Partition = None, last: Partition = None, k: HowMany = 12, page: PageNumber = 1) -> nearest.Scope:
    """Where a search looks. Raises Refused."""
    if page * k > nearest.FURTHEST:
        raise Refused(400, "bad_request", f"Only the nearest {nearest.FURTHEST} photos can be paged through.")
    first, last = (checked_partition(key) if key else "" for key in (first, last))
    return nearest.Scope(first, last, k, page)


@dag.get("/duplicates")
async def duplicates(
    dag_id: str,
    store: Key = None,
    partition: Key = None,
    model: Model = None,
    kind: Literal["", "exact", "near"] = "",
    similarity: Annotated[float, Query(ge=0, le=1)] = 0,
    page: PageNumber = 1,
) -> DuplicatesPage:
    """Groups of files that show the same picture, of one partition or of all."""
    key = checked_partition(partition) if partition else None
    return await READING.run(
        lambda: twins.page(stores.chosen(dag_id, store), key, model or None, kind or None, similarity, page)
    )


@dag.get("/partitions/{partition}/neighbours")
async def neighbours(
    dag_id: str,
    partition: str,
    image: str,
    scope: Annotated[nearest.Scope, Depends(_scope)],
    store: Key = None,
    model: Model = None,
) -> Neighbours:
    """The photos nearest to one of the partition, of all partitions or of some."""
    key, image_id = checked_partition(partition), checked_image(image)
    return await SEARCHING.run(
        lambda: nearest.neighbours(stores.chosen(dag_id, store), key, model or None, image_id, scope)
    )


@dag.get("/partitions/{partition}/neighbours/words")
async def neighbours_of_words(
    dag_id: str,
    partition: str,
    words: Annotated[str, Query(min_length=1, max_length=WORDS)],
    scope: Annotated[nearest.Scope, Depends(_scope)],
    store: Key = None,
    model: Model = None,
) -> Neighbours:
    """The photos nearest to what the words say, by a model that knows words."""
    key = checked_partition(partition)
    with _uploading():
        return await SEARCHING.run(
            lambda: nearest.neighbours_of_words(stores.chosen(dag_id, store), key, model or None, words, scope)
        )


@dag.post("/partitions/{partition}/neighbours", dependencies=[Depends(security.same_origin)])
async def neighbours_of_upload(
    request: Request,
    dag_id: str,
    partition: str,
    scope: Annotated[nearest.Scope, Depends(_scope)],
    store: Key = None,
    model: Model = None,
) -> Neighbours:
    """The photos nearest to the one in the body, which is kept nowhere."""
    key = checked_partition(partition)
    with _uploading():
        content = await _body(request)
        return await SEARCHING.run(
            lambda: nearest.neighbours_of_upload(stores.chosen(dag_id, store), key, model or None, content, scope)
        )


@dag.get("/thumbnails/{partition}/{image_id}")
async def thumbnail(dag_id: str, partition: str, image_id: str, store: Key = None) -> Response:
    """A small picture of one photo, drawn anew: never the file's own bytes."""
    key, image = checked_partition(partition), checked_image(image_id)
    content = await DRAWING.run(lambda: thumbnails.thumbnail(stores.chosen(dag_id, store), key, image))
    # Without a key the address may mean another store tomorrow: a browser that kept the picture would mix them.
    kept = "private, max-age=300" if store else "no-store"
    return Response(content, media_type="image/webp", headers={"Cache-Control": kept})


api.include_router(dag)


def checked_image(image_id: str) -> str:
    """`image_id` when it may be one. Raises Refused."""
    if not contract.is_image_id(image_id):
        raise Refused(400, "bad_image_id", "This is not a valid image id.", "Image ids are 64 hexadecimal digits.")
    return image_id


_underway = 0


@contextmanager
def _uploading() -> Iterator[None]:
    """Refuses an upload, before its body is read, while there are `UPLOADS` others. Raises Refused."""
    global _underway
    if _underway >= UPLOADS:
        raise busy()
    _underway += 1
    try:
        yield
    finally:
        _underway -= 1


async def _body(request: Request) -> bytes:
    """The body of the request, never more of it than may be. Raises Refused."""
    kind = request.headers.get("content-type", "").split(";")[0].strip().lower()
    if not re.fullmatch(r"image/[a-z0-9.+-]+|application/octet-stream", kind):
        raise Refused(
            415, "bad_request", "The photo itself must be the body.", "Send it as image/… or application/octet-stream."
        )
    too_large = Refused(
        413, "upload_too_large", f"The photo has more than {UPLOAD_BYTES // 2**20} MB.", "Upload a smaller copy of it."
    )
    announced = request.headers.get("content-length", "")
    if announced.isdigit() and int(announced) > UPLOAD_BYTES:
        raise too_large
    content = bytearray()
    try:
        async with asyncio.timeout(UPLOAD_SECONDS):
            async for piece in request.stream():
                content += piece
                if len(content) > UPLOAD_BYTES:
                    raise too_large
    except (TimeoutError, ClientDisconnect):
        raise Refused(408, "bad_request", "The photo did not arrive in time.", "Try again.") from None
    return bytes(content)
