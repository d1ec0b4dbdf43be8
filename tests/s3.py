"""Servers on loopback for the tests: S3's API, open or over TLS, that notes who asks, and a proxy."""

from __future__ import annotations

import datetime
import ipaddress
import socket
import ssl
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from moto.server import DomainDispatcherApplication, ThreadedMotoServer, create_backend_app
from werkzeug.serving import WSGIRequestHandler, make_server


@contextmanager
def s3_server() -> Iterator[str]:
    """The endpoint of an empty server: all servers of one process share their buckets, so it forgets those first."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    endpoint = f"http://{host}:{port}"
    try:
        with urlopen(Request(f"{endpoint}/moto-api/reset", method="POST")):
            yield endpoint
    finally:
        server.stop()


class _Quiet(WSGIRequestHandler):
    def log(self, type: str, message: str, *args: Any) -> None:
        """Says nothing."""


@dataclass(frozen=True)
class Witness:
    """An S3 server that notes each request's key id and session token."""

    endpoint: str
    asked: list[tuple[str, str | None]] = field(default_factory=list)

    @property
    def keys(self) -> set[str]:
        return {key for key, _ in self.asked}

    @property
    def tokens(self) -> set[str]:
        """The session tokens that were sent; an empty one is none."""
        return {token for _, token in self.asked if token}


@contextmanager
def witness(certificate: Path | None = None) -> Iterator[Witness]:
    """A server with the empty bucket `photos`; over TLS with a `certificate` and its key."""
    application = DomainDispatcherApplication(create_backend_app)
    asked: list[tuple[str, str | None]] = []

    def noting(environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        signed = environ.get("HTTP_AUTHORIZATION", "")
        asked.append((signed.partition("Credential=")[2].partition("/")[0], environ.get("HTTP_X_AMZ_SECURITY_TOKEN")))
        answer: Iterable[bytes] = application(environ, start)
        return answer

    context = None
    if certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
    with s3_server() as plain:
        with urlopen(Request(f"{plain}/photos", method="PUT")):
            pass
        server = make_server("127.0.0.1", 0, noting, threaded=True, ssl_context=context, request_handler=_Quiet)
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield Witness(f"{'https' if certificate else 'http'}://127.0.0.1:{server.server_port}", asked)
        finally:
            server.shutdown()
            thread.join()


def certificates(folder: Path) -> tuple[Path, Path]:
    """A bundle with an authority's certificate after another's, and a server's certificate with its key."""
    now = datetime.datetime.now(datetime.UTC)
    basic = x509.BasicConstraints

    def make(subject: str, key: Any, signer: Any, *extensions: tuple[x509.ExtensionType, bool]) -> bytes:
        def name(text: str) -> x509.Name:
            return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])

        builder = x509.CertificateBuilder(
            name("authority"), name(subject), key.public_key(), x509.random_serial_number(),
            now - datetime.timedelta(days=1), now + datetime.timedelta(days=1),
        )  # fmt: skip
        for extension, critical in extensions:
            builder = builder.add_extension(extension, critical)
        return builder.sign(signer, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)

    authority, other, server = (ec.generate_private_key(ec.SECP256R1()) for _ in range(3))
    ours = make("authority", authority, authority, (basic(True, None), True))
    theirs = make("another", other, other, (basic(True, None), True))
    address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    key = server.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    bundle, certificate = folder / "bundle.pem", folder / "server.pem"
    bundle.write_bytes(theirs + ours)
    certificate.write_bytes(make("server", server, authority, (address, False), (basic(False, None), True)) + key)
    return bundle, certificate


@contextmanager
def http_proxy() -> Iterator[tuple[str, list[str]]]:
    """The address of a proxy, for http and by CONNECT for https, and the first lines of what it was asked."""
    asked: list[str] = []
    listener = socket.create_server(("127.0.0.1", 0))

    def pump(source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                target.sendall(data)
        for end in (source, target):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def serve(client: socket.socket) -> None:
        head = b""
        while b"\r\n\r\n" not in head:
            data = client.recv(65536)
            if not data:
                return
            head += data
        line = head.split(b"\r\n")[0].decode()
        asked.append(line)
        method, target, _ = line.split()
        host, port = (target if method == "CONNECT" else target.split("/")[2]).split(":")
        with client, socket.create_connection((host, int(port))) as server:
            if method == "CONNECT":
                client.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
            else:
                server.sendall(head)
            back = threading.Thread(target=pump, args=(client, server), daemon=True)
            back.start()
            pump(server, client)
            back.join()

    def accept() -> None:
        with suppress(OSError):
            while True:
                threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}", asked
    finally:
        listener.close()
