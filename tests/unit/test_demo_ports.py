"""A port for a server that starts later: free, and none that the system gives to somebody else meanwhile."""

from __future__ import annotations

import socket

import pytest

from demo import ports


def test_a_port_that_somebody_has_is_not_given(monkeypatch: pytest.MonkeyPatch) -> None:
    port = ports.free()
    monkeypatch.setattr(ports, "BELOW_EPHEMERAL", range(port, port + 1))
    assert ports.free() == port, "it is free as long as nobody binds it"
    with socket.socket() as somebody:
        somebody.bind(("127.0.0.1", port))
        with pytest.raises(OSError, match=f"No port of {port} to {port} is free"):
            ports.free()


def test_what_the_system_gives_away_is_never_given() -> None:
    with socket.socket() as passing:
        passing.bind(("127.0.0.1", 0))
        assert passing.getsockname()[1] not in ports.BELOW_EPHEMERAL
