"""Who may see the pages, and what they refuse: every route, as every kind of caller, inside a real api-server."""

from __future__ import annotations

import asyncio
import importlib
import re
import struct
import subprocess
import sys
import threading
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.routing import APIRoute
from fastapi.testclient import TestClient

from tests.airflow.web import API, PREFIX, published
from tests.shelf import Shelf, image_id

REPO = Path(__file__).resolve().parents[2]
Clients = Callable[[str], TestClient]

DAY = "2026-11-20"
UPLOAD = {"Content-Type": "image/jpeg", "X-Image-Features": "1"}


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    """The store that is configured."""
    return Shelf(str(tmp_path / "store"))


def walk() -> Iterator[tuple[str, str]]:
    """(method, path) of every route of the pages' app, with values that lead somewhere."""
    from image_features.web.app import create_app

    values = {"dag_id": "image_features", "partition": DAY, "image_id": image_id("A"), "name": "icon.svg"}
    values["name:path"] = values["name"]
    for route in create_app().routes:
        assert isinstance(route, APIRoute), f"{route} is no route that the guards are put on"
        queries = {"neighbours": f"?image={image_id('A')}", "words": "?words=cat"}
        query = queries.get(route.path.rpartition("/")[2], "")
        for method in route.methods:
            path = re.sub(r"\{([^}]+)\}", lambda found: values.get(found[1], "RUN"), route.path)
            yield method, f"{PREFIX}{path}{query}"


@pytest.mark.parametrize(
    ("caller", "status"), [("anonymous", 401), ("bad cookie", 403), ("without rights", 403), ("viewer", 200)]
)
def test_every_route_asks_who_is_there(caller: str, status: int, clients: Clients, shelf: Shelf) -> None:
    run, routes = published(shelf), list(walk())
    assert len(routes) == 18
    answers = {
        (method, path): clients(caller).request(method, path.replace("RUN", run.run_id), headers=UPLOAD, content=b"x")
        for method, path in routes
    }
    got = {key: answer.status_code for key, answer in answers.items()}
    if caller == "viewer":
        refused = {key for key, answer in answers.items() if answer.status_code != 200}
        codes = {answers[key].json()["code"] for key in refused}
        # the photos of this store are no pictures, and it holds no model: what is refused is not the caller
        assert codes <= {"no_thumbnail", "no_model_artifact", "no_words", "not_found"}, got
        needing = ("/thumbnails/", "/neighbours/words")
        assert all(m == "POST" or _unmade(path) or any(part in path for part in needing) for m, path in refused), got
    else:
        assert set(got.values()) == {status}
        for answer in answers.values():
            assert answer.json().keys() == {"code", "message", "hint"}
    for answer in answers.values():
        assert answer.headers["x-content-type-options"] == "nosniff"
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy and "script-src 'self';" in policy and "unsafe" not in policy
        assert "frame-ancestors 'self'" in policy


def test_who_may_not_read_the_dag_sees_none_of_its_data(
    clients: Clients, shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    from airflow.api_fastapi.auth.managers.simple.simple_auth_manager import SimpleAuthManager

    published(shelf)
    monkeypatch.setattr(SimpleAuthManager, "is_authorized_dag", lambda *_, **__: False)
    about_dags = [(method, path) for method, path in walk() if path.startswith(API)]
    assert len(about_dags) == 11
    for method, path in about_dags:
        assert clients("viewer").request(method, path, headers=UPLOAD, content=b"x").status_code == 403, path
    assert clients("viewer").get(f"{PREFIX}/api/dags").json() == {"dag_ids": [], "dags": []}


def _unmade(path: str) -> bool:
    """A page whose file is not in this checkout."""
    from image_features.web import static_files

    return path.removeprefix(PREFIX) in ("/", "/runs", "/explore", "/duplicates") and not static_files.files("pages")


@pytest.mark.parametrize("caller", ["anonymous", "viewer"])
@pytest.mark.parametrize("path", ["/docs", "/redoc", "/openapi.json", "/static", "/static/", "/api", "/x"])
def test_there_is_nothing_else(path: str, caller: str, clients: Clients) -> None:
    answer = clients(caller).get(PREFIX + path)
    assert answer.status_code in (401, 404)
    assert answer.headers["content-type"] == "application/json"


def test_data_is_kept_by_nobody_on_the_way(clients: Clients, shelf: Shelf) -> None:
    published(shelf)
    assert clients("viewer").get(f"{API}/overview").headers["cache-control"] == "no-store"
    icon = clients("viewer").get(f"{PREFIX}/static/icon.svg")
    assert icon.headers["cache-control"] == "private, no-cache"
    again = clients("viewer").get(f"{PREFIX}/static/icon.svg", headers={"If-None-Match": icon.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


@pytest.mark.parametrize("dag_id", ["another", "~", "image_features_maintenance"])
def test_a_right_to_another_dag_is_no_right_to_the_store(dag_id: str, clients: Clients, shelf: Shelf) -> None:
    published(shelf)
    answer = clients("viewer").get(f"{PREFIX}/api/{dag_id}/overview")
    assert (answer.status_code, answer.json()["code"]) == (404, "not_our_dag")


def test_without_airflow_s_checks_everybody_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    from image_features.web import app, security

    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "airflow.api_fastapi.core_api.security", None)
        importlib.reload(security)
        denying = TestClient(app.create_app())
    try:
        for method, path in walk():
            assert denying.request(method, path.removeprefix(PREFIX)).status_code == 403, path
    finally:
        importlib.reload(security)


# --- what comes from outside ------------------------------------------------------------------------------------------

HOSTILE = [
    "..",
    "%2e%2e%2f%2e%2e%2fetc%2fpasswd",
    "..%5c..%5cetc",
    "%22%3E%3Cscript%3E",
    ".hidden",
    "a%00b",
    "2026-11-20%0a",
    "x" * 65,
]


@pytest.mark.parametrize("partition", HOSTILE)
@pytest.mark.parametrize("rest", ["photos", f"neighbours?image={'0' * 64}", "thumbnail"])
def test_a_partition_that_is_no_key_leads_nowhere(partition: str, rest: str, clients: Clients, shelf: Shelf) -> None:
    published(shelf)
    path = f"thumbnails/{partition}/{'0' * 64}" if rest == "thumbnail" else f"partitions/{partition}/{rest}"
    answer = clients("viewer").get(f"{API}/{path}")
    assert answer.status_code in (400, 404)
    assert answer.json().get("code", "not_found") in ("bad_partition", "not_found")  # a line break never reaches us
    assert "<script>" not in answer.text and "passwd" not in answer.text


@pytest.mark.parametrize("image", [*HOSTILE[:4], "A" * 64, "0" * 63, "0" * 65])
def test_an_image_id_that_is_none_leads_nowhere(image: str, clients: Clients, shelf: Shelf) -> None:
    published(shelf)
    for path in (f"thumbnails/{DAY}/{image}", f"partitions/{DAY}/neighbours?image={image}"):
        answer = clients("viewer").get(f"{API}/{path}")
        assert answer.status_code in (400, 404)
        assert answer.json()["code"] in ("bad_image_id", "not_found")


@pytest.mark.parametrize("name", ["../app.py", "%2e%2e/app.py", "..%2fapp.py", "//etc/passwd", "%2fetc%2fpasswd", "."])
def test_only_the_pages_own_files_are_served(name: str, clients: Clients) -> None:
    answer = clients("viewer").get(f"{PREFIX}/static/{name}")
    assert answer.status_code == 404
    assert "create_app" not in answer.text


@pytest.mark.parametrize("query", ["page=0", "page=x", "page=99999999999", "k=1000", "image=1&k=-1"])
def test_numbers_out_of_bounds_are_refused_in_words(query: str, clients: Clients, shelf: Shelf) -> None:
    published(shelf)
    what = "neighbours" if "k=" in query else "photos"
    answer = clients("viewer").get(f"{API}/partitions/{DAY}/{what}?image={'0' * 64}&{query}")
    assert (answer.status_code, answer.json()["code"]) == (400, "bad_request")


def test_an_unknown_model_or_run_is_a_404(clients: Clients, shelf: Shelf) -> None:
    published(shelf)
    viewer = clients("viewer")
    assert viewer.get(f"{API}/partitions/{DAY}/photos?model=../x").json()["code"] == "no_such_partition"
    assert viewer.get(f"{API}/runs/nobody").json()["code"] == "no_such_run"


def test_no_refusal_tells_where_the_store_is(clients: Clients, shelf: Shelf, tmp_path: Path) -> None:
    (Path(shelf.store, "features", "_delta_log")).mkdir(parents=True)
    Path(shelf.store, "features", "_delta_log", "00000000000000000000.json").write_text('{"proto')
    for path in ("overview", f"partitions/{DAY}/photos", f"thumbnails/{DAY}/{'0' * 64}"):
        assert str(tmp_path) not in clients("viewer").get(f"{API}/{path}").text


def test_a_bug_is_a_sentence_and_no_traceback(clients: Clients, shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    from image_features.web import overview

    def broken(*_: Any) -> None:
        raise RuntimeError("secret words")

    monkeypatch.setattr(overview, "overview", broken)
    answer = clients("viewer").get(f"{API}/overview")
    assert (answer.status_code, answer.json()["code"]) == (500, "unexpected")
    assert "secret" not in answer.text


def test_a_store_that_hangs_is_given_up_and_the_next_request_waits_its_turn() -> None:
    from image_features.web.app import Pool
    from image_features.web.refusals import Refused

    pool, answers = Pool("test", threads=1, seconds=1), threading.Event()
    begun: list[int] = []

    def hang(number: int) -> None:
        begun.append(number)
        answers.wait(60)

    async def ask() -> list[object]:
        return await asyncio.gather(*(pool.run(hang, number) for number in range(3)), return_exceptions=True)

    outcomes = asyncio.run(ask())
    assert all(isinstance(outcome, Refused) and outcome.code == "busy" for outcome in outcomes)
    answers.set()
    pool._threads.shutdown()
    assert begun == [0], "what was given up before it began is not done any more"


# --- uploads ----------------------------------------------------------------------------------------------------------


def bomb(side: int) -> bytes:
    """A PNG of a few dozen bytes that says it has `side` x `side` pixels."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")


def test_an_upload_is_bounded_in_bytes(clients: Clients, shelf: Shelf) -> None:
    from image_features.web.app import UPLOAD_BYTES

    published(shelf)

    def pieces() -> Iterator[bytes]:  # sent in chunks, without saying how many bytes there will be
        for _ in range(UPLOAD_BYTES // 2**20 + 1):
            yield b"x" * 2**20

    for content in (b"x" * (UPLOAD_BYTES + 1), pieces()):
        answer = clients("viewer").post(f"{API}/partitions/{DAY}/neighbours", content=content, headers=UPLOAD)
        assert (answer.status_code, answer.json()["code"]) == (413, "upload_too_large")


@pytest.mark.parametrize(
    "headers",
    [
        {"Content-Type": "image/jpeg"},
        {**UPLOAD, "X-Image-Features": "0"},
        {**UPLOAD, "Sec-Fetch-Site": "cross-site"},
        {**UPLOAD, "Sec-Fetch-Site": "same-site"},
    ],
)
def test_an_upload_that_another_site_may_have_sent_is_refused(
    headers: dict[str, str], clients: Clients, shelf: Shelf
) -> None:
    published(shelf)
    answer = clients("viewer").post(f"{API}/partitions/{DAY}/neighbours", content=b"x", headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (403, "not_same_origin")


@pytest.mark.parametrize("kind", ["multipart/form-data", "text/html", "application/x-www-form-urlencoded", ""])
def test_an_upload_is_the_photo_itself(kind: str, clients: Clients, shelf: Shelf) -> None:
    published(shelf)
    answer = clients("viewer").post(
        f"{API}/partitions/{DAY}/neighbours", content=b"x", headers={**UPLOAD, "Content-Type": kind}
    )
    assert answer.status_code == 415


# --- the rest of Airflow ----------------------------------------------------------------------------------------------


def test_airflow_lists_the_plugin_and_every_view(clients: Clients) -> None:
    plugins = clients("viewer").get("/api/v2/plugins").json()["plugins"]
    (ours,) = [plugin for plugin in plugins if plugin["name"] == "image_features"]
    assert {view["destination"] for view in ours["external_views"]} == {"nav", "dag_run", "task_instance"}
    for view in ours["external_views"]:
        assert view["icon"] and view["icon_dark_mode"]
        assert clients("viewer").get(f"/{view['icon']}").headers["content-type"] == "image/svg+xml"


def test_a_sub_path_in_front_is_kept(airflow_app: Any, clients: Clients, shelf: Shelf) -> None:
    published(shelf)
    client = TestClient(airflow_app, root_path="/sub")
    client.cookies.update(clients("viewer").cookies)
    assert client.get(f"/sub{API}/overview").status_code == 200
    assert client.get(f"/sub{PREFIX}/static/icon.svg").status_code == 200


def test_pages_that_cannot_be_made_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    from image_features.web import app, views

    def broken() -> None:
        raise ImportError("deltalake is not installed")

    monkeypatch.setattr(app, "create_app", broken)
    answer = TestClient(views.Pages()).get("/api/dags")
    assert answer.status_code == 503
    assert answer.json()["message"] == "The pages of Image features cannot be served."
    assert "deltalake" not in answer.text


REGISTER = """
import sys
import airflow.plugins_manager
{before}
sys.path.insert(0, {plugins!r})
before = set(sys.modules)
import image_features_plugin as plugin
names = {{name.split(".")[0] for name in set(sys.modules) - before}}
print(sorted(names), len(plugin.ImageFeaturesPlugin.external_views))
"""


def _registers(before: str = "") -> str:
    program = REGISTER.format(before=before, plugins=str(REPO / "plugins"))
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return done.stdout.strip().splitlines()[-1]


def test_registering_the_plugin_imports_next_to_nothing() -> None:
    names, views = _registers().rsplit(" ", 1)
    assert views == "3"
    heavy = {
        "pyarrow",
        "deltalake",
        "numpy",
        "fastapi",
        "pydantic",
        "torch",
        "openvino",
        "PIL",
        "pyspark",
        "spark_apps",
    }
    assert not heavy & set(re.findall(r"'(\w+)'", names)), names


def test_a_plugin_that_cannot_import_its_pages_is_still_a_plugin() -> None:
    assert _registers("sys.modules['image_features.web'] = None").endswith(" 0")
