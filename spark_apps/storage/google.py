"""How Google's storage is reached, by Arrow and by delta-rs alike."""

from __future__ import annotations

import json
import os
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

from pyarrow import fs

from spark_apps.contract import BadSetting, access


@dataclass(frozen=True)
class Google:
    """With the key of a service account, as JSON, or else by what the machine offers (application default credentials).
    `emulator`: the address that takes Google's place, as its own clients are told of it; it asks for an account where
    there is a key."""

    key: str = field(default="", repr=False)
    emulator: str = ""

    @classmethod
    def of(cls, variables: Mapping[str, str]) -> Google:
        """As these variables say. Raises BadSetting."""
        emulator = variables.get("STORAGE_EMULATOR_HOST", "").rstrip("/")
        key = variables.get(access.GOOGLE_KEY, "")
        if key and not _is_key(key):
            message = f"{access.GOOGLE_KEY} is not the key of a service account, as JSON."
            raise BadSetting("bad_google_key", message, "Set it to the content of the key's file.")
        return cls(key, emulator if not emulator or "://" in emulator else f"http://{emulator}")

    def filesystem(self, timeout_s: float) -> fs.FileSystem:
        """Arrow's way there. With a key it signs for itself, for as long as it is used. Raises BadSetting."""
        given: dict[str, Any] = {"retry_time_limit": timedelta(seconds=timeout_s)}
        if self.emulator:
            parts = urlsplit(self.emulator)
            given |= {"endpoint_override": parts.netloc, "scheme": parts.scheme, "anonymous": not self.key}
        if not self.key:
            return fs.GcsFileSystem(**given)
        with _as_default(self.key):
            return fs.GcsFileSystem(**given)

    def delta_options(self) -> dict[str, str]:
        """delta-rs' way there; it finds GOOGLE_APPLICATION_CREDENTIALS and the machine's account by itself."""
        if not self.emulator:
            return {"google_service_account_key": self.key} if self.key else {}
        nobody = {**dict.fromkeys(access.GOOGLE_KEY_PARTS, ""), "disable_oauth": True}
        account = json.loads(self.key) if self.key else nobody
        options = {"google_service_account_key": json.dumps({**account, "gcs_base_url": self.emulator})}
        return options | ({"allow_http": "true"} if self.emulator.startswith("http://") else {})


def _is_key(text: str) -> bool:
    try:
        found = json.loads(text)
    except ValueError:
        return False
    return isinstance(found, dict) and all(isinstance(found.get(name), str) for name in access.GOOGLE_KEY_PARTS)


_one_at_a_time = threading.Lock()


@contextmanager
def _as_default(key: str) -> Iterator[None]:
    """Google's library, inside Arrow, takes a key by a file alone, whose name stands in the environment, and reads it
    when a filesystem is made. So for that moment there is such a file, for its owner only; the key itself enters no
    environment."""
    with _one_at_a_time, tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        file.write(key)
        file.flush()
        before = os.environ.get(access.GOOGLE_DEFAULT)
        os.environ[access.GOOGLE_DEFAULT] = file.name
        try:
            yield
        finally:
            if before is None:
                del os.environ[access.GOOGLE_DEFAULT]
            else:
                os.environ[access.GOOGLE_DEFAULT] = before
