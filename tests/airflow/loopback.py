"""Receivers of notifications and metrics on this machine: what reaches them is kept, as it came."""

from __future__ import annotations

import json
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from email import message_from_string, policy
from email.message import EmailMessage
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@contextmanager
def serving(server: socketserver.BaseServer) -> Iterator[int]:
    """The port of a server that answers in a thread."""
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield int(server.server_address[1])
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def webhook(status: int = 200) -> Iterator[tuple[int, list[tuple[str, dict[str, str], Any]]]]:
    """The port of a server that takes POSTs, and what it was sent: path, headers, JSON."""
    got: list[tuple[str, dict[str, str], Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            got.append((self.path, dict(self.headers), json.loads(body)))
            self.send_response(status)
            self.end_headers()
            self.wfile.write(b"ok")

        def log_message(self, *_: Any) -> None:
            pass

    with serving(ThreadingHTTPServer(("127.0.0.1", 0), Handler)) as port:
        yield port, got


@contextmanager
def mail() -> Iterator[tuple[int, list[EmailMessage]]]:
    """The port of a mail server (RFC 5321, as much of it as a sender needs), and the mails that it took."""
    got: list[EmailMessage] = []

    class Handler(socketserver.StreamRequestHandler):
        def say(self, line: str) -> None:
            self.wfile.write(f"{line}\r\n".encode())

        def handle(self) -> None:
            self.say("220 loopback")
            while line := self.rfile.readline().decode().strip():
                if line.upper() == "DATA":
                    self.say("354 go on")
                    lines = iter(lambda: self.rfile.readline().decode(), ".\r\n")
                    got.append(message_from_string("".join(lines), policy=policy.default))  # type: ignore[arg-type]
                self.say("250 ok")

    with serving(socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)) as port:
        yield port, got


@contextmanager
def datagrams() -> Iterator[tuple[int, list[str]]]:
    """The port of a UDP socket, and the lines that it was sent, in their order."""
    got: list[str] = []

    class Handler(socketserver.DatagramRequestHandler):
        def handle(self) -> None:
            got.extend(self.rfile.read().decode().splitlines())

    with serving(socketserver.UDPServer(("127.0.0.1", 0), Handler)) as port:
        yield port, got
