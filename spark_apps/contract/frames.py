"""Messages between a process and its child: frames of bytes, each after its length as 8 bytes, little-endian."""

from __future__ import annotations

import os
import select
import struct
import time
from typing import IO

_LENGTH = struct.Struct("<Q")


def send(stream: IO[bytes], *frames: bytes) -> None:
    """Writes the frames. Raises BrokenPipeError when nobody reads any more."""
    for frame in frames:
        stream.write(_LENGTH.pack(len(frame)))
        stream.write(frame)
    stream.flush()


def read(stream: IO[bytes]) -> bytes:
    """The next frame, however long it takes. Raises EOFError when the other side has ended."""

    def exactly(size: int) -> bytes:
        content = stream.read(size)
        if len(content) < size:
            raise EOFError
        return content

    (length,) = _LENGTH.unpack(exactly(_LENGTH.size))
    return exactly(length)


def receive(stream: IO[bytes], deadline: float, most: int | None = None) -> bytes:
    """The next frame, read past the stream's buffer, until `deadline` on the monotonic clock.

    Raises:
        TimeoutError: it is not there in time, or is longer than `most` bytes.
        EOFError: the other side has ended.
    """

    def exactly(size: int) -> bytes:
        received = bytearray()
        while len(received) < size:
            if not select.select([stream], [], [], max(0.0, deadline - time.monotonic()))[0]:
                raise TimeoutError
            piece = os.read(stream.fileno(), size - len(received))
            if not piece:
                raise EOFError
            received += piece
        return bytes(received)

    (length,) = _LENGTH.unpack(exactly(_LENGTH.size))
    if most is not None and length > most:
        raise TimeoutError(f"a frame of {length} bytes")
    return exactly(length)
