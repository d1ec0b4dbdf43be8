"""Arrow and delta-rs reach Google's storage with one key, which both sign with; it enters no environment."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from spark_apps import catalog, storage
from spark_apps.contract import BadSetting, access
from spark_apps.storage import filesystems
from spark_apps.storage.google import Google

EMPTY = b"<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>"


@dataclass(frozen=True)
class Signing:
    """A service account, and who has signed what a server was asked for; None: nobody."""

    account: dict[str, str]
    endpoint: str
    signed: list[tuple[str, str | None]] = field(default_factory=list)

    @property
    def key(self) -> str:
        return json.dumps(self.account)

    def by(self, api: str) -> set[str | None]:
        """Who has asked Arrow's API (`json`) or that of delta-rs (`xml`)."""
        return {who for asked, who in self.signed if asked == api}


@pytest.fixture
def google(monkeypatch: pytest.MonkeyPatch) -> Iterator[Signing]:
    """A server with an empty bucket in Google's place."""
    for name in list(os.environ):
        if name.startswith("GOOGLE_") or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    pair = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = pair.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()

    class Server(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            token = str(self.headers.get("Authorization") or "").removeprefix("Bearer ")
            who = None
            if token:
                options: Any = {"verify_aud": False}
                who = jwt.decode(token, pair.public_key(), algorithms=["RS256"], options=options)["iss"]
            is_json = self.path.startswith("/storage/v1")
            found.signed.append(("json" if is_json else "xml", who))
            listing = "list-type=2" in self.path
            content = b'{"error": {"code": 404, "message": "Not Found"}}' if is_json else EMPTY if listing else b""
            self.send_response(200 if listing else 404)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *arguments: object) -> None:
            """Says nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Server)
    account = {"type": "service_account", "client_email": "photos@p.iam.gserviceaccount.com", "private_key_id": "1"}
    found = Signing({**account, "private_key": pem}, f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", found.endpoint)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield found
    server.shutdown()
    server.server_close()


def ask() -> None:
    assert storage.read_json("gs://photos/none.json") is None
    assert catalog.table("gs://photos/store", "features") is None


def test_both_sign_with_the_key_of_a_connection_and_nothing_of_it_is_left(
    google: Signing, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(access.GOOGLE_DEFAULT, "/of/the/machine.json")
    before = dict(os.environ)
    with filesystems.reached_with({access.GOOGLE_KEY: google.key}):
        ask()
    assert google.by("json") == google.by("xml") == {google.account["client_email"]}
    assert dict(os.environ) == before


def test_without_a_key_an_emulator_is_asked_by_nobody(google: Signing) -> None:
    ask()
    assert google.by("json") == google.by("xml") == {None}


def test_a_worker_is_to_google_who_its_driver_is(google: Signing) -> None:
    node = {access.GOOGLE_DEFAULT: "/of/the/node.json", "GOOGLE_SERVICE_ACCOUNT": "/of/the/node.json"}
    worker = node | access.for_workers({access.GOOGLE_KEY: google.key})
    assert Google.of(worker) == Google(google.key)
    assert not worker[access.GOOGLE_DEFAULT] and not worker["GOOGLE_SERVICE_ACCOUNT"]
    assert access.GOOGLE_DEFAULT not in access.for_workers(node), "a file of the driver's machine is none of theirs"


@pytest.mark.parametrize("key", ["no json", "[]", "{}", '{"client_email": "x", "private_key": 7}'])
def test_a_key_that_is_none_is_refused_without_being_shown(key: str) -> None:
    with pytest.raises(BadSetting, match="not the key of a service account") as caught:
        Google.of({access.GOOGLE_KEY: key})
    assert key not in str(caught.value)


def test_a_key_is_not_shown() -> None:
    assert "very-private" not in repr(Google("very-private"))
