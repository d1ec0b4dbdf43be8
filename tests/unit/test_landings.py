"""What has landed in a folder so far is told as ingest would list it, on a disk and on an object store."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from spark_apps import catalog, storage
from spark_apps.contract import BadSetting, Unreachable
from tests import listed
from tests.s3 import s3_server, witness

KEYS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_REGION": "us-east-1"}


@pytest.fixture(params=["disk", "object store"])
def source(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A folder that is not there yet."""
    if request.param == "disk":
        yield str(tmp_path / "day")
        return
    with witness() as server:
        for name, value in {**KEYS, "AWS_ENDPOINT_URL": server.endpoint}.items():
            monkeypatch.setenv(name, value)
        yield "s3://photos/day"


def put(source: str, name: str, content: bytes = b"12345") -> None:
    if storage.is_local(source):
        Path(source, name).parent.mkdir(parents=True, exist_ok=True)
    storage.write_bytes(f"{source}/{name}", content)


def test_a_folder_that_is_not_there_yet_holds_nothing(source: str) -> None:
    assert catalog.landed(source) is None
    assert catalog.marker(source, "_SUCCESS") is None
    assert catalog.marker(source, "done/*.ok") is None


def test_it_tells_what_ingest_would_list(source: str) -> None:
    for name in ("a.jpg", "b.jpg", "c.png", "cam1/x.jpg", "cam1/deep/y.jpg", "cam2/z.jpg", "raw/no.jpg"):
        put(source, name)
    for name in ("_SUCCESS", ".hidden.jpg", "Thumbs.db", "cam1/@eaDir/thumb.jpg", "cam2/_delta_log/0.json"):
        put(source, name)
    for name in ("store/images/_delta_log/0.json", "store/runs/day/report.jpg", "own/model.jpg"):
        put(source, name)
    own = f"{source}/own"
    for pattern, exclude in (("*", ""), ("*.jpg", ""), ("*", "raw,*.png")):
        expected = listed.table(source, pattern, exclude, own)
        landed = catalog.landed(source, pattern, exclude, own)
        assert landed is not None and landed.files == expected.num_rows > 0
        assert landed.bytes == sum(expected["size_bytes"].to_pylist())
        assert landed.newest == max(expected["modified_at"].to_pylist())


def test_a_file_more_changes_it(source: str) -> None:
    put(source, "a.jpg")
    before = catalog.landed(source)
    assert catalog.landed(source) == before
    put(source, "b.jpg", b"")
    assert catalog.landed(source) != before


def test_a_marker_is_a_name_or_a_pattern(source: str) -> None:
    put(source, "a.jpg")
    put(source, "done/cam2.ok", b"")
    put(source, "done/cam1.ok", b"")
    for name in ("*.ok", "b.jpg", "done/*.jpg", "A.JPG"):
        assert catalog.marker(source, name) is None, name
    for name, found in {
        "a.jpg": "a.jpg",
        "*.jp?": "a.jpg",
        "done/*.ok": "done/cam1.ok",
        "done/cam2.ok": "done/cam2.ok",
    }.items():
        assert catalog.marker(source, name) == found
    put(source, "_SUCCESS", b"")
    assert catalog.marker(source, "_SUCCESS") == "_SUCCESS", "though ingest does not list it"


def test_a_file_is_no_folder_to_wait_for(source: str) -> None:
    put(source, "a.jpg")
    with pytest.raises(Unreachable) as caught:
        catalog.landed(f"{source}/a.jpg")
    assert caught.value.code == "source_no_folder"


def test_a_bucket_that_is_not_there_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    with s3_server() as endpoint:
        for look in (lambda: catalog.landed("s3://nowhere/day"), lambda: catalog.marker("s3://nowhere/day", "x")):
            with catalog.reached_with({**KEYS, "AWS_ENDPOINT_URL": endpoint}), pytest.raises(Unreachable) as caught:
                look()
            assert caught.value.code == "bucket_missing"


def test_a_scheme_that_nobody_knows_is_a_wrong_setting() -> None:
    with pytest.raises(BadSetting) as caught:
        catalog.landed("ftp://server/day")
    assert caught.value.code == "bad_source"


@pytest.fixture
def refusing() -> Iterator[tuple[str, list[str]]]:
    """A server that answers as S3 does to somebody without the right; the second is what it lets pass, by method."""
    allowed: list[str] = []
    empty = b"<ListBucketResult><KeyCount>0</KeyCount><IsTruncated>false</IsTruncated></ListBucketResult>"

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            passes = self.command in allowed
            body = empty if passes else b"<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>"
            self.send_response(200 if passes else 403)
            self.send_header("Content-Type", "application/xml")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        do_HEAD = do_GET  # noqa: N815

        def log_message(self, format: str, *arguments: object) -> None:
            """Says nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", allowed
    finally:
        server.shutdown()
        server.server_close()


def test_a_store_that_refuses_is_told_from_one_that_does_not_answer(refusing: tuple[str, list[str]]) -> None:
    endpoint, _ = refusing
    for look in (lambda: catalog.landed("s3://photos/day"), lambda: catalog.marker("s3://photos/day", "*.ok")):
        with catalog.reached_with({**KEYS, "AWS_ENDPOINT_URL": endpoint}), pytest.raises(Unreachable) as caught:
            look()
        assert caught.value.code == "source_denied"
        assert "Access to the source s3://photos/day is denied" in caught.value.message


def test_whoever_may_list_the_folder_alone_may_wait_for_it(refusing: tuple[str, list[str]]) -> None:
    endpoint, allowed = refusing
    allowed.append("GET")
    with catalog.reached_with({**KEYS, "AWS_ENDPOINT_URL": endpoint}):
        assert catalog.marker("s3://photos/day", "*.ok") is None


def test_each_thread_has_a_connection_of_its_own() -> None:
    both = threading.Barrier(2)
    with witness() as server, ThreadPoolExecutor(2) as pool:

        def look(key: str) -> None:
            with catalog.reached_with({**KEYS, "AWS_ACCESS_KEY_ID": key, "AWS_ENDPOINT_URL": server.endpoint}):
                both.wait(30)
                catalog.landed(f"s3://photos/{key}")

        list(pool.map(look, ("one", "two")))
    assert {"one", "two"} == server.keys
