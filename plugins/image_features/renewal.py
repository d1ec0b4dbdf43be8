"""Keys that expire, kept fresh in a file that a job reads again and again, for as long as the job runs."""

from __future__ import annotations

import json
import logging
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from image_features.storage_connection import Access
from spark_apps import contract

log = logging.getLogger(__name__)

EVERY_S = 60.0
"""Between two looks. botocore takes on a role again from 15 minutes before the keys expire."""


@contextmanager
def renewing(access: Access, folder: Path, use: Callable[[Mapping[str, str]], None]) -> Iterator[dict[str, str]]:
    """What a job's environment needs beside the variables of the connection: of a role, the name of a file in `folder`
    (for its owner only) that holds the newest of them, else nothing. `use` is told of new ones, too, in another thread.
    A failed renewal is a line in the log and is tried again: the keys that are there still hold for some minutes."""
    if access.renewed is None:
        yield {}
        return
    file, renewed, ended = folder / "credentials.json", access.renewed, threading.Event()
    _write(file, access.variables)

    def keep() -> None:
        known = access.variables
        while not ended.wait(EVERY_S):
            try:
                found = renewed()
                if found != known:
                    _write(file, found)
                    use(found)
                    known = found
                    log.info("The keys of the storage connection's role were renewed.")
            except Exception as error:
                log.warning("The keys of the storage connection's role could not be renewed: %s", error)

    thread = threading.Thread(target=keep, name="storage-keys", daemon=True)
    thread.start()
    try:
        yield {contract.access.RENEWED: str(file)}
    finally:
        ended.set()
        thread.join(timeout=10)


def _write(file: Path, variables: Mapping[str, str]) -> None:
    """At once: a reader has the old content or the new."""
    part = file.with_suffix(".part")
    with open(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as sink:
        json.dump(dict(variables), sink)
    part.replace(file)
