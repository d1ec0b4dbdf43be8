"""Ports for servers that are started a moment after they are given one."""

from __future__ import annotations

import random
import socket

BELOW_EPHEMERAL = range(20_000, 32_768)
"""Not what Linux (from 32768) and macOS (from 49152) hand out by themselves: no other program's passing connection has
the port by the time its server binds it."""


def free(host: str = "127.0.0.1") -> int:
    """A port that nobody has now, another one each time."""
    for port in random.SystemRandom().sample(BELOW_EPHEMERAL, min(100, len(BELOW_EPHEMERAL))):
        with socket.socket() as probe:
            try:
                probe.bind((host, port))
            except OSError:
                continue
            return port
    raise OSError(f"No port of {BELOW_EPHEMERAL.start} to {BELOW_EPHEMERAL.stop - 1} is free on {host}.")
