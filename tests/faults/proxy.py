"""A proxy on loopback that fails the way networks and busy stores do, when asked to and as often as asked to."""

from __future__ import annotations

import http.client
import random
import socket
import struct
import threading
from collections import Counter
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any

FAULTS = ("busy", "reset", "lost", "cut", "stall")
"""busy: 503 SlowDown. reset: the connection ends before the request is passed on. lost: it is passed on and done, and
the connection ends without an answer. cut: the answer ends in the middle of its body. stall: no answer, ever."""

BUSY = b"<?xml version='1.0'?><Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"
NOT_PASSED_ON = {"connection", "keep-alive", "transfer-encoding", "content-length", "expect"}


class FaultyProxy:
    """Passes requests on to the server at `host`, `port`. Use as a context manager; `url` is where it listens.

    `faults`: name → share of the requests that end so, from 0 to 1. `tally`: how often each has happened.
    """

    def __init__(self, host: str, port: int, seed: int = 0) -> None:
        self.faults: Mapping[str, float] = {}
        self.tally: Counter[str] = Counter()
        self._upstream = (host, port)
        self._chance = random.Random(seed)
        self._closed = threading.Event()
        proxy = self

        class Handler(_Handler):
            owner = proxy

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, name="proxy", daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> FaultyProxy:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._closed.set()
        self._server.shutdown()
        self._server.server_close()

    def draw(self) -> str | None:
        """What shall happen to the next request."""
        lot = self._chance.random()
        for fault, share in self.faults.items():
            if lot < share:
                self.tally[fault] += 1
                return fault
            lot -= share
        self.tally["passed on"] += 1
        return None

    def stall(self) -> None:
        """Waits until the proxy is closed or the faults are over."""
        while self.faults.get("stall") and not self._closed.wait(0.1):
            pass

    def ask(self, method: str, path: str, body: bytes, headers: dict[str, str]) -> tuple[int, list[Any], bytes]:
        """Status, headers and body of the server's answer."""
        connection = http.client.HTTPConnection(*self._upstream, timeout=60)
        try:
            connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
            for name, value in headers.items():
                connection.putheader(name, value)
            connection.putheader("Content-Length", str(len(body)))
            connection.endheaders(body)
            answer = connection.getresponse()
            return answer.status, answer.getheaders(), answer.read()
        finally:
            connection.close()


class _Handler(BaseHTTPRequestHandler):
    owner: FaultyProxy
    protocol_version = "HTTP/1.1"

    def _handle(self) -> None:
        body = self._body()
        fault = self.owner.draw()
        if fault == "busy":
            self._answer(503, [("Content-Type", "application/xml")], BUSY)
            return
        if fault == "stall":
            self.owner.stall()
        if fault in ("reset", "stall"):
            self._hang_up()
            return
        headers = {name: value for name, value in self.headers.items() if name.lower() not in NOT_PASSED_ON}
        status, answered, content = self.owner.ask(self.command, self.path, body, headers)
        if fault == "lost":
            self._hang_up()
            return
        self._answer(status, answered, content, cut=fault == "cut")

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _handle  # noqa: N815

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        pieces = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            pieces.append(self.rfile.read(size))
            self.rfile.readline()
        while self.rfile.readline().strip():
            pass
        return b"".join(pieces)

    def _answer(self, status: int, headers: list[Any], content: bytes, cut: bool = False) -> None:
        self.send_response_only(status)
        given = {name.lower(): value for name, value in headers}
        for name, value in headers:
            if name.lower() not in NOT_PASSED_ON:
                self.send_header(name, value)
        length = given.get("content-length", "0") if self.command == "HEAD" else str(len(content))
        self.send_header("Content-Length", length)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content[: len(content) // 2] if cut else content)
        if cut:
            self._hang_up()

    def _hang_up(self) -> None:
        """Ends the connection with a reset."""
        self.wfile.flush()
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def handle(self) -> None:
        try:
            super().handle()
        except OSError:  # the client gave up waiting
            self.close_connection = True
